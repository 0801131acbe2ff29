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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::thread::JoinHandle;

use api::snapshot::{Snapshot, Version};
use tokio::sync::watch;

use crate::publish::serve::{Inputs, ListenError, Listener, Options as Stream, Progress, Server, Zones};
use crate::publish::{Memory, Settings, Verdicts, build, zones};
use crate::report::Report;
use crate::source::directory::{self, Directory, Reading};
use crate::world::World;

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
    rounds: watch::Receiver<Option<Arc<Round>>>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    stop: Arc<AtomicBool>,
    source: JoinHandle<()>,
}

impl Plane {
    /// Reads the manifests and listens. What is wrong with them is logged; what is right with them counts.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { manifests, listen, fleet_seed } = options;
        let (directory, reading) = Directory::open(&manifests).map_err(StartError::Source)?;
        let (mut feed, inputs) = Feed::new(Settings { fleet_seed });
        let rounds = feed.rounds.subscribe();
        feed.take(reading);
        let server = Server::new(Listener::plain(listen).await?, inputs.clone(), Stream::default());
        let stop = Arc::new(AtomicBool::new(false));
        let source = directory::watch(directory, stop.clone(), move |reading| feed.take(reading));
        let source = source.map_err(StartError::Thread)?;
        Ok(Self { server, rounds, snapshots: inputs.snapshots, stop, source })
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

    /// Serves until `stop`. The data planes go on with what they have.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        // It ends with the source.
        tokio::spawn(crate::engine::watch(self.rounds, self.server.loads()));
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

/// From readings to snapshots.
#[derive(Debug)]
struct Feed {
    settings: Settings,
    memory: Memory,
    version: u64,
    told: String,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    zones: watch::Sender<Arc<Zones>>,
    rounds: watch::Sender<Option<Arc<Round>>>,
}

impl Feed {
    fn new(settings: Settings) -> (Self, Inputs) {
        let (snapshots, newest) = watch::channel(None);
        let (zones, of_nodes) = watch::channel(Arc::default());
        let (memory, told, rounds) = (Memory::default(), String::new(), watch::channel(None).0);
        let feed = Self { settings, memory, version: 0, told, snapshots, zones, rounds };
        (feed, Inputs { snapshots: newest, zones: of_nodes })
    }

    fn take(&mut self, reading: Reading) {
        let built = build(&reading.world, &self.settings, &mut self.memory);
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
        self.rounds.send_replace(Some(Arc::new(Round { world: reading.world, verdicts: built.verdicts, snapshot })));
    }
}
