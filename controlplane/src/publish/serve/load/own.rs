//! The part of the load that is for other replicas: what our own proxies have, and what we asked engines ourselves.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use api::limits::MAX_BACKENDS;
use api::proto::{BackendShare, EngineLoad, UseCounts};
use api::uses::UseCount;

use super::engines::Read;
use super::{Load, Loads, Owner};

/// Use counts in a message of a peer's.
const MOST_OF_A_PEER: usize = 32_768;

/// What is to be told to a peer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Own {
    /// What our proxies have together, by handle.
    pub(crate) loads: Vec<(u32, Load)>,
    pub(crate) engines: Vec<EngineLoad>,
    /// What our proxies decide for backends together, and how many they are.
    pub(crate) shares: Vec<BackendShare>,
    /// How often they ask for blocks.
    pub(crate) uses: Vec<UseCounts>,
    /// Up to which change that is.
    pub(crate) up_to: u64,
}

impl Loads {
    /// What changed here since the change `seen`, at most so much of it. It is to be asked again while `up_to` is not the last change.
    pub(crate) fn own(&self, seen: u64, most: usize, now: Instant) -> Own {
        let book = self.book();
        // All are by their changes, so what is cut off is what comes last.
        let loads = book.order_here.range(seen + 1..).map(|(change, handle)| (*change, *handle));
        let loads: BTreeMap<u64, u32> = loads.take(most + 1).collect();
        let engines: BTreeMap<u64, EngineLoad> = book.engines.own_since(seen, now).take(most + 1).collect();
        let shares: BTreeMap<u64, BackendShare> = book.shares.own_since(seen, most + 1).collect();
        let uses: BTreeMap<u64, UseCount> = book.uses.own_since(seen, now).take(most + 1).collect();
        let changes = loads.keys().chain(engines.keys()).chain(shares.keys()).chain(uses.keys());
        let mut changes: Vec<u64> = changes.copied().collect();
        changes.sort_unstable();
        let up_to = changes.get(most).map_or(book.change, |first_not| first_not - 1);
        let own = |(_, handle): (&u64, &u32)| (*handle, book.own(*handle));
        Own {
            loads: loads.range(..=up_to).map(own).collect(),
            engines: engines.range(..=up_to).map(|(_, said)| *said).collect(),
            shares: shares.range(..=up_to).map(|(_, share)| share.clone()).collect(),
            uses: super::packed(uses.range(..=up_to).map(|(_, count)| *count)),
            up_to,
        }
    }

    /// What a peer's proxies have at these endpoints. Where it says so by another stream than before, they have nothing at all others.
    pub(crate) fn peer(&self, epoch: u64, stream: u64, loads: &[(u32, Load)]) {
        let mut book = self.book();
        book.take(Owner::Peer(epoch), stream, loads.iter().copied());
        self.tell(&book);
    }

    /// What a peer's proxies decide for these backends; with the first of a stream nothing for all others.
    pub(crate) fn peer_shares(&self, epoch: u64, first: bool, shares: &[BackendShare]) {
        let (mut book, owner) = (self.book(), Owner::Peer(epoch));
        if first {
            let told: HashSet<&str> = shares.iter().map(|share| &*share.backend).collect();
            book.end_shares(owner, |backend| !told.contains(backend));
        }
        shares.iter().take(MAX_BACKENDS).for_each(|share| book.share(owner, share));
        self.tell(&book);
    }

    /// How often a peer's proxies ask for blocks.
    pub(crate) fn uses_of_peer(&self, epoch: u64, uses: &[UseCounts]) {
        let (mut book, now) = (self.book(), Instant::now());
        // There are no more in a message of a peer's.
        for count in super::counts(uses).take(MOST_OF_A_PEER) {
            let change = book.change + 1;
            book.change += u64::from(book.uses.hear(epoch, count, change, now));
        }
        self.tell(&book);
    }

    /// What an engine said to a peer.
    pub(crate) fn engine_of_peer(&self, said: EngineLoad, read: Instant) {
        self.engine_by(said, Read { at: read, here: false });
    }
}

impl super::Book {
    fn own(&self, handle: u32) -> Load {
        let proxies = self.proxies.iter().filter(|(owner, _)| matches!(owner, Owner::Proxy(_)));
        let mut sum = Load::default();
        let mut measured = 0;
        for load in proxies.filter_map(|(_, proxy)| proxy.loads.get(&handle)) {
            sum.queued_tokens = sum.queued_tokens.wrapping_add(load.queued_tokens);
            sum.running = sum.running.wrapping_add(load.running);
            sum.queue_depth = sum.queue_depth.wrapping_add(load.queue_depth);
            sum.ttft += load.ttft;
            measured += u32::from(load.ttft > 0.0);
        }
        sum.ttft /= measured.max(1) as f32;
        sum
    }
}

#[cfg(test)]
mod tests;
