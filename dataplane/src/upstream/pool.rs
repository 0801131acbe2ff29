//! Idle engine connections of one core. The one used last is used next, so that a pool shrinks to what the load needs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use crate::rt::Stream;

struct Idle {
    stream: Stream,
    since_ms: u64,
}

/// Idle connections by engine address.
pub(crate) struct Pool {
    idle: RefCell<HashMap<SocketAddr, Vec<Idle>, ahash::RandomState>>,
    /// Per address.
    size: usize,
    idle_ms: u64,
}

/// A connection from the pool, and how many were found dead on the way.
pub(crate) struct Taken {
    pub(crate) stream: Option<Stream>,
    pub(crate) stale: u64,
}

impl Pool {
    pub(crate) fn new(size: usize, idle_ms: u64) -> Self {
        Self { idle: RefCell::default(), size, idle_ms }
    }

    /// A connection that is open, silent and young enough.
    pub(crate) fn take(&self, address: SocketAddr, now_ms: u64) -> Taken {
        let mut taken = Taken { stream: None, stale: 0 };
        let mut idle = self.idle.borrow_mut();
        let Some(list) = idle.get_mut(&address) else { return taken };
        while let Some(last) = list.pop() {
            if now_ms.saturating_sub(last.since_ms) >= self.idle_ms {
                // What lies below idles longer still.
                list.clear();
            } else if last.stream.is_alive() {
                taken.stream = Some(last.stream);
                break;
            } else {
                taken.stale += 1;
            }
        }
        taken
    }

    /// Keeps a connection whose last answer ended exactly.
    pub(crate) fn put(&self, address: SocketAddr, stream: Stream, now_ms: u64) {
        let mut idle = self.idle.borrow_mut();
        let list = idle.entry(address).or_default();
        if list.len() < self.size {
            list.push(Idle { stream, since_ms: now_ms });
        }
    }

    /// Closes all connections to an engine that refused or reset a new one: it is going away, and idle connections
    /// would hold it.
    pub(crate) fn clear(&self, address: SocketAddr) {
        self.idle.borrow_mut().remove(&address);
    }

    /// Closes what has idled too long.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.idle.borrow_mut().retain(|_, list| {
            let old = list.iter().take_while(|i| now_ms.saturating_sub(i.since_ms) >= self.idle_ms).count();
            list.drain(..old);
            !list.is_empty()
        });
    }

    /// Closes everything.
    pub(crate) fn close(&self) {
        self.idle.borrow_mut().clear();
    }
}
