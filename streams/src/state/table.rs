//! A slab of typed entries with a hash index, a dirty list and an undo log per open epoch. Pure memory.
//!
//! Called by the stores of `cache.rs`, which bring missing keys in and write changes out. An *open* epoch is one that is not
//! committed: the current one, and those that ended and await their commit. An entry is *dirty* while the backend's row
//! differs from its last committed value.
//!
//! ```text
//! entry touched for the first time in an epoch     its value before goes to the undo log
//! end_epoch                                        the log's keys are what changed, each once: the changelog
//! committed                                        the log is dropped
//! abort                                            the logs of all open epochs are applied backwards
//! spill                                            dirty entries with their committed value: of an entry that an open epoch
//!                                                  changed again, the oldest value before
//! ```

use std::collections::{HashMap, VecDeque, hash_map};
use std::hash::{BuildHasher, Hash};

use flumen_planted::{Bug, planted};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::{Epoch, Timestamped};

type At = u32;
type Cell<V> = Option<Timestamped<V>>;

struct Entry<K, V> {
    hash: u64,
    key: K,
    value: Cell<V>,
    /// Generation of its newest undo entry; 0: none.
    touched: u64,
    dirty: bool,
    /// Whether the backend may have a row.
    stored: bool,
    /// Read or changed since the hand of the clock came by.
    referenced: bool,
}

struct Undo<V> {
    at: At,
    before: Cell<V>,
    was_dirty: bool,
}

struct Ended<V> {
    epoch: Epoch,
    generation: u64,
    undo: Vec<Undo<V>>,
}

/// Entries of one store of one task, or of one of its windows.
pub(crate) struct Table<K, V> {
    slots: Vec<Option<Entry<K, V>>>,
    free: Vec<At>,
    index: HashTable<At>,
    hasher: FixedState,
    dirty: Vec<At>,
    open: Vec<Undo<V>>,
    ended: VecDeque<Ended<V>>,
    /// One more with each end of an epoch in which something changed, and with each abort.
    generation: u64,
    hand: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Table<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashTable::new(),
            hasher: FixedState::default(),
            dirty: Vec::new(),
            open: Vec::new(),
            ended: VecDeque::new(),
            generation: 1,
            hand: 0,
        }
    }

    /// Where `key` is; its hash for [`insert`](Self::insert) if it is not here.
    pub(crate) fn find(&self, key: &K) -> Result<At, u64> {
        let hash = self.hasher.hash_one(key);
        self.index
            .find(hash, |at| self.entry(*at).key == *key)
            .copied()
            .ok_or(hash)
    }

    /// Brings a key in with what the backend has for it. `hash` is what [`find`](Self::find) answered.
    pub(crate) fn insert(&mut self, hash: u64, key: K, value: Cell<V>) -> At {
        let stored = value.is_some();
        let entry = Entry {
            hash,
            key,
            value,
            touched: 0,
            dirty: false,
            stored,
            referenced: true,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = Some(entry);
                at
            }
            None => {
                self.slots.push(Some(entry));
                At::try_from(self.slots.len() - 1).expect("fewer than 2^32 entries in memory")
            }
        };
        let slots = &self.slots;
        let rehash = |at: &At| {
            slots[*at as usize]
                .as_ref()
                .expect("indexed slots are used")
                .hash
        };
        self.index.insert_unique(hash, at, rehash);
        at
    }

    pub(crate) fn value(&mut self, at: At) -> Option<&Timestamped<V>> {
        let entry = self.entry_mut(at);
        entry.referenced = true;
        entry.value.as_ref()
    }

    /// Replaces a value by what `change` makes of it, in the current epoch.
    pub(crate) fn change(&mut self, at: At, change: impl FnOnce(Cell<V>) -> Cell<V>) {
        let generation = self.generation;
        let entry = self.slots[at as usize]
            .as_mut()
            .expect("found slots are used");
        if entry.touched != generation {
            self.open.push(Undo {
                at,
                before: entry.value.clone(),
                was_dirty: entry.dirty,
            });
            entry.touched = generation;
        }
        entry.referenced = true;
        entry.value = change(entry.value.take());
        if !entry.dirty {
            entry.dirty = true;
            self.dirty.push(at);
        }
    }

    /// Key, value before and value now of what the current epoch changed, in the order of first change.
    pub(crate) fn changes(
        &self,
    ) -> impl Iterator<Item = (&K, Option<&Timestamped<V>>, Option<&Timestamped<V>>)> {
        self.open.iter().map(|undo| {
            let entry = self.entry(undo.at);
            (&entry.key, undo.before.as_ref(), entry.value.as_ref())
        })
    }

    pub(crate) fn end_epoch(&mut self, epoch: Epoch) {
        if self.open.is_empty() {
            return;
        }
        let undo = std::mem::take(&mut self.open);
        self.ended.push_back(Ended {
            epoch,
            generation: self.generation,
            undo,
        });
        self.generation += 1;
    }

    /// Epochs up to `epoch` can no longer be undone.
    pub(crate) fn committed(&mut self, epoch: Epoch) {
        while self.ended.front().is_some_and(|ended| ended.epoch <= epoch) {
            let undo = self.ended.pop_front().expect("looked at above").undo;
            if self.open.capacity() == 0 {
                self.open = undo;
                self.open.clear();
            }
        }
    }

    /// Takes back everything that is not committed.
    pub(crate) fn abort(&mut self) {
        let open = std::mem::take(&mut self.open);
        let ended = std::mem::take(&mut self.ended)
            .into_iter()
            .map(|ended| ended.undo);
        for undo in ended
            .chain([open])
            .rev()
            .flat_map(|undo| undo.into_iter().rev())
        {
            let entry = self.slots[undo.at as usize]
                .as_mut()
                .expect("an entry with an undo value stays");
            entry.value = undo.before;
            entry.dirty = undo.was_dirty;
            entry.touched = 0;
        }
        self.generation += 1;
        let slots = &self.slots;
        self.dirty.retain(|at| {
            slots[*at as usize]
                .as_ref()
                .is_some_and(|entry| entry.dirty)
        });
    }

    /// The committed value of every dirty entry that the backend has to hear of.
    pub(crate) fn spill<E>(
        &self,
        mut write: impl FnMut(&K, Option<&Timestamped<V>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.oldest_before();
        for at in &self.dirty {
            let entry = self.entry(*at);
            let (value, dirty) = match before.get(at) {
                // Wrong: the value of the open epoch, which may still be undone.
                _ if planted(Bug::SpillUncommitted) => (entry.value.as_ref(), true),
                Some(undo) => (undo.before.as_ref(), undo.was_dirty),
                None => (entry.value.as_ref(), true),
            };
            if dirty && (value.is_some() || entry.stored) {
                write(&entry.key, value)?;
            }
        }
        Ok(())
    }

    /// What [`spill`](Self::spill) gave out is in the backend.
    pub(crate) fn spilled(&mut self) {
        let mut changed_again: HashMap<At, bool, FixedState> = HashMap::default();
        let undos = self
            .ended
            .iter_mut()
            .flat_map(|ended| ended.undo.iter_mut())
            .chain(self.open.iter_mut());
        for undo in undos {
            if let hash_map::Entry::Vacant(first) = changed_again.entry(undo.at) {
                if undo.was_dirty {
                    undo.was_dirty = false;
                    first.insert(undo.before.is_some());
                } else {
                    first.insert(
                        self.slots[undo.at as usize]
                            .as_ref()
                            .is_some_and(|entry| entry.stored),
                    );
                }
            }
        }
        let slots = &mut self.slots;
        self.dirty.retain(|at| {
            let entry = slots[*at as usize].as_mut().expect("dirty entries stay");
            let again = changed_again.get(at);
            entry.stored = again.copied().unwrap_or(entry.value.is_some());
            entry.dirty = again.is_some();
            entry.dirty
        });
    }

    /// Lets clean entries go until `keep` are left or all that are clean have gone; recently used ones last (Kafka: LRU; here CLOCK).
    pub(crate) fn evict(&mut self, keep: usize) {
        let oldest_open = self
            .ended
            .front()
            .map_or(self.generation, |ended| ended.generation);
        let mut steps = 2 * self.slots.len();
        while self.index.len() > keep && steps > 0 {
            steps -= 1;
            self.hand = if self.hand + 1 < self.slots.len() {
                self.hand + 1
            } else {
                0
            };
            let Some(entry) = &mut self.slots[self.hand] else {
                continue;
            };
            if entry.dirty || entry.touched >= oldest_open || std::mem::take(&mut entry.referenced)
            {
                continue;
            }
            let at = At::try_from(self.hand).expect("fewer than 2^32 entries in memory");
            if let Ok(indexed) = self.index.find_entry(entry.hash, |other| *other == at) {
                indexed.remove();
            }
            self.slots[self.hand] = None;
            self.free.push(at);
        }
    }

    /// The keys that had a value when the current epoch began.
    pub(crate) fn keys_before_epoch(&self) -> impl Iterator<Item = &K> {
        let changed: HashMap<At, bool, FixedState> = self
            .open
            .iter()
            .map(|undo| (undo.at, undo.before.is_some()))
            .collect();
        self.slots.iter().enumerate().filter_map(move |(at, slot)| {
            let entry = slot.as_ref()?;
            let at = At::try_from(at).expect("fewer than 2^32 entries in memory");
            changed
                .get(&at)
                .copied()
                .unwrap_or(entry.value.is_some())
                .then_some(&entry.key)
        })
    }

    /// Every entry, those without a value too, in no useful order but always the same.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&K, Option<&Timestamped<V>>)> {
        self.slots
            .iter()
            .flatten()
            .map(|entry| (&entry.key, entry.value.as_ref()))
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    fn oldest_before(&self) -> HashMap<At, &Undo<V>, FixedState> {
        let mut oldest = HashMap::default();
        for undo in self
            .ended
            .iter()
            .flat_map(|ended| ended.undo.iter())
            .chain(self.open.iter())
        {
            oldest.entry(undo.at).or_insert(undo);
        }
        oldest
    }

    fn entry(&self, at: At) -> &Entry<K, V> {
        self.slots[at as usize]
            .as_ref()
            .expect("indexed slots are used")
    }

    fn entry_mut(&mut self, at: At) -> &mut Entry<K, V> {
        self.slots[at as usize]
            .as_mut()
            .expect("indexed slots are used")
    }
}
