//! The table against models, under threads, and within its bounds.

mod bounds;
mod lookup;
mod owners;
mod reported;
mod threads;

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::arena::MAX_RECORDS;
use super::holders::{Holders, HoldersReader, Inserted};
use super::map::{Cursor, Map};
use super::recency::Recency;
use super::types::OwnerId;

/// xorshift64*: enough for tests, and the same everywhere.
struct Random(u64);

impl Random {
    /// Printed, so that a failure can be run again.
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn hash(number: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
}

fn owners_of(reader: &mut HoldersReader, key: u64) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    reader.owners(key, |owner| {
        assert!(found.insert(owner.0), "owner {} twice at key {key}", owner.0);
        true
    });
    found
}

fn check_model(seed: u64, segment_bits: u32, mut key_of: impl FnMut(&mut Random) -> u64) {
    const MOST: usize = MAX_RECORDS * 18;
    let mut random = Random::new(seed);
    let mut holders = Holders::new(segment_bits);
    let mut reader = holders.reader();
    let mut model: HashMap<u64, BTreeSet<u32>> = HashMap::new();
    let mut cursor = Cursor::default();
    for step in 0..60_000 {
        let (key, owner) = (key_of(&mut random), random.below(200) as u32);
        let set = model.entry(key).or_default();
        // Phases of growth and of shrinking, so that segments are rebuilt both ways.
        if random.below(100) < if step / 10_000 % 2 == 0 { 80 } else { 30 } {
            let expected = match (set.contains(&owner), set.len() >= MOST) {
                (true, _) => Inserted::Known,
                (false, true) => Inserted::Refused,
                (false, false) => Inserted::New,
            };
            let inserted = holders.insert(key, OwnerId(owner));
            assert_eq!(inserted, expected, "step {step}");
            if inserted == Inserted::New {
                set.insert(owner);
            }
        } else {
            assert_eq!(holders.remove(key, OwnerId(owner)), set.remove(&owner), "step {step}");
        }
        assert_eq!(owners_of(&mut reader, key), *set, "step {step}, key {key}");
        if step % 7_000 == 6_999 {
            let dead = random.below(200) as u32;
            while !holders.sweep(&mut cursor, 100, |owner| owner.0 != dead) {}
            for set in model.values_mut() {
                set.remove(&dead);
            }
        }
    }
    assert_eq!(holders.keys(), model.values().filter(|set| !set.is_empty()).count());
    for (key, set) in &model {
        assert_eq!(owners_of(&mut reader, *key), *set);
    }
}

#[test]
fn holders_do_as_a_map_of_sets_does() {
    check_model(1, 8, |random| hash(random.below(20_000)));
    check_model(2, 8, |random| hash(random.below(40)));
    check_model(3, 0, |random| hash(random.below(3_000)));
    // Keys that are no hashes at all: neighbours, the ends, all in one segment.
    check_model(4, 8, |random| random.below(300) + 1);
    check_model(5, 8, |random| u64::MAX - random.below(300));
}

#[test]
fn the_key_zero_is_a_key() {
    let mut map = Map::new(8);
    map.set(0, 7);
    assert_eq!((map.reader().value_of(0), map.live()), (7, 1));
    map.set(0, 0);
    assert_eq!((map.reader().value_of(0), map.live()), (0, 0));
}

#[test]
fn recency_does_as_a_queue_does() {
    let mut random = Random::new(6);
    let mut recency = Recency::new(500);
    let mut model: VecDeque<(u64, u32)> = VecDeque::new();
    for _ in 0..20_000 {
        let (key, tokens) = (hash(random.below(120)), 1 + random.below(20) as u32);
        let known = model.iter().position(|entry| entry.0 == key);
        assert_eq!(recency.push(key, 0, tokens), known.is_none());
        let entry = known.and_then(|at| model.remove(at)).unwrap_or((key, tokens));
        model.push_back(entry);
        while let Some(oldest) = recency.pop_over() {
            let sum: u32 = model.iter().map(|entry| entry.1).sum();
            assert!(sum > 500);
            assert_eq!(Some(oldest), model.pop_front().map(|entry| entry.0));
        }
        assert!(model.iter().map(|entry| entry.1).sum::<u32>() <= 500);
        assert_eq!(recency.marks(), model.len());
    }
}

#[test]
fn a_use_refreshes_the_chain_and_the_leaf_goes_first() {
    let mut recency = Recency::new(u64::MAX);
    for (key, parent) in [(1, 0), (2, 1), (3, 2), (11, 0), (12, 11)] {
        recency.push(key, parent, 10);
    }
    recency.push_loose(5);
    let mut touched = Vec::new();
    recency.touch(3, |key| touched.push(key));
    assert_eq!(touched, [3, 2, 1]);
    let order: Vec<u64> = std::iter::from_fn(|| recency.pop()).collect();
    assert_eq!(order, [11, 12, 0, 3, 2, 1]);
}
