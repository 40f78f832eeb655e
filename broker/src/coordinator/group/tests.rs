//! The rules of classic groups, one test a rule: the numbers are those of Kafka's behaviour (29-35) and of the anomalies other systems
//! were caught with (G-, T-).

use bytes::Bytes;
use proptest::prelude::*;

use super::classic::{JoinReply, SyncReply};
use super::*;

mod commits;
mod laws;
mod members;
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
