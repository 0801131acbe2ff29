//! How far one subscriber has been told, and what it is told next.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::limits::MAX_KV_DIGESTS;
use api::proto::{KvDigest, KvDigests, KvRank, KvTrust, KvUpdate, Subscribe};
use api::snapshot::Snapshot;
use bytes::Bytes;

use super::book::{ENTRY, IN_ONE, MOST_RANKS, Model, Part, nothing, pack, rank};
use super::frame::frame;
use super::{Handles, Lane};
use crate::kv::store::{Digest, TextBlock};
use crate::publish::serve::service::Frame;

/// Who may hold blocks says so within this time after its first answer.
const DIGESTS: Duration = Duration::from_millis(250);
/// Models whose digests are kept until then.
const MOST_DIGESTS: usize = 1_024;
/// A model that nobody here has heard of by then, and by when digests are to be had, is one whose blocks are not known: what is held of it
/// is believed for less than 5 s. One that is heard of later is told anew.
const UNHEARD: Duration = Duration::from_secs(4);

/// One subscriber.
#[derive(Debug)]
pub(crate) struct Teller {
    lane: Arc<Lane>,
    /// The models that it wants; all where it names none.
    models: HashSet<String>,
    may_hold: bool,
    /// It is told of each endpoint that is gone; else only where it knows that by its config.
    farewells: bool,
    /// When models of which it has sent no digests are begun; none before its first answer.
    begin_at: Option<Instant>,
    /// The endpoints that it knows.
    known: Handles,
    /// Counts changes of these.
    knows: u64,
    /// At most one of each model, and [`MAX_KV_DIGESTS`] endpoints in all.
    digests: VecDeque<KvDigests>,
    lines: BTreeMap<Arc<str>, Line>,
    /// The model that was told of last: the others come before it does again.
    last: Option<Arc<str>>,
    generation: u64,
}

/// How far it is with one model.
#[derive(Debug, Default)]
struct Line {
    life: u64,
    generation: u64,
    sequence: u64,
    reset: bool,
    /// The part of the log that comes next.
    cursor: u64,
    /// Endpoints that it was told of, all of whose changes it is told.
    told: BTreeSet<u32>,
    /// What is told before all else: how endpoints stand whose digest is that of the book, and who is gone.
    same: Vec<KvRank>,
    /// Endpoints that it is still to be told of.
    waiting: VecDeque<u32>,
    /// The one it is being told of, the place to go on from, and of which source that is.
    page: Option<(u32, u32, u64)>,
    /// As of when `waiting` is complete.
    looked: (u64, u64),
    /// The last message was of the log: pages come next, if there are any.
    logged: bool,
}

impl Teller {
    pub(crate) fn new(lane: Arc<Lane>, subscribe: &Subscribe, generation: u64) -> Self {
        Self {
            lane,
            models: subscribe.kv_models.iter().cloned().collect(),
            may_hold: subscribe.held.is_some(),
            farewells: false,
            begin_at: None,
            known: Handles::default(),
            knows: 0,
            digests: VecDeque::new(),
            lines: BTreeMap::new(),
            last: None,
            generation,
        }
    }

    /// The subscriber has a config of its own: who has left ours may be in that.
    #[must_use]
    pub(crate) fn with_farewells(mut self) -> Self {
        self.farewells = true;
        self
    }

    /// The subscriber runs this snapshot.
    pub(in crate::publish::serve) fn runs(&mut self, content_hash: u64, snapshot: &Snapshot, now: Instant) {
        let known = self.lane.handles(content_hash, snapshot);
        self.knows(known, now);
    }

    /// The subscriber knows these endpoints.
    pub(crate) fn knows(&mut self, known: Handles, now: Instant) {
        if self.known != known {
            self.known = known;
            self.knows += 1;
        }
        let wait = if self.may_hold { DIGESTS } else { Duration::ZERO };
        self.begin_at.get_or_insert(now + wait);
    }

    /// The subscriber says what it holds of a model.
    pub(in crate::publish::serve) fn hear(&mut self, digests: KvDigests) {
        self.digests.retain(|known| known.model != digests.model);
        let kept: usize = self.digests.iter().map(|known| known.endpoints.len()).sum();
        let fits = self.digests.len() < MOST_DIGESTS && kept + digests.endpoints.len() <= MAX_KV_DIGESTS;
        if digests.epoch == self.lane.epoch && fits {
            self.digests.push_back(digests);
        }
    }

    /// When there may be something to tell though nothing changes; none where there is not.
    pub(in crate::publish::serve) fn wakes(&self, now: Instant) -> Option<Instant> {
        let unheard = self.begin_at.filter(|_| !self.digests.is_empty()).map(|at| at + UNHEARD);
        [self.begin_at, unheard].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The next message; none while there is nothing to tell.
    pub(in crate::publish::serve) fn next(&mut self, now: Instant) -> Option<Frame> {
        let (update, entries) = self.next_update(now)?;
        let (frame, counts) = (frame(&update, entries), &self.lane.counts);
        counts.messages.fetch_add(1, Relaxed);
        counts.bytes.fetch_add(frame.len() as u64, Relaxed);
        Some(frame)
    }

    /// The same, with its entries apart.
    pub(crate) fn next_update(&mut self, now: Instant) -> Option<(KvUpdate, Bytes)> {
        let begin_at = self.begin_at?;
        if let Some(unheard) = self.compare_all(now >= begin_at + UNHEARD) {
            return Some(unheard);
        }
        let mut names: Vec<Arc<str>> = {
            let book = self.lane.book();
            let gone = |name: &Arc<str>| !book.models.contains_key(name);
            let (known, farewells) = (&self.known, self.farewells);
            self.lines.retain(|name, line| {
                !gone(name) || {
                    line.end(|handle| farewells || known.contains(handle));
                    !line.same.is_empty()
                }
            });
            let wanted = book.models.keys().filter(|model| self.models.is_empty() || self.models.contains(&***model));
            wanted.chain(self.lines.keys().filter(|name| gone(name))).cloned().collect()
        };
        names.sort_unstable();
        let after_last = names.iter().position(|name| Some(name) > self.last.as_ref()).unwrap_or(0);
        names.rotate_left(after_last);
        for model in names {
            if !self.lines.contains_key(&model) {
                if now < begin_at {
                    continue;
                }
                self.generation += 1;
                let line = Line { generation: self.generation, reset: true, life: u64::MAX, ..Line::default() };
                self.lines.insert(Arc::clone(&model), line);
            }
            if let Some(update) = self.of_model(&model) {
                self.last = Some(model);
                return Some(update);
            }
        }
        None
    }

    fn of_model(&mut self, name: &Arc<str>) -> Option<(KvUpdate, Bytes)> {
        let Self { lane, known, knows, lines, generation, farewells, .. } = self;
        let line = lines.get_mut(name)?;
        // Neither waits for the other to have nothing.
        let log_first = !line.same.is_empty() || !line.logged;
        let (told, level) = {
            let mut book = lane.book();
            let Some(model) = book.models.get_mut(name) else {
                line.end(|handle| *farewells || known.contains(handle));
                return line.last_words(lane.epoch, name);
            };
            if line.life != model.life {
                *generation += u64::from(line.life != u64::MAX);
                *line = Line { generation: *generation, reset: true, life: model.life, ..Line::default() };
                line.join(model);
            } else if !model.reaches(line.cursor) {
                lane.counts.behind.fetch_add(1, Relaxed);
                line.look(model, known, (*knows, *farewells));
                line.join(model);
            }
            line.look(model, known, (*knows, *farewells));
            (if log_first || !line.has_pages() { line.change(model) } else { None }, model.level)
        };
        line.logged = told.is_some();
        let told = told.or_else(|| line.pages(lane, name));
        let (ranks, entries) = told.or_else(|| line.change(lane.book().models.get(name)?))?;
        let update = KvUpdate {
            epoch: lane.epoch,
            model: name.to_string(),
            generation: line.generation,
            sequence: line.sequence,
            reset: std::mem::take(&mut line.reset),
            level: u32::from(level),
            entries: Vec::new(),
            ranks,
        };
        line.sequence += 1;
        Some((update, entries))
    }

    /// Those of a model that is not known yet wait, for a replica that has just begun hears of it soon. When it was to have been
    /// heard of, what the subscriber holds of it is not to be believed.
    fn compare_all(&mut self, late: bool) -> Option<(KvUpdate, Bytes)> {
        for _ in 0..self.digests.len() {
            let digests = self.digests.pop_front()?;
            if self.compare(&digests) {
                continue;
            }
            if late {
                let KvDigests { epoch, model, generation, endpoints: _ } = digests;
                let reset = KvUpdate { epoch, model, generation, reset: true, ..KvUpdate::default() };
                return Some((reset, Bytes::new()));
            }
            self.digests.push_back(digests);
        }
        None
    }

    /// Takes up where the subscriber stands: endpoints whose digest is right are told of from here on, the others anew.
    /// False where nobody has heard of the model.
    fn compare(&mut self, digests: &KvDigests) -> bool {
        let mut book = self.lane.book();
        let Some(name) = book.models.get_key_value(&*digests.model).map(|(name, _)| Arc::clone(name)) else {
            return false;
        };
        let Some(model) = book.models.get_mut(&name) else { return false };
        let mut line = Line { generation: digests.generation, life: model.life, ..Line::default() };
        if let Some(before) = self.lines.get(&name).filter(|before| before.life == model.life) {
            (line.generation, line.sequence, line.reset) = (before.generation, before.sequence, before.reset);
        }
        line.join(model);
        for KvDigest { handle, xor, blocks } in &digests.endpoints {
            match model.endpoints.get(handle) {
                Some(standing) if standing.digest == (Digest { xor: *xor, blocks: *blocks }) => {
                    line.told.insert(*handle);
                    line.same.push(rank(*handle, standing, false));
                    self.lane.counts.same.fetch_add(1, Relaxed);
                }
                Some(_) => {}
                None => line.same.push(nothing(*handle)),
            }
        }
        self.lines.insert(name, line);
        true
    }
}

impl Line {
    /// All of the log up to here is in the pages that are read from here on.
    fn join(&mut self, model: &mut Model) {
        model.seal();
        self.cursor = model.next();
        self.told.clear();
        self.same.retain(|rank| rank.forget);
        self.waiting.clear();
        self.page = None;
        self.looked = (u64::MAX, 0);
    }

    /// Endpoints that came, and that the subscriber knows, are to be told of; of those that are gone nothing is known.
    fn look(&mut self, model: &Model, known: &BTreeSet<u32>, (knows, farewells): (u64, bool)) {
        if self.looked == (knows, model.moves) {
            return;
        }
        self.looked = (knows, model.moves);
        let there = |handle: &u32| model.endpoints.contains_key(handle) && known.contains(handle);
        let gone = |handle: &u32| !there(handle) && (farewells || known.contains(handle));
        self.same.extend(self.told.iter().copied().filter(gone).map(nothing));
        self.told.retain(there);
        let waits = |handle: &u32| !self.told.contains(handle) && there(handle);
        self.waiting = model.endpoints.keys().copied().filter(waits).collect();
        self.page = self.page.filter(|(handle, ..)| there(handle));
    }

    /// The model has no endpoints any more.
    fn end(&mut self, heeds: impl Fn(&u32) -> bool) {
        let gone = std::mem::take(&mut self.told);
        self.same.retain(|rank| rank.forget);
        self.same.extend(gone.into_iter().filter(heeds).map(nothing));
        self.waiting.clear();
        self.page = None;
    }

    /// The next of what is to be told of a model that has none.
    fn last_words(&mut self, epoch: u64, name: &Arc<str>) -> Option<(KvUpdate, Bytes)> {
        if self.same.is_empty() {
            return None;
        }
        let ranks: Vec<KvRank> = self.same.drain(..self.same.len().min(MOST_RANKS)).collect();
        let (generation, sequence, reset) = (self.generation, self.sequence, std::mem::take(&mut self.reset));
        self.sequence += 1;
        let model = name.to_string();
        let update = KvUpdate { epoch, model, generation, sequence, reset, ranks, ..KvUpdate::default() };
        Some((update, Bytes::new()))
    }

    fn has_pages(&self) -> bool {
        self.page.is_some() || !self.waiting.is_empty()
    }

    /// What the log says next to this subscriber: of several parts where they fit into one message, and the later ones tell of
    /// blocks alone, for how endpoints stand comes before all blocks of a message.
    fn change(&mut self, model: &Model) -> Option<(Vec<KvRank>, Bytes)> {
        if !self.same.is_empty() {
            let most = self.same.len().min(MOST_RANKS);
            return Some((self.same.drain(..most).collect(), Bytes::new()));
        }
        let mut told: Option<(Vec<KvRank>, Bytes)> = None;
        while let Some(part) = model.part(self.cursor) {
            let fits = |(_, entries): &(Vec<KvRank>, Bytes)| {
                part.ranks.is_empty() && entries.len() + part.entries.len() <= IN_ONE * ENTRY
            };
            if !told.as_ref().is_none_or(fits) {
                break;
            }
            self.cursor += 1;
            told = match (told, self.of_part(part)) {
                (Some((ranks, before)), Some((_, entries))) => Some((ranks, [before, entries].concat().into())),
                (before, of_part) => before.or(of_part),
            };
        }
        told
    }

    fn of_part(&self, part: &Part) -> Option<(Vec<KvRank>, Bytes)> {
        if part.handles.is_subset(&self.told) {
            return Some((part.ranks.clone(), part.entries.clone()));
        }
        let ranks: Vec<KvRank> = part.ranks.iter().filter(|rank| self.told.contains(&rank.handle)).copied().collect();
        let of =
            |entry: &&[u8]| entry[8..12].try_into().is_ok_and(|handle| self.told.contains(&u32::from_le_bytes(handle)));
        let entries: Vec<u8> = part.entries.chunks_exact(ENTRY).filter(of).flatten().copied().collect();
        (!ranks.is_empty() || !entries.is_empty()).then(|| (ranks, entries.into()))
    }

    /// What endpoints hold that it was not told of yet. While one's pages last it counts as being read.
    fn pages(&mut self, lane: &Lane, name: &str) -> Option<(Vec<KvRank>, Bytes)> {
        let (mut ranks, mut packed, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        while packed.len() < IN_ONE * ENTRY && ranks.len() < MOST_RANKS {
            let (handle, from, begun) = match self.page.take() {
                Some(page) => page,
                None => match self.waiting.pop_front() {
                    Some(handle) => (handle, 0, 0),
                    None => break,
                },
            };
            // From before its page is read it is told of all its changes.
            self.told.insert(handle);
            let standing = lane.book().models.get(name).and_then(|model| {
                let standing = *model.endpoints.get(&handle)?;
                Some((standing, model.level, model.source(handle)))
            });
            let Some((standing, level, source)) = standing else { continue };
            let begun = if from == 0 { source } else { begun };
            blocks.clear();
            let next = lane.page(name, handle, from, &mut blocks, IN_ONE - packed.len() / ENTRY);
            if from > 0 && lane.book().models.get(name).is_none_or(|model| model.source(handle) != begun) {
                self.page = Some((handle, 0, 0));
                continue;
            }
            let mut told = rank(handle, &standing, from == 0);
            if next.is_some() {
                told.trust = KvTrust::Replaying.into();
            }
            if from == 0 || next.is_none() {
                ranks.push(told);
            }
            pack_all(&mut packed, handle, &blocks, level);
            lane.counts.paged.fetch_add(blocks.len() as u64, Relaxed);
            if let Some(next) = next {
                self.page = Some((handle, next, begun));
                break;
            }
        }
        let nothing = ranks.is_empty() && packed.is_empty() && !self.reset;
        (!nothing).then(|| (ranks, packed.into()))
    }
}

fn pack_all(packed: &mut Vec<u8>, handle: u32, blocks: &[TextBlock], level: u8) {
    blocks.iter().for_each(|block| pack(packed, handle, block, level));
}

#[cfg(test)]
mod tests;
