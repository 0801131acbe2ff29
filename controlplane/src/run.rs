//! The running control plane: what the source says becomes a snapshot, and every data plane gets it.
//!
//! The source looks on a thread of its own, and what it says is built there too. The result, a `Round`, is a value in a
//! watch, and so is its snapshot, which the server takes; so a build never delays a stream, and of several edits in a row
//! only the last one is sent.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Instant;

use api::snapshot::{Snapshot, Version};
use prometheus::Registry;
use tokio::sync::watch;

use crate::admin::View;
use crate::engine::Shard;
use crate::metrics::Builds;
use crate::publish::serve::{Inputs, ListenError, Listener, Options as Stream, Progress, Server, Zones};
use crate::publish::{Memory, Settings, Verdicts, build, zones};
use crate::report::Report;
use crate::source::directory::{self, Directory, Fault, Reading};
use crate::world::{Engines, World};

/// What is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// A directory of manifests, or one file of them; it is watched.
    pub manifests: PathBuf,
    /// Where data planes connect.
    pub listen: SocketAddr,
    /// See [`Settings::fleet_seed`].
    pub fleet_seed: u64,
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The manifests cannot be looked through.
    #[error("{0}")]
    Source(String),
    /// The address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A thread.
    #[error("cannot start the thread that watches the manifests: {0}")]
    Thread(#[source] io::Error),
}

/// One build: what was read, what became of each object, and what data planes are told.
#[derive(Debug)]
pub struct Round {
    /// What the source said.
    pub world: World,
    /// What became of each object.
    pub verdicts: Verdicts,
    /// Its version counts the rounds; [`Progress::source`] says how far which of them has come.
    pub snapshot: Arc<Snapshot>,
}

/// A control plane that has read its manifests and listens.
#[derive(Debug)]
pub struct Plane {
    server: Server,
    registry: Registry,
    rounds: watch::Receiver<Option<Arc<Round>>>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    stop: Arc<AtomicBool>,
    source: JoinHandle<()>,
    /// The thread of the source holds it.
    feed: Weak<Mutex<Feed>>,
    engines: watch::Sender<Engines>,
}

impl Plane {
    /// Reads the manifests and listens. What is wrong with them is logged; what is right with them counts.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { manifests, listen, fleet_seed } = options;
        let (directory, reading) = Directory::open(&manifests).map_err(StartError::Source)?;
        let registry = Registry::new();
        let (mut feed, inputs) = Feed::new(Settings { fleet_seed }, Builds::new(&registry));
        let rounds = feed.rounds.subscribe();
        feed.take(reading);
        let server = Server::new(Listener::plain(listen).await?, inputs.clone(), Stream::default());
        let stop = Arc::new(AtomicBool::new(false));
        let engines = feed.engines.clone();
        let held = Arc::new(Mutex::new(feed));
        let feed = Arc::downgrade(&held);
        let source = directory::watch(directory, stop.clone(), move |reading| locked(&held, |feed| feed.take(reading)));
        let source = source.map_err(StartError::Thread)?;
        Ok(Self { server, registry, rounds, snapshots: inputs.snapshots, stop, source, feed, engines })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The newest build; none until every source has said all it has.
    pub fn rounds(&self) -> watch::Receiver<Option<Arc<Round>>> {
        self.rounds.clone()
    }

    /// What data planes are told, as it changes.
    pub fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshots.clone()
    }

    /// How far the newest of that has come.
    pub fn progress(&self) -> watch::Receiver<Arc<Progress>> {
        self.server.progress()
    }

    /// What the admin listeners show.
    pub fn view(&self) -> View {
        View {
            rounds: self.rounds.clone(),
            progress: self.server.progress(),
            data_planes: Box::new(self.server.data_planes()),
            counts: self.server.counts(),
            registry: self.registry.clone(),
        }
    }

    /// Serves until `stop`. The data planes go on with what they have.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        // Both end with the source.
        tokio::spawn(rebuild(self.feed, self.engines.subscribe()));
        let shard = watch::channel(Shard::alone()).1;
        tokio::spawn(crate::engine::watch(self.rounds, shard, self.server.loads(), self.engines));
        let mut snapshots = self.snapshots;
        // The thread that makes them holds the sender.
        let lost = async { while snapshots.changed().await.is_ok() {} };
        let served = tokio::select! {
            served = self.server.serve(stop) => served,
            () = lost => Err(io::Error::other("the thread that watches the manifests has ended")),
        };
        self.stop.store(true, Release);
        if self.source.join().is_err() {
            tracing::error!("the thread that watched the manifests panicked");
        }
        served
    }
}

/// Builds again whenever engines say something else.
async fn rebuild(feed: Weak<Mutex<Feed>>, mut engines: watch::Receiver<Engines>) {
    while engines.changed().await.is_ok() {
        let Some(feed) = feed.upgrade() else { return };
        let built = tokio::task::spawn_blocking(move || locked(&feed, Feed::again)).await;
        if built.is_err() {
            tracing::error!("a build on the engines' word panicked");
            return;
        }
    }
}

fn locked<T>(feed: &Mutex<Feed>, act: impl FnOnce(&mut Feed) -> T) -> T {
    act(&mut feed.lock().unwrap_or_else(PoisonError::into_inner))
}

/// From readings, and what engines say, to snapshots.
#[derive(Debug)]
struct Feed {
    settings: Settings,
    /// What engines say now.
    engines: watch::Sender<Engines>,
    /// Of the last reading.
    faults: Vec<Fault>,
    others: usize,
    builds: Builds,
    memory: Memory,
    version: u64,
    told: String,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    zones: watch::Sender<Arc<Zones>>,
    rounds: watch::Sender<Option<Arc<Round>>>,
}

impl Feed {
    fn new(settings: Settings, builds: Builds) -> (Self, Inputs) {
        let (snapshots, newest) = watch::channel(None);
        let (zones, of_nodes) = watch::channel(Arc::default());
        let (memory, told, rounds) = (Memory::default(), String::new(), watch::channel(None).0);
        let (engines, faults) = (watch::channel(Engines::default()).0, Vec::new());
        let feed =
            Self { settings, engines, faults, others: 0, builds, memory, version: 0, told, snapshots, zones, rounds };
        (feed, Inputs { snapshots: newest, zones: of_nodes })
    }

    /// The last reading, with what engines say now.
    fn again(&mut self) {
        let Some(round) = self.rounds.borrow().clone() else { return };
        let faults = std::mem::take(&mut self.faults);
        self.take(Reading { world: round.world.clone(), faults, others: self.others });
    }

    fn take(&mut self, mut reading: Reading) {
        reading.world.engines = self.engines.borrow().clone();
        let since = Instant::now();
        let built = build(&reading.world, &self.settings, &mut self.memory);
        self.builds.built(since.elapsed());
        let problems = Report::of(&reading, &built.verdicts).problems();
        let told: HashSet<&str> = self.told.lines().collect();
        for line in problems.lines().filter(|line| !told.contains(line)) {
            tracing::warn!("{line}");
        }
        self.told = problems;
        self.version += 1;
        let version = Version { epoch: 0, version: self.version };
        let snapshot = Arc::new(Snapshot { version, ..built.snapshot });
        tracing::info!(
            version = self.version,
            routes = snapshot.routes.len(),
            backends = snapshot.backends.len(),
            "built"
        );
        self.zones.send_replace(Arc::new(zones(&reading.world)));
        self.snapshots.send_replace(Some(snapshot.clone()));
        let Reading { world, faults, others } = reading;
        (self.faults, self.others) = (faults, others);
        self.rounds.send_replace(Some(Arc::new(Round { world, verdicts: built.verdicts, snapshot })));
    }
}
