//! A directory of the YAML that `kubectl apply` takes, watched: the control plane without a cluster.
//!
//! `scan` finds the files and their stamps, `file` reads one, `merge` puts all of them together into a world. A change is
//! read once the directory has been quiet for a moment, so that an edit of several files arrives whole. What was good
//! stays until something good replaces it; only what is deleted goes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::source::{Fault, Forms, MAX_FAULTS, Reading};

mod file;
mod merge;
mod scan;
#[cfg(test)]
mod tests;

use file::File;
use scan::{Files, Scan, Unseen};

/// Changes are read once nothing has changed for so long where files went or took another's place, as careful editors and
/// `git` do it: what is there is whole, and only the next file may be on its way.
const BRIEF: Duration = Duration::from_millis(15);
/// A file that is new, or written in place, may be half there: then it is so long,
const QUIET: Duration = Duration::from_millis(50);
/// or so long after the first change, for somebody may never stop editing.
const LONGEST: Duration = Duration::from_millis(200);
/// A file's time stamp counts in ticks: what was written in the tick in which the file was read would go unseen, so it is
/// read once more after this.
const TICK: Duration = Duration::from_millis(100);
/// The pause between two looks at the stamps, at rest and after a change.
const PERIOD: Duration = Duration::from_millis(10);
const SOON: Duration = Duration::from_millis(5);
/// A look may take this part of the time; where it takes long, the pause grows, up to this.
const SHARE: u32 = 20;
const SLOWEST: Duration = Duration::from_millis(200);

/// The state of a directory as it was last read.
#[derive(Debug)]
pub struct Directory {
    root: PathBuf,
    /// The root is the one file, not a directory of files.
    single: bool,
    files: BTreeMap<Arc<Path>, File>,
    /// What was kept of files that have not been seen yet, and may be there.
    kept: Forms,
    seen: Files,
    /// Why the directory could not be looked through, the last time.
    unreadable: Option<String>,
    /// Parts of it that could not be looked at, the last time: their files keep what they said.
    unseen: Unseen,
    change: Option<Change>,
}

/// Changes that have been seen and not read.
#[derive(Debug, Clone, Copy)]
struct Change {
    first: Instant,
    last: Instant,
    /// A file was written in place.
    torn: bool,
}

impl Change {
    fn seen(before: Option<Self>, torn: bool, now: Instant) -> Self {
        let begun = before.unwrap_or(Self { first: now, last: now, torn });
        Self { last: now, torn: begun.torn || torn, ..begun }
    }

    fn is_at_rest(&self, now: Instant) -> bool {
        let quiet = if self.torn { QUIET } else { BRIEF };
        now - self.last >= quiet || now - self.first >= LONGEST
    }
}

impl Directory {
    /// Reads all files under `root`, or `root` itself where it is a file. An error is one of the root; all others are
    /// faults of the reading.
    pub fn open(root: &Path) -> Result<(Self, Reading), String> {
        Self::open_with(root, Forms::new())
    }

    /// The same where this was kept of files in another life of the process: it counts where its file is there still and says
    /// nothing usable of it.
    pub fn open_with(root: &Path, kept: Forms) -> Result<(Self, Reading), String> {
        let Scan { files: seen, unseen } = scan::scan(root)?;
        let mut directory = Self {
            root: root.to_owned(),
            single: root.is_file(),
            files: BTreeMap::new(),
            kept,
            seen,
            unreadable: None,
            unseen,
            change: None,
        };
        directory.read(true, Instant::now());
        let reading = directory.reading();
        Ok((directory, reading))
    }

    /// Looks whether something has changed; when that has come to rest, what the directory says now.
    pub fn look(&mut self, now: Instant) -> Option<Reading> {
        self.take(scan::scan(&self.root), now)
    }

    fn take(&mut self, scan: Result<Scan, String>, now: Instant) -> Option<Reading> {
        let mut told = false;
        let unreadable = match scan {
            Ok(mut scan) => {
                scan.keep(&self.seen);
                if scan.files != self.seen {
                    let torn = scan::is_written_in_place(&self.seen, &scan.files);
                    self.seen = scan.files;
                    self.change = Some(Change::seen(self.change, torn, now));
                }
                told = scan.unseen != self.unseen;
                self.unseen = scan.unseen;
                None
            }
            Err(sentence) => Some(sentence),
        };
        // Nothing is taken as deleted because it could not be looked at.
        if unreadable.is_some() || unreadable != self.unreadable {
            let news = unreadable != self.unreadable;
            self.unreadable = unreadable;
            return news.then(|| self.reading());
        }
        let rested = self.change.is_some_and(|change| change.is_at_rest(now));
        if rested {
            self.change = None;
        }
        let again = self.files.values().any(|file| file.again.is_some_and(|at| at <= now));
        let read = (rested || again) && self.read(rested, now);
        (read || told).then(|| self.reading())
    }

    /// Reads the files that have changed, or before these are at rest only what is to be read once more; whether that changed
    /// anything.
    fn read(&mut self, rested: bool, now: Instant) -> bool {
        let gone: Vec<_> = self.files.keys().filter(|path| rested && !self.seen.contains_key(*path)).cloned().collect();
        let mut changed = !gone.is_empty();
        for path in gone {
            self.files.remove(&path);
        }
        let seen = self.seen.iter().filter(|(path, _)| !scan::is_unseen(&self.unseen, path));
        for (path, stamp) in seen {
            let at = if self.single { self.root.clone() } else { self.root.join(path) };
            let held = self.files.get_mut(path);
            let wait = |file: &File| file.is_current(stamp, now) || (!rested && !file.is_of(stamp));
            if held.as_deref().map_or(!rested, wait) {
                continue;
            }
            match held {
                Some(file) => changed |= file.reread(&at, *stamp, now),
                None => {
                    let mut file = File::of(self.kept.remove(path).unwrap_or_default());
                    file.reread(&at, *stamp, now);
                    self.files.insert(Arc::clone(path), file);
                    changed = true;
                }
            }
        }
        if rested {
            // What is not there now was deleted meanwhile.
            self.kept.retain(|path, _| scan::is_unseen(&self.unseen, path));
        }
        changed
    }

    fn reading(&self) -> Reading {
        let mut reading = merge::merge(&self.files);
        reading.former.extend(self.kept.clone());
        let unseen = self.unseen.iter().take(MAX_FAULTS);
        reading.faults.extend(unseen.map(|(path, sentence)| Fault::of_part(path, sentence)));
        reading.faults.extend(self.unreadable.iter().map(|sentence| Fault::of_root(sentence)));
        reading
    }
}

/// What files of these names and texts would say.
#[cfg(test)]
pub(crate) fn reading_of(texts: &[(&str, &str)]) -> Reading {
    let mut files = BTreeMap::new();
    for (name, text) in texts {
        let mut file = File::default();
        file.say(Path::new(name), text.as_bytes());
        files.insert(Path::new(name).into(), file);
    }
    merge::merge(&files)
}

/// Looks on a thread of its own until the sender of `stop` is dropped, and hands over what the directory says whenever that has changed.
pub fn watch(
    mut directory: Directory,
    stop: watch::Receiver<()>,
    mut changed: impl FnMut(Reading) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("directory".into()).spawn(move || {
        while stop.has_changed().is_ok() {
            let begin = Instant::now();
            if let Some(reading) = directory.look(begin) {
                changed(reading);
            }
            let pause = if directory.change.is_some() { SOON } else { PERIOD };
            std::thread::sleep((begin.elapsed() * SHARE).clamp(pause, SLOWEST));
        }
    })
}
