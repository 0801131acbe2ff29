//! Bytes per block, and what a full rank costs.

use super::super::*;
use super::rules::store;
use crate::kv::event::Stored;

const RANK: RankId = RankId(0);

/// So many blocks in chains of this length, by hashes that begin here.
fn fill(store_: &mut Store, begin: u64, blocks: u64, length: u64) {
    let mut changes = Vec::new();
    for chain in (begin..begin + blocks).step_by(length as usize) {
        let hashes: Vec<u64> = (chain..chain + length).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        let stored = Stored { ..store(None, &hashes) };
        store_.apply(RANK, &Batch { events: vec![Event::Stored(stored)], ..Batch::default() }, &mut changes);
        changes.clear();
    }
}

/// The control plane may spend 120 bytes on a block; this is its part for who holds what, at the worst fill of all.
#[test]
fn a_block_takes_at_most_a_hundred_bytes_at_any_fill() {
    for length in [1, 16] {
        let (mut store, mut worst) = (Store::new(), 0.0_f64);
        store.admit(RANK, usize::MAX);
        for step in 0..64 {
            fill(&mut store, step * 3_200, 3_200, length);
            let blocks = store.rank(RANK).unwrap().len();
            assert_eq!(blocks as u64, (step + 1) * 3_200);
            worst = worst.max(store.bytes() as f64 / blocks as f64);
        }
        let last = store.bytes() as f64 / 204_800.0;
        println!("chains of {length}: {worst:.1} bytes per block at worst, {last:.1} at 204,800 blocks");
        assert!(worst <= 110.0 && last <= 100.0, "{worst} {last}");
    }
}

#[test]
fn a_full_rank_takes_no_more_memory_however_much_passes_through() {
    let mut store = Store::new();
    store.admit(RANK, 2_000);
    fill(&mut store, 0, 20_000, 8);
    let before = store.bytes();
    fill(&mut store, 20_000, 100_000, 8);
    assert_eq!(store.rank(RANK).unwrap().len(), 2_000);
    assert!(store.bytes() <= before, "{} {before}", store.bytes());
    assert_eq!(store.rank(RANK).unwrap().tally().evicted, 118_000);
}
