//! How often the fleet asks for blocks lately: what our proxies add and what peers' proxies count, halving every 30 s. A count
//! is told once it has grown by a quarter, for who is told lets it halve alike; one use is not told, for whoever predicts a
//! block implies it.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use api::uses::UseCount;

use super::Owner;

const HALF_LIFE_S: f32 = 30.0;
/// Blocks that are counted at once; of further ones nothing is known until room is made. About 40 MB.
const MOST: usize = 1 << 18;
/// Below this a count is let go when room is needed: one use, a minute ago.
const FAINT: f32 = 0.25;
/// Between two looks for room.
const PRUNE_EVERY: Duration = Duration::from_secs(1);
/// No count is more.
const HIGHEST: f32 = 1e7;
/// Peers whose counts of a block are kept; there are two or three replicas, and those that they came after. The faintest count
/// makes room, for a replica that has ended is never heard again.
const MOST_PEERS: usize = 8;
/// A smaller count is not told.
const LEAST_TOLD: f32 = 1.5;
/// What weighs a block is 1 + its uses: it is told again once that has grown by so much.
const GROWN: f32 = 1.25;

#[derive(Debug, Default)]
pub(super) struct Uses {
    of: HashMap<u64, Use>,
    /// Hashes by the change that is to be told to data planes.
    order: BTreeMap<u64, u64>,
    /// And to peers.
    order_here: BTreeMap<u64, u64>,
    pruned: Option<Instant>,
}

/// A block's counts, all as of one time.
#[derive(Debug)]
struct Use {
    at: Instant,
    /// By our own proxies.
    here: f32,
    /// By each peer's.
    there: Vec<(u64, f32)>,
    /// Of all, as the data planes were told, and ours as the peers were.
    told: f32,
    told_here: f32,
    /// The changes by which; 0: never.
    change: u64,
    change_here: u64,
    /// Who alone has asked; none where several have.
    only: Option<Owner>,
}

impl Use {
    fn new(owner: Owner, at: Instant) -> Self {
        let (there, only) = (Vec::new(), Some(owner));
        Self { at, here: 0.0, there, told: 0.0, told_here: 0.0, change: 0, change_here: 0, only }
    }

    /// The count of a peer that was not heard of before.
    fn join(&mut self, epoch: u64, uses: f32) {
        if self.there.len() >= MOST_PEERS {
            let faintest = self.there.iter().enumerate().min_by(|(_, (_, one)), (_, (_, other))| one.total_cmp(other));
            if let Some((at, _)) = faintest {
                self.there.swap_remove(at);
            }
        }
        self.there.push((epoch, uses));
    }

    fn total(&self) -> f32 {
        self.here + self.there.iter().map(|(_, uses)| uses).sum::<f32>()
    }

    /// Brings all counts to a time.
    fn age(&mut self, now: Instant) {
        let factor = left(now.saturating_duration_since(self.at));
        self.at = now.max(self.at);
        let Self { here, there, told, told_here, .. } = self;
        [here, told, told_here]
            .into_iter()
            .chain(there.iter_mut().map(|(_, uses)| uses))
            .for_each(|uses| *uses *= factor);
    }
}

fn left(age: Duration) -> f32 {
    (-age.as_secs_f32() / HALF_LIFE_S).exp2()
}

fn has_grown(told: f32, count: f32) -> bool {
    count >= LEAST_TOLD && 1.0 + count >= GROWN * (1.0 + told)
}

impl Uses {
    /// One of our proxies has asked for a block so often more. Whether that is to be told, as this change.
    pub(super) fn add(&mut self, owner: Owner, (hash, uses): UseCount, change: u64, now: Instant) -> bool {
        let Some(entry) = self.entry(owner, hash, now) else { return false };
        entry.here = (entry.here + uses).min(HIGHEST);
        let news_here = has_grown(entry.told_here, entry.here);
        if news_here {
            entry.told_here = entry.here;
            let before = std::mem::replace(&mut entry.change_here, change);
            self.order_here.remove(&before);
            self.order_here.insert(change, hash);
        }
        self.mark(hash, change) || news_here
    }

    /// A peer's proxies have asked for a block so often, together. Whether that is to be told, as this change.
    pub(super) fn hear(&mut self, epoch: u64, (hash, uses): UseCount, change: u64, now: Instant) -> bool {
        let Some(entry) = self.entry(Owner::Peer(epoch), hash, now) else { return false };
        let uses = uses.min(HIGHEST);
        match entry.there.iter().position(|(peer, _)| *peer == epoch) {
            Some(at) => entry.there[at].1 = uses,
            None => entry.join(epoch, uses),
        }
        self.mark(hash, change)
    }

    /// The counts that are told by a change after `seen`, each by that change, without what only the proxy itself has asked
    /// for.
    pub(super) fn since(&self, owner: Owner, seen: u64, now: Instant) -> Vec<(u64, UseCount)> {
        let entries = self.order.range(seen + 1..).map(|(change, hash)| (*change, *hash, &self.of[hash]));
        let count = |entry: &Use| entry.total() * left(now.saturating_duration_since(entry.at));
        let others = entries.filter(|(.., entry)| entry.only != Some(owner));
        others.map(|(change, hash, entry)| (change, (hash, count(entry)))).collect()
    }

    /// What our own proxies have asked for, of the changes after `seen`.
    pub(super) fn own_since(&self, seen: u64, now: Instant) -> impl Iterator<Item = (u64, UseCount)> {
        let entries = self.order_here.range(seen + 1..).map(|(change, hash)| (*change, *hash, &self.of[hash]));
        entries.map(move |(change, hash, entry)| {
            (change, (hash, entry.here * left(now.saturating_duration_since(entry.at))))
        })
    }

    /// The block's counts as of now; none where there is no room.
    fn entry(&mut self, owner: Owner, hash: u64, now: Instant) -> Option<&mut Use> {
        if self.of.len() >= MOST && !self.of.contains_key(&hash) {
            self.prune(now);
            if self.of.len() >= MOST {
                return None;
            }
        }
        let entry = self.of.entry(hash).or_insert_with(|| Use::new(owner, now));
        if entry.only != Some(owner) {
            entry.only = None;
        }
        entry.age(now);
        Some(entry)
    }

    /// Tells the whole fleet's count anew where it has grown enough.
    fn mark(&mut self, hash: u64, change: u64) -> bool {
        let Some(entry) = self.of.get_mut(&hash) else { return false };
        let total = entry.total();
        if !has_grown(entry.told, total) {
            return false;
        }
        entry.told = total;
        self.order.remove(&entry.change);
        entry.change = change;
        self.order.insert(change, hash);
        true
    }

    /// Lets go of what is not asked for any more.
    fn prune(&mut self, now: Instant) {
        if self.pruned.is_some_and(|pruned| now.saturating_duration_since(pruned) < PRUNE_EVERY) {
            return;
        }
        self.pruned = Some(now);
        let Self { of, order, order_here, .. } = self;
        of.retain(|_, entry| {
            let keep = entry.total() * left(now.saturating_duration_since(entry.at)) >= FAINT;
            if !keep {
                order.remove(&entry.change);
                order_here.remove(&entry.change_here);
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests;
