//! Static members: a place in the group that survives a restart of the process (KIP-345, KIP-814).

use super::*;

const INSTANCE: &str = "i1";

fn join_static(bench: &mut Bench, member_id: &str) -> Token {
    let member_id = member_id.to_owned();
    bench.join_as(|join| {
        join.member_id = member_id;
        join.instance_id = Some(INSTANCE.to_owned());
        join.require_known_member_id = true;
    })
}

/// A static leader `m1` and a dynamic `m2` in a stable generation 2.
fn stable() -> Bench {
    let mut bench = Bench::new();
    let first = join_static(&mut bench, "");
    assert_eq!(
        bench.joined(first).member_id,
        "m1",
        "a static member needs no second request"
    );
    let second = bench.join_new();
    let first = join_static(&mut bench, "m1");
    bench.joined(first);
    bench.joined(second);
    bench.sync_as("m2", 2, &[]);
    bench.sync_as("m1", 2, &[("m1", "A"), ("m2", "B")]);
    bench.replies.clear();
    bench
}

#[test]
fn rule_30_a_static_member_that_restarts_takes_its_place_without_a_rebalance() {
    let mut bench = stable();
    let written = bench.log.len();
    let token = join_static(&mut bench, "");
    let reply = bench.joined(token);
    let id = reply.member_id.clone();
    assert_eq!(
        (reply.error, reply.generation, reply.skip_assignment),
        (ErrorCode::None, 2, true)
    );
    assert_eq!((reply.leader == id, reply.members.len()), (true, 2));
    assert_eq!(
        (bench.phase(), bench.log.len()),
        (Some(Phase::Stable), written + 1),
        "the new member id is written"
    );
    let token = bench.sync_as(&id, 2, &[]);
    assert_eq!(bench.synced(token).assignment, "A");
    bench.restart();
    let token = bench.sync_as(&id, 2, &[]);
    assert_eq!(bench.synced(token).assignment, "A");
}

#[test]
fn rule_30_before_version_9_a_restarted_leader_is_told_that_its_former_self_leads() {
    let mut bench = stable();
    let token = bench.join_as(|join| {
        join.instance_id = Some(INSTANCE.to_owned());
        join.can_skip_assignment = false;
    });
    let reply = bench.joined(token);
    assert_eq!(
        (
            reply.leader.as_str(),
            reply.members.len(),
            reply.skip_assignment
        ),
        ("m1", 0, false)
    );
    assert_eq!(bench.phase(), Some(Phase::Stable));
}

#[test]
fn rule_30_the_former_self_is_fenced_everywhere() {
    let mut bench = stable();
    join_static(&mut bench, "");
    let token = join_static(&mut bench, "m1");
    assert_eq!(bench.joined(token).error, ErrorCode::FencedInstanceId);
    let old = Identity {
        member_id: "m1".to_owned(),
        instance_id: Some(INSTANCE.to_owned()),
        generation: 2,
    };
    assert_eq!(
        bench.shard.heartbeat(GROUP, &old, bench.now),
        Err(ErrorCode::FencedInstanceId)
    );
    assert_eq!(
        bench.commit_as(old.clone(), 1),
        Err(ErrorCode::FencedInstanceId)
    );
    assert_eq!(
        bench.commit_in_transaction(7, old, 1),
        Err(ErrorCode::FencedInstanceId)
    );
    let (left, _) = bench.shard.leave(
        GROUP,
        &[("m1".to_owned(), Some(INSTANCE.to_owned()))],
        bench.now,
    );
    assert_eq!(left, [Err(ErrorCode::FencedInstanceId)]);
    let sync = Sync {
        token: 99,
        generation: 2,
        member_id: "m1".to_owned(),
        instance_id: Some(INSTANCE.to_owned()),
        protocol_type: None,
        protocol: None,
        assignments: BTreeMap::new(),
    };
    let outcome = bench.shard.sync(GROUP, sync, bench.now);
    bench.settle(outcome);
    assert_eq!(bench.synced(99).error, ErrorCode::FencedInstanceId);
}

#[test]
fn a_restart_while_the_leader_assigns_starts_over() {
    let mut bench = Bench::new();
    let first = join_static(&mut bench, "");
    bench.joined(first);
    assert_eq!(bench.phase(), Some(Phase::CompletingRebalance));
    let token = join_static(&mut bench, "");
    let reply = bench.joined(token);
    assert_eq!(
        (reply.generation, reply.leader == reply.member_id),
        (2, true)
    );
}

#[test]
fn a_restart_during_the_join_phase_fences_the_waiting_former_self() {
    let mut bench = stable();
    let newcomer = bench.join_new();
    let former = join_static(&mut bench, "m1");
    assert!(bench.waits(former));
    let token = join_static(&mut bench, "");
    assert_eq!(bench.joined(former).error, ErrorCode::FencedInstanceId);
    let second = bench.rejoin("m2");
    for token in [token, newcomer, second] {
        assert_eq!(bench.joined(token).generation, 3);
    }
}

#[test]
fn other_protocols_of_a_restarted_member_rebalance_if_the_vote_changes() {
    let mut bench = Bench::new();
    let protocols = |names: &[&str]| {
        let protocol = |name: &&str| Protocol {
            name: (*name).to_owned(),
            metadata: Bytes::new(),
        };
        names.iter().map(protocol).collect::<Vec<_>>()
    };
    let token = bench.join_as(|join| {
        join.instance_id = Some(INSTANCE.to_owned());
        join.protocols = protocols(&["range", "sticky"]);
    });
    assert_eq!(bench.joined(token).protocol.as_deref(), Some("range"));
    bench.sync_as("m1", 1, &[]);
    let token = bench.join_as(|join| {
        join.instance_id = Some(INSTANCE.to_owned());
        join.protocols = protocols(&["sticky", "range"]);
    });
    let reply = bench.joined(token);
    assert_eq!(
        (reply.generation, reply.protocol.as_deref()),
        (2, Some("sticky"))
    );
}

#[test]
fn an_administrator_removes_a_static_member_by_its_instance_id() {
    let mut bench = stable();
    let leaving = [
        (String::new(), Some("i9".to_owned())),
        (String::new(), Some(INSTANCE.to_owned())),
    ];
    let (left, outcome) = bench.shard.leave(GROUP, &leaving, bench.now);
    bench.settle(outcome);
    assert_eq!(left, [Err(ErrorCode::UnknownMemberId), Ok(())]);
    assert_eq!(bench.member_ids(), ["m2"]);
}

#[test]
fn a_static_member_is_not_dropped_by_a_rebalance_it_misses_only_by_its_session() {
    let mut bench = stable();
    let token = bench.join_as(|join| {
        join.member_id = "m2".to_owned();
        join.protocols[0].metadata = Bytes::from_static(b"other");
    });
    let who = Identity {
        member_id: "m1".to_owned(),
        instance_id: Some(INSTANCE.to_owned()),
        generation: 2,
    };
    for _ in 0..6 {
        bench.advance(SESSION_MS - 1);
        assert_eq!(
            bench.shard.heartbeat(GROUP, &who, bench.now),
            Err(ErrorCode::RebalanceInProgress)
        );
    }
    bench.advance(6);
    let reply = bench.joined(token);
    assert_eq!(
        (reply.generation, reply.leader.as_str(), reply.members.len()),
        (3, "m2", 2)
    );
    assert_eq!(
        bench.shard.heartbeat(GROUP, &who, bench.now),
        Err(ErrorCode::IllegalGeneration)
    );
    bench.sync_as("m2", 3, &[]);
    bench.advance(SESSION_MS - 1);
    bench.heartbeat("m2", 3);
    assert_eq!(bench.member_ids(), ["m1", "m2"]);
    bench.advance(1);
    assert_eq!(
        (bench.member_ids(), bench.phase()),
        (vec!["m2"], Some(Phase::PreparingRebalance))
    );
}
