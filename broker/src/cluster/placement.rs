//! Which brokers get which replicas of a new topic. Pure.
//!
//! Brokers are taken in turn, racks alternating, from a start that moves with each topic so that first partitions do not pile up
//! on one broker. Source: Kafka `StripedReplicaPlacer`, without its randomness: the caller stamps the start into the command.

use flumen_protocol::id::BrokerId;

/// A broker that can take replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) id: BrokerId,
    pub(crate) rack: Option<String>,
}

/// Replica lists of `partitions` partitions with `replicas` replicas each, the leader first; `None` if there are too few brokers.
pub(crate) fn place(
    candidates: &[Candidate],
    partitions: usize,
    replicas: usize,
    start: usize,
) -> Option<Vec<Vec<BrokerId>>> {
    if replicas == 0 || replicas > candidates.len() {
        return None;
    }
    let order = alternate_racks(candidates);
    let at = |i: usize| order[i % order.len()];
    Some(
        (0..partitions)
            .map(|p| (0..replicas).map(|r| at(start + p + r)).collect())
            .collect(),
    )
}

/// Brokers so that neighbours are on different racks as far as possible: one of each rack, then the next of each.
fn alternate_racks(candidates: &[Candidate]) -> Vec<BrokerId> {
    let mut racks: std::collections::BTreeMap<Option<&str>, Vec<BrokerId>> =
        std::collections::BTreeMap::new();
    for candidate in candidates {
        racks
            .entry(candidate.rack.as_deref())
            .or_default()
            .push(candidate.id);
    }
    let depth = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..depth)
        .flat_map(|i| racks.values().filter_map(move |ids| ids.get(i).copied()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn brokers(racks: &[(BrokerId, Option<&str>)]) -> Vec<Candidate> {
        racks
            .iter()
            .map(|&(id, rack)| Candidate {
                id,
                rack: rack.map(str::to_owned),
            })
            .collect()
    }

    #[test]
    fn one_broker_leads_everything() {
        assert_eq!(
            place(&brokers(&[(1, None)]), 3, 1, 7),
            Some(vec![vec![1], vec![1], vec![1]])
        );
    }

    #[test]
    fn leaders_rotate_and_replicas_differ() {
        let placed = place(&brokers(&[(1, None), (2, None), (3, None)]), 3, 2, 1).unwrap();
        assert_eq!(placed, [[2, 3], [3, 1], [1, 2]]);
    }

    #[test]
    fn neighbours_are_on_different_racks() {
        let all = brokers(&[
            (1, Some("a")),
            (2, Some("a")),
            (3, Some("b")),
            (4, Some("b")),
        ]);
        let placed = place(&all, 4, 2, 0).unwrap();
        let rack = |id: BrokerId| all.iter().find(|c| c.id == id).unwrap().rack.clone();
        for replicas in placed {
            assert_ne!(rack(replicas[0]), rack(replicas[1]));
        }
    }

    #[test]
    fn too_few_brokers_is_no_placement() {
        assert_eq!(place(&brokers(&[(1, None)]), 1, 2, 0), None);
    }
}
