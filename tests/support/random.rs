//! Reproducible random numbers.

/// SplitMix64, which yields the same numbers for the same seed on every machine.
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator with a seed.
    pub(crate) fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Creates a generator with the seed in `STRONGROOM_TEST_SEED`, or with a new one, which is
    /// printed.
    pub(crate) fn for_this_test() -> Self {
        let seed = std::env::var("STRONGROOM_TEST_SEED").map(|seed| seed.parse().expect("a seed is a number"));
        let seed = seed.unwrap_or_else(|_| std::process::id().into());
        println!("to repeat this test: STRONGROOM_TEST_SEED={seed}");
        Self(seed)
    }
}
