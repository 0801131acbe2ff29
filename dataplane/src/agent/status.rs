//! What others may know of the agent: `/readyz` and `/metrics` show it.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use api::proto::Welcome;
use api::snapshot::Version;

/// The agent's state, written by it and read by the admin thread.
#[derive(Debug)]
pub struct Status {
    look: Mutex<Look>,
}

/// A look at it.
#[derive(Debug, Clone)]
pub struct Look {
    /// The control plane's address.
    pub address: String,
    /// Whether there is a stream.
    pub connected: bool,
    /// Since when it is so.
    pub since: Instant,
    /// Streams opened so far.
    pub streams: u64,
    /// Why the last attempt failed; none while there is a stream.
    pub error: Option<String>,
    /// The zone that the control plane says this process is in.
    pub zone: String,
    /// Whether the table in force is the one that was found on disk.
    pub from_disk: bool,
    /// Which version came by the stream last and was put in force, and how long that took from its last byte.
    pub applied: Option<(Version, Duration)>,
    /// Messages of the KV lane that could not be understood.
    pub kv_refused: u64,
}

impl Status {
    /// Before the first attempt.
    pub fn new(address: String, from_disk: bool) -> Self {
        let look = Look {
            address,
            connected: false,
            since: Instant::now(),
            streams: 0,
            error: None,
            zone: String::new(),
            from_disk,
            applied: None,
            kv_refused: 0,
        };
        Self { look: Mutex::new(look) }
    }

    /// How it is now.
    pub fn look(&self) -> Look {
        self.lock().clone()
    }

    pub(super) fn connected(&self, welcome: &Welcome) {
        let mut look = self.lock();
        look.streams += 1;
        look.error = None;
        look.zone.clone_from(&welcome.zone);
        if !look.connected {
            (look.connected, look.since) = (true, Instant::now());
        }
    }

    /// Says whether that is news.
    pub(super) fn failed(&self, why: String) -> bool {
        let mut look = self.lock();
        let news = look.error.as_ref() != Some(&why);
        look.error = Some(why);
        if look.connected {
            (look.connected, look.since) = (false, Instant::now());
        }
        news
    }

    /// A message of the KV lane could not be understood.
    pub(super) fn kv_refused(&self) {
        self.lock().kv_refused += 1;
    }

    /// What is in force came by the stream, or the control plane says the same.
    pub(super) fn in_sync(&self) {
        self.lock().from_disk = false;
    }

    /// This is in force, so long after its last byte had come.
    pub(super) fn applied(&self, version: Version, took: Duration) {
        self.lock().applied = Some((version, took));
    }

    fn lock(&self) -> MutexGuard<'_, Look> {
        self.look.lock().expect("no thread panics while it holds the status")
    }
}
