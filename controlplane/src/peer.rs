//! The other replicas of this control plane: each serves some of the data planes, and all know the whole fleet's load.
//!
//! Each replica dials each other one (`dial`) and tells it (`tell`) what its own data planes report and what it asked engines
//! itself; nothing that was heard is told on. Who is dialled hears it (`hear`): a peer is one more that reports load, and its
//! facts join ours (`facts`), as does what engines that it hears have cached (`caches`). Handles belong to one process, so endpoints are named by their keys on the way (`names`, `wire`).
//! What their data planes have in force is told, too (`reach`), and joins what ours have (`others`) where status is written.
//! Who the others are is a value, [`Members`], that our own Service's EndpointSlices say (`found`); which engines are whose
//! follows from that and from who is heard (`alive`), so that a replica that has fallen silent is stood in for at once.

mod alive;
mod caches;
mod dial;
mod facts;
mod found;
mod hear;
mod names;
mod others;
mod own;
mod reach;
mod tell;
mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::snapshot::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::engine::Shard;
use crate::kv::supervise::{Board, Ears};
use crate::publish::serve::{Identify, Lane, Loads, Local, Predictions, Progress};
use crate::run::Round;
use crate::status::{Forms, Standings};
use crate::world::Engines;

pub(crate) use found::{Place, follow};
pub(crate) use hear::Ear;
pub use others::Others;
pub(crate) use own::Own;
pub use reach::Part;

use names::Index;

/// Replicas at once, this one not counted; there are two or three.
const MOST: usize = 16;

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its pod's UID.
    pub name: Arc<str>,
    /// Where it listens for data planes and for peers.
    pub address: SocketAddr,
}

/// All replicas, as one of them sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// This replica's name.
    pub me: Arc<str>,
    /// All, this one included once it is listed.
    pub all: Vec<Member>,
}

/// How a replica is with the others.
#[derive(Debug)]
pub struct Peering {
    /// Who they are.
    pub members: watch::Receiver<Members>,
    /// How they are dialled.
    pub way: Way,
    /// Finds out whether who dials is one of them.
    pub identify: Arc<dyn Identify>,
}

impl Peering {
    /// With replicas of this machine: in plain text, where whoever dials is believed.
    pub fn on_loopback(members: watch::Receiver<Members>) -> Self {
        Self { members, way: Way::Plain, identify: Arc::new(Local) }
    }
}

/// How peers are dialled.
#[derive(Debug, Clone)]
pub enum Way {
    /// In plain text, on loopback.
    Plain,
    /// By TLS, with this pod's token.
    Tls {
        /// What is trusted, as PEM.
        bundle: watch::Receiver<Arc<str>>,
        /// The name that is in their certificate.
        domain: String,
        /// The file of the token; the kubelet renews it.
        token: PathBuf,
    },
}

/// What of this replica others are told, and what they change.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) epoch: u64,
    pub(crate) loads: Arc<Loads>,
    pub(crate) predictions: Arc<Predictions>,
    /// Between two reports while load changes.
    pub(crate) load_interval: Duration,
    /// How long what a lost peer said of its load still counts.
    pub(crate) load_kept: Duration,
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// What our own data planes have acknowledged.
    pub(crate) progress: watch::Receiver<Arc<Progress>>,
    pub(crate) shared: Shared,
}

/// What a replica that is alone has of itself, and all have together.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Our builds.
    pub(crate) rounds: watch::Receiver<Option<Arc<Round>>>,
    /// What is known of engines, by all replicas together.
    pub(crate) engines: watch::Sender<Engines>,
    /// What the other replicas' data planes have in force.
    pub(crate) others: watch::Sender<Arc<Others>>,
    /// What engines have cached.
    pub(crate) caches: Caches,
}

/// What all replicas together hear of engines' caches.
#[derive(Debug, Clone)]
pub(crate) struct Caches {
    /// What is heard here, as peers are told it.
    pub(crate) told: Arc<Lane>,
    /// Where what peers hear is taken in.
    pub(crate) ears: Arc<Ears>,
    /// Whether engines write chats as data planes do.
    pub(crate) board: Arc<Board>,
}

#[cfg(test)]
impl Caches {
    /// None is heard.
    pub(crate) fn of_nobody() -> Self {
        let (told, board) = (Arc::new(Lane::new(1)), Arc::new(Board::default()));
        let ears = Arc::new(Ears::new(Arc::new(Lane::new(1)), board.clone()));
        Self { told, ears, board }
    }
}

#[cfg(test)]
impl Shared {
    /// Nothing is built, and nobody wants to know.
    pub(crate) fn of_nobody() -> Self {
        Self {
            rounds: watch::channel(None).1,
            engines: watch::channel(Engines::default()).0,
            others: watch::channel(Arc::default()).0,
            caches: Caches::of_nobody(),
        }
    }
}

/// A replica that has joined the others.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Where they are heard.
    pub(crate) ear: Arc<Ear>,
    /// Which engines are ours to ask.
    pub(crate) shard: watch::Receiver<Shard>,
    /// Whose caches are ours to hear: one of an older release asks engines and tells nothing of their caches.
    pub(crate) hearing: watch::Receiver<Shard>,
    /// What those said of themselves.
    pub(crate) own: watch::Sender<Engines>,
    /// All that runs for it; dropped, it ends.
    pub(crate) tasks: JoinSet<()>,
}

/// Joins the others, within a runtime.
pub(crate) fn join(Peering { members, way, identify }: Peering, site: Site) -> Joined {
    let Site { epoch, loads, predictions, load_interval, load_kept, snapshots, progress, shared } = site;
    let Shared { rounds, engines, others, caches } = shared;
    let (own, said) = watch::channel(Engines::default());
    let index = Arc::new(Index::new(snapshots));
    let shared = hear::Shared {
        loads: loads.clone(),
        predictions: predictions.clone(),
        index: index.clone(),
        caches: caches.clone(),
    };
    let ear = Arc::new(Ear::new(hear::Options { epoch, load_kept, identify }, shared));
    let mut tasks = JoinSet::new();
    let (shard, standing) = alive::watch(members.clone(), ear.heard(), hear::Heard::names);
    tasks.spawn(standing);
    let (hearing, standing) = alive::watch(members.clone(), ear.heard(), hear::Heard::tellers);
    tasks.spawn(standing);
    tasks.spawn(facts::pool(said.clone(), ear.heard(), engines));
    tasks.spawn(others::watch(members.clone(), ear.parts(), others));
    let (written, standings) = watch::channel(Arc::default());
    tasks.spawn(forms(rounds, written));
    let Caches { told: caches, ears: _, board } = caches;
    let differing = board.own_differing();
    let voice = dial::Voice {
        epoch,
        loads,
        predictions,
        index,
        load_interval,
        facts: said,
        standings,
        progress,
        caches,
        differing,
    };
    tasks.spawn(dial::all(members, way, Arc::new(voice)));
    Joined { ear, shard, hearing, own, tasks }
}

/// Follows what our data planes are to run, until there are no builds any more.
async fn forms(mut rounds: watch::Receiver<Option<Arc<Round>>>, told: watch::Sender<Arc<Standings>>) {
    let mut forms = Forms::default();
    loop {
        let round = rounds.borrow_and_update().clone();
        if let Some(round) = round {
            let now = forms.observe(&round);
            told.send_if_modified(|known| {
                let news = !Arc::ptr_eq(known, &now);
                if news {
                    *known = now;
                }
                news
            });
        }
        if rounds.changed().await.is_err() {
            return;
        }
    }
}
