//! How far one subscriber has been told, and what it is told next.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::proto::{KvDigest, KvDigests, KvRank, KvTrust, KvUpdate, Subscribe};
use api::snapshot::Snapshot;
use bytes::Bytes;

use super::book::{ENTRY, IN_ONE, Model, Part, nothing, pack, rank};
use super::frame::frame;
use super::{Handles, Lane};
use crate::kv::store::{Digest, TextBlock};
use crate::publish::serve::service::Frame;

/// Who may hold blocks says so within this time after its first answer.
const DIGESTS: Duration = Duration::from_millis(250);
/// Digests that are kept until then.
const MOST_DIGESTS: usize = 1_024;
/// Endpoints of one message of pages.
const MOST_RANKS: usize = 1_024;

/// One subscriber.
#[derive(Debug)]
pub(in crate::publish::serve) struct Teller {
    lane: Arc<Lane>,
    /// The models that it wants; all where it names none.
    models: HashSet<String>,
    may_hold: bool,
    /// When models of which it has sent no digests are begun; none before its first answer.
    begin_at: Option<Instant>,
    /// The endpoints that it knows.
    known: Handles,
    /// Counts changes of these.
    knows: u64,
    digests: VecDeque<KvDigests>,
    lines: BTreeMap<Arc<str>, Line>,
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
    /// Endpoints whose digest is that of the book: only how they stand is told.
    same: Vec<KvRank>,
    /// Endpoints that it is still to be told of.
    todo: VecDeque<u32>,
    /// The one it is being told of, and the place to go on from.
    page: Option<(u32, u32)>,
    /// As of when `todo` is complete.
    looked: (u64, u64),
}

impl Teller {
    pub(in crate::publish::serve) fn new(lane: Arc<Lane>, subscribe: &Subscribe, generation: u64) -> Self {
        Self {
            lane,
            models: subscribe.kv_models.iter().cloned().collect(),
            may_hold: subscribe.held.is_some(),
            begin_at: None,
            known: Handles::default(),
            knows: 0,
            digests: VecDeque::new(),
            lines: BTreeMap::new(),
            generation,
        }
    }

    /// The subscriber runs this snapshot.
    pub(in crate::publish::serve) fn runs(&mut self, content_hash: u64, snapshot: &Snapshot, now: Instant) {
        let known = self.lane.handles(content_hash, snapshot);
        if self.known != known {
            self.known = known;
            self.knows += 1;
        }
        let wait = if self.may_hold { DIGESTS } else { Duration::ZERO };
        self.begin_at.get_or_insert(now + wait);
    }

    /// The subscriber says what it holds of a model.
    pub(in crate::publish::serve) fn hear(&mut self, digests: KvDigests) {
        if digests.epoch == self.lane.epoch && self.digests.len() < MOST_DIGESTS {
            self.digests.push_back(digests);
        }
    }

    /// When there may be something to tell though nothing changes; none where there is not.
    pub(in crate::publish::serve) fn wakes(&self, now: Instant) -> Option<Instant> {
        self.begin_at.filter(|at| *at > now)
    }

    /// The next message; none while there is nothing to tell.
    pub(in crate::publish::serve) fn next(&mut self, now: Instant) -> Option<Frame> {
        let begin_at = self.begin_at?;
        while let Some(digests) = self.digests.pop_front() {
            self.compare(&digests);
        }
        let names: Vec<Arc<str>> = {
            let book = self.lane.book();
            self.lines.retain(|model, _| book.models.contains_key(model));
            let wanted = book.models.keys().filter(|model| self.models.is_empty() || self.models.contains(&***model));
            wanted.cloned().collect()
        };
        for model in names {
            if !self.lines.contains_key(&model) {
                if now < begin_at {
                    continue;
                }
                self.generation += 1;
                let line = Line { generation: self.generation, reset: true, life: u64::MAX, ..Line::default() };
                self.lines.insert(Arc::clone(&model), line);
            }
            if let Some(frame) = self.of_model(&model) {
                return Some(frame);
            }
        }
        None
    }

    fn of_model(&mut self, name: &Arc<str>) -> Option<Frame> {
        let Self { lane, known, knows, lines, generation, .. } = self;
        let line = lines.get_mut(name)?;
        let (told, level) = {
            let mut book = lane.book();
            let model = book.models.get_mut(name)?;
            if line.life != model.life {
                *generation += u64::from(line.life != u64::MAX);
                *line = Line { generation: *generation, reset: true, life: model.life, ..Line::default() };
                line.join(model);
            } else if !model.reaches(line.cursor) {
                lane.counts.behind.fetch_add(1, Relaxed);
                line.join(model);
            }
            line.look(model, known, *knows);
            (line.change(model), model.level)
        };
        let (ranks, entries) = told.or_else(|| line.pages(lane, name))?;
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
        let frame = frame(&update, entries);
        lane.counts.messages.fetch_add(1, Relaxed);
        lane.counts.bytes.fetch_add(frame.len() as u64, Relaxed);
        Some(frame)
    }

    /// Takes up where the subscriber stands: endpoints whose digest is right are told of from here on, the others anew.
    fn compare(&mut self, digests: &KvDigests) {
        let mut book = self.lane.book();
        let Some(name) = book.models.get_key_value(&*digests.model).map(|(name, _)| Arc::clone(name)) else { return };
        let Some(model) = book.models.get_mut(&name) else { return };
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
    }
}

impl Line {
    /// All of the log up to here is in the pages that are read from here on.
    fn join(&mut self, model: &mut Model) {
        model.seal();
        self.cursor = model.next();
        self.told.clear();
        self.same.clear();
        self.todo.clear();
        self.page = None;
        self.looked = (u64::MAX, 0);
    }

    /// Endpoints that came, and that the subscriber knows, are to be told of.
    fn look(&mut self, model: &Model, known: &BTreeSet<u32>, knows: u64) {
        if self.looked == (knows, model.moves) {
            return;
        }
        self.looked = (knows, model.moves);
        let there = |handle: &u32| model.endpoints.contains_key(handle) && known.contains(handle);
        self.told.retain(there);
        let waits = |handle: &u32| !self.told.contains(handle) && there(handle);
        self.todo = model.endpoints.keys().copied().filter(waits).collect();
        self.page = self.page.filter(|(handle, _)| there(handle));
    }

    /// What the log says next to this subscriber.
    fn change(&mut self, model: &Model) -> Option<(Vec<KvRank>, Bytes)> {
        if !self.same.is_empty() {
            let most = self.same.len().min(MOST_RANKS);
            return Some((self.same.drain(..most).collect(), Bytes::new()));
        }
        while let Some(part) = model.part(self.cursor) {
            self.cursor += 1;
            let told = self.of_part(part);
            if told.is_some() {
                return told;
            }
        }
        None
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
            let (handle, from) = match self.page.take() {
                Some(page) => page,
                None => match self.todo.pop_front() {
                    Some(handle) => (handle, 0),
                    None => break,
                },
            };
            // From before its page is read it is told of all its changes.
            self.told.insert(handle);
            let standing = lane.book().models.get(name).and_then(|model| {
                let standing = *model.endpoints.get(&handle)?;
                Some((standing, model.level))
            });
            let Some((standing, level)) = standing else { continue };
            blocks.clear();
            let next = lane.page(name, handle, from, &mut blocks, IN_ONE - packed.len() / ENTRY);
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
                self.page = Some((handle, next));
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
