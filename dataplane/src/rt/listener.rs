//! Taking connections.

mod unix;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Either, StopToken, current_driver, select2};
use crate::sys::Sock;

pub use unix::{SocketFile, UnixListener};

/// The waits after errors of accept, such as having no descriptors left: from the first, doubled up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Connections taken in a row before the rest of the core gets a turn.
const AT_ONCE: u32 = 64;

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

/// A socket that has its address. Until it listens the kernel gives it no connection, whoever else listens there.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    local: SocketAddr,
}

impl Bound {
    /// TCP_NODELAY and the bound on unsent bytes are set here and inherited by what is accepted.
    pub fn to(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nodelay(true)?;
        crate::sys::set_unsent_low_water(socket.as_fd(), UNSENT)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Self { socket, local })
    }

    /// The address, with the port that the kernel chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Needs a running core.
    pub fn listen(self, backlog: i32) -> io::Result<Listener> {
        let Self { socket, local } = self;
        socket.listen(backlog)?;
        Ok(Listener { queue: Queue::of(socket, local.to_string())?, local })
    }
}

/// A listening socket of one core; the others have their own on the same address (SO_REUSEPORT).
#[derive(Debug)]
pub struct Listener {
    queue: Queue,
    local: SocketAddr,
}

impl Listener {
    /// Binds and listens. Needs a running core.
    pub fn bind(addr: SocketAddr, backlog: i32) -> io::Result<Self> {
        Bound::to(addr)?.listen(backlog)
    }

    /// The address, with the port that the kernel chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for a connection or for `stop`. Errors are waited out, ever longer up to a second.
    pub async fn accept(&mut self, stop: &StopToken) -> Accepted {
        loop {
            let Some((fd, peer)) = self.queue.accept(stop).await else { return Accepted::Stopped };
            if let Some(peer) = address(peer) {
                return Accepted::Socket(fd, peer);
            }
        }
    }

    /// New connections go to the listener at this place among those of the address, counted from 0, in the order in which they began. Where there is none,
    /// everything stays as it is.
    pub fn pass_on(&self, place: usize) {
        let place = u32::try_from(place).expect("there are fewer listeners");
        if let Err(error) = crate::sys::steer(self.queue.sock.as_fd(), place) {
            tracing::debug!(%error, "new connections cannot be passed on");
        }
    }

    /// Everybody who listens at the address has their part, whoever passed on what before.
    pub fn pass_on_no_more(&self) {
        // Mostly there is nothing to end.
        let _ = crate::sys::steer_no_more(self.queue.sock.as_fd());
    }

    /// Listens no more, and returns what waited. Both in one breath, for what comes between them the kernel resets, as it does with handshakes
    /// that are under way: see [`Listener::pass_on`]. Dropping it is not as prompt: on io_uring the descriptor lives until its poll has ended.
    pub fn end(mut self) -> Vec<(OwnedFd, SocketAddr)> {
        let taken = self.drain();
        if let Err(error) = rustix::net::shutdown(self.queue.sock.as_fd(), rustix::net::Shutdown::Read) {
            tracing::warn!(%error, local = self.queue.place, "the listener ends late");
        }
        taken
    }

    /// Takes every connection that waits in the queue, without waiting. Closing the listener would reset them.
    pub fn drain(&mut self) -> Vec<(OwnedFd, SocketAddr)> {
        let mut taken = Vec::new();
        loop {
            match self.queue.try_accept() {
                Ok((fd, peer)) => taken.extend(address(peer).map(|peer| (fd, peer))),
                Err(error) if is_of_one_connection(error) => {}
                Err(_) => return taken,
            }
        }
    }
}

fn address(peer: Option<SocketAddrAny>) -> Option<SocketAddr> {
    peer.and_then(|peer| SocketAddr::try_from(peer).ok())
}

/// A socket that listens, whatever its family.
///
/// It waits for readiness and then accepts, so no operation in the kernel ever holds a connection that could be lost
/// with it (monoio 0.2.4 leaks it when an accept is dropped).
#[derive(Debug)]
struct Queue {
    sock: Sock,
    /// Where it listens, for the log.
    place: String,
    flags: SocketFlags,
    backoff: Duration,
    /// Connections that were there, one after the other, when they were asked for.
    in_a_row: u32,
}

impl Queue {
    fn of(socket: Socket, place: String) -> io::Result<Self> {
        // On epoll sockets must not block; on io_uring they must, for there the kernel does the waiting.
        let blocking = current_driver().is_some_and(|driver| driver.is_uring());
        let flags = if blocking { SocketFlags::CLOEXEC } else { SocketFlags::CLOEXEC | SocketFlags::NONBLOCK };
        Ok(Self { sock: Sock::new(OwnedFd::from(socket).into())?, place, flags, backoff: BACKOFF.0, in_a_row: 0 })
    }

    /// None once it was stopped.
    async fn accept(&mut self, stop: &StopToken) -> Option<(OwnedFd, Option<SocketAddrAny>)> {
        if self.in_a_row == AT_ONCE {
            self.in_a_row = 0;
            super::yield_now().await;
        }
        while !stop.is_stopped() {
            match self.try_accept() {
                Ok(accepted) => {
                    self.backoff = BACKOFF.0;
                    self.in_a_row += 1;
                    return Some(accepted);
                }
                Err(Errno::AGAIN) => {
                    // While this waits the others have their turn.
                    self.in_a_row = 0;
                    let mut readable = pin!(self.sock.readable());
                    let _ = select2(&mut readable, &mut stop.stopped()).await;
                }
                Err(error) if is_of_one_connection(error) => {}
                Err(error) => self.back_off(error, stop).await,
            }
        }
        None
    }

    async fn back_off(&mut self, error: Errno, stop: &StopToken) {
        tracing::warn!(%error, local = self.place, wait = ?self.backoff, "cannot accept connections");
        let mut wait = pin!(super::sleep(self.backoff));
        if let Either::Left(()) = select2(&mut wait, &mut stop.stopped()).await {
            self.backoff = (self.backoff * 2).min(BACKOFF.1);
        }
    }

    fn try_accept(&self) -> Result<(OwnedFd, Option<SocketAddrAny>), Errno> {
        acceptfrom_with(self.sock.as_fd(), self.flags)
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Read as _;
    use std::net::TcpStream;
    use std::rc::Rc;

    use super::*;
    use crate::rt::{self, Driver};

    /// What gives a turn away waits for a tick of the clock: where each connection is waited for, that would cost one in 64 a millisecond.
    #[test]
    fn connections_that_were_waited_for_are_not_in_a_row() {
        rt::run(Driver::Epoll, || async {
            let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), 64).unwrap();
            let address = listener.local_addr();
            let one_after_the_other = move || {
                for _ in 0..3 * AT_ONCE {
                    // Until it is closed there.
                    let _ = TcpStream::connect(address).unwrap().read(&mut [0]);
                }
            };
            let clients = std::thread::spawn(one_after_the_other);
            let mut most = 0;
            for _ in 0..3 * AT_ONCE {
                let accepted = listener.accept(&StopToken::default()).await;
                assert!(matches!(accepted, Accepted::Socket(..)));
                most = most.max(listener.queue.in_a_row);
            }
            clients.join().unwrap();
            assert!(most < AT_ONCE / 2, "{most} in a row");
        })
        .unwrap();
    }

    #[test]
    fn a_burst_of_connections_gives_the_others_a_turn() {
        rt::run(Driver::Epoll, || async {
            let mut listener = Listener::bind(([127, 0, 0, 1], 0).into(), 256).unwrap();
            let address = listener.local_addr();
            let _clients: Vec<_> = (0..=AT_ONCE).map(|_| TcpStream::connect(address).unwrap()).collect();
            let had = Rc::new(Cell::new(false));
            let other = had.clone();
            rt::spawn(async move { other.set(true) });
            for taken in 0..=AT_ONCE {
                listener.accept(&StopToken::default()).await;
                assert_eq!(had.get(), taken == AT_ONCE, "after {taken}");
            }
        })
        .unwrap();
    }
}
