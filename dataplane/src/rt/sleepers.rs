//! Sockets that are waited for together.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::sys::{self, Sock};

/// Sockets on which nothing is pending but the wait for their next bytes, or their end. Each is known by a number. All of them cost one wait of
/// this core: an epoll descriptor, which is itself waited for as a socket is, whatever the driver.
#[derive(Debug)]
pub struct Sleepers(Sock);

impl Sleepers {
    /// How many [`Sleepers::woken`] tells of at once.
    pub const AT_ONCE: usize = sys::EVENTS;

    /// Needs a running core.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Sock::new(epoll::create(CreateFlags::CLOEXEC)?.into())?))
    }

    /// Waits for this socket too, from now on: what has come already is told as well.
    pub fn add(&self, fd: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(number), EventFlags::IN)?)
    }

    /// Waits for it no more. It has to be called before the socket is used or closed: the kernel tells of it as long as anybody has it open,
    /// and its number may be another's then.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        if let Err(error) = epoll::delete(&self.0, fd) {
            tracing::error!(%error, "a socket that slept was not known");
        }
    }

    /// The numbers of those that have something to read now, of at most [`Sleepers::AT_ONCE`]. They are told again until they are removed.
    pub fn woken(&self) -> io::Result<Vec<u64>> {
        let mut woken = Vec::new();
        sys::ready_now(self.0.as_fd(), &mut woken)?;
        Ok(woken)
    }

    /// Waits until there are such. Giving up the wait loses nothing.
    pub async fn wait(&self) -> io::Result<()> {
        self.0.readable().await
    }
}
