//! From readings to snapshots.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use api::snapshot::{Snapshot, Version};
use tokio::sync::watch;

use super::Round;
use crate::metrics::Builds;
use crate::publish::serve::{Inputs, Zones};
use crate::publish::{Memory, Settings, build, zones};
use crate::report::Report;
use crate::source::Reading;

/// Builds what a source says, and says what is wrong with it.
#[derive(Debug)]
pub(super) struct Feed {
    settings: Settings,
    builds: Builds,
    memory: Memory,
    version: u64,
    told: String,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    zones: watch::Sender<Arc<Zones>>,
    pub(super) rounds: watch::Sender<Option<Arc<Round>>>,
}

impl Feed {
    pub(super) fn new(settings: Settings, builds: Builds) -> (Self, Inputs) {
        let (snapshots, newest) = watch::channel(None);
        let (zones, of_nodes) = watch::channel(Arc::default());
        let (memory, told, rounds) = (Memory::default(), String::new(), watch::channel(None).0);
        let feed = Self { settings, builds, memory, version: 0, told, snapshots, zones, rounds };
        (feed, Inputs { snapshots: newest, zones: of_nodes })
    }

    pub(super) fn take(&mut self, reading: Reading) {
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
        self.rounds.send_replace(Some(Arc::new(Round { world: reading.world, verdicts: built.verdicts, snapshot })));
    }
}
