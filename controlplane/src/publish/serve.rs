//! The stream to the data planes: takes snapshots as values, gives each a version, and brings every subscriber to the
//! newest one.
//!
//! A snapshot goes in (`publisher`), is kept with the last few (`archive`) and is encoded once per version for all who
//! need the same change. Each subscriber has one task (`stream`) that carries out what a pure state machine
//! (`subscriber`) decides, once this replica knows what the data plane has seen by another one (`abreast`): what is sent next, what an answer means, what is held back because it was refused (`poison`).
//! One change at most is on its way to a subscriber; versions that come meanwhile are skipped. What proxies report of
//! their load goes into one sum (`load`), of which each gets the others' part, what they predict that engines hold goes to
//! all others (`predictions`), and what engines have cached into a log (`kv`), all within a budget of bytes (`budget`). What
//! all have acknowledged is told as a value (`progress`). Who connects (`transport`) is a stranger (`door`) until it is
//! known who that is (`identify`), and stays for as long as that is proved (`hold`). Other replicas (`peers`) are let in by the same door.

mod abreast;
mod archive;
mod budget;
mod door;
mod floor;
mod hold;
mod identify;
mod kv;
mod load;
mod pace;
mod peers;
mod poison;
mod predictions;
mod progress;
mod publisher;
mod service;
mod stream;
mod subscriber;
mod told;
mod transport;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use api::seen::Seen;
use api::snapshot::Snapshot;
use tokio::sync::watch;

pub(crate) use identify::Local;
pub use identify::{Holds, Identify, Identity, Proof};
pub use kv::{Counts as KvCounts, Lane, Shelf, Standing};
pub(crate) use kv::{Handles, Teller};
pub(crate) use load::Owner;
pub use load::{Load, Loads, Outstanding};
pub(crate) use predictions::{Feed, Listener as Hearer, Predictions};
pub use progress::{DataPlane, Progress, Refused};
pub use transport::{ListenError, Listener};

use crate::peer::{self, Ear, Joined, Peering, Shared, Site};
use crate::source::Reached;
use archive::{Archive, Published};
use progress::Registry;

/// Zones by the names of their nodes.
pub type Zones = BTreeMap<String, String>;

/// What the server is fed with.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The newest snapshot; none until every source has said all it has, so that nobody loses routes to a start. Its
    /// version's epoch and number are the source's own: they come back in [`Progress::source`].
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// Where nodes are.
    pub zones: watch::Receiver<Arc<Zones>>,
    /// How far the source has been read.
    pub reached: watch::Receiver<Reached>,
}

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Between two publishes.
    pub publish_interval: Duration,
    /// How often each of few data planes is to report its load while that changes, and gets the others'; of many more seldom.
    pub load_interval: Duration,
    /// What a stream may take, config included.
    pub bytes_per_second: u32,
    /// A stream is ended after this time, give or take a fifth.
    pub stream_life: Duration,
    /// A subscriber that has not answered after this time is cut off.
    pub answer_time: Duration,
    /// Bytes of one message of a change.
    pub message_bytes: usize,
    /// Streams at once.
    pub streams: usize,
    /// Connections at once of which it is not known yet whose they are.
    pub strangers: usize,
    /// How long what a lost stream reported still counts.
    pub load_kept: Duration,
    /// How long a data plane that has seen more than is known here waits for that.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            publish_interval: Duration::from_millis(50),
            load_interval: Duration::from_millis(5),
            bytes_per_second: 1_000_000,
            stream_life: Duration::from_secs(30 * 60),
            answer_time: Duration::from_secs(30),
            // Small, for each subscriber that does not read holds one or two of them in its socket's queue.
            message_bytes: 64 << 10,
            streams: 10_000,
            // Enough for a fleet that comes back all together: a handshake takes less than a millisecond of a core.
            strangers: 1024,
            load_kept: Duration::from_secs(2),
            patience: Duration::from_secs(5),
        }
    }
}

/// What has been done so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Snapshots that differed from the one before.
    pub published: AtomicU64,
    /// Changes encoded.
    pub encoded: AtomicU64,
    /// Bytes of them.
    pub encoded_bytes: AtomicU64,
    /// Changes sent, each to one subscriber.
    pub sent: AtomicU64,
    /// Of these, acknowledged.
    pub applied: AtomicU64,
    /// Of these, refused.
    pub refused: AtomicU64,
    /// Streams opened.
    pub streams: AtomicU64,
    /// Streams refused because it was not proved who opened them.
    pub unproved: AtomicU64,
    /// Streams, of replicas too, that began or went on past the end of their proof, for nobody could renew it.
    pub excused: AtomicU64,
    /// Streams cut off because they did not answer.
    pub cut_off: AtomicU64,
    /// Streams whose data plane had seen more than is known here, and still had after it was waited for.
    pub behind: AtomicU64,
}

/// What all streams share.
#[derive(Debug)]
struct Hub {
    epoch: u64,
    options: Options,
    archive: Archive,
    current: watch::Sender<Option<Arc<Published>>>,
    /// What that was made of, also where its content is not new.
    seen: watch::Sender<Option<Seen>>,
    reached: watch::Receiver<Reached>,
    zones: watch::Receiver<Arc<Zones>>,
    registry: Arc<Registry>,
    loads: Arc<Loads>,
    predictions: Arc<Predictions>,
    kv: Arc<Lane>,
    counts: Arc<Counts>,
    closing: watch::Sender<bool>,
    identify: Arc<dyn Identify>,
}

impl Hub {
    /// Between two words of the fleet's load to each of those that are there now.
    fn load_interval(&self) -> Duration {
        pace::load_interval(self.options.load_interval, self.registry.streams())
    }
}

/// A server that has not begun to serve.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    inputs: Inputs,
    hub: Arc<Hub>,
    ear: Option<Arc<Ear>>,
}

impl Server {
    /// With an epoch of its own, by which its versions differ from every other process's.
    pub fn new(listener: Listener, inputs: Inputs, options: Options) -> Self {
        let epoch = random().max(1);
        let counts: Arc<Counts> = Arc::default();
        let hub = Hub {
            epoch,
            archive: Archive::new(epoch, options.message_bytes, counts.clone()),
            loads: Arc::new(Loads::new(epoch)),
            predictions: Arc::new(Predictions::new()),
            kv: Arc::new(Lane::new(epoch)),
            options,
            current: watch::channel(None).0,
            seen: watch::channel(None).0,
            reached: inputs.reached.clone(),
            zones: inputs.zones.clone(),
            registry: Arc::default(),
            counts,
            closing: watch::channel(false).0,
            identify: listener.identify.clone(),
        };
        Self { listener, inputs, hub: Arc::new(hub), ear: None }
    }

    /// Joins other replicas, which find us where data planes do. `shared` gets what all of them know together.
    pub(crate) fn join(&mut self, peering: Peering, shared: Shared) -> Joined {
        let Options { load_interval, load_kept, .. } = self.hub.options;
        let (snapshots, progress) = (self.inputs.snapshots.clone(), self.progress());
        let (epoch, loads) = (self.hub.epoch, self.loads());
        let predictions = self.hub.predictions.clone();
        let site = Site { epoch, loads, predictions, load_interval, load_kept, snapshots, progress, shared };
        let joined = peer::join(peering, site);
        self.ear = Some(joined.ear.clone());
        joined
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// The epoch of its versions.
    pub fn epoch(&self) -> u64 {
        self.hub.epoch
    }

    /// How far the newest snapshot has come. `Programmed` is [`Progress::complete`].
    pub fn progress(&self) -> watch::Receiver<Arc<Progress>> {
        self.hub.registry.watch()
    }

    /// The connected data planes, one by one.
    pub fn data_planes(&self) -> impl Fn() -> Vec<DataPlane> + Send + Sync + 'static {
        let registry = self.hub.registry.clone();
        move || registry.list()
    }

    /// What the fleet has outstanding.
    pub fn loads(&self) -> Arc<Loads> {
        self.hub.loads.clone()
    }

    /// What is told of the engines' caches.
    pub fn kv(&self) -> Arc<Lane> {
        self.hub.kv.clone()
    }

    /// What has been done so far.
    pub fn counts(&self) -> Arc<Counts> {
        self.hub.counts.clone()
    }

    /// Serves until `stop`, then ends the streams: the data planes serve on and look for another replica.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> io::Result<()> {
        let Self { listener, inputs, hub, ear } = self;
        let serving = service::serve(listener, hub.clone(), ear, async {
            stop.await;
            hub.closing.send_replace(true);
        });
        let publishing = async {
            publisher::run(hub.clone(), inputs.snapshots).await;
            // The source has ended; what was published stays.
            std::future::pending().await
        };
        tokio::select! {
            served = serving => served,
            never = publishing => never,
        }
    }
}

/// A random number of the system's: each hasher has keys of its own.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
