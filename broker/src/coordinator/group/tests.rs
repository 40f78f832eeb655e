//! The rules of classic groups, one test a rule: the numbers are those of Kafka's behaviour (29-35) and of the anomalies other systems
//! were caught with (G-, T-).

use bytes::Bytes;
use proptest::prelude::*;

use super::classic::{JoinReply, SyncReply};
use super::*;

mod commits;
mod laws;
mod static_members;

const GROUP: &str = "g";
const SESSION_MS: u64 = 10_000;
const REBALANCE_MS: u64 = 60_000;

/// A shard, its log, and a clock that only moves when told.
struct Bench {
    shard: GroupShard,
    log: Vec<Entry>,
    now: Time,
    next_token: Token,
    newcomers: u32,
    /// Completions not looked at yet.
    replies: BTreeMap<Token, Completion>,
}

/// What lies in the shard's partition.
#[derive(Clone, Debug)]
enum Entry {
    Record(GroupRecord, Option<ProducerId>),
    Marker(ProducerId, bool),
}

impl Bench {
    fn with(config: GroupConfig) -> Bench {
        let now = Time {
            monotonic_ms: 0,
            wall_ms: 1_000_000,
        };
        let shard = GroupShard::load(config, now, |_| {});
        Bench {
            shard,
            log: Vec::new(),
            now,
            next_token: 0,
            newcomers: 0,
            replies: BTreeMap::new(),
        }
    }

    /// Without the initial delay: a first member is alone in generation 1.
    fn new() -> Bench {
        let mut config = GroupConfig::default();
        config.classic.initial_rebalance_delay_ms = 0;
        Bench::with(config)
    }

    fn append(&mut self, entry: Entry) {
        let position = i64::try_from(self.log.len()).unwrap();
        apply(&mut self.shard, &entry, position);
        self.log.push(entry);
    }

    fn append_plain(&mut self, records: Vec<GroupRecord>) {
        for record in records {
            self.append(Entry::Record(record, None));
        }
    }

    fn settle(&mut self, outcome: Outcome) {
        for record in outcome.records {
            let (key, value) = record.encode().unwrap();
            assert_eq!(
                GroupRecord::decode(key, value).unwrap().as_ref(),
                Some(&record)
            );
            self.append(Entry::Record(record, None));
        }
        for (token, completion) in outcome.completions {
            assert!(
                self.replies.insert(token, completion).is_none(),
                "token {token} is answered twice"
            );
        }
    }

    fn replayed(&self) -> GroupShard {
        GroupShard::load(self.shard.config.clone(), self.now, |shard| {
            self.log
                .iter()
                .zip(0..)
                .for_each(|(entry, position)| apply(shard, entry, position));
        })
    }

    fn restart(&mut self) {
        self.shard = self.replayed();
        self.replies.clear();
    }

    fn join_as(&mut self, edit: impl FnOnce(&mut Join)) -> Token {
        self.next_token += 1;
        let mut join = Join {
            token: self.next_token,
            member_id: String::new(),
            instance_id: None,
            fresh_member_id: String::new(),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            session_timeout_ms: i32::try_from(SESSION_MS).unwrap(),
            rebalance_timeout_ms: i32::try_from(REBALANCE_MS).unwrap(),
            protocol_type: "consumer".to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: Bytes::from_static(b"topics"),
            }],
            require_known_member_id: false,
            can_skip_assignment: true,
        };
        edit(&mut join);
        if join.member_id.is_empty() && join.fresh_member_id.is_empty() {
            self.newcomers += 1;
            join.fresh_member_id = format!("m{}", self.newcomers);
        }
        let outcome = self.shard.join(GROUP, join, self.now);
        self.settle(outcome);
        self.next_token
    }

    /// A newcomer, of a version that needs no second request.
    fn join_new(&mut self) -> Token {
        self.join_as(|_| {})
    }

    fn rejoin(&mut self, member_id: &str) -> Token {
        let member_id = member_id.to_owned();
        self.join_as(|join| join.member_id = member_id)
    }

    fn joined(&mut self, token: Token) -> JoinReply {
        match self.replies.remove(&token) {
            Some(Completion::Join(reply)) => reply,
            other => panic!("token {token}: {other:?} in phase {:?}", self.phase()),
        }
    }

    fn waits(&self, token: Token) -> bool {
        !self.replies.contains_key(&token)
    }

    fn sync_as(
        &mut self,
        member_id: &str,
        generation: i32,
        assignments: &[(&str, &'static str)],
    ) -> Token {
        self.next_token += 1;
        let sync = Sync {
            token: self.next_token,
            generation,
            member_id: member_id.to_owned(),
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(id, part)| ((*id).to_owned(), Bytes::from_static(part.as_bytes())))
                .collect(),
        };
        let outcome = self.shard.sync(GROUP, sync, self.now);
        self.settle(outcome);
        self.next_token
    }

    fn synced(&mut self, token: Token) -> SyncReply {
        match self.replies.remove(&token) {
            Some(Completion::Sync(reply)) => reply,
            other => panic!("token {token}: {other:?}"),
        }
    }

    fn heartbeat(&mut self, member_id: &str, generation: i32) -> ErrorCode {
        let who = Identity {
            member_id: member_id.to_owned(),
            instance_id: None,
            generation,
        };
        self.shard
            .heartbeat(GROUP, &who, self.now)
            .err()
            .unwrap_or(ErrorCode::None)
    }

    fn leave(&mut self, member_id: &str) -> Result<(), ErrorCode> {
        let (results, outcome) = self
            .shard
            .leave(GROUP, &[(member_id.to_owned(), None)], self.now);
        self.settle(outcome);
        results[0]
    }

    /// Time passes, each deadline on its own as the driver would do it.
    fn advance(&mut self, ms: u64) {
        let until = self.now.monotonic_ms + ms;
        while self.now.monotonic_ms < until {
            let step = self
                .shard
                .next_deadline()
                .unwrap_or(until)
                .clamp(self.now.monotonic_ms, until)
                - self.now.monotonic_ms;
            self.now.monotonic_ms += step;
            self.now.wall_ms += i64::try_from(step).unwrap();
            let outcome = self.shard.on_tick(self.now);
            self.settle(outcome);
            assert!(
                self.shard
                    .next_deadline()
                    .is_none_or(|next| next > self.now.monotonic_ms),
                "a deadline stays due"
            );
        }
    }

    fn commit_as(&mut self, who: Identity, offset: i64) -> Result<Vec<ErrorCode>, ErrorCode> {
        let offsets = vec![(
            orders(),
            OffsetRecord {
                offset,
                ..OffsetRecord::default()
            },
        )];
        let (codes, records) = self.shard.commit(
            GROUP,
            Commit {
                who,
                offsets,
                ..Commit::default()
            },
            self.now,
        )?;
        records
            .into_iter()
            .for_each(|record| self.append(Entry::Record(record, None)));
        Ok(codes)
    }

    fn commit_in_transaction(
        &mut self,
        producer: ProducerId,
        who: Identity,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        let offsets = vec![(
            orders(),
            OffsetRecord {
                offset,
                ..OffsetRecord::default()
            },
        )];
        let commit = Commit {
            who,
            offsets,
            transactional: true,
            ..Commit::default()
        };
        let (_, records) = self.shard.commit(GROUP, commit, self.now)?;
        records
            .into_iter()
            .for_each(|record| self.append(Entry::Record(record, Some(producer))));
        Ok(())
    }

    fn fetched(&self, require_stable: bool) -> Result<Option<i64>, ErrorCode> {
        let fetched = self
            .shard
            .fetch(GROUP, Some(&[orders()]), require_stable)
            .remove(0);
        fetched
            .offset
            .map(|offset| offset.map(|record| record.offset))
    }

    fn phase(&self) -> Option<Phase> {
        self.shard
            .groups
            .get(GROUP)
            .map(|group| group.membership.phase())
    }

    fn member_ids(&self) -> Vec<&str> {
        self.shard.groups[GROUP]
            .membership
            .members()
            .map(|member| member.member_id.as_str())
            .collect()
    }

    /// Two members in a stable generation 2; the leader is `m1`.
    fn stable() -> Bench {
        let mut bench = Bench::new();
        let first = bench.join_new();
        bench.joined(first);
        let second = bench.join_new();
        let first = bench.rejoin("m1");
        assert_eq!(
            (
                bench.joined(first).generation,
                bench.joined(second).generation
            ),
            (2, 2)
        );
        let follower = bench.sync_as("m2", 2, &[]);
        assert!(bench.waits(follower));
        let leader = bench.sync_as("m1", 2, &[("m1", "A"), ("m2", "B")]);
        assert_eq!(bench.synced(leader).assignment, "A");
        assert_eq!(bench.synced(follower).assignment, "B");
        assert_eq!(bench.phase(), Some(Phase::Stable));
        bench
    }
}

fn apply(shard: &mut GroupShard, entry: &Entry, position: i64) {
    match entry {
        Entry::Record(record, producer) => shard.apply(record, position, *producer),
        Entry::Marker(producer, committed) => shard.apply_marker(*producer, *committed),
    }
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn nobody() -> Identity {
    Identity {
        generation: -1,
        ..Identity::default()
    }
}

fn member(member_id: &str, generation: i32) -> Identity {
    Identity {
        member_id: member_id.to_owned(),
        instance_id: None,
        generation,
    }
}

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
