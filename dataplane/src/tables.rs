//! The tables thread: the one writer of the prefix tables, and the place where snapshots become tables. Cores only read;
//! what they decide reaches this thread through rings that it empties every few milliseconds while there is traffic. What the
//! control plane tells of engines' caches comes by the same queue as snapshots, in the order of the stream.

mod fleet;
mod known;
mod kv;

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use api::id::{BackendName, EndpointKey};
use api::kv::Digests;
use api::snapshot::{Endpoint, Snapshot, Version};
use crossbeam::channel::{Receiver, Sender, bounded, select};
use dataplane_core::index::{Config, Reader, Stats, Writer};
use dataplane_core::kv::Lane;
use dataplane_core::load::LiveRegistry;
use dataplane_core::table::{Kept, Place, Table};

use crate::metrics::InForce;
use crate::process::vital;
use crate::shared::Shared;
use fleet::{Fleet, Inbox};
use known::Known;

pub use fleet::{Heard, News};
pub use kv::KvStats;

/// Between two looks at the rings: while marks come, and while none do. A core sees its own marks at once, in its overlay, so
/// only other cores wait for this one; and each look takes the CPU and its caches from a core that shares it: at 1 ms the p99 of
/// 64 KB prompts was 2.5 ms, not 1.9.
const BUSY: Duration = Duration::from_millis(4);
const IDLE: Duration = Duration::from_millis(20);
/// Between two refreshes of medians and statistics.
const REFRESH: Duration = Duration::from_secs(1);
/// Between two looks at which series are of nothing that is there any more.
const FORGET: Duration = Duration::from_secs(5);
/// Between two looks at what has waited, or lived, too long.
const TICK: Duration = Duration::from_millis(250);
/// Cells that are swept at a time, some tens of microseconds.
const SLICE: usize = 4_096;
/// What waits for this thread.
const QUEUE: usize = 4;
/// Questions that wait for the agent.
const QUESTIONS: usize = 1_024;

/// What this thread is asked to do.
enum Work {
    Place(Place),
    Expect(Vec<Expected>),
    ExpectNothing,
    Install(Install),
    Kv(kv::Told),
}

struct Install {
    snapshot: Arc<Snapshot>,
    /// None where it is known to be another one than is in force.
    content_hash: Option<u64>,
    done: Sender<()>,
}

/// A backend that a snapshot of which the rest is on its way will have, and endpoints of it.
#[derive(Debug)]
pub struct Expected {
    /// Its name.
    pub backend: BackendName,
    /// Some of them.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// The way to the tables thread.
#[derive(Debug)]
pub struct Tables {
    shared: Arc<Shared>,
    work: Sender<Work>,
    /// Never has anything: it is cut off when the thread ends. A bounded queue keeps what nobody takes any more, and who waits for an answer in it.
    ended: Receiver<Infallible>,
    questions: Receiver<Digests>,
    thread: OnceLock<Thread>,
    stats: Mutex<Stats>,
    fleet: Fleet,
    kv: Mutex<Arc<KvStats>>,
}

impl Tables {
    /// Starts the thread; the readers are the cores', one each. It ends once `stop` is set.
    pub fn start(
        shared: Arc<Shared>,
        registry: LiveRegistry,
        stop: Arc<AtomicBool>,
    ) -> io::Result<(Arc<Self>, Vec<Reader>, JoinHandle<()>)> {
        let mut writer = Writer::new(Config::default());
        if shared.agent.is_some() {
            writer.note_news();
        }
        let readers = shared.cores.iter().map(|_| writer.reader()).collect();
        let (tables, ends) = Self::new(shared);
        let tables = Arc::new(tables);
        let (known, moved, limited, held, lane) = (Known::default(), false, 0, None, Lane::default());
        let state = State { tables: tables.clone(), writer, lane, registry, known, moved, limited, held, ends, stop };
        let thread = vital("tables".into(), move || run(state))?;
        // It was unset until now.
        let _ = tables.thread.set(thread.thread().clone());
        Ok((tables, readers, thread))
    }

    fn new(shared: Arc<Shared>) -> (Self, Ends) {
        let ((work, queue), (ask, questions)) = (bounded(QUEUE), bounded(QUESTIONS));
        let ((fleet, inbox), (ending, ended)) = (Fleet::new(), bounded(0));
        let (thread, stats, kv) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let ends = Ends { queue, inbox, ask, _ending: ending };
        (Self { shared, work, ended, questions, thread, stats, fleet, kv }, ends)
    }

    /// Compiles a snapshot and puts the table in force; returns when it is.
    pub fn install(&self, snapshot: Arc<Snapshot>) {
        let content_hash = api::hash::content_hash(&snapshot);
        self.send(snapshot, Some(content_hash));
    }

    /// The same for a snapshot that is known to be another one than is in force: its hash need not be waited for.
    pub fn install_new(&self, snapshot: Arc<Snapshot>) {
        self.send(snapshot, None);
    }

    /// Where this process runs, from the next table on.
    pub fn move_to(&self, place: Place) {
        // An error means that the thread ended, and the process with it.
        let _ = self.work.send(Work::Place(place));
    }

    /// What a snapshot of which the rest is on its way will have. A hint: while this thread is busy it does without.
    pub fn expect(&self, expected: Vec<Expected>) {
        if !expected.is_empty() && self.work.try_send(Work::Expect(expected)).is_ok() {
            self.wake();
        }
    }

    /// The rest of what was expected does not come, or not as it was.
    pub fn expect_nothing(&self) {
        // The queue is emptied all the time; an error means that the thread ended, and the process with it.
        let _ = self.work.send(Work::ExpectNothing);
        self.wake();
    }

    fn send(&self, snapshot: Arc<Snapshot>, content_hash: Option<u64>) {
        let (done, waiting) = bounded(1);
        if self.work.send(Work::Install(Install { snapshot, content_hash, done })).is_ok() {
            self.wake();
            // An error means that the thread ended meanwhile, and the process with it.
            select! {
                recv(waiting) -> _ => {}
                recv(self.ended) -> _ => {}
            }
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Keeps the table in force and remembers why the new one was refused.
    pub fn refuse(&self, why: String) {
        tracing::warn!(%why, "the snapshot is refused; the last good table stays");
        self.shared.refuse(why);
    }

    /// The source still says what the table holds.
    pub fn confirm(&self) {
        self.shared.confirm();
    }

    /// What is new here since this was last asked and answered.
    pub fn take_news(&self) -> News {
        self.fleet.take()
    }

    /// What others say. What the thread has no time for is forgotten.
    pub fn hear(&self, heard: Heard) {
        self.fleet.hear(heard);
    }

    /// Messages of the fleet that were forgotten.
    pub fn fleet_lost(&self) -> u64 {
        self.fleet.lost()
    }

    /// The prefix table's, at most a second old.
    pub fn index_stats(&self) -> Stats {
        *self.stats.lock().expect("no thread panics while it holds the statistics")
    }
}

/// The thread's ends of the ways to it.
struct Ends {
    queue: Receiver<Work>,
    inbox: Inbox,
    ask: Sender<Digests>,
    _ending: Sender<Infallible>,
}

struct State {
    tables: Arc<Tables>,
    writer: Writer,
    lane: Lane,
    registry: LiveRegistry,
    known: Known,
    /// Where this process runs is not what the table in force was made for.
    moved: bool,
    /// Routes with a rate limit.
    limited: usize,
    /// Version and content of the snapshot in force: saving a file anew is no change.
    held: Option<(Version, u64)>,
    ends: Ends,
    stop: Arc<AtomicBool>,
}

fn run(mut state: State) {
    let mut refreshed = Instant::now();
    let mut ticked = Instant::now();
    let mut forgot = Instant::now();
    while !state.stop.load(Acquire) {
        let now_ms = state.tables.shared.now_ms();
        let drained = state.writer.drain(now_ms);
        let hears = state.ends.inbox.exchange(&state.tables.fleet, &mut state.writer, now_ms);
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            state.tick(now_ms);
        }
        if refreshed.elapsed() >= REFRESH {
            refreshed = Instant::now();
            state.refresh(now_ms);
        }
        if forgot.elapsed() >= FORGET {
            forgot = Instant::now();
            let shared = &state.tables.shared;
            shared.metrics.forget(&InForce::of(&shared.table.load()), now_ms);
        }
        let retiring = state.writer.retire_slice(SLICE, now_ms);
        match state.ends.queue.try_recv() {
            Ok(Work::Place(place)) => {
                state.registry.move_to(place);
                state.moved = true;
            }
            Ok(Work::Expect(expected)) => state.expect(&expected),
            Ok(Work::ExpectNothing) => state.registry.expect_nothing(),
            Ok(Work::Install(install)) => state.install(&install),
            Ok(Work::Kv(told)) => state.hear(told, now_ms),
            // Parked rather than waiting in the channel, which would spin before each of a thousand waits a second.
            Err(_) => std::thread::park_timeout(if drained > 0 || hears || retiring { BUSY } else { IDLE }),
        }
    }
}

impl State {
    fn install(&mut self, install: &Install) {
        let snapshot = &*install.snapshot;
        let held = install.content_hash.map(|content_hash| (snapshot.version, content_hash));
        if std::mem::replace(&mut self.held, held) == held && held.is_some() {
            self.tables.shared.accept();
            // Whoever asked may have given up.
            let _ = install.done.send(());
            return;
        }
        let now_ms = self.tables.shared.now_ms();
        self.ends.inbox.empty(&self.tables.fleet, &mut self.writer, now_ms);
        let before = self.tables.shared.table.load_full();
        let moved = std::mem::take(&mut self.moved);
        let kept = if moved { Kept::nothing(&before) } else { Kept::of(&before, snapshot) };
        let writer = &mut self.writer;
        let (left, came) = (kept.left(), kept.came(snapshot).map(|endpoint| &endpoint.key));
        self.known.follow(left, came, |gone| writer.release(gone));
        let seat = |key: &EndpointKey| writer.seat(key).map(|seat| seat.0);
        let table = Table::compile_next(&kept, snapshot, &mut self.registry, seat);
        for endpoint in kept.came(snapshot) {
            if let Some(tokens) = endpoint.cache_tokens {
                self.writer.set_cache_tokens(&endpoint.key, tokens);
            }
        }
        // Before the table is in force: seats of endpoints that left are others' then.
        let digests = self.lane.seated(&install.snapshot, self.tables.shared.now_ms(), &mut self.writer);
        self.say(digests);
        let shared = &self.tables.shared;
        tracing::info!(version = table.version().version, endpoints = self.known.len(), "table in force");
        let limited = table.routes().iter().filter(|route| route.rate_limit.is_some()).count();
        if std::mem::replace(&mut self.limited, limited) != limited && limited > 0 {
            tracing::warn!(routes = limited, "rate limits are not enforced by this version: all requests pass");
        }
        let replaced = shared.install(table);
        // Whoever asked may have given up.
        let _ = install.done.send(());
        // Nobody waits for the rest.
        drop((before, replaced));
        shared.table.load().refresh(shared.now_ms());
        self.registry.prune();
    }

    /// Most of what a table of ten thousand new endpoints costs is their numbers and seats, made while the rest is awaited.
    fn expect(&mut self, expected: &[Expected]) {
        for Expected { backend, endpoints } in expected {
            self.registry.expect_backend(backend);
            for endpoint in endpoints {
                let seat = if self.known.expect(&endpoint.key) { self.writer.seat(&endpoint.key) } else { None };
                self.registry.expect(endpoint, seat.map(|seat| seat.0));
            }
        }
    }

    fn refresh(&mut self, now_ms: u64) {
        self.tables.shared.table.load().refresh(now_ms);
        self.writer.sweep_slice(SLICE, now_ms);
        *self.tables.stats.lock().expect("no thread panics while it holds the statistics") = self.writer.stats();
        self.show();
    }
}

#[cfg(test)]
mod tests;
