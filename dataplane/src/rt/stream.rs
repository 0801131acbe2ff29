//! A TCP connection of this core.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::{Rc, Weak};
use std::time::Duration;

use monoio::buf::{IoBuf, IoBufMut, SliceMut};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, Shutdown, sockopt};

use super::posted::{CancelCell, PostedRead};
use crate::sys::{self, Sock};

/// What a read gets when the caller's buffer has no room left.
const READ_ROOM: usize = 4096;
/// The most that [`Stream::wait_bytes`] waits for at once: the kernel must be able to hold it.
const WAIT_BYTES_MAX: usize = 1 << 20;

/// How the bytes travel. TLS becomes a second variant.
#[derive(Debug, Clone)]
enum Transport {
    Plain(Rc<Sock>),
}

/// A connection whose two sides are used by one task. Dropping it closes the socket, once.
#[derive(Debug)]
pub struct Stream {
    read: ReadHalf,
    write: WriteHalf,
}

/// The reading side. At most one wait is pending on it, because each wait owns or borrows it.
#[derive(Debug)]
pub struct ReadHalf {
    transport: Transport,
    pub(super) cancel: Rc<CancelCell>,
}

/// The writing side. Dropping it sends nothing: the socket closes when both sides are gone.
#[derive(Debug)]
pub struct WriteHalf {
    transport: Transport,
}

/// Ends the operations of a connection from another task of its core, such as the sweep. It does not keep the
/// connection open, and does nothing once that is gone, so a descriptor used anew is never hit.
#[derive(Debug, Clone)]
pub struct Killer(Weak<Sock>);

impl Stream {
    /// Takes a socket as [`super::Listener`] gave it, on this or on another core of the same driver.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self::new(Sock::new(std::net::TcpStream::from(fd))?))
    }

    /// Connects, with TCP_NODELAY. After `limit` the attempt is closed and the error is `TimedOut`.
    pub async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let connecting = monoio::net::TcpStream::connect_addr(addr);
        let stream = super::timeout(limit, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let sock = Sock::from(stream);
        sockopt::set_tcp_nodelay(&sock, true)?;
        Ok(Self::new(sock))
    }

    fn new(sock: Sock) -> Self {
        let transport = Transport::Plain(Rc::new(sock));
        let read = ReadHalf { transport: transport.clone(), cancel: Rc::default() };
        Self { read, write: WriteHalf { transport } }
    }

    /// Separates the sides.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (self.read, self.write)
    }

    /// Both sides at once, for a task that writes while it waits for a read.
    pub fn sides(&mut self) -> (&mut ReadHalf, &mut WriteHalf) {
        (&mut self.read, &mut self.write)
    }

    /// See [`ReadHalf::read`].
    pub async fn read(&mut self, buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        self.read.read(buf).await
    }

    /// See [`ReadHalf::readable`].
    pub async fn readable(&mut self) -> io::Result<()> {
        self.read.readable().await
    }

    /// See [`ReadHalf::wait_bytes`].
    pub async fn wait_bytes(&mut self, count: usize) -> io::Result<()> {
        self.read.wait_bytes(count).await
    }

    /// See [`WriteHalf::write_all`].
    pub async fn write_all<B: IoBuf>(&mut self, buf: B) -> (io::Result<()>, B) {
        self.write.write_all(buf).await
    }

    /// See [`WriteHalf::write_two`].
    pub async fn write_two<B: IoBuf>(&mut self, head: Vec<u8>, body: B) -> (io::Result<()>, Vec<u8>, B) {
        self.write.write_two(head, body).await
    }

    /// Whether an idle connection can take a request: it is open and the peer has sent nothing unasked.
    pub fn is_alive(&self) -> bool {
        self.read.is_alive()
    }

    /// Closes with a reset, so that the peer cannot take what it has for the whole.
    pub fn abort(self) {
        self.write.set_reset_on_close();
    }

    /// What ends this connection's operations from outside.
    pub fn killer(&self) -> Killer {
        self.write.killer()
    }

    /// Sends FIN; reading goes on.
    pub fn finish(&self) -> io::Result<()> {
        self.write.finish()
    }

    /// The socket as it was given to [`Stream::from_fd`], for an open connection on which nothing is pending.
    ///
    /// # Panics
    /// If something is.
    pub fn into_fd(self) -> OwnedFd {
        let Self { read, write } = self;
        drop(write);
        let Transport::Plain(sock) = read.transport;
        Rc::into_inner(sock).expect("only the two sides share it").into_fd()
    }
}

impl ReadHalf {
    /// Joins the sides of one connection.
    ///
    /// # Panics
    /// If they belong to two.
    pub fn unsplit(self, write: WriteHalf) -> Stream {
        assert!(std::ptr::eq(self.sock(), write.sock()), "halves of two connections");
        Stream { read: self, write }
    }

    pub(super) fn sock(&self) -> &Sock {
        let Transport::Plain(sock) = &self.transport;
        sock
    }

    /// Reads once, appending to `buf` as much as its spare capacity holds (it gets 4 KiB if it has none). 0 is the
    /// peer's end. Giving up this wait loses the bytes: only where the connection is then closed.
    pub async fn read(&mut self, buf: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let (result, buf) = self.sock().recv(spare(buf)).await;
        (result, buf.into_inner())
    }

    /// Waits until a read would not wait. Giving up the wait loses nothing.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.sock().readable().await
    }

    /// Waits until `count` bytes (at most 1 MiB) have arrived, or the peer's end, so that one read takes them all.
    /// Giving up the wait loses nothing.
    pub async fn wait_bytes(&mut self, count: usize) -> io::Result<()> {
        let count = count.min(WAIT_BYTES_MAX);
        if count <= 1 {
            return self.readable().await;
        }
        sys::set_receive_low_water(self.sock().as_fd(), count)?;
        let _restore = LowWater(self.sock());
        self.sock().readable().await
    }

    /// Posts a read that stays pending across the phases of a connection; see [`ReadHalf::read`]. It reaches the kernel
    /// when it is first polled.
    pub fn post_read(self, buf: Vec<u8>) -> PostedRead {
        PostedRead::new(self, spare(buf))
    }

    /// See [`Stream::is_alive`].
    pub fn is_alive(&self) -> bool {
        is_quiet(self.sock().as_fd())
    }

    /// Whether the peer has left or sends no more, though bytes of it wait to be read.
    pub fn peer_has_left(&self) -> bool {
        let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut looked = [PollFd::new(self.sock(), gone)];
        let at_once = Timespec::default();
        rustix::event::poll(&mut looked, Some(&at_once)).is_ok() && looked[0].revents().intersects(gone)
    }
}

/// Whether nothing waits to be read of a socket: no byte and no end.
pub fn is_quiet(sock: impl AsFd) -> bool {
    let mut byte = [0_u8; 1];
    let peeked = rustix::net::recv(sock, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(rustix::io::Errno::AGAIN))
}

/// Takes the low-water mark back when the wait ends, also when it is given up.
struct LowWater<'a>(&'a Sock);

impl Drop for LowWater<'_> {
    fn drop(&mut self) {
        // Fails only for a socket that is gone, and then the mark is gone with it.
        let _ = sys::set_receive_low_water(self.0.as_fd(), 1);
    }
}

/// The free room at the end of `buf`.
fn spare(mut buf: Vec<u8>) -> SliceMut<Vec<u8>> {
    if buf.len() == buf.capacity() {
        buf.reserve_exact(READ_ROOM);
    }
    let (begin, end) = (buf.len(), buf.capacity());
    buf.slice_mut(begin..end)
}

impl WriteHalf {
    fn sock(&self) -> &Sock {
        let Transport::Plain(sock) = &self.transport;
        sock
    }

    /// Writes all of `buf`. Giving up this wait leaves an unknown part written: only where the connection is then
    /// closed.
    pub async fn write_all<B: IoBuf>(&mut self, buf: B) -> (io::Result<()>, B) {
        if buf.bytes_init() == 0 {
            return (Ok(()), buf);
        }
        let total = buf.bytes_init();
        match self.sock().send(buf).await {
            (Ok(written), buf) if written == total => (Ok(()), buf),
            (Ok(0), buf) => (Err(io::ErrorKind::WriteZero.into()), buf),
            (Ok(written), buf) => self.write_rest(buf, written).await,
            (Err(error), buf) => (Err(error), buf),
        }
    }

    /// As [`WriteHalf::write_all`], from byte `from` on.
    pub async fn write_from(&mut self, buf: Vec<u8>, from: usize) -> (io::Result<()>, Vec<u8>) {
        self.write_rest(buf, from).await
    }

    async fn write_rest<B: IoBuf>(&mut self, mut buf: B, mut written: usize) -> (io::Result<()>, B) {
        while written < buf.bytes_init() {
            let (result, slice) = self.sock().send(buf.slice(written..)).await;
            buf = slice.into_inner();
            match result {
                Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                Ok(more) => written += more,
                Err(error) => return (Err(error), buf),
            }
        }
        (Ok(()), buf)
    }

    /// Writes a head and a body in one go, without copying the body.
    pub async fn write_two<B: IoBuf>(&mut self, head: Vec<u8>, body: B) -> (io::Result<()>, Vec<u8>, B) {
        let head_len = head.len();
        let (result, both) = self.sock().send_vectored(sys::TwoBufs::new(head, body)).await;
        let (head, body) = both.into_parts();
        match result {
            Ok(0) if head_len + body.bytes_init() > 0 => (Err(io::ErrorKind::WriteZero.into()), head, body),
            Ok(written) if written < head_len => {
                let (result, head) = self.write_rest(head, written).await;
                if result.is_err() {
                    return (result, head, body);
                }
                let (result, body) = self.write_rest(body, 0).await;
                (result, head, body)
            }
            Ok(written) => {
                let (result, body) = self.write_rest(body, written - head_len).await;
                (result, head, body)
            }
            Err(error) => (Err(error), head, body),
        }
    }

    /// Sends FIN; reading goes on.
    pub fn finish(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(self.sock(), Shutdown::Write)?)
    }

    /// From now on closing resets the connection, so that the peer cannot take what it has for the whole.
    pub fn set_reset_on_close(&self) {
        // Fails only for a socket that is gone; there is nothing to reset then.
        let _ = sockopt::set_socket_linger(self.sock(), Some(Duration::ZERO));
    }

    /// Makes closing reset the connection and ends a read that is posted on the other side, without sending FIN.
    pub fn abort(&self) {
        self.set_reset_on_close();
        let _ = rustix::net::shutdown(self.sock(), Shutdown::Read);
    }

    /// What ends this connection's operations from outside.
    pub fn killer(&self) -> Killer {
        let Transport::Plain(sock) = &self.transport;
        Killer(Rc::downgrade(sock))
    }
}

impl Killer {
    /// Whether nothing waits to be read: no byte and no end.
    pub fn is_quiet(&self) -> bool {
        self.0.upgrade().is_some_and(|sock| is_quiet(sock.as_fd()))
    }

    /// Ends a pending read: it sees the peer's end. Writing goes on.
    pub fn end_read(&self) {
        self.shutdown(Shutdown::Read);
    }

    /// Ends everything pending: reads see the peer's end, writes fail.
    pub fn kill(&self) {
        self.shutdown(Shutdown::Both);
    }

    /// Like [`Killer::kill`], and closing resets the connection.
    pub fn reset(&self) {
        if let Some(sock) = self.0.upgrade() {
            let _ = sockopt::set_socket_linger(&*sock, Some(Duration::ZERO));
        }
        self.kill();
    }

    fn shutdown(&self, how: Shutdown) {
        if let Some(sock) = self.0.upgrade() {
            // Fails only when the peer has gone already, and then nothing is pending.
            let _ = rustix::net::shutdown(&*sock, how);
        }
    }
}
