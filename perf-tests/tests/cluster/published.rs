//! How many endpoints a control plane publishes.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::program::{Home, get};

/// At this moment, where it answers.
pub async fn published(home: &Home) -> Option<usize> {
    at(home.metrics).await
}

async fn at(metrics: u16) -> Option<usize> {
    let text = get(metrics, "/metrics").await?.1;
    text.lines().find_map(|line| line.strip_prefix("kthena_controlplane_snapshot_endpoints ")?.parse().ok())
}

/// All that it publishes in a time, asked for fifty times a second.
pub struct Published {
    seen: watch::Receiver<BTreeSet<usize>>,
    task: JoinHandle<()>,
}

impl Published {
    /// From now on.
    pub fn of(home: &Home) -> Self {
        let (told, seen) = watch::channel(BTreeSet::new());
        let metrics = home.metrics;
        let task = tokio::spawn(async move {
            let mut turns = interval(Duration::from_millis(20));
            loop {
                turns.tick().await;
                let now = at(metrics).await.expect("a control plane that answers");
                told.send_if_modified(|seen| seen.insert(now));
            }
        });
        Self { seen, task }
    }

    /// Whether so many were published.
    pub fn has(&self, endpoints: usize) -> bool {
        self.seen.borrow().contains(&endpoints)
    }

    /// Until now.
    pub fn end(self) -> BTreeSet<usize> {
        assert!(!self.task.is_finished(), "it has failed");
        self.task.abort();
        self.seen.borrow().clone()
    }
}
