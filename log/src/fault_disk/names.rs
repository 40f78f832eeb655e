//! The names of one directory: as they are, as they are durable, and the changes in between.

use std::collections::BTreeMap;

use super::{Crash, Injected, NodeId, Random};

#[derive(Clone, Debug)]
enum Change {
    Add(String, NodeId),
    Remove(String),
    Rename(String, String, NodeId),
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, NodeId>) {
        match self {
            Self::Add(name, id) => _ = names.insert(name.clone(), *id),
            Self::Remove(name) => _ = names.remove(name),
            Self::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DirState {
    current: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    pending: Vec<Change>,
}

impl DirState {
    pub(super) fn get(&self, name: &str) -> Option<NodeId> {
        self.current.get(name).copied()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.current.iter().map(|(name, id)| (name.as_str(), *id))
    }

    pub(super) fn add(&mut self, name: &str, id: NodeId) {
        self.change(Change::Add(name.to_owned(), id));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(Change::Remove(name.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str, id: NodeId) {
        self.change(Change::Rename(from.to_owned(), to.to_owned(), id));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// Only what is pending: what a failed sync dropped stays lost.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync failed: the changes will never become durable, and nobody will try again.
    pub(super) fn forget(&mut self) {
        self.pending.clear();
    }

    pub(super) fn after_crash(
        &self,
        how: Crash,
        random: &mut Random,
        injected: &mut Injected,
    ) -> Self {
        let mut names = self.durable.clone();
        let kept = match how {
            Crash::LoseUnsynced => 0,
            Crash::Prefix => random.below(self.pending.len() + 1),
            _ => self.pending.len(),
        };
        injected.lost_names += (self.pending.len() - kept) as u64;
        for change in &self.pending[..kept] {
            match how != Crash::Tear || random.flip() {
                true => change.apply(&mut names),
                false => injected.lost_names += 1,
            }
        }
        Self {
            current: names.clone(),
            durable: names,
            pending: Vec::new(),
        }
    }
}
