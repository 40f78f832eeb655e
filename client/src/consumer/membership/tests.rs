//! Membership: joins, heartbeats, revocations and fencing, event by event.

use super::super::assignor::{CooperativeStickyAssignor, RangeAssignor};
use super::*;

fn start() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs some beginning of time"
    )]
    Instant::now()
}

fn member(assignor: Arc<dyn Assignor>, now: Instant) -> Membership {
    let config = MembershipConfig {
        group_id: "g".to_owned(),
        instance_id: None,
        heartbeat_interval: Duration::from_secs(3),
        max_poll_interval: Duration::from_secs(300),
        retry_backoff: Duration::from_millis(100),
    };
    Membership::new(config, vec![assignor], now)
}

fn partitions(numbers: &[i32]) -> Vec<TopicPartition> {
    numbers
        .iter()
        .map(|number| TopicPartition::new("t", *number))
        .collect()
}

fn given(numbers: &[i32]) -> Bytes {
    encode_assignment(&MemberAssignment {
        partitions: partitions(numbers),
        user_data: None,
    })
}

/// The answer to a follower.
fn follows(protocol: &str, generation_id: i32) -> Joined {
    Joined {
        generation_id,
        protocol: protocol.to_owned(),
        leader: "other".to_owned(),
        member_id: "m".to_owned(),
        ..Joined::default()
    }
}

/// Joins and gets these partitions; returns the events.
fn settle(
    member: &mut Membership,
    generation_id: i32,
    numbers: &[i32],
    now: Instant,
) -> Vec<GroupEvent> {
    assert!(matches!(member.next(now), Action::Join { .. }));
    let protocol = member.assignors[0].name().to_owned();
    member.on_joined(follows(&protocol, generation_id), now);
    assert!(
        matches!(member.next(now), Action::Sync { ref assignments, .. } if assignments.is_empty())
    );
    member.on_synced(0, given(numbers), now);
    member.take_events()
}

fn settled(assignor: Arc<dyn Assignor>, numbers: &[i32], now: Instant) -> Membership {
    let mut member = member(assignor, now);
    member.on_subscribe(vec!["t".to_owned()], now);
    let events = settle(&mut member, 1, numbers, now);
    assert_eq!(events, [GroupEvent::Assigned(partitions(numbers))]);
    member
}

#[test]
fn a_first_join_gets_its_member_id_and_joins_again_at_once() {
    let now = start();
    let mut member = member(Arc::new(RangeAssignor), now);
    assert_eq!(member.next(now), Action::Wait(None));
    member.on_subscribe(vec!["t".to_owned()], now);
    assert!(matches!(member.next(now), Action::Join { member_id, .. } if member_id.is_empty()));
    let named = Joined {
        error_code: ErrorCode::MemberIdRequired.code(),
        member_id: "m".to_owned(),
        ..Joined::default()
    };
    member.on_joined(named, now);
    assert!(matches!(member.next(now), Action::Join { member_id, .. } if member_id == "m"));
}

#[test]
fn the_leader_shares_out_and_heartbeats_follow() {
    let now = start();
    let mut member = member(Arc::new(RangeAssignor), now);
    member.on_subscribe(vec!["t".to_owned()], now);
    let Action::Join { protocols, .. } = member.next(now) else {
        panic!("it joins")
    };
    let members = ["m", "n"].map(|id| (id.to_owned(), None, protocols[0].1.clone()));
    let leads = Joined {
        leader: "m".to_owned(),
        members: members.to_vec(),
        ..follows("range", 1)
    };
    member.on_joined(leads, now);
    let topics = BTreeSet::from(["t".to_owned()]);
    assert_eq!(member.next(now), Action::Plan { topics });
    member.on_plan(&BTreeMap::from([("t".to_owned(), 3)]));
    let Action::Sync { assignments, .. } = member.next(now) else {
        panic!("it syncs")
    };
    let expected = [
        ("m".to_owned(), given(&[0, 1])),
        ("n".to_owned(), given(&[2])),
    ];
    assert_eq!(assignments, expected);
    member.on_synced(0, given(&[0, 1]), now);
    assert_eq!(
        member.take_events(),
        [GroupEvent::Assigned(partitions(&[0, 1]))]
    );
    let beat = now + Duration::from_secs(3);
    assert_eq!(member.next(now), Action::Wait(Some(beat)));
    assert_eq!(member.next(beat), Action::Heartbeat);
    assert_eq!(
        member.next(beat),
        Action::Wait(Some(beat + Duration::from_secs(3)))
    );
}

#[test]
fn eager_gives_everything_back_before_it_joins_again() {
    let now = start();
    let mut member = settled(Arc::new(RangeAssignor), &[0, 1], now);
    member.on_heartbeat(ErrorCode::RebalanceInProgress.code(), now);
    assert_eq!(
        member.take_events(),
        [GroupEvent::Revoking(partitions(&[0, 1]))]
    );
    let beat = now + Duration::from_secs(3);
    assert_eq!(
        member.next(beat),
        Action::Heartbeat,
        "alive while the application finishes"
    );
    member.on_heartbeat(ErrorCode::RebalanceInProgress.code(), beat);
    assert_eq!(member.take_events(), [], "it is told once");
    member.on_rebalance_done(beat);
    let events = settle(&mut member, 2, &[1], beat);
    assert_eq!(events, [GroupEvent::Assigned(partitions(&[1]))]);
}

#[test]
fn cooperative_keeps_what_stays_and_joins_again_after_giving_back_what_moves() {
    let now = start();
    let mut member = settled(Arc::new(CooperativeStickyAssignor), &[0, 1, 2], now);
    member.on_heartbeat(ErrorCode::RebalanceInProgress.code(), now);
    assert_eq!(member.take_events(), [], "nothing is given back yet");
    let events = settle(&mut member, 2, &[0, 1], now);
    assert_eq!(
        events,
        [
            GroupEvent::Revoking(partitions(&[2])),
            GroupEvent::Assigned(vec![])
        ]
    );
    assert!(
        matches!(member.next(now), Action::Wait(_)),
        "it waits for the application"
    );
    member.on_rebalance_done(now);
    let Action::Join { protocols, .. } = member.next(now) else {
        panic!("it joins")
    };
    let told = decode_subscription("m".to_owned(), None, protocols[0].1.clone()).unwrap();
    assert_eq!(
        (told.owned_partitions, told.generation_id),
        (partitions(&[0, 1]), 2)
    );
}

#[test]
fn a_member_the_group_forgot_loses_its_partitions_and_joins_as_new() {
    let now = start();
    let mut member = settled(Arc::new(RangeAssignor), &[0], now);
    member.on_heartbeat(ErrorCode::UnknownMemberId.code(), now);
    assert_eq!(member.take_events(), [GroupEvent::Lost(partitions(&[0]))]);
    assert_eq!(
        member.identity().1,
        -1,
        "no commit under the old generation"
    );
    assert!(matches!(member.next(now), Action::Join { member_id, .. } if member_id.is_empty()));
}

#[test]
fn a_refused_commit_tells_that_the_generation_is_over() {
    let now = start();
    let mut member = settled(Arc::new(RangeAssignor), &[0], now);
    member.on_commit_refused(ErrorCode::IllegalGeneration, now);
    assert_eq!(member.take_events(), [GroupEvent::Lost(partitions(&[0]))]);
    assert!(matches!(member.next(now), Action::Join { member_id, .. } if member_id == "m"));
}

#[test]
fn who_does_not_poll_leaves_and_comes_back_with_the_next_poll() {
    let now = start();
    let mut member = settled(Arc::new(RangeAssignor), &[0], now);
    let late = now + Duration::from_secs(300);
    assert!(matches!(member.next(late), Action::Leave { member_id, .. } if member_id == "m"));
    assert_eq!(member.take_events(), [GroupEvent::Lost(partitions(&[0]))]);
    assert_eq!(member.next(late), Action::Wait(None));
    assert!(member.on_poll(true, late));
    assert!(matches!(member.next(late), Action::Join { .. }));
}

#[test]
fn a_long_poll_is_a_poll() {
    let now = start();
    let mut member = settled(Arc::new(RangeAssignor), &[0], now);
    member.on_poll(true, now);
    assert_eq!(
        member.next(now + Duration::from_secs(900)),
        Action::Heartbeat
    );
}

#[test]
fn a_fenced_static_member_stops() {
    let now = start();
    let mut member = settled(Arc::new(RangeAssignor), &[0], now);
    member.on_heartbeat(ErrorCode::FencedInstanceId.code(), now);
    let events = member.take_events();
    assert_eq!(events[0], GroupEvent::Lost(partitions(&[0])));
    assert!(matches!(&events[1], GroupEvent::Failed(error) if error.is_fenced()));
    assert_eq!(
        member.next(now + Duration::from_secs(10)),
        Action::Wait(None)
    );
}

#[test]
fn a_lost_coordinator_loses_nothing() {
    let now = start();
    let mut member = settled(Arc::new(RangeAssignor), &[0], now);
    member.on_heartbeat(ErrorCode::NotCoordinator.code(), now);
    assert_eq!(member.take_events(), []);
    let soon = now + Duration::from_millis(100);
    assert_eq!(member.next(now), Action::Wait(Some(soon)));
    assert_eq!(member.next(soon), Action::Heartbeat);
}

#[test]
fn an_unanswered_join_is_repeated_after_a_pause() {
    let now = start();
    let mut member = member(Arc::new(RangeAssignor), now);
    member.on_subscribe(vec!["t".to_owned()], now);
    assert!(matches!(member.next(now), Action::Join { .. }));
    member.on_unavailable(now);
    let soon = now + Duration::from_millis(100);
    assert_eq!(member.next(now), Action::Wait(Some(soon)));
    assert!(matches!(member.next(soon), Action::Join { .. }));
}

#[test]
fn a_coordinator_that_cannot_write_now_is_asked_again() {
    let now = start();
    let mut member = member(Arc::new(RangeAssignor), now);
    member.on_subscribe(vec!["t".to_owned()], now);
    assert!(matches!(member.next(now), Action::Join { .. }));
    member.on_joined(follows("range", 1), now);
    assert!(matches!(member.next(now), Action::Sync { .. }));
    member.on_synced(ErrorCode::KafkaStorageError.code(), Bytes::new(), now);
    assert_eq!(member.take_events(), []);
    let soon = now + Duration::from_millis(100);
    assert_eq!(member.next(now), Action::Wait(Some(soon)));
    assert_eq!(
        settle(&mut member, 2, &[0], soon),
        [GroupEvent::Assigned(partitions(&[0]))]
    );
}

#[test]
fn new_partitions_of_a_topic_are_a_reason_to_join_again() {
    let now = start();
    let counts = |count| BTreeMap::from([("t".to_owned(), count)]);
    let mut member = member(Arc::new(CooperativeStickyAssignor), now);
    member.on_subscribe(vec!["t".to_owned()], now);
    member.on_partition_counts(counts(2), now);
    settle(&mut member, 1, &[0, 1], now);
    member.on_partition_counts(counts(2), now);
    assert!(matches!(member.next(now), Action::Wait(_)));
    member.on_partition_counts(counts(3), now);
    assert!(matches!(member.next(now), Action::Join { .. }));
}

#[test]
fn closing_leaves_unless_the_member_is_static() {
    let now = start();
    let mut dynamic = settled(Arc::new(RangeAssignor), &[0], now);
    dynamic.on_close();
    assert!(matches!(dynamic.next(now), Action::Leave { .. }));
    let mut fixed = settled(Arc::new(RangeAssignor), &[0], now);
    fixed.config.instance_id = Some("i".to_owned());
    fixed.on_close();
    assert_eq!(fixed.next(now), Action::Wait(None));
}

#[test]
fn an_assignor_nobody_here_knows_is_fatal() {
    let now = start();
    let mut member = member(Arc::new(RangeAssignor), now);
    member.on_subscribe(vec!["t".to_owned()], now);
    member.next(now);
    member.on_joined(follows("roundrobin", 1), now);
    let events = member.take_events();
    assert!(matches!(
        &events[..],
        [GroupEvent::Failed(ClientError::Fatal(_))]
    ));
}
