//! The running process, as far as it is shown.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use api::proto::EngineLoad;
use api::snapshot::Version;
use prometheus::Registry;
use tokio::sync::watch;

use crate::engine::Asked;
use crate::kv::supervise::{Board, Row, Sums};
use crate::publish::serve::{Counts, DataPlane, Lane, Loads, Outstanding, Progress};
use crate::run::Round;
use crate::webhook;

/// From where the pages come; each is read anew for each request.
pub struct View {
    /// The newest build.
    pub rounds: watch::Receiver<Option<Arc<Round>>>,
    /// How far it has come.
    pub progress: watch::Receiver<Arc<Progress>>,
    /// Who is connected.
    pub data_planes: Box<dyn Fn() -> Vec<DataPlane> + Send + Sync>,
    /// What the stream has done.
    pub counts: Arc<Counts>,
    /// What parts of the process count for themselves.
    pub registry: Registry,
    /// What has to come before this process is ready, said by whoever waits for it.
    pub waiting: Vec<Box<dyn Fn() -> Vec<String> + Send + Sync>>,
    /// Why what was read last cannot be built.
    pub panicked: watch::Receiver<Option<Arc<str>>>,
    /// What the webhook was asked, where there is one.
    pub reviews: Option<Arc<webhook::Counts>>,
    /// How the hearing of engines' caches fares.
    pub board: Arc<Board>,
    /// What is told of them.
    pub lane: Arc<Lane>,
    /// What engines say of their load.
    pub loads: Arc<Loads>,
    /// What came of asking them.
    pub asked: watch::Receiver<Vec<Asked>>,
}

impl View {
    /// Everything at one moment.
    pub fn look(&self) -> Look {
        // Let go of before anything else is asked for: whoever tells of progress holds what `data_planes` waits for.
        let round = self.rounds.borrow().clone();
        let progress = self.progress.borrow().clone();
        Look {
            round,
            progress,
            data_planes: (self.data_planes)(),
            counts: self.counts.clone(),
            waiting: self.waiting.iter().flat_map(|ask| ask()).collect(),
            panicked: self.panicked.borrow().clone(),
            reviews: self.reviews.clone(),
            heard: self.board.rows(),
            sums: self.board.sums(),
            lane: Some(self.lane.clone()),
            loads: Some(self.loads.clone()),
            asked: self.asked.borrow().clone(),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("progress", &*self.progress.borrow()).finish_non_exhaustive()
    }
}

/// What is shown, as a value.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// The newest build; none until every source has said all it has.
    pub round: Option<Arc<Round>>,
    /// How far it has come.
    pub progress: Arc<Progress>,
    /// Who is connected.
    pub data_planes: Vec<DataPlane>,
    /// What the stream has done.
    pub counts: Arc<Counts>,
    /// What has to come before this process is ready.
    pub waiting: Vec<String>,
    /// The text of the panic by which the newest build ended: what is shown is of the one before.
    pub panicked: Option<Arc<str>>,
    /// What the webhook was asked, where there is one.
    pub reviews: Option<Arc<webhook::Counts>>,
    /// Endpoints whose caches are heard, or why not.
    pub heard: Vec<Row>,
    /// What has happened to these in all.
    pub sums: Sums,
    /// What is told of them.
    pub lane: Option<Arc<Lane>>,
    /// What engines say of their load.
    pub loads: Option<Arc<Loads>>,
    /// What came of asking them.
    pub asked: Vec<Asked>,
}

impl Look {
    /// Data planes that connect get something: epochs of what is published are never 0.
    pub fn published(&self) -> bool {
        self.progress.version != Version::default()
    }

    /// Something is published, and nothing is waited for.
    pub fn ready(&self) -> bool {
        self.published() && self.waiting.is_empty()
    }

    /// What data planes have outstanding, by their processes' random numbers.
    pub fn outstanding(&self) -> HashMap<u64, Outstanding> {
        self.loads.as_ref().map(|loads| loads.outstanding()).unwrap_or_default()
    }

    /// What engines said of their load lately, by handle.
    pub fn said(&self) -> BTreeMap<u32, EngineLoad> {
        self.loads.as_ref().map(|loads| loads.said(Instant::now())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_tells_of_progress_does_not_wait_for_a_look() {
        let (progress, told) = watch::channel(Arc::default());
        let progress = Arc::new(progress);
        let data_planes = move || {
            let (done, waits) = mpsc::channel();
            let progress = progress.clone();
            std::thread::spawn(move || done.send(progress.send_replace(Arc::default())));
            waits.recv_timeout(Duration::from_secs(10)).expect("progress is told while data planes are asked for");
            Vec::new()
        };
        let view = View {
            rounds: watch::channel(None).1,
            progress: told,
            data_planes: Box::new(data_planes),
            counts: Arc::default(),
            registry: Registry::new(),
            waiting: Vec::new(),
            panicked: watch::channel(None).1,
            reviews: None,
            board: Arc::default(),
            lane: Arc::new(Lane::new(1)),
            loads: Arc::new(Loads::new(1)),
            asked: watch::channel(Vec::new()).1,
        };
        assert!(view.look().data_planes.is_empty());
    }
}
