//! Recorded bytes with a few changes, again and again: an answer or an error each time, and never more than came in.

use std::panic::catch_unwind;

use super::recorded::messages;
use crate::kv::decode::{batch, load};
use crate::kv::event::Event;

const ROUNDS: u64 = 100_000;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// Markers, and what lengths are made of.
const TELLING: [u8; 16] =
    [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xc0, 0xc1, 0xc6, 0xc9, 0xd3, 0xdb, 0xdd, 0xdf, 0xff];

fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len().max(1));
        match rng.below(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), TELLING[rng.below(TELLING.len())]),
            2 if at < bytes.len() => bytes[at] = TELLING[rng.below(TELLING.len())],
            3 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            _ => {
                let end = (at + rng.below(40)).min(bytes.len());
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.extend(piece);
            }
        }
    }
}

/// What a batch holds never outgrows its bytes: a number takes one of them at least.
fn check(bytes: &[u8]) {
    // An answer or an error, whichever it is.
    let _ = load(bytes);
    let Ok(batch) = batch(bytes) else { return };
    let parts = batch.events.iter().map(|event| match event {
        Event::Stored(stored) => stored.hashes.len() + stored.tokens.len(),
        Event::Removed(removed) => removed.hashes.len(),
        Event::Cleared => 1,
    });
    assert!(parts.sum::<usize>() <= bytes.len());
}

#[test]
fn changed_bytes_never_panic_nor_grow() {
    let seeds: Vec<Vec<u8>> = messages().iter().map(|frames| frames[2].to_vec()).collect();
    for seed in 0..ROUNDS {
        let mut rng = Rng(seed);
        let mut bytes = seeds[rng.below(seeds.len())].clone();
        change(&mut bytes, &mut rng);
        assert!(catch_unwind(|| check(&bytes)).is_ok(), "seed {seed}: {bytes:?}");
    }
}
