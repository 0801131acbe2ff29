//! Who is connected, what each has acknowledged, and what that means for the newest version.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::decode::Object;
use api::snapshot::Version;
use tokio::sync::watch;

/// A data plane that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataPlane {
    /// The node that it runs on.
    pub node: String,
    /// The namespace of its pod.
    pub namespace: String,
    /// The node's zone; empty where unknown.
    pub zone: String,
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

#[derive(Debug, Default)]
struct Rows {
    next: u64,
    version: Version,
    source: Version,
    streams: BTreeMap<u64, DataPlane>,
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
        self.rows().newest().cloned().collect()
    }

    /// There is a new version, or its source has another name for it.
    pub(super) fn publish(&self, version: Version, source: Version) {
        let mut rows = self.rows();
        (rows.version, rows.source) = (version, source);
        self.tell(&rows);
    }

    /// Streams that are open.
    pub(super) fn streams(&self) -> usize {
        self.rows().streams.len()
    }

    /// A stream's place, which it has until it is dropped.
    pub(super) fn join(self: &Arc<Self>, data_plane: DataPlane) -> Seat {
        let mut rows = self.rows();
        rows.next += 1;
        let stream = rows.next;
        rows.streams.insert(stream, data_plane);
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
    fn newest(&self) -> impl Iterator<Item = &DataPlane> {
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for (stream, row) in &self.streams {
            newest.insert(row.instance, *stream);
        }
        let of = move |row: &DataPlane| if row.instance == 0 { None } else { newest.get(&row.instance).copied() };
        self.streams
            .iter()
            .filter(move |(stream, row)| of(row).is_none_or(|newest| newest == **stream))
            .map(|(_, row)| row)
    }

    fn progress(&self) -> Progress {
        let mut progress = Progress { version: self.version, source: self.source, ..Progress::default() };
        for row in self.newest() {
            progress.connected += 1;
            progress.applied += usize::from(row.applied == Some(self.version));
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
        if let Some(row) = rows.streams.get_mut(&self.stream) {
            change(row);
        }
        self.registry.tell(&rows);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rows = self.registry.rows();
        rows.streams.remove(&self.stream);
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
            zone: String::new(),
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
