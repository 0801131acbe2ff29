//! Chance that is the same for the same seed, and how many seeds are tried.

use std::cell::RefCell;
use std::ops::Range;

/// A 64-bit linear congruential generator, of which the upper half is good enough for tests.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// Three, or as many as `KTHENA_SEEDS` says, which `.ci/run kube --seeds N` sets.
pub(crate) fn seeds() -> Range<u64> {
    let many = std::env::var("KTHENA_SEEDS").map_or(3, |text| text.parse().expect("KTHENA_SEEDS is a number"));
    0..many
}

thread_local! {
    static FIXED: RefCell<Option<Rng>> = const { RefCell::new(None) };
}

/// From here on chance on this thread is the seed's.
pub(crate) fn fix(seed: u64) {
    FIXED.set(Some(Rng::new(seed)));
}

pub(super) fn fixed() -> Option<f64> {
    FIXED.with_borrow_mut(|rng| rng.as_mut().map(|rng| rng.below(1 << 20) as f64 / f64::from((1 << 20) - 1)))
}
