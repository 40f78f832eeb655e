//! The bytes of a file, in pages that copies share until one of them writes: a crash copies the whole disk, thousands of times.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

/// A hole reads as zeros and takes no page.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    len: usize,
    pages: BTreeMap<usize, Arc<[u8; PAGE_BYTES]>>,
}

impl Pages {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Cuts, or extends with a hole.
    pub(super) fn resize(&mut self, len: usize) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE_BYTES));
            let (page, at) = (len / PAGE_BYTES, len % PAGE_BYTES);
            if let Some(page) = self.pages.get_mut(&page) {
                Arc::make_mut(page)[at..].fill(0);
            }
        }
        self.len = len;
    }

    /// Grows as needed.
    pub(super) fn write(&mut self, at: usize, mut bytes: &[u8]) {
        self.len = self.len.max(at + bytes.len());
        let mut at = at;
        while !bytes.is_empty() {
            let from = at % PAGE_BYTES;
            let (now, later) = bytes.split_at(bytes.len().min(PAGE_BYTES - from));
            let page = self.pages.entry(at / PAGE_BYTES);
            let page = page.or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[from..from + now.len()].copy_from_slice(now);
            at += now.len();
            bytes = later;
        }
    }

    /// As much as there is from `at` on; returns how much.
    pub(super) fn read(&self, at: usize, buf: &mut [u8]) -> usize {
        let len = buf.len().min(self.len.saturating_sub(at));
        let mut done = 0;
        while done < len {
            let from = (at + done) % PAGE_BYTES;
            let now = (len - done).min(PAGE_BYTES - from);
            let part = &mut buf[done..done + now];
            match self.pages.get(&((at + done) / PAGE_BYTES)) {
                Some(page) => part.copy_from_slice(&page[from..from + now]),
                None => part.fill(0),
            }
            done += now;
        }
        len
    }

    /// The first `len` bytes in one piece; holes cost the system nothing there either.
    pub(super) fn to_vec(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (i, page) in self.pages.range(..len.div_ceil(PAGE_BYTES)) {
            let from = i * PAGE_BYTES;
            let to = (from + PAGE_BYTES).min(len);
            bytes[from..to].copy_from_slice(&page[..to - from]);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_a_vector_of_bytes() {
        let mut random = super::super::Random::of(7);
        let (mut pages, mut plain) = (Pages::default(), Vec::new());
        for _ in 0..400 {
            let at = random.below(20_000);
            match random.below(3) {
                0 => {
                    let bytes = vec![random.below(255) as u8 + 1; random.below(9_000)];
                    pages.write(at, &bytes);
                    plain.resize(plain.len().max(at + bytes.len()), 0);
                    plain[at..at + bytes.len()].copy_from_slice(&bytes);
                }
                1 => {
                    pages.resize(at);
                    plain.resize(at, 0);
                }
                _ => {
                    let mut found = vec![9; random.below(9_000)];
                    let read = pages.read(at, &mut found);
                    let expected = &plain[at.min(plain.len())..];
                    assert!(found[..read] == expected[..found.len().min(expected.len())]);
                }
            }
            assert!(pages.len() == plain.len() && pages.to_vec(plain.len()) == plain);
        }
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut pages = Pages::default();
        pages.write(0, b"before");
        let copy = pages.clone();
        pages.write(0, b"behind");
        assert_eq!(
            (copy.to_vec(6), pages.to_vec(6)),
            (b"before".to_vec(), b"behind".to_vec())
        );
    }
}
