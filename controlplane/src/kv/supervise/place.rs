//! One endpoint, and who it is known from: the engine itself, where it is heard here, and the peers that hear it.
//!
//! What data planes are told is what one of these sources says, the one that is in force. A source that can be relied on
//! more takes its place, and then only what the two differ in is told. So an engine that another replica takes over stays
//! what it was known to be until the new one has read it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use api::proto::KvTrust;

use super::mirror::Mirror;
use crate::kv::store::{Digest, Rank, RankId, TextBlock};
use crate::kv::trust::Trust;
use crate::publish::serve::Standing;

/// What a peer said counts for so long after it is heard no longer: somewhat more than taking over takes, and with the time in
/// which its silence is noticed less than the 5 s that a false hit may last.
const ORPHAN: Duration = Duration::from_secs(3);
/// Sources of one endpoint. There are two or three replicas, and each has an older copy for a moment.
const MOST: usize = 16;

/// Who is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The engine itself.
    Own,
    /// A peer, by the number of its mirror.
    Mirror(u64),
}

/// The engine, as far as it is heard here.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) rank: RankId,
    pub(super) capacity_tokens: u64,
    /// Data-parallel ranks that are to speak for it.
    pub(super) ranks: usize,
    /// How far those that do can be relied on.
    pub(super) speakers: BTreeMap<RankId, Trust>,
}

impl Own {
    pub(super) fn trust(&self) -> Trust {
        let least = self.speakers.values().copied().min_by_key(|trust| order(*trust)).unwrap_or(Trust::Cold);
        if least == Trust::Trusted && self.ranks > 1 { Trust::Gapped } else { least }
    }
}

fn order(trust: Trust) -> u8 {
    match trust {
        Trust::Cold => 0,
        Trust::Replaying => 1,
        Trust::Gapped => 2,
        Trust::Trusted => 3,
    }
}

/// Whether it is known what it holds, all of it or a part.
fn is_settled(trust: Trust) -> bool {
    matches!(trust, Trust::Gapped | Trust::Trusted)
}

/// An endpoint, by its model.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) key: EndpointKey,
    pub(super) model: Arc<str>,
    /// Its number on the lane; none while the config here has it not, or not yet.
    pub(super) handle: Option<u32>,
    pub(super) own: Option<Own>,
    pub(super) mirrors: Vec<Mirror>,
    pub(super) force: Option<Source>,
    /// What data planes are told of it, at the lane's level.
    pub(super) told: Digest,
    /// Of these, as many as count in its model's sum.
    pub(super) counted: u64,
    mirrored: u64,
}

impl Place {
    pub(super) fn new(key: EndpointKey, model: Arc<str>) -> Self {
        Self {
            key,
            model,
            handle: None,
            own: None,
            mirrors: Vec::new(),
            force: None,
            told: Digest::default(),
            counted: 0,
            mirrored: 0,
        }
    }

    /// The source that is to be in force: the more it can be relied on; of those that are as good, and of those of which none
    /// can be relied on, the engine itself before peers, these before what a lost one said, and the one that is in force before
    /// another of its kind.
    pub(super) fn choose(&self, now: Instant) -> Option<Source> {
        self.handle?;
        let own = self.own.as_ref().map(|own| (Source::Own, own.trust(), 2));
        let mirrors = self.mirrors.iter().filter(|mirror| mirror.orphan_until.is_none_or(|until| until > now));
        let mirrors = mirrors.map(|mirror| (Source::Mirror(mirror.id), mirror.trust, u8::from(mirror.is_live())));
        let worth = |&(source, trust, kind): &(Source, Trust, u8)| {
            (if is_settled(trust) { order(trust) } else { 0 }, kind, self.force == Some(source))
        };
        own.into_iter().chain(mirrors).max_by_key(worth).map(|(source, ..)| source)
    }

    /// Whether a peer knows it at least as well as it is known here by itself.
    fn is_known_elsewhere(&self) -> bool {
        let own = self.own.as_ref().map_or(0, |own| order(own.trust()));
        let live = self.mirrors.iter().filter(|mirror| mirror.is_live() && is_settled(mirror.trust));
        live.map(|mirror| order(mirror.trust)).max().is_some_and(|best| best >= own)
    }

    /// Whether nothing is lost where hearing it here ends: nothing was heard, or a peer knows as much.
    pub(super) fn may_be_let_go(&self) -> bool {
        self.own.is_none() || self.is_known_elsewhere()
    }

    /// Whether nobody has it, and nobody tells of it.
    pub(super) fn is_nothing(&self) -> bool {
        self.handle.is_none() && self.own.is_none() && self.mirrors.is_empty()
    }

    /// What a stream tells of it now.
    pub(super) fn mirror(&mut self, stream: u64) -> Option<&mut Mirror> {
        self.mirrors.iter_mut().find(|mirror| mirror.stream == stream && mirror.is_live())
    }

    /// The same; begun, and empty, where there is none.
    pub(super) fn mirror_or_new(&mut self, stream: u64) -> Option<&mut Mirror> {
        if self.mirror(stream).is_some() {
            return self.mirror(stream);
        }
        if self.mirrors.len() >= MOST {
            return None;
        }
        self.mirrored += 1;
        self.mirrors.push(Mirror::new(stream, self.mirrored));
        self.mirrors.last_mut()
    }

    /// What a stream told of it is told no longer. It counts for a moment, if it counted at all.
    pub(super) fn orphan(&mut self, stream: u64, now: Instant) {
        let force = self.force;
        self.mirrors.retain(|mirror| {
            mirror.stream != stream
                || !mirror.is_live()
                || is_settled(mirror.trust)
                || force == Some(Source::Mirror(mirror.id))
        });
        let live = self.mirrors.iter_mut().filter(|mirror| mirror.stream == stream && mirror.is_live());
        live.for_each(|mirror| mirror.orphan_until = Some(now + ORPHAN));
    }

    /// Drops what is over, and what lost peers said once there is something better. Not before another is in force.
    pub(super) fn tidy(&mut self, now: Instant) {
        let force = self.force;
        let better = match force {
            Some(Source::Own) => self.own.as_ref().is_some_and(|own| is_settled(own.trust())),
            Some(Source::Mirror(id)) => {
                self.mirrors.iter().any(|mirror| mirror.id == id && mirror.is_live() && is_settled(mirror.trust))
            }
            None => false,
        };
        self.mirrors.retain(|mirror| {
            force == Some(Source::Mirror(mirror.id)) || mirror.orphan_until.is_none_or(|until| until > now && !better)
        });
    }

    /// When something is over.
    pub(super) fn over(&self) -> Option<Instant> {
        self.mirrors.iter().filter_map(|mirror| mirror.orphan_until).min()
    }

    pub(super) fn trust(&self, source: Source) -> Option<(Trust, u64)> {
        match source {
            Source::Own => self.own.as_ref().map(|own| (own.trust(), own.capacity_tokens)),
            Source::Mirror(id) => self.at(id).map(|mirror| (mirror.trust, mirror.capacity_tokens)),
        }
    }

    pub(super) fn at(&self, id: u64) -> Option<&Mirror> {
        self.mirrors.iter().find(|mirror| mirror.id == id)
    }

    /// How it stands with the source that is in force.
    pub(super) fn standing(&self) -> Standing {
        let (trust, capacity_tokens) = match self.force.and_then(|source| self.trust(source)) {
            Some((trust, capacity_tokens)) => (on_the_wire(trust), capacity_tokens),
            None => (KvTrust::Unspecified, 0),
        };
        Standing { trust, capacity_tokens, digest: self.told }
    }

    /// These came and went: data planes are told those of their level, which is what is left.
    pub(super) fn turn(&mut self, blocks: &mut Vec<TextBlock>, level: u8) {
        blocks.retain(|block| block.is_at(level));
        blocks.iter().for_each(|block| self.told.turn(block.hash, block.held));
    }
}

pub(super) fn on_the_wire(trust: Trust) -> KvTrust {
    match trust {
        Trust::Cold => KvTrust::Cold,
        Trust::Replaying => KvTrust::Replaying,
        Trust::Trusted => KvTrust::Trusted,
        Trust::Gapped => KvTrust::Gapped,
    }
}

/// What a source tells.
#[derive(Debug, Clone, Copy)]
pub(super) enum View<'v> {
    Nothing,
    Own(&'v Rank),
    Mirror(&'v Mirror),
}

impl View<'_> {
    pub(super) fn tells(self, hash: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Own(rank) => rank.tells(hash),
            Self::Mirror(mirror) => mirror.tells(hash),
        }
    }

    pub(super) fn page(self, level: u8, from: u32, most: usize, blocks: &mut Vec<TextBlock>) -> Option<u32> {
        match self {
            Self::Nothing => None,
            Self::Own(rank) => rank.page(level, from, most, blocks),
            Self::Mirror(mirror) => mirror.page(level, from, most, blocks),
        }
    }

    pub(super) fn sampled(self, level: u8) -> Digest {
        match self {
            Self::Nothing => Digest::default(),
            Self::Own(rank) => rank.sampled(level),
            Self::Mirror(mirror) => mirror.sampled(level),
        }
    }

    /// What this one tells and another does not, each once.
    fn without(self, other: View<'_>, level: u8) -> Vec<TextBlock> {
        const PAGE: usize = 4_096;
        let (mut found, mut seen, mut from) = (Vec::new(), HashSet::new(), Some(0));
        let mut page = Vec::new();
        while let Some(at) = from {
            page.clear();
            from = self.page(level, at, PAGE, &mut page);
            found.extend(page.iter().filter(|block| !other.tells(block.hash) && seen.insert(block.hash)));
        }
        found
    }
}

/// What has to be told to those who know one so that they know the other: no block without those before it.
pub(super) fn difference(before: View<'_>, after: View<'_>, level: u8) -> Vec<TextBlock> {
    let mut gone = before.without(after, level);
    gone.sort_unstable_by_key(|block| std::cmp::Reverse(block.position));
    let mut come = after.without(before, level);
    come.sort_unstable_by_key(|block| block.position);
    gone.iter_mut().for_each(|block| block.held = false);
    gone.extend(come);
    gone
}

#[cfg(test)]
mod tests;
