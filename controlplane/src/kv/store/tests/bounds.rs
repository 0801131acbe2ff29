//! Bytes per block, and what a full rank costs.

use super::super::*;
use super::rules::store;
use crate::kv::event::Stored;
use crate::kv::vocabulary::Vocabulary;

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

/// A rank that reads tokens of one to eight bytes, so that text is left over as it is in life.
fn reader() -> Store {
    let pieces: Vec<Vec<u8>> = (0..4_096_u32).map(|n| vec![n as u8; 1 + n as usize % 8]).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let vocabulary = Arc::new(Vocabulary::of_pieces(&pieces));
    let mut store = Store::new();
    store.admit(RANK, usize::MAX);
    store.read_as(RANK, Reading { vocabulary, fleet_seed: 1, model: "m".into() });
    store
}

/// A chain of 16 blocks of 16 tokens.
fn read(store: &mut Store, chain: u64, changes: &mut Vec<Change>) {
    let hashes: Vec<u64> = (0..16).map(|n| (chain * 16 + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let tokens = hashes.iter().flat_map(|hash| (0..16).map(|n| (hash.rotate_left(n * 4) % 4_096) as u32)).collect();
    let stored = Stored { tokens, block_size: 16, ..whole(&hashes) };
    store.apply(RANK, &Batch { events: vec![Event::Stored(stored)], ..Batch::default() }, changes);
    changes.clear();
    drop(store.news(RANK));
}

/// All that the control plane keeps of a block, its text included.
#[test]
fn a_block_with_its_text_takes_at_most_120_bytes_at_any_fill() {
    let (mut store, mut worst, mut changes) = (reader(), 0.0_f64, Vec::new());
    for chain in 0..12_800 {
        read(&mut store, chain, &mut changes);
        if chain % 200 == 199 {
            worst = worst.max(store.bytes() as f64 / store.rank(RANK).unwrap().len() as f64);
        }
    }
    let rank = store.rank(RANK).unwrap();
    let (told, last) = (rank.digest().blocks as f64 / rank.len() as f64, store.bytes() as f64 / rank.len() as f64);
    println!("{worst:.1} bytes per block at worst, {last:.1} at {}; {told:.2} blocks of text each", rank.len());
    assert!((1.05..1.2).contains(&told), "{told}");
    assert!(worst <= 120.0, "{worst}");
}

/// What the store counts and what the process takes, at a million blocks: `--ignored --nocapture`, alone.
#[test]
#[ignore = "takes a while, and only its own process's memory can be looked at"]
fn a_million_blocks_take_as_much_of_the_process_as_the_store_says() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * rustix::param::page_size() as f64
    };
    let (mut store, mut changes, before) = (reader(), Vec::new(), resident());
    (0..62_500).for_each(|chain| read(&mut store, chain, &mut changes));
    let blocks = store.rank(RANK).unwrap().len() as f64;
    let (counted, taken) = (store.bytes() as f64 / blocks, (resident() - before) / blocks);
    println!("{blocks} blocks: {counted:.1} bytes each by the store's count, {taken:.1} by the process's");
    assert!(counted <= 120.0 && taken <= 126.0, "{counted} {taken}");
}

fn whole(hashes: &[u64]) -> Stored {
    store(None, hashes)
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
