//! How each endpoint fares, for metrics and pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::id::EndpointKey;
use tokio::sync::watch;

use crate::kv::agree::Agreement;
use crate::kv::store::{RankId, Tally};
use crate::kv::subscribe::Status;
use crate::kv::trust::{Counts, Trust};
use crate::world::Differing;

mod line;

pub(super) use line::Line;

/// What becomes of an endpoint's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is about to be asked.
    Begun,
    /// What its tokens stand for is not known, and why: what it caches is predicted.
    Unread(String),
    /// It does not publish, or does not say where.
    Silent(String),
    /// It writes chats otherwise than data planes take it to, and how: what it caches is predicted.
    Differs(String),
    /// It could not be asked.
    Fault(String),
    /// It is heard.
    Heard,
    /// It is another replica's to hear.
    Elsewhere,
}

impl State {
    /// In a word, for a metric's label.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Unread(_) => "unread",
            Self::Silent(_) => "silent",
            Self::Differs(_) => "differs",
            Self::Fault(_) => "fault",
            Self::Heard => "heard",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// Why it is not heard.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Unread(why) | Self::Silent(why) | Self::Differs(why) | Self::Fault(why) => Some(why),
            Self::Begun | Self::Heard | Self::Elsewhere => None,
        }
    }
}

/// What an endpoint holds, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Blocks of tokens that are remembered.
    pub blocks: u64,
    /// Blocks of text that are told.
    pub told: u64,
    /// Bytes of memory.
    pub bytes: u64,
    /// Blocks of tokens whose text could not be read.
    pub unread: u64,
    /// What else happened to its blocks.
    pub tally: Tally,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which.
    pub key: EndpointKey,
    /// Its model; empty where that is not known.
    pub model: String,
    /// What becomes of its events.
    pub state: State,
    /// How far it may be believed.
    pub trust: Trust,
    /// Whether it writes chats as data planes take it to.
    pub chats: Agreement,
    /// What it holds.
    pub held: Held,
    /// Its ranks' streams.
    pub ranks: Vec<Status>,
}

#[derive(Debug)]
struct Entry {
    /// Who attends to it here; nobody else's word counts.
    by: Option<RankId>,
    model: String,
    state: State,
    trust: Trust,
    chats: Agreement,
    held: Held,
    ranks: Vec<watch::Receiver<Status>>,
}

/// What has happened in all, to endpoints that are gone too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// To streams.
    pub streams: Counts,
    /// Connections to engines.
    pub connections: u64,
    /// To blocks.
    pub tally: Tally,
    /// Blocks of tokens whose text could not be read.
    pub unread: u64,
    /// Messages of peers that could not be read.
    pub peer_faults: u64,
}

impl Sums {
    fn add(&mut self, held: &Held, ranks: impl Iterator<Item = Status>) {
        let Tally { orphans, unindexed, unknown, conflicts, evicted } = held.tally;
        self.unread += held.unread;
        let tally = &mut self.tally;
        for (sum, more) in [
            (&mut tally.orphans, orphans),
            (&mut tally.unindexed, unindexed),
            (&mut tally.unknown, unknown),
            (&mut tally.conflicts, conflicts),
            (&mut tally.evicted, evicted),
        ] {
            *sum += more;
        }
        for Status { counts, connections, .. } in ranks {
            self.connections += connections;
            self.streams = sum(self.streams, counts);
        }
    }
}

fn sum(a: Counts, b: Counts) -> Counts {
    Counts {
        applied: a.applied + b.applied,
        repeated: a.repeated + b.repeated,
        unreadable: a.unreadable + b.unreadable,
        gaps: a.gaps + b.gaps,
        restarts: a.restarts + b.restarts,
        replays: a.replays + b.replays,
        failed_replays: a.failed_replays + b.failed_replays,
        overruns: a.overruns + b.overruns,
        forgotten: a.forgotten + b.forgotten,
        unparked: a.unparked + b.unparked,
    }
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<EndpointKey, Entry>,
    /// Of entries that are no more.
    past: Sums,
    /// What peers say of engines that write chats otherwise, by stream.
    peers: BTreeMap<u64, Differing>,
}

impl Entry {
    fn new(by: Option<RankId>, model: Option<&str>, state: State, ranks: Vec<watch::Receiver<Status>>) -> Self {
        let model = model.unwrap_or_default().to_owned();
        Self { by, model, state, trust: Trust::Cold, chats: Agreement::default(), held: Held::default(), ranks }
    }
}

impl Inner {
    /// In the place of what was written of it before.
    fn write(&mut self, key: &EndpointKey, entry: Entry) {
        if let Some(before) = self.entries.insert(key.clone(), entry) {
            self.end(&before);
        }
    }

    fn end(&mut self, entry: &Entry) {
        self.past.add(&entry.held, entry.ranks.iter().map(|status| status.borrow().clone()));
    }
}

/// All endpoints.
#[derive(Debug, Default)]
pub struct Board {
    inner: Mutex<Inner>,
    /// Of those that are asked here.
    own: watch::Sender<Differing>,
    /// Of these, and of those that peers ask.
    differing: watch::Sender<Differing>,
}

impl Board {
    /// At this moment, by endpoint.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(key, entry): (&EndpointKey, &Entry)| Row {
            key: key.clone(),
            model: entry.model.clone(),
            state: entry.state.clone(),
            trust: entry.trust,
            chats: entry.chats.clone(),
            held: entry.held,
            ranks: entry.ranks.iter().map(|status| status.borrow().clone()).collect(),
        };
        self.inner().entries.iter().map(row).collect()
    }

    /// What has happened in all.
    pub fn sums(&self) -> Sums {
        let inner = self.inner();
        let mut sums = inner.past;
        for entry in inner.entries.values() {
            sums.add(&entry.held, entry.ranks.iter().map(|status| status.borrow().clone()));
        }
        sums
    }

    /// From now on it is this one, by a number that was never used, who attends to it here.
    pub(super) fn begin(self: &Arc<Self>, key: &EndpointKey, model: Option<&str>, by: RankId) -> Line {
        self.inner().write(key, Entry::new(Some(by), model, State::Begun, Vec::new()));
        Line { board: self.clone(), key: key.clone(), by }
    }

    pub(super) fn note(&self, key: &EndpointKey, trust: Trust, held: Held) {
        if let Some(entry) = self.inner().entries.get_mut(key) {
            (entry.trust, entry.held) = (trust, held);
        }
    }

    /// Engines that write chats otherwise than is taken here, as that changes.
    pub fn differing(&self) -> watch::Receiver<Differing> {
        self.differing.subscribe()
    }

    /// Those of them that are asked by this replica.
    pub fn own_differing(&self) -> watch::Receiver<Differing> {
        self.own.subscribe()
    }

    /// Those that a peer asks, all of them; with none its stream has ended.
    pub fn peer_differs(&self, stream: u64, differing: Option<Differing>) {
        let mut inner = self.inner();
        match differing {
            Some(differing) => drop(inner.peers.insert(stream, differing)),
            None => drop(inner.peers.remove(&stream)),
        }
        self.pool(&inner);
    }

    /// What a peer told of caches could not be read.
    pub fn peer_fault(&self) {
        self.inner().past.peer_faults += 1;
    }

    /// Ours counts before a peer's.
    fn pool(&self, inner: &Inner) {
        let own = self.own.borrow().clone();
        let now: Differing = if inner.peers.is_empty() {
            own
        } else {
            let all = inner.peers.values().chain([&own]).flat_map(|part| part.iter());
            Arc::new(all.map(|(key, why)| (key.clone(), why.clone())).collect())
        };
        self.differing.send_if_modified(|known| {
            let changes = *known != now;
            if changes {
                *known = now;
            }
            changes
        });
    }

    fn agree(&self, inner: &mut Inner, key: &EndpointKey, chats: Agreement) {
        // One that is gone is not spoken of.
        let Some(entry) = inner.entries.get_mut(key) else { return };
        let differs = if let Agreement::Differs(why) = &chats { Some(Arc::from(why.as_str())) } else { None };
        entry.chats = chats;
        self.differ(inner, key, differs);
    }

    fn differ(&self, inner: &Inner, key: &EndpointKey, differs: Option<Arc<str>>) {
        let changes = self.own.send_if_modified(|known| {
            let changes = known.get(key) != differs.as_ref();
            if changes {
                let known = Arc::make_mut(known);
                match differs {
                    Some(why) => known.insert(key.clone(), why),
                    None => known.remove(key),
                };
            }
            changes
        });
        if changes {
            self.pool(inner);
        }
    }

    /// It is another replica's to hear; said once.
    pub(super) fn elsewhere(&self, key: &EndpointKey, model: Option<&str>) {
        let mut inner = self.inner();
        let known = inner.entries.get(key).is_some_and(|entry| entry.state == State::Elsewhere);
        if !known {
            inner.write(key, Entry::new(None, model, State::Elsewhere, Vec::new()));
            self.agree(&mut inner, key, Agreement::default());
        }
    }

    /// Those that are gone are not spoken of.
    pub(super) fn keep(&self, there: impl Fn(&EndpointKey) -> bool) {
        let mut inner = self.inner();
        let gone: Vec<EndpointKey> = inner.entries.keys().filter(|key| !there(key)).cloned().collect();
        for key in gone {
            self.differ(&inner, &key, None);
            if let Some(before) = inner.entries.remove(&key) {
                inner.end(&before);
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it holds the board")
    }
}

#[cfg(test)]
mod tests;
