//! The lane against scripted control planes.

use std::collections::{BTreeMap, BTreeSet};

use api::kv::{Digest, Entries, Entry, Rank, Said, Trust};
use proptest::prelude::*;

use super::*;
use crate::index::{Config, Placement, Query, Reader, Seat};

mod streams;
mod trust;

/// A chain's hashes.
fn chain(name: u64, blocks: usize) -> Vec<u64> {
    (0..blocks as u64).map(|at| xxhash_rust::xxh3::xxh3_64(&(name << 32 | at).to_le_bytes())).collect()
}

/// Endpoints by handle; the name makes the key.
fn snapshot(epoch: u64, endpoints: &[(u32, &str)]) -> Arc<Snapshot> {
    let endpoint = |(handle, name): &(u32, &str)| serde_json::json!({"handle": handle, "name": name, "address": format!("127.0.0.1:{}", 1_000 + handle)});
    // The same address whatever the handle: it is part of the key.
    let mut list: Vec<_> = endpoints.iter().map(endpoint).collect();
    for (value, (_, name)) in list.iter_mut().zip(endpoints) {
        value["address"] = format!("127.0.0.1:{}", 1_000 + u32::from(name.as_bytes()[0])).into();
    }
    let backends = serde_json::json!([{"name": "t/b", "endpoints": list}]);
    let text = serde_json::json!({"epoch": epoch, "version": 1, "backends": backends}).to_string();
    Arc::new(api::json::snapshot_from_json(text.as_bytes()).unwrap())
}

struct Bed {
    lane: Lane,
    writer: Writer,
    reader: Reader,
    epoch: u64,
    sequence: u64,
    now_ms: u64,
}

impl Bed {
    /// A stream of epoch 1 over endpoints a (handle 1), b (2) and c (3).
    fn new() -> Self {
        let mut bed = Self::silent();
        bed.seat(&snapshot(1, &[(1, "a"), (2, "b"), (3, "c")]));
        assert_eq!(bed.open(1), []);
        bed
    }

    fn silent() -> Self {
        let mut writer = Writer::new(Config { max_seats: 4_096, max_owners: 8_192, ..Config::default() });
        let reader = writer.reader();
        Self { lane: Lane::default(), writer, reader, epoch: 0, sequence: 0, now_ms: 10_000 }
    }

    fn open(&mut self, epoch: u64) -> Vec<Digests> {
        (self.epoch, self.sequence) = (epoch, 0);
        self.lane.opened(epoch, self.now_ms, &mut self.writer)
    }

    fn seat(&mut self, snapshot: &Arc<Snapshot>) -> Vec<Digests> {
        for endpoint in snapshot.backends.iter().flat_map(|backend| &backend.endpoints) {
            self.writer.seat(&endpoint.key);
        }
        self.lane.seated(snapshot, self.now_ms, &mut self.writer)
    }

    fn update(&mut self, ranks: Vec<Rank>, entries: &[(u64, u32, Said)]) -> Update {
        let entry = |&(hash, handle, said): &(u64, u32, Said)| Entry { hash, handle, position: 0, said };
        let entries = Entries::pack(entries.iter().map(entry));
        self.sequence += 1;
        let (epoch, sequence) = (self.epoch, self.sequence);
        Update { epoch, model: "m".into(), generation: 1, sequence, reset: sequence == 1, level: 0, ranks, entries }
    }

    fn take(&mut self, update: &Update) -> Option<Digests> {
        self.lane.take(update, self.now_ms, &mut self.writer)
    }

    /// The next message in order.
    fn tell(&mut self, ranks: Vec<Rank>, entries: &[(u64, u32, Said)]) {
        let update = self.update(ranks, entries);
        assert_eq!(self.take(&update), None);
    }

    fn hold(&mut self, handle: u32, hashes: &[u64]) {
        self.tell(vec![], &said(handle, hashes, Said::Held));
    }

    fn tick(&mut self, later_ms: u64) -> Vec<Digests> {
        self.now_ms += later_ms;
        let asked = self.lane.tick(self.now_ms, &mut self.writer);
        self.writer.expire(10_000, self.now_ms);
        asked
    }

    /// By the endpoints' seats, which are given in the order of their first snapshot.
    fn found(&mut self, chain: &[u64]) -> Vec<(u32, u32)> {
        let query = Query { chain, now_ms: self.now_ms, tie: 7 };
        let matches = self.reader.lookup(&query, |_| true);
        let mut found: Vec<_> = matches.best().iter().map(|found| (found.seat.0, found.blocks)).collect();
        found.sort_unstable();
        found
    }

    fn predict(&mut self, seat: u32, chain: &[u64]) {
        self.reader.place(&Placement { chain, seat: Seat(seat), matched: 0, tokens_per_block: 16.0 });
        self.writer.drain(self.now_ms);
    }
}

fn said(handle: u32, hashes: &[u64], said: Said) -> Vec<(u64, u32, Said)> {
    hashes.iter().map(|hash| (*hash, handle, said)).collect()
}

fn rank(handle: u32, trust: Trust) -> Rank {
    Rank { handle, trust, forget: false, emptied: false, capacity_tokens: None }
}

fn digest(handle: u32, hashes: &[u64]) -> Digest {
    Digest { handle, xor: hashes.iter().fold(0, |xor, hash| xor ^ hash), blocks: hashes.len() as u64 }
}

#[test]
fn what_is_told_is_found_until_it_is_taken_back() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 100));
    bed.hold(1, &prompt);
    bed.hold(2, &prompt[..30]);
    assert_eq!(bed.found(&prompt), [(0, 100), (1, 30)]);
    bed.tell(vec![], &said(1, &prompt[50..], Said::Gone));
    assert_eq!(bed.found(&prompt), [(0, 50), (1, 30)]);
    assert_eq!(bed.lane.look().blocks, 80);
    assert_eq!(bed.lane.counts().entries, 180);
}

#[test]
fn a_sampled_model_is_searched_at_its_level() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 100));
    let sampled: Vec<u64> = prompt[..70].iter().step_by(8).copied().collect();
    let update = Update { level: 3, ..bed.update(vec![], &said(1, &sampled, Said::Held)) };
    bed.take(&update);
    assert_eq!(bed.found(&prompt), [(0, 65)]);
    // What is finer from here on says nothing of what was told before.
    let update = bed.update(vec![], &said(1, &prompt[70..72], Said::Held));
    bed.take(&update);
    assert_eq!(bed.found(&prompt[..70]), [(0, 65)]);
    // Another model beside it, to the block.
    let other = chain(2, 40);
    let update = bed.update(vec![], &said(3, &other[..37], Said::Held));
    let update = Update { model: "n".into(), sequence: 1, reset: true, ..update };
    bed.take(&update);
    assert_eq!((bed.found(&prompt), bed.found(&other)), (vec![(0, 65)], vec![(2, 37)]));
}

#[test]
fn a_model_whose_endpoints_are_gone_takes_no_place() {
    let mut bed = Bed::new();
    bed.hold(1, &chain(1, 3));
    assert_eq!(bed.lane.look().models, 1);
    bed.seat(&snapshot(1, &[(2, "b")]));
    assert_eq!(bed.lane.look().models, 0);
}

#[test]
fn a_message_beyond_the_bounds_is_counted() {
    let mut bed = Bed::new();
    for name in 0..MAX_KV_MODELS + 3 {
        let update = bed.update(vec![], &[(name as u64, 1, Said::Held)]);
        let update = Update { model: format!("m{name}").as_str().into(), sequence: 1, reset: true, ..update };
        bed.take(&update);
    }
    assert_eq!((bed.lane.look().models, bed.lane.counts().refused), (MAX_KV_MODELS, 3));
}

proptest! {
    /// Whatever is told, what is held is what a set would hold, and digests say so.
    #[test]
    fn digests_are_of_what_is_held(steps in prop::collection::vec((0u64..60, 1u32..4, 0u32..12), 0..300)) {
        let mut bed = Bed::new();
        let mut model: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for (number, handle, what) in steps {
            let hash = xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes());
            let held = model.entry(handle).or_default();
            match what {
                0 => {
                    bed.tell(vec![Rank { forget: true, ..rank(handle, Trust::Cold) }], &[]);
                    held.clear();
                }
                1..=4 => {
                    bed.tell(vec![], &[(hash, handle, Said::Gone)]);
                    held.remove(&hash);
                }
                _ => {
                    bed.tell(vec![], &[(hash, handle, Said::Held)]);
                    held.insert(hash);
                }
            }
            bed.writer.retire_slice(64, 0);
            bed.reader.turn();
        }
        let digests = bed.open(1);
        let expected: Vec<_> = (model.iter().filter(|(_, held)| !held.is_empty()))
            .map(|(handle, held)| digest(*handle, &held.iter().copied().collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(digests.first().map(|d| d.endpoints.clone()).unwrap_or_default(), expected);
        for (handle, held) in model {
            for number in 0..60u64 {
                let hash = xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes());
                let found = bed.found(&[hash]).iter().any(|found| found.0 == handle - 1);
                prop_assert_eq!(found, held.contains(&hash));
            }
        }
    }
}
