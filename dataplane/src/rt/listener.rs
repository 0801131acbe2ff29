//! Taking connections.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Either, StopToken, current_driver, select2};
use crate::sys::Sock;

/// The waits after errors of accept, such as having no descriptors left: from the first, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Bytes of a connection that the kernel holds unsent before a write has to wait. Unbounded, a client that does not read
/// makes it hold 4 MiB, and as much again from an engine whose answer we take meanwhile: 200 such clients brought all
/// TCP of a machine under memory pressure.
const UNSENT: usize = 128 << 10;

/// What [`Listener::accept`] came to.
#[derive(Debug)]
pub enum Accepted {
    /// A connection on which no operation was started: it may go to another core.
    Socket(OwnedFd, SocketAddr),
    /// The token was stopped.
    Stopped,
}

/// A listening socket of one core; the others have their own on the same address (SO_REUSEPORT).
///
/// It waits for readiness and then accepts, so no operation in the kernel ever holds a connection that could be lost
/// with it (monoio 0.2.4 leaks it when an accept is dropped).
#[derive(Debug)]
pub struct Listener {
    sock: Sock,
    local: SocketAddr,
    flags: SocketFlags,
    backoff: Duration,
}

impl Listener {
    /// Binds and listens. TCP_NODELAY and the bound on unsent bytes are set here and inherited by what is accepted. Needs a
    /// running core.
    pub fn bind(addr: SocketAddr, backlog: i32) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nodelay(true)?;
        crate::sys::set_unsent_low_water(socket.as_fd(), UNSENT)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(backlog)?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        // On epoll sockets must not block; on io_uring they must, for there the kernel does the waiting.
        let blocking = current_driver().is_some_and(|driver| driver.is_uring());
        let flags = if blocking { SocketFlags::CLOEXEC } else { SocketFlags::CLOEXEC | SocketFlags::NONBLOCK };
        Ok(Self { sock: Sock::new(OwnedFd::from(socket).into())?, local, flags, backoff: BACKOFF.0 })
    }

    /// The address, with the port that the kernel chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for a connection or for `stop`. Errors are waited out, ever longer up to a second.
    pub async fn accept(&mut self, stop: &StopToken) -> Accepted {
        while !stop.is_stopped() {
            match self.try_accept() {
                Ok((fd, peer)) => {
                    self.backoff = BACKOFF.0;
                    return Accepted::Socket(fd, peer);
                }
                Err(Errno::AGAIN) => {
                    let mut readable = pin!(self.sock.readable());
                    let _ = select2(&mut readable, &mut stop.stopped()).await;
                }
                Err(error) if is_of_one_connection(error) => {}
                Err(error) => self.back_off(error, stop).await,
            }
        }
        Accepted::Stopped
    }

    async fn back_off(&mut self, error: Errno, stop: &StopToken) {
        tracing::warn!(%error, local = %self.local, wait = ?self.backoff, "cannot accept connections");
        let mut wait = pin!(super::sleep(self.backoff));
        if let Either::Left(()) = select2(&mut wait, &mut stop.stopped()).await {
            self.backoff = (self.backoff * 2).min(BACKOFF.1);
        }
    }

    /// Takes every connection that waits in the queue, without waiting. Closing the listener would reset them.
    pub fn drain(&mut self) -> Vec<(OwnedFd, SocketAddr)> {
        let mut taken = Vec::new();
        loop {
            match self.try_accept() {
                Ok(connection) => taken.push(connection),
                Err(error) if is_of_one_connection(error) => {}
                Err(_) => return taken,
            }
        }
    }

    fn try_accept(&self) -> Result<(OwnedFd, SocketAddr), Errno> {
        let (fd, peer) = acceptfrom_with(self.sock.as_fd(), self.flags)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::AFNOSUPPORT)?;
        Ok((fd, peer))
    }
}

/// Errors that tell of the connection which was to be accepted; the next one may be fine.
fn is_of_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::INTR
            | Errno::CONNABORTED
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::AFNOSUPPORT
    )
}
