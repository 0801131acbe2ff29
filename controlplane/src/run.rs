//! The running control plane: what the source says becomes a snapshot, and every data plane gets it.
//!
//! The source looks on a thread of its own, and what it says is built on another, together with what engines say of themselves.
//! Reading, round and snapshot are each a value in a watch: a build delays neither the source nor a stream, and of several
//! edits in a row only the last one is built and sent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use api::snapshot::Snapshot;
use prometheus::Registry;
use rustls::ServerConfig;
use tokio::sync::{oneshot, watch};

use crate::admin::View;
use crate::engine::{Asked, Shard, Told};
use crate::kept::{Folder, Keeping, keep};
use crate::kv::supervise::{Supervision, supervise};
use crate::kv::vocabulary::Vocabularies;
use crate::metrics::{Builds, Watches};
use crate::peer::{Caches, Joined, Others, Peering, Shared};
use crate::publish::serve::{Identify, Lane, ListenError, Listener, Options as Stream, Progress, Server};
use crate::publish::{Settings, Verdicts};
use crate::source::Forms;
use crate::source::kubernetes::Scope;
use crate::world::{Engines, World};

mod acquainted;
mod feed;
mod looking;

use acquainted::acquainted;
use feed::{Feed, Said};
use looking::Looking;

/// What is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the objects come from.
    pub source: Source,
    /// Where data planes connect.
    pub listen: Listen,
    /// See [`Settings::fleet_seed`].
    pub fleet_seed: u64,
}

/// Where the objects come from; it is followed.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory of manifests, or one file of them.
    Directory(PathBuf),
    /// The same, where last good forms of its objects outlive the process in a folder.
    KeptDirectory {
        /// The manifests.
        manifests: PathBuf,
        /// The folder. It is made where it is missing.
        state: PathBuf,
    },
    /// A cluster, by its API server.
    Cluster(Box<kube::Config>, Scope),
}

/// Where data planes connect, and how they prove who they are.
#[derive(Debug, Clone)]
pub enum Listen {
    /// Plain text: on loopback, where whoever can connect is believed.
    Plain(SocketAddr),
    /// TLS, and a proof from each.
    Tls(SocketAddr, Arc<ServerConfig>, Arc<dyn Identify>),
}

impl Listen {
    async fn bind(self) -> Result<Listener, ListenError> {
        match self {
            Self::Plain(address) => Listener::plain(address).await,
            Self::Tls(address, config, identify) => Listener::tls(address, &config, identify).await,
        }
    }
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What was asked for cannot be: the manifests cannot be looked through, or the configuration of the cluster is of no use.
    #[error("{0}")]
    Source(String),
    /// The address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A thread.
    #[error("cannot start the thread that follows the source: {0}")]
    Thread(#[source] io::Error),
}

/// What was read, what became of each object, and what data planes are told.
#[derive(Debug)]
pub struct Round {
    /// What the source said.
    pub world: World,
    /// What became of each object.
    pub verdicts: Verdicts,
    /// Its version counts the builds; [`Progress::source`] says how far which of them has come. A round in which no more was judged than
    /// what decides nothing of it has that of the round before.
    pub snapshot: Arc<Snapshot>,
}

/// A control plane that follows its source and listens.
#[derive(Debug)]
pub struct Plane {
    server: Server,
    registry: Registry,
    watches: Arc<Watches>,
    rounds: watch::Receiver<Option<Arc<Round>>>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    engines: watch::Sender<Engines>,
    others: watch::Sender<Arc<Others>>,
    peering: Option<Peering>,
    hearing: Supervision,
    templates: watch::Sender<Option<PathBuf>>,
    panicked: watch::Receiver<Option<Arc<str>>>,
    asking: Duration,
    asked: watch::Sender<Vec<Asked>>,
    looking: Looking,
    building: JoinHandle<()>,
    keeping: Option<Keeping>,
}

impl Plane {
    /// Listens, and looks at the source: what is wrong there is logged, what is right counts. Manifests have been read once when
    /// this returns; a cluster is read meanwhile.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options { source, listen, fleet_seed } = options;
        let registry = Registry::new();
        let watches = Arc::new(Watches::new(&registry));
        let (looking, folder) = match source {
            Source::Directory(root) => (Looking::at_directory(&root, Forms::new())?, None),
            Source::KeptDirectory { manifests, state } => {
                let (folder, forms) = Folder::open(&state, &manifests).map_err(StartError::Source)?;
                (Looking::at_directory(&manifests, forms)?, Some(folder))
            }
            Source::Cluster(config, scope) => (Looking::at_cluster(*config, scope, watches.clone())?, None),
        };
        let (feed, inputs) = Feed::new(Settings { fleet_seed }, Builds::new(&registry), looking.reached.clone())
            .map_err(StartError::Thread)?;
        let (rounds, panicked) = (feed.rounds.subscribe(), feed.panicked.subscribe());
        let keeping = folder.map(|folder| keep(folder, feed.latest.subscribe())).transpose();
        let keeping = keeping.map_err(StartError::Thread)?;
        let (engines, said) = watch::channel(Engines::default());
        let server = Server::new(listen.bind().await?, inputs.clone(), Stream::default());
        let hearing = Supervision::new(server.kv(), Vocabularies::default());
        let (templates, files) = watch::channel(None);
        let said =
            Said { readings: looking.readings.clone(), engines: said, differing: hearing.board.differing(), files };
        let building = feed.follow(said).await.map_err(StartError::Thread)?;
        let (snapshots, others, peering) = (inputs.snapshots, watch::channel(Arc::default()).0, None);
        Ok(Self {
            server,
            registry,
            watches,
            rounds,
            snapshots,
            engines,
            others,
            peering,
            hearing,
            templates,
            panicked,
            asking: crate::engine::PERIOD,
            asked: watch::channel(Vec::new()).0,
            looking,
            building,
            keeping,
        })
    }

    /// What models' tokens stand for is found in this folder, and the chat templates of servers that bring none; without one
    /// nobody is told what engines have cached.
    #[must_use]
    pub fn with_vocabularies(mut self, folder: PathBuf) -> Self {
        self.templates.send_replace(Some(folder.clone()));
        self.hearing.vocabularies = Arc::new(Vocabularies::new(Some(folder)));
        self
    }

    /// Engines are asked this often.
    #[must_use]
    pub fn asking_every(self, asking: Duration) -> Self {
        Self { asking, ..self }
    }

    /// One of several replicas, once it serves.
    #[must_use]
    pub fn with_peers(self, peering: Peering) -> Self {
        Self { peering: Some(peering), ..self }
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

    /// What the data planes of other replicas have; nothing where there are none.
    pub fn others(&self) -> watch::Receiver<Arc<Others>> {
        self.others.subscribe()
    }

    /// How far the newest of that has come with our own data planes.
    pub fn progress(&self) -> watch::Receiver<Arc<Progress>> {
        self.server.progress()
    }

    /// How lists of the cluster are counted.
    pub(crate) fn watches(&self) -> Arc<Watches> {
        self.watches.clone()
    }

    /// What the admin listeners show.
    pub fn view(&self) -> View {
        let waiting = self.looking.waiting.clone();
        View {
            rounds: self.rounds.clone(),
            progress: self.server.progress(),
            data_planes: Box::new(self.server.data_planes()),
            counts: self.server.counts(),
            registry: self.registry.clone(),
            waiting: vec![Box::new(move || waiting.borrow().clone())],
            panicked: self.panicked.clone(),
            reviews: None,
            board: self.hearing.board.clone(),
            lane: self.server.kv(),
            loads: self.server.loads(),
            asked: self.asked.subscribe(),
        }
    }

    /// Serves until `stop`. The data planes go on with what they have.
    pub async fn serve(mut self, stop: impl Future<Output = ()>) -> io::Result<()> {
        if self.peering.is_some() {
            self.hearing.peers = Some(Arc::new(Lane::new(self.server.epoch())));
        }
        let ears = self.hearing.ears();
        let (shard, hearing, engines, _talking) = match self.peering.zip(self.hearing.peers.clone()) {
            Some((peering, told)) => {
                let caches = Caches { told, ears: ears.clone(), board: self.hearing.board.clone() };
                let (rounds, others) = (self.rounds.clone(), self.others.clone());
                let shared = Shared { rounds, engines: self.engines, others, caches };
                let Joined { ear: _, shard, hearing, own, tasks } = self.server.join(peering, shared);
                (shard, hearing, own, Some(tasks))
            }
            None => (watch::channel(Shard::alone()).1, watch::channel(Shard::alone()).1, self.engines, None),
        };
        let (first, asked) = oneshot::channel();
        let acquainted = acquainted(asked, engines.subscribe(), self.rounds.clone());
        // These end with the source.
        tokio::spawn(supervise(self.hearing, ears, self.rounds.clone(), hearing));
        let told = Told { loads: self.server.loads(), engines, first, asked: self.asked };
        tokio::spawn(crate::engine::watch(self.rounds, shard, told, self.asking));
        let mut snapshots = self.snapshots;
        // The thread that makes them holds the sender.
        let lost = async { while snapshots.changed().await.is_ok() {} };
        let server = self.server;
        let serving = async {
            let mut stop = pin!(stop);
            tokio::select! {
                () = acquainted => server.serve(stop).await,
                () = &mut stop => Ok(()),
            }
        };
        let served = tokio::select! {
            served = serving => served,
            () = lost => Err(io::Error::other("the thread that follows the source has ended")),
        };
        self.looking.end();
        if self.building.join().is_err() {
            tracing::error!("the thread that built snapshots panicked");
        }
        // It ends with what was built last.
        if let Some(keeping) = self.keeping {
            keeping.end().await;
        }
        served
    }
}
