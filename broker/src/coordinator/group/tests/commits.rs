//! Committed offsets: who may commit, what a transaction holds back, what expires.

use super::*;

#[test]
fn rule_33_who_may_commit() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.commit_as(nobody(), 1),
        Ok(vec![ErrorCode::None]),
        "a group of nobody"
    );
    assert_eq!(bench.commit_as(nobody(), 2), Ok(vec![ErrorCode::None]));
    let mut bench = Bench::stable();
    assert_eq!(
        bench.commit_as(nobody(), 1),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        bench.commit_as(member("m1", 1), 1),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(
        bench.commit_as(member("m9", 2), 1),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        bench.commit_as(member("m1", 2), 3),
        Ok(vec![ErrorCode::None])
    );
    assert_eq!(bench.fetched(false), Ok(Some(3)));
    bench.join_new();
    assert_eq!(
        bench.commit_as(member("m1", 2), 4),
        Ok(vec![ErrorCode::None]),
        "before it joins again"
    );
    bench.rejoin("m2");
    bench.rejoin("m1");
    assert_eq!(bench.phase(), Some(Phase::CompletingRebalance));
    assert_eq!(
        bench.commit_as(member("m1", 3), 5),
        Err(ErrorCode::RebalanceInProgress)
    );
}

#[test]
fn rule_33_a_missing_group_and_long_metadata() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.commit_as(member("m1", 2), 1),
        Err(ErrorCode::IllegalGeneration)
    );
    let commit = Commit {
        who: member("m1", 2),
        names_missing_group: true,
        ..Commit::default()
    };
    assert_eq!(
        bench.shard.commit(GROUP, commit, bench.now),
        Err(ErrorCode::GroupIdNotFound)
    );
    let with = |length| {
        let offset = OffsetRecord {
            metadata: "x".repeat(length),
            ..OffsetRecord::default()
        };
        Commit {
            who: nobody(),
            offsets: vec![(orders(), offset)],
            ..Commit::default()
        }
    };
    let (codes, records) = bench.shard.commit(GROUP, with(4_097), bench.now).unwrap();
    assert_eq!(
        (codes, records),
        (vec![ErrorCode::OffsetMetadataTooLarge], vec![])
    );
    assert_eq!(
        bench.shard.commit(GROUP, with(4_096), bench.now).unwrap().0,
        [ErrorCode::None]
    );
}

#[test]
fn a_commit_keeps_the_session_alive() {
    let mut bench = Bench::stable();
    bench.advance(SESSION_MS - 1);
    assert_eq!(
        bench.commit_as(member("m1", 2), 3),
        Ok(vec![ErrorCode::None])
    );
    bench.advance(SESSION_MS - 1);
    assert_eq!(bench.member_ids(), ["m1"]);
}

#[test]
fn rule_34_offsets_of_an_open_transaction_are_unstable() {
    let mut bench = Bench::new();
    assert_eq!(bench.fetched(true), Ok(None));
    bench.commit_as(nobody(), 1).unwrap();
    bench.commit_in_transaction(7, nobody(), 2).unwrap();
    assert_eq!(
        (bench.fetched(false), bench.fetched(true)),
        (Ok(Some(1)), Err(ErrorCode::UnstableOffsetCommit))
    );
    bench.append(Entry::Marker(7, true));
    assert_eq!(
        (bench.fetched(false), bench.fetched(true)),
        (Ok(Some(2)), Ok(Some(2)))
    );
    assert_eq!(bench.shard.fetch(GROUP, None, true).len(), 1);
    assert_eq!(bench.shard.fetch("other", None, true), []);
}

#[test]
fn t_19_a_zombie_of_an_older_generation_cannot_commit_and_its_successor_waits() {
    let mut bench = Bench::stable();
    bench.commit_in_transaction(7, member("m2", 2), 10).unwrap();
    bench.advance(SESSION_MS - 1);
    assert_eq!(bench.heartbeat("m1", 2), ErrorCode::None);
    bench.advance(1); // m2 is out
    let token = bench.rejoin("m1");
    assert_eq!(bench.joined(token).generation, 3);
    assert_eq!(
        bench.commit_in_transaction(7, member("m2", 2), 20),
        Err(ErrorCode::UnknownMemberId)
    );
    assert_eq!(
        bench.commit_in_transaction(7, member("m1", 2), 20),
        Err(ErrorCode::IllegalGeneration)
    );
    assert_eq!(bench.fetched(true), Err(ErrorCode::UnstableOffsetCommit));
    bench.append(Entry::Marker(7, true));
    assert_eq!(bench.fetched(true), Ok(Some(10)));
}

#[test]
fn rule_35_offsets_expire_a_week_after_the_group_became_empty_not_after_the_commit() {
    let week_ms = 10_080 * 60_000;
    let mut bench = Bench::stable();
    bench.commit_as(member("m1", 2), 1).unwrap();
    for _ in 0..3 {
        // Heartbeats keep the group alive over three weeks, in steps of a session.
        bench.now.monotonic_ms += week_ms;
        bench.now.wall_ms += i64::try_from(week_ms).unwrap();
        bench.heartbeat("m1", 2);
        bench.heartbeat("m2", 2);
        let outcome = bench.shard.on_tick(bench.now);
        bench.settle(outcome);
    }
    assert_eq!(bench.fetched(false), Ok(Some(1)));
    bench.leave("m1").unwrap();
    bench.leave("m2").unwrap();
    bench.advance(week_ms - 600_000);
    assert_eq!(bench.fetched(false), Ok(Some(1)));
    bench.advance(1_200_000);
    assert_eq!((bench.fetched(false), bench.phase()), (Ok(None), None));
    assert_eq!(
        bench.replayed().images().len(),
        0,
        "the group is tombstoned too"
    );
}

#[test]
fn rule_35_offsets_of_a_simple_group_expire_a_week_after_each_commit() {
    let week_ms = 10_080 * 60_000;
    let mut bench = Bench::new();
    bench.commit_as(nobody(), 1).unwrap();
    bench.advance(week_ms - 1);
    bench.commit_as(nobody(), 2).unwrap();
    bench.advance(week_ms - 600_000);
    assert_eq!(bench.fetched(false), Ok(Some(2)));
    bench.advance(1_200_000);
    assert_eq!(bench.fetched(false), Ok(None));
}

#[test]
fn g_1_an_offset_that_an_open_transaction_staged_is_not_expired() {
    let week_ms = 10_080 * 60_000;
    let mut bench = Bench::new();
    bench.commit_as(nobody(), 1).unwrap();
    bench.commit_in_transaction(7, nobody(), 2).unwrap();
    bench.advance(2 * week_ms);
    assert_eq!(bench.fetched(false), Ok(Some(1)));
    assert_eq!(bench.shard.delete(GROUP), Err(ErrorCode::NonEmptyGroup));
    bench.append(Entry::Marker(7, true));
    assert_eq!(bench.fetched(false), Ok(Some(2)));
    bench.advance(600_000);
    assert_eq!(bench.fetched(false), Ok(None));
}

#[test]
fn only_empty_groups_can_be_deleted() {
    let mut bench = Bench::stable();
    assert_eq!(bench.shard.delete("other"), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(bench.shard.delete(GROUP), Err(ErrorCode::NonEmptyGroup));
    bench.commit_as(member("m1", 2), 5).unwrap();
    bench.leave("m1").unwrap();
    bench.leave("m2").unwrap();
    let records = bench.shard.delete(GROUP).unwrap();
    bench.append_plain(records);
    assert_eq!((bench.phase(), bench.replayed().images().len()), (None, 0));
}

#[test]
fn offsets_of_a_deleted_topic_go_with_it() {
    let mut bench = Bench::new();
    bench.commit_as(nobody(), 1).unwrap();
    assert_eq!(bench.shard.topics_deleted(|topic| topic == "other"), []);
    let records = bench.shard.topics_deleted(|topic| topic == "orders");
    bench.append_plain(records);
    assert_eq!(bench.fetched(false), Ok(None));
}

#[test]
fn offsets_of_a_deleted_topic_do_not_come_back_with_the_marker_of_a_transaction_that_held_them() {
    let mut bench = Bench::new();
    bench.commit_as(nobody(), 1).unwrap();
    bench.commit_in_transaction(7, nobody(), 2).unwrap();
    let records = bench.shard.topics_deleted(|topic| topic == "orders");
    bench.append_plain(records);
    bench.append(Entry::Marker(7, true));
    assert_eq!(bench.fetched(true), Ok(None));
    assert_eq!(bench.replayed().images(), bench.shard.images());
}
