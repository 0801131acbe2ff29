//! The KV lane: which endpoint holds which blocks of text, by model, told to every data plane that wants it.
//!
//! Who hears engines ([`crate::kv::supervise`]) says what came and went; it goes into a log of packed parts per model
//! (`book`), which all subscribers read, each at its own pace (`teller`). What an endpoint holds as a whole is not kept here:
//! for who joins, or has fallen behind the log, it is read page by page from the [`Shelf`] that holds it. A page is at least
//! as new as the log, and what the log says after it leads to the same end, so the two need no common moment.

mod book;
mod frame;
mod teller;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use api::proto::KvTrust;
use api::snapshot::Snapshot;
use tokio::sync::watch;

use crate::kv::store::{Digest, News, TextBlock};
use book::Book;
pub(crate) use teller::Teller;

/// Sets of endpoints that subscribers have that are kept.
const SETS: usize = 8;

/// Who holds what is told of endpoints as a whole.
pub trait Shelf: fmt::Debug + Send + Sync {
    /// Appends what an endpoint holds of a model, from this place on and until there are so many; the place to go on from.
    fn page(&self, model: &str, handle: u32, from: u32, blocks: &mut Vec<TextBlock>, most: usize) -> Option<u32>;
}

/// How an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How far what is told of it may be believed.
    pub trust: KvTrust,
    /// Tokens that its cache takes; 0 where that is not known.
    pub capacity_tokens: u64,
    /// What of it is told.
    pub digest: Digest,
}

/// What was told, to all data planes together.
#[derive(Debug, Default)]
pub struct Counts {
    /// Messages.
    pub messages: AtomicU64,
    /// Bytes of them.
    pub bytes: AtomicU64,
    /// Entries in them that are of whole endpoints, for who joined or fell behind.
    pub paged: AtomicU64,
    /// Times that a subscriber had fallen behind the log.
    pub behind: AtomicU64,
    /// Endpoints of which a digest showed that nothing needs to be sent.
    pub same: AtomicU64,
}

pub(crate) type Handles = Arc<BTreeSet<u32>>;

/// The lane.
#[derive(Debug)]
pub struct Lane {
    epoch: u64,
    book: Mutex<Book>,
    /// Whoever holds it tells us, so it is not held here.
    shelf: OnceLock<Weak<dyn Shelf>>,
    changed: watch::Sender<u64>,
    sets: Mutex<VecDeque<(u64, Handles)>>,
    counts: Counts,
}

impl Lane {
    pub(crate) fn new(epoch: u64) -> Self {
        Self {
            epoch,
            book: Mutex::default(),
            shelf: OnceLock::new(),
            changed: watch::channel(0).0,
            sets: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Where pages are read; the first one counts.
    pub fn read_from(&self, shelf: &Arc<dyn Shelf>) {
        // There is one in a process.
        let _ = self.shelf.set(Arc::downgrade(shelf));
    }

    /// What was told.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The sampling level of a model.
    pub fn level(&self, model: &str) -> u8 {
        self.book().level(model)
    }

    /// How an endpoint stands from here on; it is told of from now on, if it was not.
    pub fn stand(&self, model: &str, handle: u32, standing: Standing) {
        self.book().stand(model, handle, standing);
    }

    /// Nothing more is told of an endpoint, which the config has no longer.
    pub fn leave(&self, model: &str, handle: u32) {
        self.book().leave(model, handle);
    }

    /// An endpoint's pages are in another order from here on: who has read some of them begins anew.
    pub fn renew(&self, model: &str, handle: u32) {
        self.book().renew(model, handle);
    }

    /// What became of an endpoint's blocks, and what it comes to.
    pub fn tell(&self, model: &str, handle: u32, news: &News, digest: Digest) {
        self.book().tell(model, handle, news, digest);
    }

    /// All subscribers begin anew with a model at another level, with these digests by handle.
    pub fn begin_anew(&self, model: &str, level: u8, digests: &[(u32, Digest)]) {
        self.book().begin_anew(model, level, digests);
    }

    /// Lets subscribers have what was said since the last call.
    pub fn flush(&self) {
        let change = self.book().flush();
        self.changed.send_if_modified(|known| std::mem::replace(known, change) != change);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The endpoints of a snapshot, which many subscribers ask for.
    fn handles(&self, content_hash: u64, snapshot: &Snapshot) -> Handles {
        let mut sets = self.sets.lock().expect("no thread panics while it holds the sets");
        if let Some((_, handles)) = sets.iter().find(|(known, _)| *known == content_hash) {
            return Arc::clone(handles);
        }
        let endpoints = snapshot.backends.iter().flat_map(|backend| &backend.endpoints);
        let handles: Handles = Arc::new(endpoints.map(|endpoint| endpoint.handle).collect());
        if sets.len() == SETS {
            sets.pop_front();
        }
        sets.push_back((content_hash, Arc::clone(&handles)));
        handles
    }

    fn page(&self, model: &str, handle: u32, from: u32, blocks: &mut Vec<TextBlock>, most: usize) -> Option<u32> {
        self.shelf.get().and_then(Weak::upgrade)?.page(model, handle, from, blocks, most)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no thread panics while it holds the book")
    }
}
