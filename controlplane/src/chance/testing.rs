//! Chance that is the same for the same seed, and how many seeds are tried.

use std::cell::RefCell;
use std::ops::Range;

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    /// A place in what has so many.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// Changes bytes in up to four places; what is put in is one of `telling`, or a piece of what is there.
    pub(crate) fn change(&mut self, bytes: &mut Vec<u8>, telling: &[u8]) {
        for _ in 0..=self.index(4) {
            let at = self.index(bytes.len().max(1));
            match self.index(5) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), self.pick(telling)),
                2 if at < bytes.len() => bytes[at] = self.pick(telling),
                3 if at < bytes.len() => bytes[at] ^= 1 << self.index(8),
                _ => {
                    let end = (at + self.index(40)).min(bytes.len());
                    let piece = bytes[at.min(end)..end].to_vec();
                    bytes.extend(piece);
                }
            }
        }
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
