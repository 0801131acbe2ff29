//! From readings to snapshots.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use api::seen::Seen;
use api::snapshot::{Snapshot, Version};
use tokio::sync::watch;

use super::Round;
use crate::kept::Latest;
use crate::metrics::Builds;
use crate::model_files::Templates;
use crate::publish::serve::{Inputs, Zones};
use crate::publish::{Built, Memory, Settings, Verdicts, build, judged_alone, settled, unbuilt, zones};
use crate::quarantine::{self, Panics};
use crate::report::Report;
use crate::source::{Reached, Reading};
use crate::world::{Differing, Engines, World};

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
    /// [`build`], but for tests.
    make: fn(&World, &Settings, &mut Memory) -> Built,
    builds: Builds,
    memory: Memory,
    /// The last world that a build came to an end with, and what it said. What was told of it is newer where that panicked.
    built: Option<Arc<Round>>,
    panics: Panics,
    templates: Templates,
    version: u64,
    told: String,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    zones: watch::Sender<Arc<Zones>>,
    pub(super) rounds: watch::Sender<Option<Arc<Round>>>,
    /// The text of the panic by which the newest build ended; none where it did not.
    pub(super) panicked: watch::Sender<Option<Arc<str>>>,
    /// For whoever keeps what is to outlive the process.
    pub(super) latest: watch::Sender<Option<Arc<Latest>>>,
}

impl Feed {
    pub(super) fn new(
        settings: Settings,
        builds: Builds,
        reached: watch::Receiver<Reached>,
    ) -> io::Result<(Self, Inputs)> {
        let (snapshots, newest) = watch::channel(None);
        let (zones, of_nodes) = watch::channel(Arc::default());
        let (memory, told, templates) = (Memory::default(), String::new(), Templates::start()?);
        let (rounds, latest) = (watch::channel(None).0, watch::channel(None).0);
        let (make, panicked): (fn(&_, &_, &mut _) -> _, _) = (build, watch::channel(None).0);
        let feed = Self {
            settings,
            make,
            builds,
            memory,
            built: None,
            panics: Panics::default(),
            templates,
            version: 0,
            told,
            snapshots,
            zones,
            rounds,
            panicked,
            latest,
        };
        Ok((feed, Inputs { snapshots: newest, zones: of_nodes, reached }))
    }

    /// Builds on a thread of its own whenever something of that has changed, until the source has ended. What has been read
    /// already is built when this returns.
    pub(super) async fn follow(mut self, mut said: Said) -> io::Result<JoinHandle<()>> {
        self.take(&mut said).await;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let following = async move {
            loop {
                let ended = tokio::select! {
                    changed = said.readings.changed() => changed.is_err(),
                    // Once nobody asks engines any more, the source goes on alone.
                    Ok(()) = said.engines.changed() => false,
                    Ok(()) = said.differing.changed() => false,
                    Ok(()) = said.files.changed() => false,
                    () = self.templates.changed() => false,
                };
                if ended {
                    return;
                }
                self.take(&mut said).await;
            }
        };
        std::thread::Builder::new().name("build".into()).spawn(move || runtime.block_on(following))
    }

    async fn take(&mut self, said: &mut Said) {
        let (engines, differing) =
            (said.engines.borrow_and_update().clone(), said.differing.borrow_and_update().clone());
        let folder = said.files.borrow_and_update().clone();
        let Some(reading) = said.readings.borrow_and_update().clone() else { return };
        let world = self.templates.complete(World { engines, differing, ..reading.world.clone() }, folder).await;
        let round = match self.built_already(&world, &reading.seen) {
            Some(built) => Some(self.judge(world, &built)),
            None => self.publish(world, &reading.seen),
        };
        let Some(round) = round else { return };
        self.tell(&Report::of(&reading, &round.verdicts));
        self.rounds.send_replace(Some(round.clone()));
        self.latest.send_replace(Some(Arc::new(Latest { reading, round })));
    }

    /// The last build, where it is of all that is published of this world and as new as that. While builds panic there is none.
    fn built_already(&self, world: &World, seen: &Seen) -> Option<Arc<Round>> {
        let built = self.built.as_ref().filter(|_| self.panicked.borrow().is_none())?;
        (built.snapshot.seen == *seen && built.world.publishes_as(world)).then(|| built.clone())
    }

    /// What was built, and what is to be said of objects that decide nothing of it.
    fn judge(&mut self, world: World, built: &Round) -> Arc<Round> {
        let verdicts = Verdicts { judged: judged_alone(&world), ..built.verdicts.clone() };
        let round = Arc::new(Round { world, verdicts, snapshot: built.snapshot.clone() });
        self.built = Some(round.clone());
        round
    }

    /// Builds and publishes it. None where nothing was ever built, and this panics: then nothing can be said but that.
    fn publish(&mut self, world: World, seen: &Seen) -> Option<Arc<Round>> {
        let since = Instant::now();
        match self.build(&world) {
            Ok(done) => {
                self.builds.built(since.elapsed());
                self.panicked.send_if_modified(|panicked| panicked.take().is_some());
                self.panics.forget();
                Some(self.round(world, done, seen.clone()))
            }
            Err(why) => {
                self.builds.panicked();
                self.panicked.send_replace(Some(why.as_str().into()));
                self.settle(world, &why)
            }
        }
    }

    /// The panic's text where it panics; the next world is tried again.
    fn build(&mut self, world: &World) -> Result<(Built, Zones), String> {
        let make = self.make;
        let built = quarantine::caught(|| (make(world, &self.settings, &mut self.memory), zones(world)));
        if let Err(why) = &built {
            self.memory.recover();
            if self.panics.is_news(why) {
                tracing::error!(why, "a build panicked, so that what has changed is put aside: please report it");
            }
        }
        built
    }

    /// Publishes what there is without what has changed; what was published stays where that panics, too.
    fn settle(&mut self, world: World, why: &str) -> Option<Arc<Round>> {
        // It is not as new as what was read: who has more of another replica is told so.
        let seen = self.built.as_ref().map(|built| built.snapshot.seen.clone()).unwrap_or_default();
        let before = settled(&world, self.built.as_ref().map(|built| &built.world));
        let snapshot = match self.build(&before) {
            Ok(done) => self.round(before, done, seen).snapshot.clone(),
            Err(_) => self.built.as_ref()?.snapshot.clone(),
        };
        let built = self.built.as_ref()?;
        let verdicts = unbuilt(&world, (&built.world, &built.verdicts), why);
        Some(Arc::new(Round { world, verdicts, snapshot }))
    }

    /// Publishes it.
    fn round(&mut self, world: World, (built, zones): (Built, Zones), seen: Seen) -> Arc<Round> {
        self.zones.send_replace(Arc::new(zones));
        self.version += 1;
        let version = Version { epoch: 0, version: self.version };
        let snapshot = Arc::new(Snapshot { version, seen, ..built.snapshot });
        tracing::info!(
            version = self.version,
            routes = snapshot.routes.len(),
            backends = snapshot.backends.len(),
            "built"
        );
        self.snapshots.send_replace(Some(snapshot.clone()));
        let round = Arc::new(Round { world, verdicts: built.verdicts, snapshot });
        self.built = Some(round.clone());
        round
    }

    /// Logs what was not said before.
    fn tell(&mut self, report: &Report) {
        let problems = report.problems();
        let told: HashSet<&str> = self.told.lines().collect();
        for line in problems.lines().filter(|line| !told.contains(line)) {
            tracing::warn!("{line}");
        }
        self.told = problems;
    }
}

#[cfg(test)]
mod tests;
