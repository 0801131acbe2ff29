//! Who is connected, what each has acknowledged, and what that means for the newest version.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use api::decode::Object;
use api::snapshot::Version;
use tokio::sync::watch;

use super::floor::Floor;

/// A data plane that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPlane {
    /// The node that it runs on.
    pub node: String,
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod; empty where that is not known.
    pub pod: String,
    /// The pod's UID; empty where that is not known.
    pub uid: String,
    /// The node's zone; empty where unknown.
    pub zone: String,
    /// When the token ends by which it was let in, in seconds since 1970; none where it showed none.
    pub proof_ends_s: Option<i64>,
    /// What its program says its version is; `unknown` or `invalid` where that is not known.
    pub version: String,
    /// Its process's random number; 0 where it does not say.
    pub instance: u64,
    /// The version that it has acknowledged, perhaps without what it refused.
    pub applied: Option<Version>,
    /// What it refused, and why.
    pub refused: BTreeMap<Object, String>,
    /// It refused a version without naming an object, and stays with an older one.
    pub stuck: Option<String>,
}

/// An object that some data planes do not have in its newest form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// How many they are.
    pub by: usize,
    /// What one of them said.
    pub reason: String,
}

/// How far the newest version has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The newest version.
    pub version: Version,
    /// What its source calls it.
    pub source: Version,
    /// Connected data planes.
    pub connected: usize,
    /// Of these, those that have acknowledged it, perhaps without what they refused.
    pub applied: usize,
    /// What its source calls the version that all of them have acknowledged at least; none where nobody is connected, or
    /// somebody has acknowledged nothing yet.
    pub reached: Option<Version>,
    /// What was refused.
    pub refused: BTreeMap<Object, Refused>,
    /// What those said who refused the version as a whole.
    pub stuck: Vec<String>,
}

impl Progress {
    /// Every connected data plane has the newest version in force: `Programmed` of all objects but the refused.
    pub fn complete(&self) -> bool {
        self.applied == self.connected
    }

    /// Every connected data plane has this object in its newest form.
    pub fn programmed(&self, object: &Object) -> bool {
        self.complete() && !self.refused.contains_key(object)
    }
}

/// Counts are kept as rows change: 500 answers to one version must not cost 500 looks at 500 rows.
#[derive(Debug, Default)]
struct Rows {
    next: u64,
    version: Version,
    source: Version,
    streams: BTreeMap<u64, DataPlane>,
    /// By process: of several streams the newest, which is the one that counts.
    newest: HashMap<u64, u64>,
    connected: usize,
    applied: usize,
    floor: Floor,
    /// Rows that refused something.
    marred: usize,
}

/// All streams, and the value that follows from them.
#[derive(Debug)]
pub(super) struct Registry {
    rows: Mutex<Rows>,
    progress: watch::Sender<Arc<Progress>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { rows: Mutex::default(), progress: watch::channel(Arc::default()).0 }
    }
}

impl Registry {
    pub(super) fn watch(&self) -> watch::Receiver<Arc<Progress>> {
        self.progress.subscribe()
    }

    /// One for each process: of two streams the newer one.
    pub(super) fn list(&self) -> Vec<DataPlane> {
        self.rows().counted().cloned().collect()
    }

    /// There is a new version, or its source has another name for it.
    pub(super) fn publish(&self, version: Version, source: Version) {
        let mut rows = self.rows();
        (rows.version, rows.source) = (version, source);
        rows.floor.name(version, source);
        let applied = rows.counted().filter(|row| row.applied == Some(version)).count();
        rows.applied = applied;
        self.tell(&rows);
    }

    /// Streams that are open.
    pub(super) fn streams(&self) -> usize {
        self.rows().streams.len()
    }

    /// A stream's place, which it has until it is dropped.
    pub(super) fn join(self: &Arc<Self>, data_plane: DataPlane) -> Seat {
        let mut rows = self.rows();
        let stream = rows.enter(data_plane);
        self.tell(&rows);
        drop(rows);
        Seat { registry: self.clone(), stream }
    }

    fn tell(&self, rows: &Rows) {
        let progress = rows.progress();
        self.progress.send_if_modified(|known| {
            let news = **known != progress;
            if news {
                *known = Arc::new(progress);
            }
            news
        });
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().expect("no thread panics while it holds the rows")
    }
}

impl Rows {
    fn enter(&mut self, data_plane: DataPlane) -> u64 {
        self.next += 1;
        let (stream, instance) = (self.next, data_plane.instance);
        if instance != 0
            && let Some(older) = self.newest.insert(instance, stream)
        {
            self.uncount(older);
        }
        self.streams.insert(stream, data_plane);
        self.count(stream);
        stream
    }

    fn leave(&mut self, stream: u64) {
        let counts = self.streams.get(&stream).is_some_and(|row| self.counts(stream, row));
        if counts {
            self.uncount(stream);
        }
        let Some(DataPlane { instance, .. }) = self.streams.remove(&stream) else { return };
        if counts && instance != 0 {
            self.newest.remove(&instance);
            let older = self.streams.iter().rev().find(|(_, row)| row.instance == instance).map(|(stream, _)| *stream);
            if let Some(older) = older {
                self.newest.insert(instance, older);
                self.count(older);
            }
        }
    }

    fn change(&mut self, stream: u64, change: impl FnOnce(&mut DataPlane)) {
        let counts = self.streams.get(&stream).is_some_and(|row| self.counts(stream, row));
        if counts {
            self.uncount(stream);
        }
        if let Some(row) = self.streams.get_mut(&stream) {
            change(row);
        }
        if counts {
            self.count(stream);
        }
    }

    fn counts(&self, stream: u64, row: &DataPlane) -> bool {
        row.instance == 0 || self.newest.get(&row.instance) == Some(&stream)
    }

    fn counted(&self) -> impl Iterator<Item = &DataPlane> {
        self.streams.iter().filter(|(stream, row)| self.counts(**stream, row)).map(|(_, row)| row)
    }

    fn count(&mut self, stream: u64) {
        let (applied, marred) = self.worth(stream);
        self.connected += 1;
        self.floor.count(self.held(stream));
        self.applied += usize::from(applied);
        self.marred += usize::from(marred);
    }

    fn uncount(&mut self, stream: u64) {
        let (applied, marred) = self.worth(stream);
        self.connected -= 1;
        self.floor.uncount(self.held(stream));
        self.applied -= usize::from(applied);
        self.marred -= usize::from(marred);
    }

    fn held(&self, stream: u64) -> Option<Version> {
        self.streams.get(&stream).and_then(|row| row.applied)
    }

    fn worth(&self, stream: u64) -> (bool, bool) {
        let row = self.streams.get(&stream);
        row.map_or((false, false), |row| {
            (row.applied == Some(self.version), row.stuck.is_some() || !row.refused.is_empty())
        })
    }

    fn progress(&self) -> Progress {
        let Self { version, source, connected, applied, .. } = *self;
        let reached = self.floor.reached();
        let mut progress = Progress { version, source, connected, applied, reached, ..Progress::default() };
        if self.marred == 0 {
            return progress;
        }
        for row in self.counted() {
            progress.stuck.extend(row.stuck.clone());
            for (object, reason) in &row.refused {
                let refused = progress.refused.entry(object.clone());
                refused.or_insert_with(|| Refused { by: 0, reason: reason.clone() }).by += 1;
            }
        }
        progress
    }
}

/// A stream in the registry.
#[derive(Debug)]
pub(super) struct Seat {
    registry: Arc<Registry>,
    stream: u64,
}

impl Seat {
    /// The stream's number, which no other has.
    pub(super) fn stream(&self) -> u64 {
        self.stream
    }

    /// Tells what has become of it.
    pub(super) fn update(&self, change: impl FnOnce(&mut DataPlane)) {
        let mut rows = self.registry.rows();
        rows.change(self.stream, change);
        self.registry.tell(&rows);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rows = self.registry.rows();
        rows.leave(self.stream);
        self.registry.tell(&rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_plane(instance: u64) -> DataPlane {
        DataPlane {
            node: "n".into(),
            namespace: String::new(),
            pod: String::new(),
            uid: String::new(),
            zone: String::new(),
            proof_ends_s: None,
            version: "unknown".into(),
            instance,
            applied: None,
            refused: BTreeMap::new(),
            stuck: None,
        }
    }

    fn version(version: u64) -> Version {
        Version { epoch: 1, version }
    }

    #[test]
    fn complete_is_when_all_who_are_there_have_it() {
        let registry = Arc::new(Registry::default());
        let progress = registry.watch();
        let look = || (progress.borrow().complete(), progress.borrow().applied, progress.borrow().connected);
        registry.publish(version(1), version(9));
        assert_eq!(look(), (true, 0, 0));
        let (a, b) = (registry.join(data_plane(1)), registry.join(data_plane(2)));
        a.update(|row| row.applied = Some(version(1)));
        assert_eq!(look(), (false, 1, 2));
        drop(b);
        assert_eq!(look(), (true, 1, 1));
        registry.publish(version(2), version(10));
        assert_eq!((look(), progress.borrow().source), ((false, 0, 1), version(10)));
        assert_eq!(progress.borrow().reached, Some(version(9)), "the older one is still everywhere");
        let c = registry.join(data_plane(3));
        assert_eq!(progress.borrow().reached, None);
        c.update(|row| row.applied = Some(version(2)));
        a.update(|row| row.applied = Some(version(2)));
        assert_eq!(progress.borrow().reached, Some(version(10)));
    }

    #[test]
    fn a_process_with_two_streams_counts_once_and_by_the_newer() {
        let registry = Arc::new(Registry::default());
        registry.publish(version(1), version(1));
        let old = registry.join(data_plane(7));
        old.update(|row| row.applied = Some(version(1)));
        let new = registry.join(data_plane(7));
        let (_x, _y) = (registry.join(data_plane(0)), registry.join(data_plane(0)));
        assert_eq!((registry.watch().borrow().connected, registry.watch().borrow().applied), (3, 0));
        drop(new);
        assert_eq!((registry.watch().borrow().connected, registry.watch().borrow().applied), (3, 1));
    }

    #[test]
    fn a_refused_object_is_not_programmed_and_the_others_are() {
        let registry = Arc::new(Registry::default());
        registry.publish(version(1), version(1));
        let bad = Object::Route("d/bad".into());
        let seats = [registry.join(data_plane(1)), registry.join(data_plane(2))];
        for seat in &seats {
            seat.update(|row| {
                row.applied = Some(version(1));
                row.refused.insert(bad.clone(), "no".into());
            });
        }
        let progress = registry.watch().borrow().clone();
        assert_eq!(progress.refused[&bad], Refused { by: 2, reason: "no".into() });
        assert!(progress.complete() && !progress.programmed(&bad) && progress.programmed(&Object::Route("d/x".into())));
    }
}
