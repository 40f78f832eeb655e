//! Deadlines of a machine, by key: set, moved, cancelled, popped when due. Plain data; the runtime's one timer task asks for the
//! next deadline and calls the machine's `on_tick`.

use std::collections::{BTreeMap, BTreeSet};

/// At most one deadline per key, in monotonic milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K: Ord + Clone> {
    by_key: BTreeMap<K, u64>,
    by_deadline: BTreeSet<(u64, K)>,
}

impl<K: Ord + Clone> Default for Timers<K> {
    fn default() -> Timers<K> {
        Timers {
            by_key: BTreeMap::new(),
            by_deadline: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Clone> Timers<K> {
    /// Sets or moves the deadline of `key`.
    pub(crate) fn set(&mut self, key: K, deadline: u64) {
        if let Some(old) = self.by_key.insert(key.clone(), deadline) {
            self.by_deadline.remove(&(old, key.clone()));
        }
        self.by_deadline.insert((deadline, key));
    }

    /// Forgets `key`; nothing happens if it has no deadline.
    pub(crate) fn cancel(&mut self, key: &K) {
        if let Some(old) = self.by_key.remove(key) {
            self.by_deadline.remove(&(old, key.clone()));
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Takes one key whose deadline is at or before `now`, earliest first.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_deadline.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_deadline_fires_once_and_at_its_new_time() {
        let mut timers = Timers::default();
        timers.set("a", 10);
        timers.set("b", 20);
        timers.set("a", 30);
        assert_eq!(timers.next(), Some(20));
        assert_eq!(timers.pop_due(19), None);
        assert_eq!(timers.pop_due(40), Some("b"));
        assert_eq!(timers.pop_due(40), Some("a"));
        assert_eq!(timers.pop_due(40), None);
        timers.set("c", 1);
        timers.cancel(&"c");
        assert_eq!(timers.next(), None);
    }
}
