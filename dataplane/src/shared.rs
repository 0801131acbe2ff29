//! What all threads of the process share: the table behind one pointer, and a few counters.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;
use dataplane_core::table::Table;

use crate::agent;
use crate::config::{Config, DrainReadiness};
use crate::metrics::Metrics;
use crate::offload::Offload;
use crate::recorder::Recorder;
use crate::rt::{Driver, Post};
use crate::server::elders::Elders;
use crate::sys;

/// What other threads tell a core.
#[derive(Debug)]
pub enum ToCore {
    /// A socket that a busier core accepted.
    Socket(OwnedFd, SocketAddr),
    /// Accept what waits, then nothing more.
    StopAccepting,
    /// Cut what is left.
    Finish,
}

/// One core as the others see it.
#[derive(Debug)]
pub struct CoreSlot {
    /// Its queue.
    pub post: Post<ToCore>,
    connections: CachePadded<AtomicU64>,
    requests: AtomicU64,
}

impl CoreSlot {
    /// With its queue.
    pub fn new(post: Post<ToCore>) -> Self {
        Self { post, connections: CachePadded::default(), requests: AtomicU64::new(0) }
    }

    /// Open connections, and four for each request that is being served.
    pub fn load(&self) -> u64 {
        self.connections.load(Relaxed) + 4 * self.requests.load(Relaxed)
    }

    pub(crate) fn connection(&self, by: i64) {
        self.connections.fetch_add(by as u64, Relaxed);
    }

    /// Only its own core calls this, so a load and a store do.
    pub(crate) fn request(&self, by: i64) {
        self.requests.store(self.requests.load(Relaxed).wrapping_add(by as u64), Relaxed);
    }
}

/// How far the process has gone towards its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not yet listening on all cores.
    Starting,
    /// Serving.
    Serving,
    /// Still accepting, but telling clients to go elsewhere.
    Draining,
    /// Listeners are closed; requests finish.
    Closing,
}

/// What the snapshot's source knows of the table in force.
#[derive(Debug, Clone)]
pub struct TableStatus {
    /// When the table was last known to be what the source says.
    pub confirmed: Instant,
    /// Snapshots refused so far.
    pub refused: u64,
    /// Why the last one was refused, until one is accepted.
    pub refusal: Option<String>,
}

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// The driver that all cores run on.
    pub driver: Driver,
    /// The table in force.
    pub table: Arc<ArcSwap<Table>>,
    /// Of the table.
    pub status: Mutex<TableStatus>,
    /// Of the stream to the control plane, where there is one.
    pub agent: Option<Arc<agent::Status>>,
    /// What is counted.
    pub metrics: Metrics,
    /// What is logged.
    pub recorder: Arc<Recorder>,
    /// The helper threads.
    pub offload: Offload,
    /// The cores.
    pub cores: Box<[CoreSlot]>,
    /// Who listened where clients connect before we did, once we do.
    pub(crate) elders: OnceLock<Elders>,
    phase: AtomicU8,
    loaded: AtomicBool,
    doors: AtomicUsize,
    connections: AtomicUsize,
    buffered: AtomicUsize,
    started: Instant,
    started_ms: u64,
}

/// What [`Shared::new`] is made from.
#[derive(Debug)]
pub struct Parts {
    /// See [`Shared::config`].
    pub config: Config,
    /// See [`Shared::driver`].
    pub driver: Driver,
    /// The first table, perhaps empty.
    pub table: Table,
    /// See [`Shared::agent`].
    pub agent: Option<Arc<agent::Status>>,
    /// The cores.
    pub cores: Box<[CoreSlot]>,
    /// The helper threads.
    pub offload: Offload,
}

impl Shared {
    /// A process that has not started to serve.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, driver, table, agent, cores, offload } = parts;
        let now = Instant::now();
        Self {
            config,
            driver,
            table: Arc::new(ArcSwap::from_pointee(table)),
            status: Mutex::new(TableStatus { confirmed: now, refused: 0, refusal: None }),
            agent,
            metrics: Metrics::new(cores.len()),
            recorder: Arc::default(),
            offload,
            doors: AtomicUsize::new(cores.len()),
            cores,
            elders: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            loaded: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            buffered: AtomicUsize::new(0),
            started: now,
            started_ms: sys::coarse_ms(),
        }
    }

    /// Milliseconds since the start: the clock of every decision and limit, read several times a request.
    pub fn now_ms(&self) -> u64 {
        sys::coarse_ms() - self.started_ms
    }

    /// Puts a table in force; returns the one before, which takes milliseconds to drop.
    pub fn install(&self, table: Table) -> Arc<Table> {
        let before = self.table.swap(Arc::new(table));
        self.accept();
        self.loaded.store(true, Release);
        before
    }

    /// The source says again what the table in force holds.
    pub fn accept(&self) {
        self.confirm();
        self.status().refusal = None;
    }

    /// The source still says what the table holds.
    pub fn confirm(&self) {
        self.status().confirmed = Instant::now();
    }

    /// The table in force was what the source says so long ago.
    pub fn date(&self, age: Duration) {
        // An age beyond the machine's start is shown as that.
        let status = &mut *self.status();
        status.confirmed = status.confirmed.checked_sub(age).unwrap_or(self.started);
    }

    /// Whether any snapshot has been in force.
    pub fn loaded(&self) -> bool {
        self.loaded.load(Acquire)
    }

    /// Keeps the table and remembers why.
    pub fn refuse(&self, why: String) {
        let mut status = self.status();
        status.refused += 1;
        status.refusal = Some(why);
    }

    /// What is known of the table in force.
    pub fn table_status(&self) -> TableStatus {
        self.status().clone()
    }

    fn status(&self) -> std::sync::MutexGuard<'_, TableStatus> {
        self.status.lock().expect("no thread panics while it holds the status")
    }

    /// Goes on to a later phase; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Relaxed);
    }

    /// Whether `/readyz` says yes.
    pub fn ready(&self) -> bool {
        let serving = self.phase.load(Relaxed) == Phase::Serving as u8;
        let kept = self.config.drain.readiness == DrainReadiness::Keep && self.draining();
        self.loaded() && (serving || kept)
    }

    /// Whether clients are told to go elsewhere.
    pub fn draining(&self) -> bool {
        self.phase.load(Relaxed) >= Phase::Draining as u8
    }

    /// Whether only what was begun is finished.
    pub fn closing(&self) -> bool {
        self.phase.load(Relaxed) >= Phase::Closing as u8
    }

    /// Cores that still take connections.
    pub fn open_doors(&self) -> usize {
        self.doors.load(Acquire)
    }

    /// A core takes no connection any more, and what it took is counted.
    pub(crate) fn close_door(&self) {
        self.doors.fetch_sub(1, AcqRel);
    }

    /// Counts a connection, unless there are too many.
    pub fn admit_connection(&self) -> bool {
        let admitted = self.connections.fetch_add(1, Relaxed) < self.config.limits.connections;
        if !admitted {
            self.release_connection();
        }
        admitted
    }

    /// Connections that are open, or on their way from one core to another.
    pub fn open_connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// The connection is gone.
    pub fn release_connection(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Bytes of bodies held now.
    pub fn buffered_bytes(&self) -> usize {
        self.buffered.load(Relaxed)
    }
}

/// Room that a body takes of the process's, given back when the value is dropped.
#[derive(Debug)]
pub struct Buffered {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Buffered {
    /// None yet.
    pub fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), bytes: 0 }
    }

    /// Takes room up to so many bytes in all; false when the process holds too much.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = self.shared.buffered.fetch_add(more, Relaxed) + more <= self.shared.config.limits.buffered_bytes;
        if fits {
            self.bytes += more;
        } else {
            self.shared.buffered.fetch_sub(more, Relaxed);
        }
        fits
    }

    /// How many bytes it is now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.shared.buffered.fetch_sub(self.bytes, Relaxed);
        }
    }
}
