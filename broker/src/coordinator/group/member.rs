//! One member of a classic group, and how members vote for the protocol of a generation. Plain data, used by
//! [`classic`](super::classic) only.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::coordinator::Token;

/// One assignment strategy a member offers ("range", "cooperative-sticky", Connect's "sessioned"), with its opaque metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: String,
    pub(crate) metadata: Bytes,
}

/// A member as its coordinator sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) member_id: String,
    /// `group.instance.id`: a static member, which keeps its place when it comes back under a new member id.
    pub(crate) instance_id: Option<String>,
    pub(crate) client_id: String,
    /// As Java prints an address: `/127.0.0.1`.
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In order of preference.
    pub(crate) protocols: Vec<Protocol>,
    /// What the leader gave it in the current generation.
    pub(crate) assignment: Bytes,
    /// It has not seen its member id yet, so it cannot send heartbeats.
    pub(crate) is_new: bool,
    /// Its JoinGroup waits for this reply.
    pub(crate) join: Option<Token>,
    /// Its SyncGroup waits for this reply.
    pub(crate) sync: Option<Token>,
}

impl Member {
    /// The metadata it gave for `protocol`, empty if it does not offer it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|offered| offered.name == protocol)
            .map_or_else(Bytes::new, |offered| offered.metadata.clone())
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols
            .iter()
            .any(|offered| offered.name == protocol)
    }
}

/// The protocols that every member offers.
pub(crate) fn common_protocols(members: &BTreeMap<String, Member>) -> Vec<String> {
    let Some(first) = members.values().next() else {
        return Vec::new();
    };
    let offered = first.protocols.iter().map(|protocol| &protocol.name);
    let common = offered.filter(|name| members.values().all(|member| member.supports(name)));
    common.cloned().collect()
}

/// Elects the protocol of the next generation: each member votes for the first of its list that all offer; most votes win, a tie
/// goes to the one earlier in `leader`'s list.
pub(crate) fn select_protocol(members: &BTreeMap<String, Member>, leader: &str) -> Option<String> {
    let common = common_protocols(members);
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for member in members.values() {
        let vote = member
            .protocols
            .iter()
            .find(|offered| common.contains(&offered.name))?;
        *votes.entry(vote.name.as_str()).or_default() += 1;
    }
    let most = *votes.values().max()?;
    let winners: Vec<&str> = votes
        .iter()
        .filter(|(_, count)| **count == most)
        .map(|(name, _)| *name)
        .collect();
    let preferred = members.get(leader).and_then(|leader| {
        leader
            .protocols
            .iter()
            .find(|p| winners.contains(&p.name.as_str()))
    });
    preferred
        .map(|protocol| protocol.name.clone())
        .or_else(|| winners.first().map(|name| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, protocols: &[&str]) -> (String, Member) {
        let protocols = protocols
            .iter()
            .map(|name| Protocol {
                name: (*name).to_owned(),
                metadata: Bytes::new(),
            })
            .collect();
        (
            id.to_owned(),
            Member {
                member_id: id.to_owned(),
                protocols,
                ..Member::default()
            },
        )
    }

    #[test]
    fn the_protocol_is_voted_among_those_all_offer() {
        type Case<'a> = (&'a [(&'a str, &'a [&'a str])], &'a str, Option<&'a str>);
        let cases: &[Case<'_>] = &[
            (&[("a", &["range"])], "a", Some("range")),
            (
                &[("a", &["range", "sticky"]), ("b", &["sticky", "range"])],
                "b",
                Some("sticky"),
            ), // a tie: the leader's
            (
                &[("a", &["x", "range"]), ("b", &["sticky", "range"])],
                "a",
                Some("range"),
            ), // x is not common
            (
                &[("a", &["s", "r"]), ("b", &["r", "s"]), ("c", &["r", "s"])],
                "a",
                Some("r"),
            ), // majority beats the leader
            (&[("a", &["s"]), ("b", &["r"])], "a", None),
        ];
        for (members, leader, expected) in cases {
            let members: BTreeMap<String, Member> = members
                .iter()
                .map(|(id, protocols)| member(id, protocols))
                .collect();
            assert_eq!(
                select_protocol(&members, leader).as_deref(),
                *expected,
                "{members:?}"
            );
        }
    }
}
