//! What is said of each model: how its endpoints stand, and a log of what came and went, as it goes over the wire.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use api::proto::{KvRank, KvTrust};
use bytes::Bytes;

use super::Standing;
use crate::kv::store::{Digest, News, TextBlock};

/// Bytes of one entry.
pub(super) const ENTRY: usize = 16;
/// Entries of one message, 64 KiB: each subscriber that does not read holds one or two in its socket's queue.
pub(super) const IN_ONE: usize = 4_096;
/// Endpoints of one message of which it is said how they stand.
pub(super) const MOST_RANKS: usize = 1_024;
/// Bytes of the log of one model. Who is further behind gets all that there is in pages.
const LOG_BYTES: usize = 4 << 20;
/// What a part counts besides its entries.
const PART_BYTES: usize = 256;

const GONE: u16 = 1;

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) models: BTreeMap<Arc<str>, Model>,
    change: u64,
    /// Counts lives of models.
    lives: u64,
    /// Endpoints came or went since the last flush.
    moved: bool,
}

/// One model.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) level: u8,
    /// Its own, and another one whenever all begin anew: what a subscriber was told in an earlier one is void.
    pub(super) life: u64,
    pub(super) endpoints: BTreeMap<u32, Standing>,
    /// Counts endpoints that came and went.
    pub(super) moves: u64,
    /// Counts changes of whom endpoints are known from.
    renewals: u64,
    /// Which of these was an endpoint's last.
    renewed: BTreeMap<u32, u64>,
    log: VecDeque<Arc<Part>>,
    log_bytes: usize,
    /// The number of the log's first part.
    first: u64,
    /// The number of the part that came next at the last flush.
    flushed: u64,
    open: Part,
}

/// What is told at once.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// How endpoints stand, before the entries.
    pub(super) ranks: Vec<KvRank>,
    /// Packed.
    pub(super) entries: Bytes,
    packed: Vec<u8>,
    /// Whom they are of.
    pub(super) handles: BTreeSet<u32>,
}

impl Part {
    fn is_empty(&self) -> bool {
        self.ranks.is_empty() && self.packed.is_empty()
    }
}

impl Book {
    pub(super) fn level(&self, model: &str) -> u8 {
        self.models.get(model).map_or(0, |model| model.level)
    }

    pub(super) fn stand(&mut self, model: &str, handle: u32, standing: Standing) {
        let model = match self.models.get_mut(model) {
            Some(known) => known,
            None => {
                self.lives += 1;
                self.models.entry(model.into()).or_insert(Model { life: self.lives, ..Model::default() })
            }
        };
        let before = model.endpoints.insert(handle, standing);
        match before {
            None => {
                model.moves += 1;
                self.moved = true;
            }
            Some(before) if (before.trust, before.capacity_tokens) != (standing.trust, standing.capacity_tokens) => {
                model.rank(rank(handle, &standing, false));
            }
            Some(_) => {}
        }
    }

    pub(super) fn leave(&mut self, name: &str, handle: u32) {
        let Some(model) = self.models.get_mut(name) else { return };
        model.renewed.remove(&handle);
        if model.endpoints.remove(&handle).is_some() {
            model.moves += 1;
            self.moved = true;
        }
        if model.endpoints.is_empty() {
            self.models.remove(name);
        }
    }

    pub(super) fn renew(&mut self, model: &str, handle: u32) {
        let Some(model) = self.models.get_mut(model) else { return };
        model.renewals += 1;
        model.renewed.insert(handle, model.renewals);
    }

    pub(super) fn tell(&mut self, model: &str, handle: u32, news: &News, digest: Digest) {
        let Some(model) = self.models.get_mut(model) else { return };
        let Some(standing) = model.endpoints.get_mut(&handle) else { return };
        standing.digest = digest;
        let standing = *standing;
        if news.forgotten {
            // Who is no longer heard may hold what it held.
            let emptied = standing.trust != KvTrust::Unspecified;
            model.rank(KvRank { emptied, ..rank(handle, &standing, true) });
        }
        for block in &news.blocks {
            model.entry(handle, block);
        }
    }

    pub(super) fn begin_anew(&mut self, model: &str, level: u8, digests: &[(u32, Digest)]) {
        let Some(model) = self.models.get_mut(model) else { return };
        model.first += model.log.len() as u64;
        self.lives += 1;
        (model.level, model.life, model.log_bytes) = (level, self.lives, 0);
        model.log.clear();
        model.open = Part::default();
        for (handle, digest) in digests {
            model.endpoints.entry(*handle).and_modify(|standing| standing.digest = *digest);
        }
        self.change += 1;
    }

    /// Counts changes.
    pub(super) fn flush(&mut self) -> u64 {
        for model in self.models.values_mut() {
            model.seal();
            let next = model.next();
            self.change += next - std::mem::replace(&mut model.flushed, next);
        }
        // Who came is to be told of, though nothing was said of it.
        self.change += u64::from(std::mem::take(&mut self.moved));
        self.change
    }
}

impl Model {
    /// The number of the part that comes next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    /// A part by its number; none where the log does not go back so far.
    pub(super) fn part(&self, number: u64) -> Option<&Arc<Part>> {
        self.log.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Which source an endpoint's pages are of: another number, another order.
    pub(super) fn source(&self, handle: u32) -> u64 {
        self.renewed.get(&handle).copied().unwrap_or(0)
    }

    pub(super) fn reaches(&self, number: u64) -> bool {
        number >= self.first
    }

    /// Ranks of a message come before its entries, so what is said of one whose entries wait already goes into the next.
    fn rank(&mut self, rank: KvRank) {
        if self.open.handles.contains(&rank.handle) && !self.open.packed.is_empty() {
            self.seal();
        }
        if self.open.handles.insert(rank.handle) {
            self.open.ranks.push(rank);
        } else if let Some(known) = self.open.ranks.iter_mut().find(|known| known.handle == rank.handle) {
            *known = KvRank { forget: known.forget | rank.forget, emptied: known.emptied | rank.emptied, ..rank };
        }
        if self.open.ranks.len() >= MOST_RANKS {
            self.seal();
        }
    }

    fn entry(&mut self, handle: u32, block: &TextBlock) {
        pack(&mut self.open.packed, handle, block, self.level);
        self.open.handles.insert(handle);
        if self.open.packed.len() >= IN_ONE * ENTRY {
            self.seal();
        }
    }

    /// What is open becomes a part of the log, whose oldest parts make room for it.
    pub(super) fn seal(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let mut part = std::mem::take(&mut self.open);
        part.entries = std::mem::take(&mut part.packed).into();
        self.log_bytes += part.entries.len() + PART_BYTES;
        self.log.push_back(Arc::new(part));
        while self.log_bytes > LOG_BYTES {
            let Some(oldest) = self.log.pop_front() else { return };
            self.log_bytes -= oldest.entries.len() + PART_BYTES;
            self.first += 1;
        }
    }
}

/// What is said of an endpoint as a whole.
pub(super) fn rank(handle: u32, standing: &Standing, forget: bool) -> KvRank {
    KvRank { handle, trust: standing.trust.into(), forget, capacity_tokens: standing.capacity_tokens, emptied: false }
}

/// Of an endpoint of which nobody knows anything.
pub(super) fn nothing(handle: u32) -> KvRank {
    KvRank { handle, trust: KvTrust::Unspecified.into(), forget: true, capacity_tokens: 0, emptied: false }
}

/// As `kv.proto` has it.
pub(super) fn pack(packed: &mut Vec<u8>, handle: u32, block: &TextBlock, level: u8) {
    let TextBlock { hash, position, held } = *block;
    packed.extend_from_slice(&hash.to_le_bytes());
    packed.extend_from_slice(&handle.to_le_bytes());
    packed.extend_from_slice(&(position >> level).to_le_bytes());
    packed.extend_from_slice(&(if held { 0 } else { GONE }).to_le_bytes());
}
