//! Joining, syncing, heartbeats and leaving: the numbered rules of classic groups.

use super::*;

#[test]
fn rule_30_a_newcomer_is_told_its_id_and_forgotten_if_it_does_not_come_again() {
    let mut bench = Bench::new();
    let token = bench.join_as(|join| join.require_known_member_id = true);
    let reply = bench.joined(token);
    assert_eq!(
        (reply.error, reply.member_id.as_str(), reply.generation),
        (ErrorCode::MemberIdRequired, "m1", -1)
    );
    let token = bench.rejoin("m1");
    let reply = bench.joined(token);
    assert_eq!(
        (reply.error, reply.generation, reply.leader.as_str()),
        (ErrorCode::None, 1, "m1")
    );
    assert_eq!(reply.members.len(), 1);

    let mut bench = Bench::new();
    bench.join_as(|join| join.require_known_member_id = true);
    bench.advance(SESSION_MS);
    assert_eq!(bench.phase(), None, "a group nobody joined is no group");
    let token = bench.rejoin("m1");
    assert_eq!(bench.joined(token).error, ErrorCode::UnknownMemberId);
}

#[test]
fn rule_31_the_first_members_of_an_empty_group_are_waited_for() {
    let mut bench = Bench::with(GroupConfig::default());
    let first = bench.join_new();
    bench.advance(2_999);
    let second = bench.join_new();
    assert!(bench.waits(first));
    bench.advance(1);
    assert!(
        bench.waits(first),
        "somebody came, so others may: the delay is extended"
    );
    bench.advance(3_000);
    let (first, second) = (bench.joined(first), bench.joined(second));
    assert_eq!((first.generation, second.generation), (1, 1));
    assert_eq!(
        (
            first.members.len(),
            second.members.len(),
            second.leader.as_str()
        ),
        (2, 0, "m1")
    );
}

#[test]
fn rule_31_the_initial_delay_ends_with_the_rebalance_timeout() {
    let mut bench = Bench::with(GroupConfig::default());
    let first = bench.join_new();
    for _ in 0..25 {
        bench.advance(2_500);
        bench.join_new();
    }
    assert_eq!(bench.joined(first).error, ErrorCode::None);
}

#[test]
fn rule_31_the_join_phase_ends_when_all_are_back_or_without_those_who_are_not() {
    let mut bench = Bench::stable();
    let third = bench.join_new();
    assert_eq!(bench.heartbeat("m1", 2), ErrorCode::RebalanceInProgress);
    assert_eq!(bench.heartbeat("m2", 2), ErrorCode::RebalanceInProgress);
    let first = bench.rejoin("m1");
    // m2 sends heartbeats but does not join: out at the end of the rebalance timeout.
    for _ in 0..6 {
        bench.advance(SESSION_MS - 1);
        bench.heartbeat("m2", 2);
    }
    assert!(bench.waits(first));
    bench.advance(6);
    assert_eq!(
        (
            bench.joined(first).generation,
            bench.joined(third).generation
        ),
        (3, 3)
    );
    assert_eq!(bench.member_ids(), ["m1", "m3"]);
    assert_eq!(bench.heartbeat("m2", 2), ErrorCode::UnknownMemberId);
}

#[test]
fn rule_31_who_does_not_sync_in_time_is_out() {
    let mut bench = Bench::new();
    bench.join_new();
    let second = bench.join_new();
    let first = bench.rejoin("m1");
    bench.joined(first);
    bench.joined(second);
    let waiting = bench.sync_as("m2", 2, &[]);
    for _ in 0..7 {
        bench.advance(SESSION_MS - 1);
        bench.heartbeat("m1", 2); // the leader lives, but its assignment never comes
        bench.heartbeat("m2", 2);
    }
    assert_eq!(bench.synced(waiting).error, ErrorCode::RebalanceInProgress);
    assert_eq!(
        (bench.member_ids(), bench.phase()),
        (vec!["m2"], Some(Phase::PreparingRebalance))
    );
    let again = bench.rejoin("m2");
    assert_eq!(bench.joined(again).leader, "m2");
}

#[test]
fn rule_32_sessions_outside_the_bounds_and_foreign_protocols_are_refused() {
    let mut bench = Bench::new();
    for session_timeout_ms in [5_999, 1_800_001, -1] {
        let token = bench.join_as(|join| join.session_timeout_ms = session_timeout_ms);
        assert_eq!(bench.joined(token).error, ErrorCode::InvalidSessionTimeout);
    }
    let token = bench.join_as(|join| join.protocols.clear());
    assert_eq!(
        bench.joined(token).error,
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(bench.phase(), None);
    let mut bench = Bench::stable();
    let token = bench.join_as(|join| join.protocol_type = "connect".to_owned());
    assert_eq!(
        bench.joined(token).error,
        ErrorCode::InconsistentGroupProtocol
    );
    let token = bench.join_as(|join| join.protocols[0].name = "sticky".to_owned());
    assert_eq!(
        bench.joined(token).error,
        ErrorCode::InconsistentGroupProtocol
    );
    assert_eq!(bench.phase(), Some(Phase::Stable));
}

#[test]
fn rule_32_a_heartbeat_tells_who_must_join_again() {
    let mut bench = Bench::stable();
    assert_eq!(bench.heartbeat("m1", 2), ErrorCode::None);
    assert_eq!(bench.heartbeat("m1", 1), ErrorCode::IllegalGeneration);
    assert_eq!(bench.heartbeat("m9", 2), ErrorCode::UnknownMemberId);
    bench.join_new();
    assert_eq!(bench.heartbeat("m1", 2), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_session_that_ends_starts_a_rebalance_without_the_member() {
    let mut bench = Bench::stable();
    bench.advance(SESSION_MS - 1);
    assert_eq!(bench.heartbeat("m1", 2), ErrorCode::None);
    bench.advance(1);
    assert_eq!(
        (bench.member_ids(), bench.phase()),
        (vec!["m1"], Some(Phase::PreparingRebalance))
    );
    let token = bench.rejoin("m1");
    assert_eq!(bench.joined(token).generation, 3);
    bench.advance(SESSION_MS);
    assert_eq!(bench.phase(), Some(Phase::Empty));
}

#[test]
fn members_that_leave_make_room_at_once() {
    let mut bench = Bench::stable();
    assert_eq!(bench.leave("m9"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(bench.leave("m1"), Ok(()));
    assert_eq!(bench.heartbeat("m2", 2), ErrorCode::RebalanceInProgress);
    let token = bench.rejoin("m2");
    let reply = bench.joined(token);
    assert_eq!((reply.generation, reply.leader.as_str()), (3, "m2"));
    assert_eq!(bench.leave("m2"), Ok(()));
    assert_eq!(bench.phase(), Some(Phase::Empty));
    let metadata = bench.shard.groups[GROUP].image.metadata.clone().unwrap();
    assert_eq!((metadata.generation, metadata.members.len()), (4, 0));
    assert_eq!(bench.leave("m2"), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_pending_join_of_a_member_that_leaves_is_answered() {
    let mut bench = Bench::stable();
    let third = bench.join_new();
    assert!(bench.waits(third));
    assert_eq!(bench.leave("m3"), Ok(()));
    assert_eq!(bench.joined(third).error, ErrorCode::UnknownMemberId);
}

#[test]
fn repeating_a_request_repeats_the_reply() {
    let mut bench = Bench::new();
    bench.join_new();
    let second = bench.join_new();
    let first = bench.rejoin("m1");
    let (first, second) = (bench.joined(first), bench.joined(second));
    let again = bench.rejoin("m2");
    assert_eq!(
        bench.joined(again),
        second,
        "the reply was lost, the generation stands"
    );
    let waiting = bench.sync_as("m2", 2, &[]);
    let again = bench.sync_as("m2", 2, &[]);
    assert_eq!(
        bench.synced(waiting).error,
        ErrorCode::RebalanceInProgress,
        "the older one is dropped"
    );
    bench.sync_as("m1", 2, &[("m2", "B")]);
    assert_eq!(bench.synced(again).assignment, "B");
    let again = bench.sync_as("m2", 2, &[]);
    assert_eq!(bench.synced(again).assignment, "B");
    let again = bench.rejoin("m2");
    assert_eq!(bench.joined(again), second);
    assert_eq!((first.generation, bench.phase()), (2, Some(Phase::Stable)));
    // The leader's join is how it asks for a new assignment.
    bench.rejoin("m1");
    assert_eq!(bench.phase(), Some(Phase::PreparingRebalance));
}

#[test]
fn sync_is_for_members_of_this_generation_and_protocol() {
    let mut bench = Bench::stable();
    for (member_id, generation, error) in [
        ("m1", 1, ErrorCode::IllegalGeneration),
        ("m9", 2, ErrorCode::UnknownMemberId),
        ("m1", 2, ErrorCode::None),
    ] {
        let token = bench.sync_as(member_id, generation, &[]);
        assert_eq!(bench.synced(token).error, error);
    }
    for (protocol_type, protocol, error) in [
        (
            Some("connect"),
            Some("range"),
            ErrorCode::InconsistentGroupProtocol,
        ),
        (
            Some("consumer"),
            Some("sticky"),
            ErrorCode::InconsistentGroupProtocol,
        ),
        (Some("consumer"), Some("range"), ErrorCode::None),
    ] {
        let sync = Sync {
            token: 99,
            generation: 2,
            member_id: "m2".to_owned(),
            instance_id: None,
            protocol_type: protocol_type.map(str::to_owned),
            protocol: protocol.map(str::to_owned),
            assignments: BTreeMap::new(),
        };
        let outcome = bench.shard.sync(GROUP, sync, bench.now);
        bench.settle(outcome);
        assert_eq!(bench.synced(99).error, error);
    }
    bench.join_new();
    let token = bench.sync_as("m1", 2, &[]);
    assert_eq!(bench.synced(token).error, ErrorCode::RebalanceInProgress);
}

#[test]
fn a_full_group_takes_nobody() {
    let mut config = GroupConfig::default();
    config.classic.initial_rebalance_delay_ms = 0;
    config.classic.max_size = 1;
    let mut bench = Bench::with(config);
    bench.join_new();
    let token = bench.join_new();
    assert_eq!(bench.joined(token).error, ErrorCode::GroupMaxSizeReached);
}

#[test]
fn a_restart_keeps_members_assignments_and_offsets_and_forgets_who_was_joining() {
    let mut bench = Bench::stable();
    bench.commit_as(member("m1", 2), 5).unwrap();
    bench.restart();
    assert_eq!(
        (bench.phase(), bench.fetched(false)),
        (Some(Phase::Stable), Ok(Some(5)))
    );
    assert_eq!(bench.heartbeat("m1", 2), ErrorCode::None);
    let token = bench.sync_as("m2", 2, &[]);
    assert_eq!(bench.synced(token).assignment, "B");
    bench.join_new();
    bench.restart(); // in the middle of a rebalance: back to the last stable generation
    assert_eq!(
        (bench.phase(), bench.member_ids()),
        (Some(Phase::Stable), vec!["m1", "m2"])
    );
    bench.advance(SESSION_MS);
    assert_eq!(
        bench.phase(),
        Some(Phase::Empty),
        "sessions began anew and ended"
    );
}

#[test]
fn descriptions_show_assignments_of_stable_groups_only() {
    let mut bench = Bench::stable();
    let described = bench.shard.describe(GROUP).unwrap();
    assert_eq!(
        (
            described.state,
            described.protocol.as_str(),
            described.protocol_type.as_str()
        ),
        ("Stable", "range", "consumer")
    );
    assert_eq!(described.members[1].assignment, "B");
    assert_eq!(described.members[1].metadata, "topics");
    bench.join_new();
    let described = bench.shard.describe(GROUP).unwrap();
    assert_eq!(
        (
            described.state,
            described.protocol.as_str(),
            described.members.len()
        ),
        ("PreparingRebalance", "", 3)
    );
    assert_eq!(described.members[1].assignment, "");
    assert_eq!(bench.shard.list().len(), 1);
    assert_eq!(bench.shard.describe("other"), None);
}
