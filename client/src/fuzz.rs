//! Doors for `tests/fuzz` to what members of a group tell each other. The product calls none of them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::consumer::{decode_assignment, decode_subscription};
use crate::{CooperativeStickyAssignor, MemberSubscription, RangeAssignor, StickyAssignor};

/// The leader reads what members tell and assigns; each then reads what it was given.
pub fn members(told: &[Bytes]) {
    let members = told.iter().enumerate().map(|(at, bytes)| {
        let id = format!("m{at}");
        let nothing_told = MemberSubscription {
            member_id: id.clone(),
            ..MemberSubscription::default()
        };
        decode_subscription(id, None, bytes.clone()).unwrap_or(nothing_told)
    });
    let members: Vec<MemberSubscription> = members.collect();
    let partitions = BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 2)]);
    for assignor in [
        &RangeAssignor as &dyn crate::Assignor,
        &StickyAssignor::default(),
        &CooperativeStickyAssignor,
    ] {
        let given = assignor.assign(&partitions, &members);
        let all = given.values().flat_map(|given| &given.partitions);
        let mut seen = BTreeSet::new();
        for partition in all {
            assert!(
                seen.insert(partition),
                "{} gives {partition:?} to two members",
                assignor.name()
            );
            assert!(partitions.contains_key(&partition.topic));
        }
    }
}

/// A member reads what it was given.
pub fn assignment(bytes: Bytes) {
    let _ = decode_assignment(bytes);
}
