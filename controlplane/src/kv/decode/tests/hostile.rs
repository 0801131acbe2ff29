//! Recorded bytes with a few changes, again and again: an answer or an error each time, and never more than came in.

use std::panic::catch_unwind;

use serde_json::json;

use super::pack::pack;
use super::recorded::messages;
use crate::chance::testing::Rng;
use crate::kv::decode::{batch, load};
use crate::kv::event::Event;

const ROUNDS: u64 = 100_000;

/// Markers, and what lengths are made of.
const TELLING: [u8; 16] =
    [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xc0, 0xc1, 0xc6, 0xc9, 0xd3, 0xdb, 0xdd, 0xdf, 0xff];

fn change(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.index(4) {
        let at = rng.index(bytes.len().max(1));
        match rng.index(5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), TELLING[rng.index(TELLING.len())]),
            2 if at < bytes.len() => bytes[at] = TELLING[rng.index(TELLING.len())],
            3 if at < bytes.len() => bytes[at] ^= 1 << rng.index(8),
            _ => {
                let end = (at + rng.index(40)).min(bytes.len());
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
    let mut seeds: Vec<Vec<u8>> = messages().iter().map(|frames| frames[2].to_vec()).collect();
    let load = json!(["LoadStat", 3, 700, 70_000, 5_000_000_000_u64, null, 9, 10, 11, 12, 13]);
    seeds.extend([pack(&load), pack(&json!(["LoadStat", 0, 0, 0, 0]))]);
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let mut bytes = seeds[rng.index(seeds.len())].clone();
        change(&mut bytes, &mut rng);
        assert!(catch_unwind(|| check(&bytes)).is_ok(), "seed {seed}: {bytes:?}");
    }
}
