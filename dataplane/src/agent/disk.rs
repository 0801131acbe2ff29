//! The last good snapshot on disk: the wire form behind a checksum. It is written to another file, synced and renamed, so
//! that there is always a whole one; on a thread of its own, at most once a second, for a disk may be slow. A snapshot
//! has no credentials in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use api::limits::MAX_SNAPSHOT_BYTES;
use api::snapshot::Snapshot;
use api::{decode, encode};
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

const NAME: &str = "snapshot.bin";
/// Before the checksum: the first 15 bytes name the format, the last its version.
const MAGIC: &[u8; 16] = b"kthena-snapshot\x01";
const HEADER: usize = MAGIC.len() + 8;
/// Between two writes.
const PACE: Duration = Duration::from_secs(1);
/// How often the file is dated anew while the control plane says that it holds.
const CONFIRM: Duration = Duration::from_secs(30);

/// What was found on disk.
#[derive(Debug)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// How long ago it was known to be what the control plane says.
    pub age: Duration,
}

/// Makes the folder where it is missing.
pub(super) fn prepare(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// None where nothing was kept yet; the error is a sentence.
pub(super) fn read(folder: &Path) -> Result<Option<Kept>, String> {
    let file = match File::open(folder.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let written = file.metadata().and_then(|m| m.modified()).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take((HEADER + MAX_SNAPSHOT_BYTES) as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let snapshot = parse(&bytes)?;
    // A clock that was set back makes it new, not an error.
    let age = SystemTime::now().duration_since(written).unwrap_or_default();
    Ok(Some(Kept { snapshot, age }))
}

fn parse(bytes: &[u8]) -> Result<Snapshot, String> {
    let Some((header, body)) = bytes.split_at_checked(HEADER) else {
        return Err(format!("it has {} bytes, fewer than its header", bytes.len()));
    };
    let (magic, sum) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err("it is not a snapshot, or one of another format".into());
    }
    if sum != xxh3_64(body).to_le_bytes() {
        return Err("its checksum is wrong: it was cut short or damaged".into());
    }
    decode::snapshot_from_bytes(body).map_err(|problems| {
        let first = problems.first().map(ToString::to_string).unwrap_or_default();
        format!("it has {} problems, first: {first}", problems.len())
    })
}

fn write(folder: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let (new, path) = (folder.join("snapshot.new"), folder.join(NAME));
    let body = encode::snapshot(snapshot).encode_to_vec();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(MAGIC)?;
    file.write_all(&xxh3_64(&body).to_le_bytes())?;
    file.write_all(&body)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()
}

#[derive(Debug, Default)]
struct Slot {
    newest: Option<Arc<Snapshot>>,
    confirmed: bool,
    stop: bool,
}

#[derive(Debug, Default)]
struct Desk {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Desk {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().expect("no thread panics while it holds the slot")
    }
}

/// What takes snapshots to be kept; the newest wins.
#[derive(Debug, Clone)]
pub(super) struct Keeper(Arc<Desk>);

impl Keeper {
    pub(super) fn keep(&self, snapshot: Arc<Snapshot>) {
        self.0.slot().newest = Some(snapshot);
        self.0.changed.notify_one();
    }

    /// The control plane says that the one on disk holds.
    pub(super) fn confirm(&self) {
        self.0.slot().confirmed = true;
    }
}

/// The writing thread.
#[derive(Debug)]
pub(super) struct Disk {
    desk: Arc<Desk>,
    thread: JoinHandle<()>,
}

impl Disk {
    pub(super) fn start(folder: PathBuf) -> io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let work = desk.clone();
        let thread = std::thread::Builder::new().name("state-dir".into()).spawn(move || run(&work, &folder))?;
        Ok(Self { desk, thread })
    }

    pub(super) fn keeper(&self) -> Keeper {
        Keeper(self.desk.clone())
    }

    /// Writes what waits, and ends.
    pub(super) fn stop(self) {
        self.desk.slot().stop = true;
        self.desk.changed.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the thread of the state directory panicked");
        }
    }
}

fn run(desk: &Desk, folder: &Path) {
    let wait = |time, until: fn(&Slot) -> bool| {
        let waited = desk.changed.wait_timeout_while(desk.slot(), time, |slot| !until(slot));
        waited.expect("no thread panics while it holds the slot").0
    };
    // What could not be written is tried again: until then the file must not be dated as if it held it.
    let mut unwritten: Option<Arc<Snapshot>> = None;
    loop {
        let mut slot = match unwritten {
            None => wait(CONFIRM, |slot| slot.stop || slot.newest.is_some()),
            Some(_) => desk.slot(),
        };
        let (newest, confirmed, stop) = (slot.newest.take(), std::mem::take(&mut slot.confirmed), slot.stop);
        drop(slot);
        let again = unwritten.is_some();
        let result = match newest.or_else(|| unwritten.take()) {
            Some(snapshot) => {
                let written = write(folder, &snapshot);
                unwritten = written.is_err().then_some(snapshot);
                written
            }
            None if confirmed => date(folder),
            None => Ok(()),
        };
        if let (Err(error), false) = (result, again) {
            tracing::error!(folder = %folder.display(), %error, "the snapshot cannot be kept on disk");
        }
        if stop {
            return;
        }
        drop(wait(PACE, |slot| slot.stop));
    }
}

/// The file's time is when it was last known to hold.
fn date(folder: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(folder.join(NAME)) {
        Ok(file) => file.set_modified(SystemTime::now()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
