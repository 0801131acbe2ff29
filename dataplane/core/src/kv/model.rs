//! What is held of one model.

use std::collections::HashMap;

use api::id::{EndpointKey, ModelName};
use api::kv::{Digest, Digests, Trust, Update};
use api::limits::MAX_KV_DIGESTS;

use super::places::Places;
use super::{ASK_EVERY_MS, WAITS_MS};
use crate::index::{OwnerId, Seat, Writer};

/// One endpoint in one model.
#[derive(Debug, Default)]
pub(super) struct Rank {
    /// Whose it is; none while no table has the handle.
    pub(super) home: Option<(EndpointKey, Seat)>,
    /// The present life of its cache, once it holds anything.
    pub(super) owner: Option<OwnerId>,
    pub(super) trust: Trust,
    pub(super) capacity_tokens: Option<u64>,
    /// The exclusive or of the hashes held, and how many.
    pub(super) xor: u64,
    pub(super) blocks: u64,
    /// When it was first spoken of.
    pub(super) since_ms: u64,
}

impl Rank {
    /// What it is held to hold is dropped: masked at once.
    pub(super) fn end(&mut self, writer: &mut Writer) {
        if let Some(owner) = self.owner.take() {
            writer.reported().end(owner);
        }
        (self.xor, self.blocks) = (0, 0);
    }

    /// Gives it its home.
    fn settle(&mut self, key: &EndpointKey, writer: &mut Writer) {
        let Some(seat) = writer.seat(key) else { return };
        self.home = Some((key.clone(), seat));
        if let Some(owner) = self.owner {
            writer.reported().bind(owner, seat);
        }
    }
}

/// How a message follows the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// A new generation.
    Begin,
    /// The one that was to come.
    Next,
    /// Others are missing before it.
    Gap,
    /// It was here already.
    Stale,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Model {
    generation: u64,
    /// The last message's; none before the first one of a stream.
    sequence: Option<u64>,
    /// When digests were last sent on this stream.
    asked_ms: Option<u64>,
    /// A question was put off.
    question: bool,
    level: u8,
    pub(super) ranks: HashMap<u32, Rank, ahash::RandomState>,
    /// Of an earlier epoch, until the table of the new one is in force.
    parked: Vec<Rank>,
}

impl Model {
    pub(super) fn follow(&mut self, update: &Update) -> Follow {
        let Update { generation, sequence, reset, level, .. } = *update;
        let same = self.generation == generation;
        let follow = match self.sequence {
            _ if reset => Follow::Begin,
            // After digests what differs is sent, by whatever number.
            None if self.asked_ms.is_some() => Follow::Next,
            Some(last) if same && sequence == last.wrapping_add(1) => Follow::Next,
            Some(last) if same && sequence <= last => return Follow::Stale,
            _ => Follow::Gap,
        };
        // What is finer than was said before is not finer everywhere until all has been said anew.
        self.level = if follow == Follow::Begin { level } else { self.level.max(level) };
        self.generation = generation;
        self.sequence = Some(sequence);
        follow
    }

    pub(super) fn begin_stream(&mut self) {
        (self.sequence, self.asked_ms, self.question) = (None, None, false);
    }

    pub(super) fn asked(&mut self, now_ms: u64) {
        (self.asked_ms, self.question) = (Some(now_ms), false);
    }

    /// Whether something may be asked now; if not, it is put off.
    pub(super) fn question_due(&mut self, now_ms: u64) -> bool {
        let due = self.asked_ms.is_none_or(|asked| now_ms >= asked + ASK_EVERY_MS);
        if due {
            self.asked(now_ms);
        } else {
            self.question = true;
        }
        due
    }

    pub(super) fn has_question(&self) -> bool {
        self.question
    }

    /// Whether anything of it is held.
    pub(super) fn is_known(&self) -> bool {
        !self.ranks.is_empty()
    }

    /// The level of what is reported; none where nothing is.
    pub(super) fn level(&self) -> Option<u8> {
        self.all().any(|rank| rank.owner.is_some()).then_some(self.level)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Rank> {
        self.ranks.values().chain(&self.parked)
    }

    pub(super) fn waiting(&self) -> usize {
        self.ranks.values().filter(|rank| rank.home.is_none()).count()
    }

    pub(super) fn digests(&self, epoch: u64, name: &ModelName) -> Digests {
        let held = self.ranks.iter().filter(|(_, rank)| rank.blocks > 0);
        let digest = |(handle, rank): (&u32, &Rank)| Digest { handle: *handle, xor: rank.xor, blocks: rank.blocks };
        let mut endpoints: Vec<_> = held.map(digest).collect();
        endpoints.sort_unstable_by_key(|digest| digest.handle);
        // Of the rest the sender takes nothing to be held, and sends all of it.
        endpoints.truncate(MAX_KV_DIGESTS);
        Digests { epoch, model: name.clone(), generation: self.generation, endpoints }
    }

    /// Handles are of another epoch from now on. Returns how many blocks were given up because nobody knows whose they are.
    pub(super) fn park(&mut self, writer: &mut Writer) -> u64 {
        let mut lost = 0;
        for (_, mut rank) in self.ranks.drain() {
            if rank.home.is_some() {
                self.parked.push(rank);
            } else {
                lost += rank.blocks;
                rank.end(writer);
            }
        }
        lost
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// Takes the table's word for whose a handle is; `ours` where its handles are of the stream's epoch. Returns how many
    /// endpoints it lacks.
    pub(super) fn settle(&mut self, places: &mut Places, ours: bool, writer: &mut Writer) -> u64 {
        let mut gone = 0;
        let mut end = |rank: &mut Rank| {
            rank.end(writer);
            gone += 1;
        };
        // An endpoint that left may come again, but its cache does not.
        self.parked.retain_mut(|rank| {
            let stays = rank.home.as_ref().is_some_and(|(key, _)| places.handle_of(key).is_some());
            if !stays {
                end(rank);
            }
            stays
        });
        let stays = |handle: u32, key: &EndpointKey, places: &mut Places| match ours {
            true => places.key_of(handle) == Some(key),
            false => places.handle_of(key).is_some(),
        };
        self.ranks.retain(|handle, rank| {
            let stays = rank.home.as_ref().is_none_or(|(key, _)| stays(*handle, key, places));
            if !stays {
                end(rank);
            }
            stays
        });
        if ours {
            self.come_home(places, writer);
        }
        gone
    }

    fn come_home(&mut self, places: &mut Places, writer: &mut Writer) {
        for (handle, rank) in self.ranks.iter_mut().filter(|(_, rank)| rank.home.is_none()) {
            if let Some(key) = places.key_of(*handle) {
                rank.settle(key, writer);
            }
        }
        for mut rank in self.parked.drain(..) {
            let handle = rank.home.as_ref().and_then(|(key, _)| places.handle_of(key));
            match handle {
                Some(handle) if !self.ranks.contains_key(&handle) => drop(self.ranks.insert(handle, rank)),
                // The new stream has told of it already.
                _ => rank.end(writer),
            }
        }
    }

    /// Gives up what nobody knows the endpoint of. Returns how many blocks that is.
    pub(super) fn give_up(&mut self, now_ms: u64, writer: &mut Writer) -> u64 {
        let mut lost = 0;
        self.ranks.retain(|_, rank| {
            let waits = rank.home.is_some() || now_ms < rank.since_ms + WAITS_MS;
            if !waits {
                lost += rank.blocks;
                rank.end(writer);
            }
            waits
        });
        lost
    }

    /// Nothing is held any more, nor is it known how far anything may be believed. Returns of how many endpoints something
    /// was held.
    pub(super) fn forget_all(&mut self, writer: &mut Writer) -> u64 {
        let mut count = 0;
        for rank in self.ranks.values_mut().chain(&mut self.parked) {
            count += u64::from(rank.owner.is_some());
            rank.end(writer);
            if let Some((_, seat)) = &rank.home {
                writer.tell(*seat, None, false);
            }
        }
        self.ranks.clear();
        self.parked.clear();
        count
    }
}
