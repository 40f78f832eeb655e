//! What holds whatever happens in whatever order.

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Join {
        member: usize,
        known: bool,
        instance: bool,
        protocol: bool,
    },
    Sync {
        member: usize,
        generation: i32,
    },
    Heartbeat {
        member: usize,
    },
    Leave {
        member: usize,
    },
    Commit {
        member: Option<usize>,
        transaction: Option<ProducerId>,
    },
    Marker {
        producer: ProducerId,
        committed: bool,
    },
    Advance {
        ms: u64,
    },
    Delete,
    TopicDeleted,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let member = || 0..4usize;
    prop_oneof![
        6 => (member(), any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(member, known, instance, protocol)| Step::Join { member, known, instance, protocol }),
        6 => (member(), -1..1i32).prop_map(|(member, generation)| Step::Sync { member, generation }),
        2 => member().prop_map(|member| Step::Heartbeat { member }),
        1 => member().prop_map(|member| Step::Leave { member }),
        4 => (prop::option::of(member()), prop::option::of(7..9i64))
            .prop_map(|(member, transaction)| Step::Commit { member, transaction }),
        2 => (7..9i64, any::<bool>()).prop_map(|(producer, committed)| Step::Marker { producer, committed }),
        3 => prop_oneof![0..4_000u64, Just(SESSION_MS), Just(REBALANCE_MS), Just(700_000_000)].prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Delete),
        1 => Just(Step::TopicDeleted),
        1 => Just(Step::Restart),
    ]
}

impl Bench {
    fn generation(&self) -> i32 {
        self.shard
            .groups
            .get(GROUP)
            .map_or(0, |group| group.membership.generation)
    }

    /// Every member and every member id that was given out.
    fn ids(&self) -> Vec<String> {
        let Some(group) = self.shard.groups.get(GROUP) else {
            return Vec::new();
        };
        let members = group.membership.members().map(|member| &member.member_id);
        members
            .chain(&group.membership.pending_members)
            .cloned()
            .collect()
    }

    fn take(&mut self, step: &Step) {
        let ids = self.ids();
        let id = |member: usize| {
            ids.get(member)
                .cloned()
                .unwrap_or_else(|| "ghost".to_owned())
        };
        match *step {
            Step::Join {
                member,
                known,
                instance,
                protocol,
            } => {
                self.join_as(|join| {
                    join.member_id = if known { id(member) } else { String::new() };
                    join.instance_id = instance.then(|| format!("i{member}"));
                    join.require_known_member_id = !known;
                    if protocol {
                        let sticky = Protocol {
                            name: "sticky".to_owned(),
                            metadata: Bytes::new(),
                        };
                        join.protocols.insert(0, sticky);
                    }
                });
            }
            Step::Sync { member, generation } => {
                let generation = self.generation() + generation;
                self.sync_as(&id(member), generation, &[("m0", "A"), ("m1", "B")]);
            }
            Step::Heartbeat { member } => {
                self.heartbeat(&id(member), self.generation());
            }
            Step::Leave { member } => {
                let _ = self.leave(&id(member));
            }
            Step::Commit {
                member: who,
                transaction,
            } => {
                let who = who.map_or_else(nobody, |index| member(&id(index), self.generation()));
                let offset = self.now.wall_ms;
                let _ = match transaction {
                    Some(producer) => self.commit_in_transaction(producer, who, offset),
                    None => self.commit_as(who, offset).map(drop),
                };
            }
            Step::Marker {
                producer,
                committed,
            } => self.append(Entry::Marker(producer, committed)),
            Step::Advance { ms } => self.advance(ms),
            Step::Delete => {
                let records = self.shard.delete(GROUP).unwrap_or_default();
                self.append_plain(records);
            }
            Step::TopicDeleted => {
                let records = self.shard.topics_deleted(|topic| topic == "orders");
                self.append_plain(records);
            }
            Step::Restart => self.restart(),
        }
    }

    /// What a compacted log holds: the last record of each key, with all markers; none of an open transaction is compacted away.
    fn compacted(&self) -> GroupShard {
        let mut open: BTreeSet<ProducerId> = BTreeSet::new();
        let mut first_open = self.log.len();
        for producer in [7, 8] {
            let last_marker = self
                .log
                .iter()
                .rposition(|entry| matches!(entry, Entry::Marker(of, _) if *of == producer));
            let of = |entry: &Entry| matches!(entry, Entry::Record(_, Some(of)) if *of == producer);
            let begin = last_marker.map_or(0, |at| at + 1);
            if let Some(at) = self.log[begin..].iter().position(of) {
                open.insert(producer);
                first_open = first_open.min(begin + at);
            }
        }
        let key = |entry: &Entry| match entry {
            Entry::Record(record, _) => Some(record.encode().unwrap().0),
            Entry::Marker(..) => None,
        };
        let aborted = |at: usize| match &self.log[at] {
            Entry::Record(_, Some(producer)) => {
                let marker = self.log[at..]
                    .iter()
                    .find(|entry| matches!(entry, Entry::Marker(of, _) if of == producer));
                matches!(marker, Some(Entry::Marker(_, false)))
            }
            _ => false,
        };
        let mut last: BTreeMap<Bytes, usize> = BTreeMap::new();
        for (at, entry) in self.log[..first_open]
            .iter()
            .enumerate()
            .filter(|(at, _)| !aborted(*at))
        {
            key(entry).map(|key| last.insert(key, at));
        }
        let kept = |at: usize| {
            at >= first_open
                || (!aborted(at)
                    && key(&self.log[at]).is_none_or(|key| last.get(&key) == Some(&at)))
        };
        GroupShard::load(self.shard.config.clone(), self.now, |shard| {
            for (at, entry) in self.log.iter().enumerate().filter(|(at, _)| kept(*at)) {
                apply(shard, entry, i64::try_from(at).unwrap());
            }
        })
    }
}

proptest! {


    /// G-1: what lives is what a replay of the log gives, compacted or not, whatever was asked; a stable or empty generation is the
    /// one in the log; nobody who waits is forgotten.
    #[test]
    fn g_1_live_state_is_a_replay_of_the_log(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        for step in steps {
            bench.take(&step);
            let (replayed, compacted) = (bench.replayed(), bench.compacted());
            prop_assert_eq!(bench.shard.images(), replayed.images());
            prop_assert_eq!(bench.shard.images(), compacted.images());
            if let Some(group) = bench.shard.groups.get(GROUP) {
                if let (Phase::Stable, Some(metadata)) = (group.membership.phase(), &group.image.metadata) {
                    prop_assert_eq!(&group.membership.metadata(), metadata);
                }
                prop_assert!(group.membership.phase() == Phase::Empty || group.membership.next_deadline().is_some());
                prop_assert!(group.membership.phase() != Phase::Empty || group.membership.members().next().is_none());
            }
            bench.replies.clear();
        }
        // Nothing waits for ever: with time alone every join and sync is answered.
        let waiting = bench.shard.groups.get(GROUP).map_or(0, |group| {
            group.membership.members().map(|member| usize::from(member.join.is_some()) + usize::from(member.sync.is_some())).sum()
        });
        bench.advance(400_000);
        prop_assert_eq!(bench.replies.len(), waiting);
    }
}
