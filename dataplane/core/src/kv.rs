//! The receiving end of the KV lane: what the control plane tells of engines' caches becomes owners and blocks in the
//! reported table, and terms for the predicted one. The `tables` thread drives a [`Lane`]; time is an argument.
//!
//! What is held outlives a stream. A new one is told by digests what is held, so that only what differs is sent; handles of
//! another epoch are translated once the table of that epoch is in force. What is said of a handle that no table has yet
//! waits in the table itself, under an owner without a seat.
//!
//! - model: what is held of one model, by handle; generation and sequence.
//! - apply: one update's ranks and entries.
//! - places: whose a handle is.

mod apply;
mod look;
mod model;
mod places;
#[cfg(test)]
mod tests;

pub use look::{Look, Seated};

use std::collections::HashMap;
use std::sync::Arc;

use api::id::ModelName;
use api::kv::{Digests, Update};
use api::limits::MAX_KV_MODELS;
use api::snapshot::Snapshot;

use crate::index::Writer;
use model::{Follow, Model};
use places::Places;

/// Without a stream for so long, events are missing: predictions are no longer taken back before the cache's room is used up, for
/// no event will take their place. What is held is still looked up.
const FADES_AFTER_MS: u64 = 2_000;
/// And after so long what is held is forgotten: engines go through their caches in minutes. Until then it is believed, though some of it
/// may be gone: see ARCHITECTURE.md.
const FORGOTTEN_AFTER_MS: u64 = 300_000;
/// Between two questions about one model.
const ASK_EVERY_MS: u64 = 1_000;
/// What is said of a handle waits so long for a table that has it.
const WAITS_MS: u64 = 60_000;
/// Handles that are waited for at once.
const MAX_WAITING: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub struct Lane {
    /// Of the stream that is heard, or was heard last.
    epoch: Option<u64>,
    hearing: Hearing,
    places: Places,
    models: HashMap<ModelName, Model, ahash::RandomState>,
    counts: Counts,
}

/// Whether a stream is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hearing {
    #[default]
    Never,
    Now,
    /// Not since, in milliseconds.
    Lost(u64),
    /// Not since so long ago that trust has faded.
    Faded(u64),
}

/// What came of what was told, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages that were taken.
    pub updates: u64,
    /// Entries of those.
    pub entries: u64,
    /// Messages of another epoch than the stream's, or that were known already.
    pub stale: u64,
    /// Times that messages were missing.
    pub gaps: u64,
    /// Times that digests were sent.
    pub asked: u64,
    /// Entries for handles that no table has, or had in time.
    pub homeless: u64,
    /// Entries for which a bound left no room.
    pub refused: u64,
    /// Times that what was held of an endpoint was dropped.
    pub forgotten: u64,
}

impl Lane {
    /// A stream is heard from now on; what it says belongs to this epoch. Returns what it is to be told.
    pub fn opened(&mut self, epoch: u64, now_ms: u64, writer: &mut Writer) -> Vec<Digests> {
        if self.epoch.replace(epoch) != Some(epoch) {
            for model in self.models.values_mut() {
                self.counts.homeless += model.park(writer);
            }
        }
        self.models.values_mut().for_each(Model::begin_stream);
        self.hearing = Hearing::Now;
        self.settle(writer);
        self.tell_all(writer);
        self.ask(now_ms)
    }

    /// The stream is gone, and there is no other.
    pub fn lost(&mut self, now_ms: u64) {
        if self.hearing == Hearing::Now {
            self.hearing = Hearing::Lost(now_ms);
        }
    }

    /// A snapshot is about to be in force, and its endpoints have their seats. Returns what the stream is to be told.
    pub fn seated(&mut self, snapshot: &Arc<Snapshot>, now_ms: u64, writer: &mut Writer) -> Vec<Digests> {
        self.places = Places::of(snapshot);
        if self.models.is_empty() {
            return Vec::new();
        }
        let parked = self.models.values().any(Model::has_parked);
        self.settle(writer);
        self.tell_all(writer);
        self.span(writer);
        if parked { self.ask(now_ms) } else { Vec::new() }
    }

    /// One message. Returns a question where messages before it are missing.
    pub fn take(&mut self, update: &Update, now_ms: u64, writer: &mut Writer) -> Option<Digests> {
        if self.epoch != Some(update.epoch) || self.hearing != Hearing::Now {
            self.counts.stale += 1;
            return None;
        }
        if !self.models.contains_key(&update.model) && self.models.len() >= MAX_KV_MODELS {
            self.counts.refused += update.entries.len() as u64;
            return None;
        }
        let model = self.models.entry(update.model.clone()).or_default();
        let follow = model.follow(update);
        match follow {
            Follow::Stale => {
                self.counts.stale += 1;
                return None;
            }
            Follow::Begin => self.counts.forgotten += model.forget_all(writer),
            Follow::Gap => self.counts.gaps += 1,
            Follow::Next => {}
        }
        self.counts.updates += 1;
        self.counts.entries += update.entries.len() as u64;
        self.apply(update, now_ms, writer);
        self.span(writer);
        if follow != Follow::Gap {
            return None;
        }
        let model = self.models.get_mut(&update.model)?;
        model.question_due(now_ms).then(|| {
            self.counts.asked += 1;
            model.digests(update.epoch, &update.model)
        })
    }

    /// The standing work, some times a second: what a lost stream leads to, questions that were put off, and what has waited
    /// in vain.
    pub fn tick(&mut self, now_ms: u64, writer: &mut Writer) -> Vec<Digests> {
        match self.hearing {
            Hearing::Lost(since) if now_ms >= since + FADES_AFTER_MS => {
                self.hearing = Hearing::Faded(since);
                self.tell_all(writer);
            }
            Hearing::Faded(since) if now_ms >= since + FORGOTTEN_AFTER_MS => self.forget(writer),
            _ => {}
        }
        for model in self.models.values_mut() {
            self.counts.homeless += model.give_up(now_ms, writer);
        }
        let Some(epoch) = self.epoch.filter(|_| self.hearing == Hearing::Now) else { return Vec::new() };
        let due = self.models.iter_mut().filter_map(|(name, model)| {
            let due = model.has_question() && model.question_due(now_ms);
            due.then(|| model.digests(epoch, name))
        });
        let due: Vec<_> = due.collect();
        self.counts.asked += due.len() as u64;
        due
    }

    /// What has been counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Nothing of what is held is believed any longer.
    fn forget(&mut self, writer: &mut Writer) {
        for model in self.models.values_mut() {
            self.counts.forgotten += model.forget_all(writer);
        }
        self.tell_all(writer);
        self.models.clear();
        self.hearing = Hearing::Never;
        self.span(writer);
    }

    /// Handles are given the seats that the table's snapshot says, and lives of endpoints that it lacks are ended.
    fn settle(&mut self, writer: &mut Writer) {
        let ours = self.epoch == Some(self.places.epoch());
        for model in self.models.values_mut() {
            self.counts.forgotten += model.settle(&mut self.places, ours, writer);
        }
        // One that is heard of again begins anew.
        self.models.retain(|_, model| model.is_known() || model.has_parked());
    }

    /// What is held, for the stream: of each model that anything was ever said of.
    fn ask(&mut self, now_ms: u64) -> Vec<Digests> {
        let Some(epoch) = self.epoch.filter(|epoch| *epoch == self.places.epoch()) else { return Vec::new() };
        let known = self.models.iter_mut().filter(|(_, model)| model.is_known());
        let digests = known.map(|(name, model)| {
            model.asked(now_ms);
            model.digests(epoch, name)
        });
        let digests: Vec<_> = digests.collect();
        self.counts.asked += digests.len() as u64;
        digests
    }

    /// Look-ups search between these levels.
    fn span(&self, writer: &mut Writer) {
        let levels = self.models.values().filter_map(Model::level);
        let span = levels.map(|level| (level, level)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        writer.reported().set_levels(span);
    }
}
