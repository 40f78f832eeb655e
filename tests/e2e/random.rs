//! Random numbers from a printed seed: `SEED=42 cargo test` repeats a run.

/// A small generator (splitmix64); equal seeds give equal numbers everywhere.
#[derive(Debug)]
pub(crate) struct Random(u64);

/// The generator of one test: from `SEED`, else from the clock; the seed is printed either way.
pub(crate) fn seeded(test: &str) -> Random {
    seeded_run(test, 0)
}

/// The same for run `number` of a test that makes several: `SEED` is that of the first, the others follow it.
pub(crate) fn seeded_run(test: &str, number: u64) -> Random {
    let given = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |t| t.as_millis() as u64)
    });
    let seed = seed + if given.is_some() { number } else { 0 };
    println!("{test}: SEED={seed}");
    Random::new(seed)
}

impl Random {
    /// A generator of its own for another task, which does not disturb this one.
    pub(crate) fn fork(&mut self) -> Random {
        Random(self.below(usize::MAX) as u64)
    }

    /// The generator of that seed.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number in `[0, bound)`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}
