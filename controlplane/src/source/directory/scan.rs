//! Which files there are, and by what one sees that they have changed.
//!
//! Asked for by time stamp rather than by inotify, for the data plane's reasons: a ConfigMap is swapped by links above the
//! files, an editor replaces them, a network file system tells nobody.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
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

/// All files under the root that end in .yaml, .yml or .json. Names that begin with a dot are passed over: editors write
/// such files, and a mounted ConfigMap keeps its files' targets in such a directory. Links to files are followed, links
/// to directories below the root are not.
pub(super) fn scan(root: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    let m = fs::metadata(root).map_err(|error| sentence(root, &error))?;
    if m.is_file() {
        files.insert(Path::new(root.file_name().unwrap_or_default()).into(), Stamp::of(&m));
        return Ok(files);
    }
    let mut directories = vec![(PathBuf::new(), 0)];
    while let Some((relative, depth)) = directories.pop() {
        let path = root.join(&relative);
        let entries = match fs::read_dir(&path) {
            // It went while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => continue,
            entries => entries.map_err(|error| sentence(&path, &error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| sentence(&path, &error))?;
            let name = entry.file_name();
            if name.as_encoded_bytes().first() == Some(&b'.') {
                continue;
            }
            let relative = relative.join(&name);
            let kind = entry.file_type().map_err(|error| sentence(&entry.path(), &error))?;
            if kind.is_dir() && depth < MAX_DEPTH {
                directories.push((relative, depth + 1));
            } else if !kind.is_dir() && is_manifest(&relative) {
                add(&mut files, &entry.path(), relative)?;
            }
        }
        if files.len() > MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} files", root.display()));
        }
    }
    Ok(files)
}

fn add(files: &mut Files, path: &Path, relative: PathBuf) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(m) if m.is_file() => {
            files.insert(relative.into(), Stamp::of(&m));
        }
        // A pipe would never end, and a link to a directory may lead back here.
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(sentence(path, &error)),
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending.eq_ignore_ascii_case(known)))
}

fn sentence(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
