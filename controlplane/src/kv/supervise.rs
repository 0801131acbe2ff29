//! Hears all engines that publish their cache, and tells the KV lane.
//!
//! The newest build says which endpoints there are and what requests call their model (`wanted`). Each has a task
//! (`attend`) that finds out what the model's tokens stand for and where the engine publishes, and follows each of its
//! ranks. What they say goes through one queue to one place (`ears`), which keeps what every engine holds and says what of
//! it comes and goes. How each endpoint fares is written on the `board`, for metrics and pages.
//!
//! Every replica of the control plane hears every engine: an engine publishes to all who listen, so that nobody has to pass on
//! what it heard, and a data plane that comes from another replica finds here just what it holds.

mod attend;
mod board;
mod ears;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use api::id::EndpointKey;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep_until, timeout_at};

use super::store::RankId;
use super::subscribe::Heard;
use super::vocabulary::Vocabularies;
use crate::publish::serve::{Lane, Shelf};
use crate::run::Round;

pub use board::{Board, Row, State, Sums};
pub use ears::{Ears, Seat};
pub use wanted::{Wanted, wanted};

/// Messages of engines that wait to be taken in.
const QUEUE: usize = 1_024;
/// Of these, taken in at once.
const AT_ONCE: usize = 256;
/// Between two times that data planes are let have what was heard.
const PERIOD: Duration = Duration::from_millis(10);

/// What hearing takes.
#[derive(Debug, Clone)]
pub struct Supervision {
    /// What data planes are told.
    pub lane: Arc<Lane>,
    /// What tokens stand for.
    pub vocabularies: Arc<Vocabularies>,
    /// How it fares.
    pub board: Arc<Board>,
}

impl Supervision {
    /// Of this lane.
    pub fn new(lane: Arc<Lane>, vocabularies: Vocabularies) -> Self {
        Self { lane, vocabularies: Arc::new(vocabularies), board: Arc::default() }
    }
}

/// Hears the engines of the newest build until there will be no other one.
pub async fn supervise(supervision: Supervision, mut rounds: watch::Receiver<Option<Arc<Round>>>) {
    let (heard, queue) = mpsc::channel(QUEUE);
    let ears = Arc::new(Ears::new(supervision.lane.clone(), supervision.board.clone()));
    let shelf: Arc<dyn Shelf> = ears.clone();
    supervision.lane.read_from(&shelf);
    let mut staff = Staff {
        supervision,
        ears: ears.clone(),
        heard,
        next: Numbers::default(),
        tasks: JoinSet::new(),
        attended: BTreeMap::new(),
    };
    let following = async {
        loop {
            let newest = rounds.borrow_and_update().clone();
            if let Some(round) = newest {
                staff.follow(&round);
            }
            if rounds.changed().await.is_err() {
                return;
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
        let wait = next + if ears.is_unsettled() { Duration::ZERO } else { Duration::from_secs(3_600) };
        // An error means that nothing was said meanwhile.
        if let Ok(0) = timeout_at(wait.into(), queue.recv_many(&mut batch, AT_ONCE)).await {
            return;
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
    attended: BTreeMap<EndpointKey, (watch::Sender<Wanted>, RankId, AbortHandle)>,
}

impl Staff {
    /// Those that are gone, or are another now, are heard no longer; new ones are; others learn how chats are written for them.
    fn follow(&mut self, round: &Round) {
        let mut wanted = wanted(&round.snapshot);
        let gone: Vec<EndpointKey> = self
            .attended
            .iter()
            .filter(|(key, (known, ..))| !wanted.get(*key).is_some_and(|now| now.is_as(&known.borrow())))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some((known, rank, task)) = self.attended.remove(&key) {
                let known = known.borrow();
                task.abort();
                self.ears.let_go(rank);
                // One that is only asked anew stays on the lane, for data planes have to be told that it is forgotten.
                let stays = |now: &Wanted| (now.handle, &now.model) == (known.handle, &known.model);
                if let Some(model) = known.model.as_ref().filter(|_| !wanted.get(&key).is_some_and(stays)) {
                    self.supervision.lane.leave(model, known.handle);
                }
                self.supervision.board.remove(&key);
            }
        }
        wanted.retain(|key, now| {
            let Some((known, ..)) = self.attended.get(key) else { return true };
            known.send_if_modified(|known| {
                let other = known != now;
                known.clone_from(now);
                other
            });
            false
        });
        for (key, wanted) in wanted {
            let rank = self.next.next();
            self.ears.expect(rank);
            let (known, newest) = watch::channel(wanted.clone());
            let post = attend::Post {
                key: key.clone(),
                wanted: wanted.clone(),
                newest,
                rank,
                numbers: self.next.clone(),
                heard: self.heard.clone(),
                ears: self.ears.clone(),
                vocabularies: self.supervision.vocabularies.clone(),
                board: self.supervision.board.clone(),
            };
            let task = self.tasks.spawn(attend::attend(post));
            self.attended.insert(key, (known, rank, task));
        }
        // Those that were ended are let go of.
        while self.tasks.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests;
