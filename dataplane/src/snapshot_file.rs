//! The snapshot file: read at the start, watched afterwards. A bad edit keeps the last good table and says why.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::thread::JoinHandle;
use std::time::Duration;

use api::limits::MAX_SNAPSHOT_BYTES;
use api::snapshot::Snapshot;

use crate::tables::Tables;

/// Asked for by time stamp rather than by inotify: a ConfigMap is swapped by links above the file, an editor replaces
/// it, a network file system tells nobody. A look is one system call.
const PERIOD: Duration = Duration::from_millis(100);

/// What identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let m = std::fs::metadata(path)?;
        Ok(Self { device: m.dev(), inode: m.ino(), size: m.size(), modified_ns: (m.mtime(), m.mtime_nsec()) })
    }
}

/// Reads and decodes a snapshot file; the errors are sentences, all of them.
pub fn load(path: &Path) -> Result<Snapshot, Vec<String>> {
    let one = |e: io::Error| vec![format!("{}: {e}", path.display())];
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(one)?;
    file.take(MAX_SNAPSHOT_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(one)?;
    if bytes.len() > MAX_SNAPSHOT_BYTES {
        return Err(vec![format!("{}: larger than {MAX_SNAPSHOT_BYTES} bytes", path.display())]);
    }
    api::json::snapshot_from_json(&bytes).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

/// Watches the file on a thread of its own until `stop`.
pub fn watch(path: PathBuf, tables: Arc<Tables>, stop: Arc<AtomicBool>) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("snapshot-file".into()).spawn(move || {
        let mut seen = None;
        let mut good = true;
        while !stop.load(Acquire) {
            let before = Stamp::of(&path);
            match before {
                Err(error) if seen.take().is_some() || good => {
                    good = false;
                    tables.refuse(format!("{}: {error}", path.display()));
                }
                Err(_) => {}
                Ok(now) if seen == Some(now) => {
                    if good {
                        tables.confirm();
                    }
                }
                Ok(now) => {
                    good = reload(&path, &tables);
                    // If it changed while it was read, it is read again.
                    seen = Stamp::of(&path).ok().filter(|after| *after == now);
                }
            }
            std::thread::sleep(PERIOD);
        }
    })
}

fn reload(path: &Path, tables: &Tables) -> bool {
    match load(path) {
        Ok(snapshot) => {
            tables.install(Arc::new(snapshot));
            true
        }
        Err(problems) => {
            tables.refuse(problems.join("\n"));
            false
        }
    }
}
