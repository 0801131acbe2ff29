//! Who of many holds most of a chain, found by few probes: what is held never grows from one point of the chain to the
//! next, so the search jumps and bisects.

use super::search::deepest;
use super::types::{Match, Matches, OwnerId, Query, Seat};
use api::limits::MARK_EVERY_BLOCKS;

/// Whatever knows the holders of a key.
pub(super) trait Source {
    /// Calls `each` with every living holder, until it returns false. A holder may come twice.
    fn each(&mut self, key: u64, each: impl FnMut(OwnerId, Seat) -> bool);

    /// Whether `wanted` is true of any living holder.
    fn any(&mut self, key: u64, wanted: impl Fn(Seat) -> bool) -> bool {
        let mut found = false;
        self.each(key, |_, seat| {
            found = wanted(seat);
            !found
        });
        found
    }
}

/// The blocks of a chain that a source is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Points<'c> {
    chain: &'c [u64],
    first: usize,
    step: usize,
}

impl<'c> Points<'c> {
    /// The last of every 16 blocks, where decisions leave their marks.
    pub(super) fn marks(chain: &'c [u64]) -> Self {
        Self { chain, first: MARK_EVERY_BLOCKS - 1, step: MARK_EVERY_BLOCKS }
    }

    /// Those whose position is a multiple of 2^level.
    pub(super) fn sampled(chain: &'c [u64], level: u8) -> Self {
        Self { chain, first: 0, step: 1 << level }
    }

    pub(super) fn len(&self) -> usize {
        self.chain.len().saturating_sub(self.first).div_ceil(self.step)
    }

    pub(super) fn key(&self, index: usize) -> u64 {
        self.chain[self.first + index * self.step].max(1)
    }

    /// Leading blocks, up to and with that point.
    pub(super) fn blocks(&self, index: usize) -> u32 {
        (self.first + index * self.step + 1) as u32
    }
}

/// The best holders of one source, best first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Best {
    list: [Match; Matches::MAX_BEST],
    len: usize,
}

impl Best {
    pub(super) fn none() -> Self {
        Self { list: [Match { seat: Seat(0), blocks: 0 }; Matches::MAX_BEST], len: 0 }
    }

    /// Asks a source. Each round finds the deepest point that someone new holds, and everyone new who holds it.
    pub(super) fn of(
        source: &mut impl Source,
        points: Points<'_>,
        query: &Query<'_>,
        eligible: impl Fn(Seat) -> bool,
    ) -> Self {
        let mut best = Self::none();
        let mut end = points.len();
        while best.len < Matches::MAX_BEST {
            let known = best;
            let is_new = |seat: Seat| known.list().iter().all(|found| found.seat != seat) && eligible(seat);
            let Some(at) = deepest(end, |at| source.any(points.key(at), is_new)) else { break };
            best.collect(source, (points.key(at), points.blocks(at)), query.tie, is_new);
            end = at;
        }
        best
    }

    pub(super) fn list(&self) -> &[Match] {
        &self.list[..self.len]
    }

    /// What was found at a coarse level is looked for at the finer ones, too.
    pub(super) fn refine(&mut self, source: &mut impl Source, chain: &[u64], (finest, coarsest): (u8, u8)) {
        for found in &mut self.list[..self.len] {
            for level in (finest..coarsest).rev() {
                let blocks = found.blocks + (1 << level);
                let held =
                    chain.get(blocks as usize - 1).is_some_and(|&key| source.any(key.max(1), |s| s == found.seat));
                found.blocks = if held { blocks } else { found.blocks };
            }
        }
    }

    /// Of each endpoint the most that either says.
    pub(super) fn merged(self, other: &Self) -> Self {
        let mut all = [Match { seat: Seat(0), blocks: 0 }; 2 * Matches::MAX_BEST];
        all[..self.len].copy_from_slice(self.list());
        let mut len = self.len;
        for theirs in other.list() {
            if let Some(ours) = all[..len].iter_mut().find(|ours| ours.seat == theirs.seat) {
                ours.blocks = ours.blocks.max(theirs.blocks);
            } else {
                all[len] = *theirs;
                len += 1;
            }
        }
        // By hand, for a stable sort of the standard library's may allocate; the lists are short, and nearly sorted.
        for at in 1..len {
            let mut to = at;
            while to > 0 && all[to - 1].blocks < all[to].blocks {
                all.swap(to - 1, to);
                to -= 1;
            }
        }
        let mut best = Self { len: len.min(Matches::MAX_BEST), ..Self::none() };
        best.list.copy_from_slice(&all[..Matches::MAX_BEST]);
        best
    }

    /// Adds the key's new holders; of more than there is room for, each with the same chance.
    fn collect(
        &mut self,
        source: &mut impl Source,
        (key, blocks): (u64, u32),
        tie: u64,
        is_new: impl Fn(Seat) -> bool,
    ) {
        let first = self.len;
        let room = (Matches::MAX_BEST - first) as u64;
        let mut seen = 0;
        let mut random = tie | 1;
        source.each(key, |_, seat| {
            if !is_new(seat) || self.list()[first..].iter().any(|found| found.seat == seat) {
                return true;
            }
            seen += 1;
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let found = Match { seat, blocks };
            if seen <= room {
                self.list[self.len] = found;
                self.len += 1;
            } else if random % seen < room {
                self.list[first + (random % seen) as usize] = found;
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(list: &[(u32, u32)]) -> Best {
        let mut best = Best { len: list.len(), ..Best::none() };
        for (to, &(seat, blocks)) in best.list.iter_mut().zip(list) {
            *to = Match { seat: Seat(seat), blocks };
        }
        best
    }

    fn check(one: &[(u32, u32)], other: &[(u32, u32)], expected: &[(u32, u32)]) {
        let merged = best(one).merged(&best(other));
        assert_eq!(merged.list().iter().map(|m| (m.seat.0, m.blocks)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn of_each_endpoint_the_most_counts() {
        check(&[], &[], &[]);
        check(&[(1, 32), (2, 16)], &[], &[(1, 32), (2, 16)]);
        check(&[(1, 32), (2, 16)], &[(2, 40), (3, 20)], &[(2, 40), (1, 32), (3, 20)]);
        check(&[(1, 32)], &[(1, 5)], &[(1, 32)]);
        let many: Vec<_> = (0..8).map(|seat| (seat, 80 - seat)).collect();
        check(&many, &[(9, 90), (3, 79)], &[(9, 90), (0, 80), (1, 79), (3, 79), (2, 78), (4, 76), (5, 75), (6, 74)]);
    }

    #[test]
    fn points_are_marks_or_every_so_many_blocks() {
        let chain: Vec<u64> = (100..140).collect();
        let all =
            |points: Points<'_>| (0..points.len()).map(|at| (points.key(at), points.blocks(at))).collect::<Vec<_>>();
        assert_eq!(all(Points::marks(&chain)), [(115, 16), (131, 32)]);
        assert_eq!(all(Points::sampled(&chain, 4)), [(100, 1), (116, 17), (132, 33)]);
        assert_eq!(all(Points::sampled(&chain[..1], 4)), [(100, 1)]);
        assert_eq!(Points::sampled(&chain, 0).len(), 40);
        assert_eq!((Points::marks(&chain[..15]).len(), Points::sampled(&[], 0).len()), (0, 0));
    }
}
