//! The floor: a relay that moves bytes with as few system calls as epoll allows and does nothing else. It has no policy,
//! no timers and no parsing beyond message framing, which it needs to know when an upstream connection is free again.
//! Ratios in `results/` are ratios to its CPU time, so it has to be both lean and right.

mod conn;
pub mod framing;
mod relay;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

/// What a relay listens on and where it sends.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Engines, taken in turn by new upstream connections. At least one.
    pub upstreams: Vec<SocketAddr>,
    /// Event loops, each with its own SO_REUSEPORT listener and its own pool.
    pub threads: usize,
}

/// Ends a running relay from another thread: an eventfd, so that the loop needs no timer.
#[derive(Debug, Clone)]
pub struct Stop(Arc<OwnedFd>);

impl Stop {
    /// A stop that has not been pulled.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Ends every loop that holds a clone.
    pub fn pull(&self) {
        // The counter can only refuse at u64::MAX - 1, and then it is readable already.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// A bound relay that is not running yet.
#[derive(Debug)]
pub struct Relay {
    loops: Vec<relay::Loop>,
    local: SocketAddr,
}

impl Relay {
    /// Binds one listener per thread.
    pub fn bind(config: &Config, stop: &Stop) -> io::Result<Self> {
        if config.upstreams.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a relay needs at least one upstream"));
        }
        let mut listen = config.listen;
        let mut loops = Vec::new();
        for _ in 0..config.threads.max(1) {
            let (relay, local) = relay::Loop::bind(listen, &config.upstreams, stop.clone())?;
            listen = local;
            loops.push(relay);
        }
        Ok(Self { loops, local: listen })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Serves until [`Stop::pull`].
    pub fn run(self) -> io::Result<()> {
        let mut loops = self.loops;
        let first = loops.pop();
        std::thread::scope(|scope| {
            let others: Vec<_> = loops.into_iter().map(|relay| scope.spawn(move || relay.run())).collect();
            let mut result = first.map_or(Ok(()), relay::Loop::run);
            for other in others {
                let ended = other.join().unwrap_or_else(|_| Err(io::Error::other("a relay loop panicked")));
                result = result.and(ended);
            }
            result
        })
    }
}
