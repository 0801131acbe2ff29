//! What all proxies predict that engines hold, merged: each proxy's decisions come in and go to all others, and who joins is
//! told all of it first. Hints: what is lost costs a worse choice, so everything here is bounded and nothing is asked again.
//!
//! An endpoint's marks are kept in the order of their use (`endpoint`), as many as its cache takes. What is new also goes into
//! a log, from which each subscriber reads on at its own pace (`feed`); one that falls behind it is told all again.

mod endpoint;
mod feed;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use api::limits::{BLOCK_BYTES, CACHE_TOKENS, MARK_EVERY_BLOCKS};
use api::predictions::Mark;
use api::snapshot::Snapshot;
use tokio::sync::watch;

use super::Owner;
use endpoint::{Asked, Endpoint};

pub(crate) use feed::{Feed, Listener};

/// Marks in all: 1 GiB of prompts.
const MOST: usize = 1 << 20;
/// Marks of one endpoint: seven million tokens, which are told in one message of less than 1 MiB.
const MOST_OF_ONE: usize = 28_000;
/// The part of the largest endpoint's marks that it gives up at once.
const GIVEN_UP: usize = 64;
/// Marks that a slow subscriber may be behind.
const LOG: usize = 1 << 17;
/// Tokens that a mark stands for where a token has 4 bytes.
const MARK_TOKENS: u64 = (MARK_EVERY_BLOCKS * BLOCK_BYTES / 4) as u64;

/// The fleet's predictions.
#[derive(Debug)]
pub(crate) struct Predictions {
    book: Mutex<Book>,
    changed: watch::Sender<u64>,
}

/// The value behind the lock.
#[derive(Debug, Default)]
struct Book {
    endpoints: HashMap<u32, Endpoint>,
    /// Endpoints that the newest snapshot has.
    known: HashSet<u32>,
    marks: usize,
    log: VecDeque<(Mark, Owner)>,
    /// Marks that were ever logged; the log ends there.
    logged: u64,
}

/// What a subscriber reads from the log.
#[derive(Debug, PartialEq)]
enum News {
    Marks {
        marks: Vec<Mark>,
        up_to: u64,
    },
    /// What comes next is not in the log any more.
    Behind,
}

impl Predictions {
    pub(crate) fn new() -> Self {
        Self { book: Mutex::default(), changed: watch::channel(0).0 }
    }

    /// Counts what came in.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes runs of marks in, which all others are told.
    pub(crate) fn take(&self, owner: Owner, marks: impl Iterator<Item = Mark>) {
        self.take_in(owner, marks, Telling::All);
    }

    /// Takes in what was predicted before a stream began. Others are told the runs in which anything is new: a peer that comes again
    /// says all it knows, which is many times what the log holds, and is known to all.
    pub(crate) fn learn(&self, owner: Owner, marks: impl Iterator<Item = Mark>) {
        self.take_in(owner, marks, Telling::News);
    }

    fn take_in(&self, owner: Owner, marks: impl Iterator<Item = Mark>, telling: Telling) {
        let mut book = self.book();
        book.take(owner, marks, telling);
        let logged = book.logged;
        self.changed.send_if_modified(|seen| std::mem::replace(seen, logged) != logged);
    }

    /// Of endpoints that a snapshot does not have nothing is predicted.
    pub(crate) fn keep(&self, snapshot: &Snapshot) {
        let endpoints = snapshot.backends.iter().flat_map(|backend| &backend.endpoints);
        self.book().keep(endpoints.map(|endpoint| (endpoint.handle, endpoint.cache_tokens)));
    }

    /// Marks that are kept.
    #[cfg(test)]
    pub(crate) fn marks(&self) -> usize {
        self.book().marks
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no thread panics while it holds the predictions")
    }
}

/// Which runs go into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    All,
    News,
}

impl Book {
    fn take(&mut self, owner: Owner, marks: impl Iterator<Item = Mark>, telling: Telling) {
        let (mut before, mut marks) = (None, marks.peekable());
        let (mut run, mut news) = (Vec::new(), false);
        while let Some(mark) = marks.next() {
            if !self.known.contains(&mark.handle) {
                before = None;
                continue;
            }
            let parent = if mark.follows(before.as_ref()) { before.map_or(0, |before: Mark| before.hash) } else { 0 };
            // Where what it follows was not taken a run begins.
            let mark = Mark { position: if parent == 0 { 0 } else { mark.position }, ..mark };
            let ends = marks.peek().is_none_or(|next| !next.follows(Some(&mark)));
            let ours = matches!(owner, Owner::Proxy(_));
            news |= self.mark(mark.handle, Asked { hash: mark.hash, parent, ends, ours });
            run.push(mark);
            before = Some(mark);
            if ends {
                if news || telling == Telling::All {
                    run.iter().for_each(|mark| self.log(*mark, owner));
                }
                run.clear();
                news = false;
            }
        }
    }

    /// Whether it was not known.
    fn mark(&mut self, handle: u32, asked: Asked) -> bool {
        let knows = |endpoint: &Endpoint| endpoint.knows(asked.hash);
        if self.marks >= MOST && !self.endpoints.get(&handle).is_some_and(knows) {
            self.make_room(handle);
        }
        let full = self.marks >= MOST;
        let Some(endpoint) = self.endpoints.get_mut(&handle) else { return false };
        let marks = endpoint.len();
        let news = endpoint.mark(asked, full);
        self.marks = self.marks + endpoint.len() - marks;
        news
    }

    /// Where an endpoint has less than its share of all marks the one that has most gives some up, a part of them at once so that
    /// it need not be looked for each time. Else those that came first would keep all the room there is.
    fn make_room(&mut self, handle: u32) {
        let share = MOST / self.endpoints.len().max(1);
        if self.endpoints.get(&handle).is_none_or(|endpoint| endpoint.len() >= share) {
            return;
        }
        if let Some(largest) = self.endpoints.values_mut().max_by_key(|endpoint| endpoint.len()) {
            let marks = largest.len();
            largest.make_room(marks - marks / GIVEN_UP - 1);
            self.marks = self.marks + largest.len() - marks;
        }
    }

    fn log(&mut self, mark: Mark, owner: Owner) {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((mark, owner));
        self.logged += 1;
    }

    fn keep(&mut self, endpoints: impl Iterator<Item = (u32, Option<u64>)>) {
        self.known.clear();
        for (handle, cache_tokens) in endpoints {
            let capacity = (cache_tokens.unwrap_or(CACHE_TOKENS) / MARK_TOKENS) as usize;
            self.known.insert(handle);
            self.endpoints.entry(handle).or_default().set_capacity(capacity.clamp(1, MOST_OF_ONE));
        }
        let known = &self.known;
        self.endpoints.retain(|handle, _| known.contains(handle));
        self.marks = self.endpoints.values().map(Endpoint::len).sum();
    }

    /// Of what was logged after `seen` the first `most` that `wanted` is true of whom they are by, and the rest of the last run.
    fn since(&self, seen: u64, most: usize, wanted: impl Fn(Owner) -> bool) -> News {
        let begins = self.logged - self.log.len() as u64;
        let Some(skip) = seen.checked_sub(begins) else { return News::Behind };
        let (mut marks, mut up_to, mut before) = (Vec::<Mark>::new(), seen, None);
        for (mark, owner) in self.log.range((skip as usize).min(self.log.len())..) {
            let goes_on = mark.follows(before);
            if marks.len() >= most && !goes_on {
                break;
            }
            up_to += 1;
            before = Some(mark);
            if wanted(*owner) {
                marks.push(*mark);
            }
        }
        News::Marks { marks, up_to }
    }
}

#[cfg(test)]
mod tests;
