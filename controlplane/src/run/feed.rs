//! From readings to snapshots.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use api::snapshot::{Snapshot, Version};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Round;
use crate::kept::Latest;
use crate::metrics::Builds;
use crate::model_files::Templates;
use crate::publish::serve::{Inputs, Zones};
use crate::publish::{Memory, Settings, build, zones};
use crate::report::Report;
use crate::source::Reading;
use crate::world::{Differing, Engines, World};

/// Between two looks at models' files.
const LOOK: Duration = Duration::from_secs(10);

/// What builds are made of, as it changes.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) readings: watch::Receiver<Option<Arc<Reading>>>,
    pub(super) engines: watch::Receiver<Engines>,
    pub(super) differing: watch::Receiver<Differing>,
    /// Where models' files are.
    pub(super) files: watch::Receiver<Option<PathBuf>>,
}

/// Builds what a source says, and says what is wrong with it.
#[derive(Debug)]
pub(super) struct Feed {
    settings: Settings,
    builds: Builds,
    memory: Memory,
    templates: Templates,
    version: u64,
    told: String,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    zones: watch::Sender<Arc<Zones>>,
    pub(super) rounds: watch::Sender<Option<Arc<Round>>>,
    /// For whoever keeps what is to outlive the process.
    pub(super) latest: watch::Sender<Option<Arc<Latest>>>,
}

impl Feed {
    pub(super) fn new(settings: Settings, builds: Builds) -> (Self, Inputs) {
        let (snapshots, newest) = watch::channel(None);
        let (zones, of_nodes) = watch::channel(Arc::default());
        let (memory, told, templates) = (Memory::default(), String::new(), Templates::default());
        let (rounds, latest) = (watch::channel(None).0, watch::channel(None).0);
        let feed = Self { settings, builds, memory, templates, version: 0, told, snapshots, zones, rounds, latest };
        (feed, Inputs { snapshots: newest, zones: of_nodes })
    }

    /// Builds on a thread of its own whenever something of that has changed, until the source has ended. What has been read
    /// already is built when this returns.
    pub(super) fn follow(mut self, mut said: Said) -> io::Result<JoinHandle<()>> {
        self.take(&mut said);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let following = async move {
            let mut look = interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let ended = tokio::select! {
                    changed = said.readings.changed() => changed.is_err(),
                    // Once nobody asks engines any more, the source goes on alone.
                    Ok(()) = said.engines.changed() => false,
                    Ok(()) = said.differing.changed() => false,
                    Ok(()) = said.files.changed() => false,
                    _ = look.tick() => if self.templates.look_again() { false } else { continue },
                };
                if ended {
                    return;
                }
                self.take(&mut said);
            }
        };
        std::thread::Builder::new().name("build".into()).spawn(move || runtime.block_on(following))
    }

    fn take(&mut self, said: &mut Said) {
        let (engines, differing) =
            (said.engines.borrow_and_update().clone(), said.differing.borrow_and_update().clone());
        let folder = said.files.borrow_and_update().clone();
        if !self.templates.are_in(folder.as_deref()) {
            self.templates = Templates::new(folder);
        }
        let Some(reading) = said.readings.borrow_and_update().clone() else { return };
        let world = self.templates.complete(World { engines, differing, ..reading.world.clone() });
        let since = Instant::now();
        let built = build(&world, &self.settings, &mut self.memory);
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
        self.zones.send_replace(Arc::new(zones(&world)));
        self.snapshots.send_replace(Some(snapshot.clone()));
        let round = Arc::new(Round { world, verdicts: built.verdicts, snapshot });
        self.rounds.send_replace(Some(round.clone()));
        self.latest.send_replace(Some(Arc::new(Latest { reading, round })));
    }
}
