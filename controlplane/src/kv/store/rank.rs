//! One rank's blocks.

use hashbrown::HashTable;

use super::Change;
use super::chain::{Key, next, root};
use super::leaves::Leaves;
use super::texts::{Digest, From, Record, Texts};
use crate::kv::event::{Attention, BlockHash, Removed, Stored, Tier};

const NONE: u32 = u32::MAX;
/// KV groups of one model that are kept apart; a group beyond is not looked at.
const MOST_GROUPS: usize = 64;
/// Slots are added by this part of those there are, so that little room is unused.
const GROWTH: usize = 16;

/// The tiers from which a hit is as good as certain, and cheap beside computing it anew.
const NEAR: [Tier; 2] = [Tier::Device, Tier::Host];

/// One block that the engine named. Where it is held in no tier but others follow it, it stays to be their parent.
#[derive(Debug)]
pub(super) struct Node {
    hash: BlockHash,
    key: Key,
    /// When it was stored last.
    stamp: u32,
    pub(super) parent: u32,
    /// Blocks that follow it; in a free slot the next free one.
    children: u32,
    position: u32,
    pub(super) text: Record,
    /// Stores less removals, by tier; of more than 255 some are forgotten, and the block is taken to go too early.
    refs: [u8; Tier::ALL.len()],
    group: u8,
    /// Its text is told: it is near, and so are all before it.
    pub(super) told: bool,
}

impl Node {
    pub(super) fn is_near(&self) -> bool {
        NEAR.iter().any(|tier| self.refs[*tier as usize] > 0)
    }
}

/// What happened to a rank's blocks, since it was taken in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blocks that follow one which is not known: history was missed.
    pub orphans: u64,
    /// Blocks of groups that say nothing of prefixes, of pictures, or of nobody's requests.
    pub unindexed: u64,
    /// Removals of blocks that are not known, and tokenless stores of such.
    pub unknown: u64,
    /// Blocks whose name the engine had given to other tokens.
    pub conflicts: u64,
    /// Blocks that were given up for the bound on memory.
    pub evicted: u64,
}

/// What one engine rank holds.
#[derive(Debug)]
pub struct Rank {
    most_blocks: usize,
    pub(super) nodes: Vec<Node>,
    free: u32,
    used: usize,
    by_hash: HashTable<u32>,
    leaves: Leaves,
    /// What kind each group is, as its stores say; removals do not.
    groups: [Option<Attention>; MOST_GROUPS],
    stamp: u32,
    tally: Tally,
    bytes: Vec<u8>,
    pub(super) texts: Texts,
    /// A block that others follow has come or gone: some of these may be reached no longer, or again.
    pub(super) holes: bool,
}

impl Rank {
    pub(super) fn new(most_blocks: usize) -> Self {
        Self {
            most_blocks,
            nodes: Vec::new(),
            free: NONE,
            used: 0,
            by_hash: HashTable::new(),
            leaves: Leaves::default(),
            groups: [None; MOST_GROUPS],
            stamp: 0,
            tally: Tally::default(),
            bytes: Vec::new(),
            texts: Texts::default(),
            holes: false,
        }
    }

    pub(super) fn bound(&mut self, most_blocks: usize) {
        self.most_blocks = most_blocks;
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Blocks that are remembered, held or not.
    pub fn len(&self) -> usize {
        self.used
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The tiers in which a block lies, by the engine's hash.
    pub fn tiers(&self, group: u32, hash: BlockHash) -> impl Iterator<Item = Tier> + '_ {
        let node = slot_group(group).and_then(|group| self.find(group, hash));
        Tier::ALL.into_iter().filter(move |tier| node.is_some_and(|slot| self.node(slot).refs[*tier as usize] > 0))
    }

    /// All blocks that are held, with their tiers.
    pub fn held(&self) -> impl Iterator<Item = (BlockHash, Key, Tier)> + '_ {
        let slots = self.by_hash.iter().map(|slot| self.node(*slot));
        slots.flat_map(|node| {
            let tiers = Tier::ALL.into_iter().filter(|tier| node.refs[*tier as usize] > 0);
            tiers.map(|tier| (node.hash, node.key, tier))
        })
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let nodes = self.nodes.capacity() * size_of::<Node>();
        let tables = self.by_hash.allocation_size() + self.leaves.bytes() + self.texts.bytes();
        size_of::<Self>() + nodes + tables + self.bytes.capacity()
    }

    /// Blocks of tokens whose text could not be read.
    pub fn unread(&self) -> u64 {
        self.texts.unread()
    }

    /// What is told of its text.
    pub fn digest(&self) -> Digest {
        self.texts.digest()
    }

    pub(super) fn stored(&mut self, stored: &Stored, changes: &mut Vec<Change>) {
        let Some(group) = self.indexed(stored) else {
            self.tally.unindexed += stored.hashes.len() as u64;
            return;
        };
        if stored.tokens.is_empty() {
            return self.moved(group, stored, changes);
        }
        let Some((mut parent, mut before, mut position)) = self.beginning(group, stored) else { return };
        let reading = self.texts.reading();
        let seed = reading.and_then(|reading| reading.seed(&stored.adapter, &stored.salting()));
        let blocks = stored.hashes.iter().zip(stored.tokens.chunks_exact(stored.block_size as usize));
        let text_blocks = stored.text_blocks();
        self.tally.unindexed += (stored.hashes.len() - text_blocks) as u64;
        for (hash, tokens) in blocks.take(text_blocks) {
            let key = next(before, tokens, &mut self.bytes);
            let place = Place { hash: *hash, key, parent, position, group, seed, tokens };
            let Some(slot) = self.hold(&place, stored.tier, changes) else { break };
            (parent, before, position) = (slot, key, position.saturating_add(1));
        }
        self.keep_bound(changes);
    }

    pub(super) fn removed(&mut self, removed: &Removed, changes: &mut Vec<Change>) {
        let Some(group) = slot_group(removed.group).filter(|group| self.reads_prefixes(*group)) else { return };
        for hash in &removed.hashes {
            let held = self.find(group, *hash).filter(|slot| self.node(*slot).refs[removed.tier as usize] > 0);
            match held {
                Some(slot) => self.release(slot, removed.tier, changes),
                None => self.tally.unknown += 1,
            }
        }
    }

    /// Nothing is held any longer. What kind each group is stays true.
    pub(super) fn clear(&mut self, changes: &mut Vec<Change>) {
        for slot in &self.by_hash {
            changes.extend(losses(self.node(*slot)));
        }
        (self.nodes, self.by_hash) = (Vec::new(), HashTable::new());
        self.leaves.clear();
        self.texts.clear();
        (self.free, self.used, self.holes, self.stamp) = (NONE, 0, false, 0);
    }

    /// The group, if hits depend on it. A group that says nothing of itself counts if it is the first.
    fn indexed(&mut self, stored: &Stored) -> Option<u8> {
        let group = slot_group(stored.group)?;
        let known = &mut self.groups[usize::from(group)];
        *known = stored.attention.or(*known);
        self.reads_prefixes(group).then_some(group)
    }

    fn reads_prefixes(&self, group: u8) -> bool {
        self.groups[usize::from(group)].map_or(group == 0, |kind| kind == Attention::Full)
    }

    /// Parent, its key, and the first block's position.
    fn beginning(&mut self, group: u8, stored: &Stored) -> Option<(u32, Key, u32)> {
        let blocks = stored.hashes.len() as u64;
        let Some(parent) = stored.parent else {
            let root = root(&stored.adapter, &stored.salting());
            self.tally.unindexed += if root.is_none() { blocks } else { 0 };
            return root.map(|key| (NONE, key, 0));
        };
        let Some(slot) = self.find(group, parent) else {
            self.tally.orphans += blocks;
            return None;
        };
        let node = self.node(slot);
        Some((slot, node.key, node.position.saturating_add(1)))
    }

    /// Blocks that are known already have come to another tier.
    fn moved(&mut self, group: u8, stored: &Stored, changes: &mut Vec<Change>) {
        for hash in &stored.hashes {
            match self.find(group, *hash) {
                Some(slot) => self.count_up(slot, stored.tier, changes),
                None => self.tally.unknown += 1,
            }
        }
    }

    /// None where the engine has given this hash to other tokens: then one of the two is not true.
    fn hold(&mut self, place: &Place<'_>, tier: Tier, changes: &mut Vec<Change>) -> Option<u32> {
        let slot = match self.find(place.group, place.hash) {
            Some(slot) if self.node(slot).key != place.key => {
                self.tally.conflicts += 1;
                return None;
            }
            Some(slot) => slot,
            None => self.insert(place),
        };
        self.count_up(slot, tier, changes);
        Some(slot)
    }

    fn count_up(&mut self, slot: u32, tier: Tier, changes: &mut Vec<Change>) {
        let stamp = self.next_stamp();
        let node = self.node_mut(slot);
        let (before, leaf) = (std::mem::replace(&mut node.stamp, stamp), node.children == 0);
        let refs = &mut node.refs[tier as usize];
        *refs = refs.saturating_add(1);
        if *refs == 1 {
            changes.push(Change { key: node.key, tier, position: node.position, held: true });
        }
        if leaf {
            self.leaves.remove(before, slot);
            self.leaves.insert(stamp, slot);
        }
        self.tell(slot);
    }

    /// Says of a block's text whether it is there now. What others follow is looked at later, see [`Self::settle`].
    fn tell(&mut self, slot: u32) {
        let node = self.node(slot);
        let reached = node.parent == NONE || self.node(node.parent).told;
        let told = reached && node.is_near();
        if told != node.told {
            self.holes |= node.children > 0;
            self.turn(slot, told);
        }
    }

    pub(super) fn turn(&mut self, slot: u32, told: bool) {
        let node = &mut self.nodes[slot as usize];
        node.told = told;
        self.texts.tell(node.text, told);
    }

    /// Ages are kept in 32 bits: at the end of these all become half as old, which keeps their order but for equals.
    fn next_stamp(&mut self) -> u32 {
        if self.stamp == u32::MAX {
            self.nodes.iter_mut().for_each(|node| node.stamp /= 2);
            self.leaves.halve();
            self.stamp /= 2;
        }
        self.stamp += 1;
        self.stamp
    }

    fn release(&mut self, slot: u32, tier: Tier, changes: &mut Vec<Change>) {
        let node = self.node_mut(slot);
        node.refs[tier as usize] -= 1;
        if node.refs[tier as usize] == 0 {
            changes.push(Change { key: node.key, tier, position: node.position, held: false });
        }
        self.tell(slot);
        self.prune(slot);
    }

    fn insert(&mut self, place: &Place<'_>) -> u32 {
        let Place { hash, key, parent, position, group, seed, tokens } = *place;
        let from = match (parent, seed) {
            (NONE, None) => From::Nowhere,
            (NONE, Some(seed)) => From::Seed(seed),
            (parent, _) => From::Block(self.node(parent).text),
        };
        let text = self.texts.add(from, tokens);
        let node = Node { hash, key, stamp: 0, parent, children: 0, position, text, refs: [0; _], group, told: false };
        let slot = self.free_slot(node);
        let nodes = &self.nodes;
        self.by_hash.insert_unique(spread(hash), slot, |slot| spread(nodes[*slot as usize].hash));
        self.used += 1;
        self.leaves.insert(0, slot);
        if parent != NONE {
            let node = self.node_mut(parent);
            node.children += 1;
            let (first, stamp) = (node.children == 1, node.stamp);
            if first {
                self.leaves.remove(stamp, parent);
            }
        }
        slot
    }

    fn free_slot(&mut self, node: Node) -> u32 {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.node(slot).children;
            *self.node_mut(slot) = node;
            return slot;
        }
        if self.nodes.len() == self.nodes.capacity() {
            self.nodes.reserve_exact(self.nodes.len() / GROWTH + 16);
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// Drops a node that is not held and that nobody follows, and its ancestors of that kind.
    fn prune(&mut self, mut slot: u32) {
        while slot != NONE {
            let node = self.node(slot);
            if node.children > 0 || node.refs != [0; _] {
                return;
            }
            let (parent, stamp, hash, free) = (node.parent, node.stamp, node.hash, self.free);
            self.leaves.remove(stamp, slot);
            if let Ok(entry) = self.by_hash.find_entry(spread(hash), |other| *other == slot) {
                entry.remove();
            }
            self.node_mut(slot).children = free;
            let text = std::mem::replace(&mut self.node_mut(slot).text, Record::NONE);
            self.texts.remove(text);
            (self.free, self.used) = (slot, self.used - 1);
            if parent != NONE {
                let node = self.node_mut(parent);
                node.children -= 1;
                let (last, stamp) = (node.children == 0, node.stamp);
                if last {
                    self.leaves.insert(stamp, parent);
                }
            }
            slot = parent;
        }
    }

    /// Gives up the oldest blocks that nobody follows.
    fn keep_bound(&mut self, changes: &mut Vec<Change>) {
        while self.used > self.most_blocks {
            let Some(slot) = self.leaves.oldest() else { return };
            changes.extend(losses(self.node(slot)));
            self.node_mut(slot).refs = [0; _];
            self.tell(slot);
            self.tally.evicted += 1;
            self.prune(slot);
        }
    }

    fn find(&self, group: u8, hash: BlockHash) -> Option<u32> {
        let same = |slot: &u32| {
            let node = self.node(*slot);
            node.hash == hash && node.group == group
        };
        self.by_hash.find(spread(hash), same).copied()
    }

    fn node(&self, slot: u32) -> &Node {
        &self.nodes[slot as usize]
    }

    fn node_mut(&mut self, slot: u32) -> &mut Node {
        &mut self.nodes[slot as usize]
    }

    /// Blocks that no other follows.
    #[cfg(test)]
    pub(super) fn leaves(&self) -> usize {
        self.leaves.len()
    }
}

/// Where a block belongs, and what is in it.
#[derive(Debug, Clone, Copy)]
struct Place<'t> {
    hash: BlockHash,
    key: Key,
    parent: u32,
    position: u32,
    group: u8,
    /// What the chain of its text begins with, if it begins the prompt.
    seed: Option<u64>,
    tokens: &'t [u32],
}

fn losses(node: &Node) -> impl Iterator<Item = Change> {
    let Node { key, position, refs, .. } = *node;
    let lost = move |tier| Change { key, tier, position, held: false };
    Tier::ALL.into_iter().filter(move |tier| refs[*tier as usize] > 0).map(lost)
}

fn slot_group(group: u32) -> Option<u8> {
    u8::try_from(group).ok().filter(|group| usize::from(*group) < MOST_GROUPS)
}

/// An engine's hashes need not be spread well: a simulated one may count.
fn spread(hash: BlockHash) -> u64 {
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
