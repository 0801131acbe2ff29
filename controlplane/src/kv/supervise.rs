//! Hears all engines that publish their cache, and tells the KV lane.
//!
//! The newest build says which endpoints there are and what requests call their model (`wanted`). Each has a task
//! (`attend`) that finds out what the model's tokens stand for and where the engine publishes, and follows each of its
//! ranks. What they say goes through one queue to one place (`ears`), which keeps what every engine holds and says what of
//! it comes and goes. How each endpoint fares is written on the `board`, for metrics and pages.
//!
//! Of several replicas of the control plane each hears its share of the engines, the same that it scrapes, and tells the others
//! (`place`: who an endpoint is known from; `mirror`: what a peer tells of it). One that is no longer ours is heard on until
//! a peer knows it as well, but not for long where none ever does, and what a lost peer said counts until the engine has been read here: so a data plane is told only
//! what differs, whoever takes over.

mod attend;
mod board;
mod ears;
mod mirror;
mod place;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, sleep_until};

use super::store::RankId;
use super::subscribe::Heard;
use super::vocabulary::Vocabularies;
use crate::engine::Shard;
use crate::publish::serve::{Lane, Shelf};
use crate::run::Round;

pub use board::{Board, Row, State, Sums};
pub use ears::{Ears, OwnShelf, PeerNews, Seat};
pub use wanted::{Wanted, wanted};

/// Messages of engines that wait to be taken in.
const QUEUE: usize = 1_024;
/// Of these, taken in at once.
const AT_ONCE: usize = 256;
/// Between two times that data planes are let have what was heard.
const PERIOD: Duration = Duration::from_millis(10);
/// Between two looks whether a peer knows what is heard here in its stead.
const HANDOVER: Duration = Duration::from_millis(100);
/// Until then it is heard on: about as long as it takes the other to read a vocabulary, ask for all that was published and try
/// once more. It may never hear it, or never know as much.
const HANDED_OVER: Duration = Duration::from_secs(30);

/// What hearing takes.
#[derive(Debug, Clone)]
pub struct Supervision {
    /// What data planes are told.
    pub lane: Arc<Lane>,
    /// What peers are told; none for a replica that is alone.
    pub peers: Option<Arc<Lane>>,
    /// What tokens stand for.
    pub vocabularies: Arc<Vocabularies>,
    /// How it fares.
    pub board: Arc<Board>,
}

impl Supervision {
    /// Of this lane.
    pub fn new(lane: Arc<Lane>, vocabularies: Vocabularies) -> Self {
        Self { lane, peers: None, vocabularies: Arc::new(vocabularies), board: Arc::default() }
    }

    /// Where all that is heard comes together.
    pub fn ears(&self) -> Arc<Ears> {
        let ears = Ears::new(self.lane.clone(), self.board.clone());
        Arc::new(match &self.peers {
            Some(peers) => ears.with_peers(peers.clone()),
            None => ears,
        })
    }
}

/// Hears the engines of the newest build, as far as they are this replica's, until there will be no other one.
pub async fn supervise(
    supervision: Supervision,
    ears: Arc<Ears>,
    mut rounds: watch::Receiver<Option<Arc<Round>>>,
    mut shard: watch::Receiver<Shard>,
) {
    let (heard, queue) = mpsc::channel(QUEUE);
    let shelf: Arc<dyn Shelf> = ears.clone();
    supervision.lane.read_from(&shelf);
    let own: Arc<dyn Shelf> = Arc::new(OwnShelf(ears.clone()));
    if let Some(peers) = &supervision.peers {
        peers.read_from(&own);
    }
    let mut staff = Staff {
        supervision,
        ears: ears.clone(),
        heard,
        next: Numbers::default(),
        tasks: JoinSet::new(),
        attended: BTreeMap::new(),
        placed: BTreeMap::new(),
    };
    let following = async {
        loop {
            let newest = rounds.borrow_and_update().clone();
            let mine = shard.borrow_and_update().clone();
            let mut handing_over = newest.is_some_and(|round| staff.follow(&round, &mine));
            loop {
                tokio::select! {
                    changed = rounds.changed() => if changed.is_err() { return } else { break },
                    Ok(()) = shard.changed() => break,
                    () = sleep(HANDOVER), if handing_over => handing_over = staff.hand_over(&mine, Instant::now()),
                }
            }
        }
    };
    tokio::select! {
        () = following => {}
        () = drain(&ears, queue) => {}
    }
}

/// Takes in what is heard, and lets data planes have it every now and then.
async fn drain(ears: &Ears, mut queue: mpsc::Receiver<Heard>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    loop {
        let next = Instant::now() + PERIOD;
        let wait = ears.looks().map_or(next + Duration::from_secs(3_600), |at| at.max(next));
        tokio::select! {
            taken = queue.recv_many(&mut batch, AT_ONCE) => if taken == 0 { return },
            // Nothing was said meanwhile.
            () = sleep_until(wait.into()) => {}
            () = ears.moved() => continue,
        }
        ears.take(batch.drain(..), Instant::now());
        if queue.len() < AT_ONCE {
            sleep_until(next.into()).await;
        }
    }
}

/// Numbers of ranks, never used again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers(Arc<AtomicU32>);

impl Numbers {
    pub(crate) fn next(&self) -> RankId {
        RankId(self.0.fetch_add(1, Relaxed))
    }
}

/// Who attends to which endpoint.
struct Staff {
    supervision: Supervision,
    ears: Arc<Ears>,
    heard: mpsc::Sender<Heard>,
    next: Numbers,
    tasks: JoinSet<()>,
    attended: BTreeMap<EndpointKey, Attended>,
    /// By what model and handle each endpoint of the config is known to the ears.
    placed: BTreeMap<EndpointKey, (Arc<str>, u32)>,
}

/// An endpoint that is heard here.
struct Attended {
    known: watch::Sender<Wanted>,
    rank: RankId,
    task: AbortHandle,
    /// Since when it is another's to hear.
    leaving: Option<Instant>,
}

impl Staff {
    /// Those that are gone, or are another now, are heard no longer; new ones are, as far as they are ours; others learn how chats
    /// are written for them. Whether any is heard that is another's to hear.
    fn follow(&mut self, round: &Round, shard: &Shard) -> bool {
        let mut wanted = wanted(&round.snapshot);
        self.end(|key, attended| !wanted.get(key).is_some_and(|now| now.is_as(&attended.known.borrow())));
        self.place(&wanted);
        wanted.retain(|key, now| {
            let Some(Attended { known, .. }) = self.attended.get(key) else { return true };
            known.send_if_modified(|known| {
                let other = known != now;
                known.clone_from(now);
                other
            });
            false
        });
        for (key, wanted) in wanted {
            if shard.owns(&key.uid) {
                self.begin(key, wanted);
            } else {
                self.supervision.board.elsewhere(&key, wanted.model.as_deref());
            }
        }
        // Those that were ended are let go of.
        while self.tasks.try_join_next().is_some() {}
        self.hand_over(shard, Instant::now())
    }

    /// One that is another's is let go of once that knows it as well as we do, or had the time to. Whether there are more.
    fn hand_over(&mut self, shard: &Shard, now: Instant) -> bool {
        for (key, Attended { leaving, .. }) in &mut self.attended {
            *leaving = (!shard.owns(&key.uid)).then(|| leaving.unwrap_or(now));
        }
        let ears = self.ears.clone();
        self.end(|key, Attended { known, leaving, .. }| {
            let free = || known.borrow().model.as_ref().is_none_or(|model| ears.may_be_let_go(key, model));
            leaving.is_some_and(|since| now.saturating_duration_since(since) >= HANDED_OVER || free())
        });
        self.attended.values().any(|attended| attended.leaving.is_some())
    }

    fn end(&mut self, which: impl Fn(&EndpointKey, &Attended) -> bool) {
        let ends = |(key, attended): &(&EndpointKey, &Attended)| which(key, attended);
        let keys: Vec<EndpointKey> = self.attended.iter().filter(ends).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(Attended { known, rank, task, leaving: _ }) = self.attended.remove(&key) else { continue };
            task.abort();
            self.ears.let_go(rank);
            self.supervision.board.elsewhere(&key, known.borrow().model.as_deref());
        }
    }

    /// The ears know of all endpoints of the config, whoever hears them.
    fn place(&mut self, wanted: &BTreeMap<EndpointKey, Wanted>) {
        let is = |key: &EndpointKey| wanted.get(key).and_then(|now| Some((now.model.clone()?, now.handle)));
        let Self { placed, ears, supervision, .. } = self;
        placed.retain(|key, known| {
            let stays = is(key).as_ref() == Some(&*known);
            if !stays {
                ears.leave(key, &known.0);
            }
            stays
        });
        supervision.board.keep(|key| wanted.contains_key(key));
        for key in wanted.keys() {
            let Some((model, handle)) = is(key).filter(|_| !placed.contains_key(key)) else { continue };
            ears.place(key, &model, handle);
            placed.insert(key.clone(), (model, handle));
        }
    }

    fn begin(&mut self, key: EndpointKey, wanted: Wanted) {
        let rank = self.next.next();
        self.ears.expect(rank);
        let line = self.supervision.board.begin(&key, wanted.model.as_deref(), rank);
        let (known, newest) = watch::channel(wanted.clone());
        let post = attend::Post {
            key: key.clone(),
            wanted,
            newest,
            rank,
            numbers: self.next.clone(),
            heard: self.heard.clone(),
            ears: self.ears.clone(),
            vocabularies: self.supervision.vocabularies.clone(),
            line,
        };
        let task = self.tasks.spawn(attend::attend(post));
        self.attended.insert(key, Attended { known, rank, task, leaving: None });
    }
}

#[cfg(test)]
mod tests;
