//! Which files there are, and by what one sees that they have changed.
//!
//! Asked for by time stamp rather than by inotify, for the data plane's reasons: a ConfigMap is swapped by links above the
//! files, an editor replaces them, a network file system tells nobody.

use std::collections::BTreeMap;
use std::fs::{self, Metadata, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that are looked at.
const MAX_FILES: usize = 100_000;
/// Directories within directories.
const MAX_DEPTH: usize = 32;

/// By path relative to the root.
pub(super) type Files = BTreeMap<Arc<Path>, Stamp>;

/// What identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: (i64, i64),
    changed_ns: (i64, i64),
}

impl Stamp {
    fn of(m: &Metadata) -> Self {
        Self {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            modified_ns: (m.mtime(), m.mtime_nsec()),
            changed_ns: (m.ctime(), m.ctime_nsec()),
        }
    }
}

/// Whether one of the files that have changed since may be half written: it is still the same file, or was not there before.
pub(super) fn is_written_in_place(before: &Files, now: &Files) -> bool {
    let same_file = |old: &Stamp, new: &Stamp| (old.device, old.inode) == (new.device, new.inode);
    now.iter().any(|(path, new)| before.get(path).is_none_or(|old| old != new && same_file(old, new)))
}

/// What was found, and what could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) files: Files,
    /// Parts of the directory and why: nothing is known of what is in them now.
    pub(super) unseen: Unseen,
}

/// By path relative to the root: a directory with all that is below it, or a file.
pub(super) type Unseen = BTreeMap<Arc<Path>, String>;

/// Whether the path is in a part that could not be looked at.
pub(super) fn is_unseen(unseen: &Unseen, path: &Path) -> bool {
    !unseen.is_empty() && path.ancestors().any(|part| unseen.contains_key(part))
}

impl Scan {
    /// What was known of the parts that could not be looked at is known still.
    pub(super) fn keep(&mut self, known: &Files) {
        let kept = known.iter().filter(|(path, _)| is_unseen(&self.unseen, path));
        self.files.extend(kept.map(|(path, stamp)| (Arc::clone(path), *stamp)));
    }

    fn add(&mut self, path: &Path, relative: PathBuf) {
        match fs::metadata(path) {
            Ok(m) if m.is_file() => drop(self.files.insert(relative.into(), Stamp::of(&m))),
            // A pipe would never end, and a link to a directory may lead back here.
            Ok(_) => {}
            Err(error) => self.fail(&relative, &error),
        }
    }

    fn too_deep(&mut self, relative: PathBuf) {
        let sentence = format!("is more than {MAX_DEPTH} directories deep: what is in it is not read");
        self.unseen.insert(relative.into(), sentence);
    }

    fn fail(&mut self, relative: &Path, error: &io::Error) {
        // What is not found went while we looked.
        if error.kind() != io::ErrorKind::NotFound {
            self.unseen.insert(relative.into(), format!("{error}: what was read of it before stays"));
        }
    }
}

/// All files under the root that end in .yaml, .yml or .json. Names that begin with a dot are passed over: editors write
/// such files, and a mounted ConfigMap keeps its files' targets in such a directory. Links to files are followed, links
/// to directories below the root are not. An error is one of the root.
pub(super) fn scan(root: &Path) -> Result<Scan, String> {
    scan_by(root, |path| fs::read_dir(path))
}

/// The same by another way to list a directory.
pub(super) fn scan_by(root: &Path, list: impl Fn(&Path) -> io::Result<ReadDir>) -> Result<Scan, String> {
    let mut scan = Scan::default();
    let m = fs::metadata(root).map_err(|error| sentence(root, &error))?;
    if m.is_file() {
        scan.files.insert(Path::new(root.file_name().unwrap_or_default()).into(), Stamp::of(&m));
        return Ok(scan);
    }
    let mut directories = vec![(PathBuf::new(), 0)];
    while let Some((part, depth)) = directories.pop() {
        let path = root.join(&part);
        let entries = match list(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(sentence(&path, &error)),
            // Below the root a failure is that part's alone.
            Err(error) => {
                scan.fail(&part, &error);
                continue;
            }
        };
        for entry in entries {
            let name = entry.file_name();
            if name.as_encoded_bytes().first() == Some(&b'.') {
                continue;
            }
            let relative = part.join(&name);
            match entry.file_type() {
                Err(error) => scan.fail(&relative, &error),
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => directories.push((relative, depth + 1)),
                Ok(kind) if kind.is_dir() => scan.too_deep(relative),
                Ok(kind) if !kind.is_dir() && is_manifest(&relative) => scan.add(&entry.path(), relative),
                Ok(_) => {}
            }
        }
        if scan.files.len() + scan.unseen.len() > MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} files", root.display()));
        }
    }
    Ok(scan)
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

fn sentence(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
