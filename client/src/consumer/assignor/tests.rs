//! The assignors: complete, balanced, sticky; the same for every order of members.

use proptest::prelude::*;

use super::*;

fn member(id: &str, topics: &[&str]) -> MemberSubscription {
    MemberSubscription {
        member_id: id.to_owned(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        generation_id: -1,
        ..MemberSubscription::default()
    }
}

fn topics(counts: &[(&str, i32)]) -> BTreeMap<String, i32> {
    counts
        .iter()
        .map(|(topic, count)| ((*topic).to_owned(), *count))
        .collect()
}

fn show(plan: &BTreeMap<String, MemberAssignment>) -> String {
    let mut lines = Vec::new();
    for (member, assignment) in plan {
        let names: Vec<String> = assignment
            .partitions
            .iter()
            .map(|partition| format!("{}-{}", partition.topic, partition.partition))
            .collect();
        lines.push(format!("{member}: {}", names.join(" ")));
    }
    lines.join("\n")
}

#[test]
fn range_gives_the_first_members_one_more_as_java() {
    let plan = RangeAssignor.assign(
        &topics(&[("t", 3), ("u", 3)]),
        &[member("a", &["t", "u"]), member("b", &["t", "u"])],
    );
    assert_eq!(show(&plan), "a: t-0 t-1 u-0 u-1\nb: t-2 u-2");
}

#[test]
fn range_puts_static_members_first_in_the_order_of_their_names() {
    let mut last = member("a", &["t"]);
    last.group_instance_id = Some("z".to_owned());
    let mut first = member("z", &["t"]);
    first.group_instance_id = Some("a".to_owned());
    let plan = RangeAssignor.assign(&topics(&[("t", 2)]), &[last, first, member("b", &["t"])]);
    assert_eq!(show(&plan), "a: t-1\nb: \nz: t-0");
}

#[test]
fn sticky_keeps_what_members_have_and_moves_only_the_surplus() {
    let assignor = CooperativeStickyAssignor;
    let mut veteran = member("a", &["t"]);
    veteran.generation_id = 1;
    veteran.owned_partitions = (0..4)
        .map(|partition| TopicPartition {
            topic: "t".to_owned(),
            partition,
        })
        .collect();
    let joined = member("b", &["t"]);
    // First round: the two that move are given to nobody yet.
    let plan = assignor.assign(&topics(&[("t", 4)]), &[veteran.clone(), joined.clone()]);
    assert_eq!(show(&plan), "a: t-2 t-3\nb: ");
    // Second round: they were given back, so they go to the new member.
    veteran.owned_partitions = plan["a"].partitions.clone();
    veteran.generation_id = 2;
    let plan = assignor.assign(&topics(&[("t", 4)]), &[veteran, joined]);
    assert_eq!(show(&plan), "a: t-2 t-3\nb: t-0 t-1");
}

#[test]
fn of_two_claims_the_later_generation_counts() {
    let mut stale = member("a", &["t"]);
    stale.owned_partitions = vec![TopicPartition {
        topic: "t".to_owned(),
        partition: 0,
    }];
    stale.generation_id = 3;
    let mut current = member("b", &["t"]);
    current.owned_partitions = stale.owned_partitions.clone();
    current.generation_id = 4;
    let plan = share_evenly(&topics(&[("t", 1)]), &[stale, current]);
    assert_eq!(show(&plan), "a: \nb: t-0");
}

#[test]
fn eager_sticky_remembers_through_user_data() {
    let assignor = StickyAssignor::default();
    assert_eq!(assignor.subscription_user_data(&[], &[]), None);
    let given = MemberAssignment {
        partitions: vec![TopicPartition {
            topic: "t".to_owned(),
            partition: 1,
        }],
        user_data: None,
    };
    assignor.on_assignment(&given, 9);
    let bytes = assignor.subscription_user_data(&[], &[]);
    assert_eq!(decode_memory(bytes.as_ref()), (given.partitions, 9));
    let mut holder = member("b", &["t"]);
    holder.user_data = bytes;
    let plan = assignor.assign(&topics(&[("t", 2)]), &[member("a", &["t"]), holder]);
    assert_eq!(show(&plan), "a: t-0\nb: t-1");
}

fn any_group() -> impl Strategy<Value = (BTreeMap<String, i32>, Vec<MemberSubscription>)> {
    let counts = proptest::collection::btree_map("[a-d]", 0..9_i32, 1..4);
    let members = proptest::collection::vec(
        (
            proptest::collection::vec("[a-e]", 0..5),
            proptest::collection::vec(("[a-e]", 0..10_i32), 0..8),
            -1..3_i32,
        ),
        1..6,
    );
    (counts, members).prop_map(|(counts, members)| {
        let members = members
            .into_iter()
            .enumerate()
            .map(
                |(index, (topics, owned, generation_id))| MemberSubscription {
                    member_id: format!("m{index}"),
                    topics,
                    owned_partitions: owned
                        .into_iter()
                        .map(|(topic, partition)| TopicPartition { topic, partition })
                        .collect(),
                    generation_id,
                    ..MemberSubscription::default()
                },
            )
            .collect();
        (counts, members)
    })
}

/// Each partition with a subscriber has exactly one owner, who subscribed to it.
fn assert_complete(
    counts: &BTreeMap<String, i32>,
    members: &[MemberSubscription],
    plan: &BTreeMap<String, MemberAssignment>,
) {
    let mut owners: BTreeMap<TopicPartition, &str> = BTreeMap::new();
    for member in members {
        for partition in &plan[&member.member_id].partitions {
            assert!(member.topics.contains(&partition.topic));
            assert_eq!(owners.insert(partition.clone(), &member.member_id), None);
        }
    }
    let expected: i32 = counts
        .iter()
        .filter(|(topic, _)| members.iter().any(|member| member.topics.contains(topic)))
        .map(|(_, count)| *count)
        .sum();
    assert_eq!(owners.len(), usize::try_from(expected).unwrap());
}

proptest! {
    #[test]
    fn range_and_sticky_give_every_partition_to_one_subscriber((counts, members) in any_group()) {
        assert_complete(&counts, &members, &RangeAssignor.assign(&counts, &members));
        assert_complete(&counts, &members, &share_evenly(&counts, &members));
    }

    #[test]
    fn no_partition_could_move_to_a_member_with_two_less((counts, members) in any_group()) {
        let plan = share_evenly(&counts, &members);
        for from in &members {
            for partition in &plan[&from.member_id].partitions {
                for to in members.iter().filter(|to| to.topics.contains(&partition.topic)) {
                    let (more, less) = (
                        plan[&from.member_id].partitions.len(),
                        plan[&to.member_id].partitions.len(),
                    );
                    prop_assert!(more <= less + 1, "{}", show(&plan));
                }
            }
        }
    }

    #[test]
    fn a_second_round_without_changes_moves_nothing((counts, mut members) in any_group()) {
        let plan = share_evenly(&counts, &members);
        for member in &mut members {
            member.owned_partitions = plan[&member.member_id].partitions.clone();
            member.generation_id = 7;
        }
        prop_assert_eq!(share_evenly(&counts, &members), plan);
    }

    #[test]
    fn cooperative_never_gives_what_another_still_holds_and_settles((counts, mut members) in any_group()) {
        for round in 0..3 {
            let plan = CooperativeStickyAssignor.assign(&counts, &members);
            for member in &members {
                for partition in &plan[&member.member_id].partitions {
                    for other in members.iter().filter(|other| other.member_id != member.member_id) {
                        prop_assert!(!other.owned_partitions.contains(partition));
                    }
                }
            }
            if round == 2 {
                assert_complete(&counts, &members, &plan);
            }
            for member in &mut members {
                member.owned_partitions = plan[&member.member_id].partitions.clone();
                member.generation_id = 10 + round;
            }
        }
    }
}
