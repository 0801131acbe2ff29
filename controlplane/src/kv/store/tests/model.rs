//! Seeded events against a model that is too simple to be wrong: a map, and a search for the oldest leaf.

use std::collections::BTreeMap;

use super::super::*;
use super::rules::store;
use crate::chance::testing::Rng;
use crate::kv::event::{Attention, Removed, Stored};

const RANK: RankId = RankId(0);
const GROUPS: u32 = 2;

/// A block by group and hash.
type Name = (u32, u64);

#[derive(Debug, Default)]
struct Block {
    parent: Option<Name>,
    stamp: u64,
    tiers: BTreeMap<Tier, u32>,
}

#[derive(Debug, Default)]
struct Model {
    blocks: BTreeMap<Name, Block>,
    stamp: u64,
    evicted: u64,
}

impl Model {
    fn is_leaf(&self, name: Name) -> bool {
        self.blocks.values().all(|block| block.parent != Some(name))
    }

    fn prune(&mut self) {
        while let Some(name) = {
            let idle = |(name, block): &(&Name, &Block)| block.tiers.is_empty() && self.is_leaf(**name);
            self.blocks.iter().find(idle).map(|(name, _)| *name)
        } {
            self.blocks.remove(&name);
        }
    }

    fn stored(&mut self, stored: &Stored, most: usize) {
        let mut parent = stored.parent.map(|parent| (stored.group, parent));
        if parent.is_some_and(|parent| !self.blocks.contains_key(&parent)) {
            return;
        }
        for hash in &stored.hashes {
            self.stamp += 1;
            let block =
                self.blocks.entry((stored.group, *hash)).or_insert_with(|| Block { parent, ..Block::default() });
            block.stamp = self.stamp;
            *block.tiers.entry(stored.tier).or_default() += 1;
            parent = Some((stored.group, *hash));
        }
        while self.blocks.len() > most {
            let leaves = self.blocks.iter().filter(|(name, _)| self.is_leaf(**name));
            let oldest = *leaves.min_by_key(|(_, block)| block.stamp).unwrap().0;
            self.blocks.remove(&oldest);
            self.evicted += 1;
            self.prune();
        }
    }

    fn removed(&mut self, removed: &Removed) {
        for hash in &removed.hashes {
            let Some(block) = self.blocks.get_mut(&(removed.group, *hash)) else { continue };
            let Some(count) = block.tiers.get_mut(&removed.tier) else { continue };
            *count -= 1;
            if *count == 0 {
                block.tiers.remove(&removed.tier);
            }
            self.prune();
        }
    }

    fn held(&self) -> Vec<(u64, Tier)> {
        let tiers = self.blocks.iter().flat_map(|((_, hash), block)| block.tiers.keys().map(|tier| (*hash, *tier)));
        let mut held: Vec<_> = tiers.collect();
        held.sort_unstable();
        held
    }
}

/// A walk down the tree in which hash n follows n / 3.
fn chain(rng: &mut Rng) -> (Option<u64>, Vec<u64>) {
    let mut hash = 1 + rng.below(60);
    let mut hashes = vec![hash];
    while rng.below(3) > 0 && hash > 2 {
        hash /= 3;
        hashes.insert(0, hash);
    }
    let parent = hashes[0] / 3;
    ((parent > 0).then_some(parent), hashes)
}

fn event(rng: &mut Rng) -> Event {
    let tier = Tier::ALL[rng.index(2)];
    let group = rng.below(u64::from(GROUPS)) as u32;
    match rng.below(200) {
        0 => Event::Cleared,
        1..90 => {
            let (parent, hashes) = chain(rng);
            Event::Stored(Stored { tier, group, attention: Some(Attention::Full), ..store(parent, &hashes) })
        }
        _ => Event::Removed(Removed { hashes: chain(rng).1, tier, group }),
    }
}

fn run(seed: u64) {
    let mut rng = Rng::new(seed);
    let most = if rng.below(2) == 0 { 1_000 } else { 5 + rng.index(40) };
    let (mut store, mut model, mut told) = (Store::new(), Model::default(), BTreeMap::<(Key, Tier), i32>::new());
    store.admit(RANK, most);
    for step in 0..300 {
        let event = event(&mut rng);
        match &event {
            Event::Stored(stored) => model.stored(stored, most),
            Event::Removed(removed) => model.removed(removed),
            Event::Cleared => model.blocks.clear(),
        }
        let mut changes = Vec::new();
        store.apply(RANK, &Batch { events: vec![event], ..Batch::default() }, &mut changes);
        for change in changes {
            *told.entry((change.key, change.tier)).or_default() += if change.held { 1 } else { -1 };
        }
        let rank = store.rank(RANK).unwrap();
        let mut held: Vec<_> = rank.held().map(|(hash, _, tier)| (hash, tier)).collect();
        held.sort_unstable();
        assert_eq!(held, model.held(), "seed {seed}, step {step}");
        assert_eq!((rank.len(), rank.tally().evicted), (model.blocks.len(), model.evicted), "seed {seed}, step {step}");
        let leaves = model.blocks.keys().filter(|name| model.is_leaf(**name)).count();
        assert_eq!(rank.leaves(), leaves, "seed {seed}, step {step}");
        let mut counted = BTreeMap::<(Key, Tier), i32>::new();
        rank.held().for_each(|(_, key, tier)| *counted.entry((key, tier)).or_default() += 1);
        told.retain(|_, count| *count != 0);
        assert_eq!(told, counted, "seed {seed}, step {step}: the changes add up to what is held");
    }
}

#[test]
fn it_holds_what_the_model_holds() {
    (0..150).for_each(run);
}
