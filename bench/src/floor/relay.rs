//! One event loop of the floor. Level-triggered, so that a short read needs no further read to find the socket empty:
//! a batch of bytes costs one read and one write beside its share of `epoll_wait`.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use socket2::{Domain, Protocol, Socket, Type};

use super::Stop;
use super::conn::{Client, Slots, Upstream};
use super::framing::Progress;

const LISTENER: u64 = 0;
const STOP: u64 = 1;
/// Read at once; a prompt of 64 KB fits with its head.
const BUFFER: usize = 128 * 1024;
/// Events taken by one wait.
const EVENTS: usize = 256;
/// Idle upstream connections kept.
const MAX_POOLED: usize = 4096;
/// Requests that a client may send ahead of their answers.
const MAX_PIPELINED: u32 = 64;
const BACKLOG: i32 = 4096;
const CONNECT: Duration = Duration::from_secs(1);

/// The exchange cannot go on; the client connection is closed with its upstream.
struct Broken;

impl<E: Into<io::Error>> From<E> for Broken {
    fn from(_: E) -> Self {
        Self
    }
}

#[derive(Debug)]
pub(super) struct Loop {
    epoll: OwnedFd,
    listener: Socket,
    /// Kept open, for the epoll set names it.
    _stop: Stop,
    upstreams: Vec<SocketAddr>,
    turn: usize,
    clients: Slots<Client>,
    pipes: Slots<Upstream>,
    pool: Vec<usize>,
}

/// The lowest two bits say what the event is about, the others which slot.
fn token(slot: usize, side: Side) -> EventData {
    EventData::new_u64((slot as u64) << 2 | 2 | side as u64)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client = 0,
    Upstream = 1,
}

impl Loop {
    pub(super) fn bind(listen: SocketAddr, upstreams: &[SocketAddr], stop: Stop) -> io::Result<(Self, SocketAddr)> {
        let listener = Socket::new(Domain::for_address(listen), Type::STREAM, Some(Protocol::TCP))?;
        listener.set_reuse_address(true)?;
        listener.set_reuse_port(true)?;
        // Accepted sockets inherit it, which saves a call for each.
        listener.set_nodelay(true)?;
        listener.set_nonblocking(true)?;
        listener.bind(&listen.into())?;
        listener.listen(BACKLOG)?;
        let local = listener.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&epoll, &*stop.0, EventData::new_u64(STOP), EventFlags::IN)?;
        let (clients, pipes) = (Slots::new(), Slots::new());
        let upstreams = upstreams.to_vec();
        Ok((Self { epoll, listener, _stop: stop, upstreams, turn: 0, clients, pipes, pool: Vec::new() }, local))
    }

    pub(super) fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        loop {
            let (ready, _) = match epoll::wait(&self.epoll, &mut events, None) {
                Ok(ready) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in ready {
                let (data, flags) = (event.data.u64(), event.flags);
                let slot = (data >> 2) as usize;
                match data {
                    LISTENER => self.accept(),
                    STOP => return Ok(()),
                    _ if data & 1 == Side::Client as u64 => self.client_ready(slot, flags, &mut buffer),
                    _ => self.upstream_ready(slot, flags, &mut buffer),
                }
            }
        }
    }

    /// One per event: the listener stays ready while more wait, and none is asked for in vain.
    fn accept(&mut self) {
        // Without descriptors the listener stays ready and the loop spins until one is free: the limit is the operator's.
        let Ok(fd) = accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) else { return };
        let slot = self.clients.insert(Client::new(fd));
        let added = self
            .clients
            .at(slot)
            .map(|client| epoll::add(&self.epoll, &client.fd, token(slot, Side::Client), EventFlags::IN));
        if !matches!(added, Some(Ok(()))) {
            self.clients.remove(slot);
        }
    }

    fn client_ready(&mut self, slot: usize, flags: EventFlags, buffer: &mut [u8]) {
        if self.read_client(slot, flags, buffer).is_err() {
            self.close(slot);
        }
    }

    fn read_client(&mut self, slot: usize, flags: EventFlags, buffer: &mut [u8]) -> Result<(), Broken> {
        let Some(client) = self.clients.at(slot) else { return Ok(()) };
        if flags.contains(EventFlags::OUT) {
            client.to_client.flush(&client.fd)?;
            if client.to_client.is_empty() {
                self.rearm(slot)?;
            }
        }
        let Some(client) = self.clients.at(slot) else { return Ok(()) };
        if !client.to_upstream.is_empty() {
            // It is not read now, so nothing but its end can have woken us.
            return if flags.intersects(EventFlags::HUP | EventFlags::ERR) { Err(Broken) } else { Ok(()) };
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        let bytes = match rustix::io::read(&client.fd, &mut *buffer) {
            Ok(0) => return Err(Broken),
            Ok(read) => &buffer[..read],
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        self.forward(slot, bytes)
    }

    /// Sends first and looks at the framing after: the look is not on the request's way.
    fn forward(&mut self, slot: usize, bytes: &[u8]) -> Result<(), Broken> {
        let held = self.clients.at(slot).and_then(|client| client.upstream);
        let upstream = match held {
            Some(upstream) => upstream,
            None => self.take_upstream(slot)?,
        };
        let (Some(client), Some(pipe)) = (self.clients.at(slot), self.pipes.at(upstream)) else { return Err(Broken) };
        client.to_upstream.write(&pipe.fd, bytes)?;
        let stuck = !client.to_upstream.is_empty();
        follow_request(client, bytes)?;
        if stuck { self.rearm(slot) } else { Ok(()) }
    }

    fn take_upstream(&mut self, slot: usize) -> Result<usize, Broken> {
        if let Some(pooled) = self.pool.pop() {
            let pipe = self.pipes.at(pooled).ok_or(Broken)?;
            pipe.client = Some(slot);
            self.clients.at(slot).ok_or(Broken)?.upstream = Some(pooled);
            return Ok(pooled);
        }
        let address = self.upstreams[self.turn % self.upstreams.len()];
        self.turn = self.turn.wrapping_add(1);
        let fd = connect(address)?;
        let upstream = self.pipes.insert(Upstream { fd, client: Some(slot) });
        let pipe = self.pipes.at(upstream).ok_or(Broken)?;
        epoll::add(&self.epoll, &pipe.fd, token(upstream, Side::Upstream), EventFlags::IN).map_err(io::Error::from)?;
        self.clients.at(slot).ok_or(Broken)?.upstream = Some(upstream);
        Ok(upstream)
    }

    fn upstream_ready(&mut self, slot: usize, flags: EventFlags, buffer: &mut [u8]) {
        let Some(pipe) = self.pipes.at(slot) else { return };
        match pipe.client {
            Some(client) => {
                if self.read_upstream(client, slot, flags, buffer).is_err() {
                    self.close(client);
                }
            }
            None => {
                // Nothing is due on a pooled connection: it has ended, or is of no use.
                self.pool.retain(|&pooled| pooled != slot);
                self.pipes.remove(slot);
            }
        }
    }

    fn read_upstream(
        &mut self,
        client_slot: usize,
        slot: usize,
        flags: EventFlags,
        buffer: &mut [u8],
    ) -> Result<(), Broken> {
        let (Some(client), Some(pipe)) = (self.clients.at(client_slot), self.pipes.at(slot)) else { return Ok(()) };
        if flags.contains(EventFlags::OUT) {
            client.to_upstream.flush(&pipe.fd)?;
            if client.to_upstream.is_empty() {
                self.rearm(client_slot)?;
            }
        }
        let (Some(client), Some(pipe)) = (self.clients.at(client_slot), self.pipes.at(slot)) else { return Ok(()) };
        if !client.to_client.is_empty() {
            return if flags.intersects(EventFlags::HUP | EventFlags::ERR) { Err(Broken) } else { Ok(()) };
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        let bytes = match rustix::io::read(&pipe.fd, &mut *buffer) {
            Ok(0) => return self.upstream_ended(client_slot, slot),
            Ok(read) => &buffer[..read],
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        client.to_client.write(&client.fd, bytes)?;
        let stuck = !client.to_client.is_empty();
        follow_response(client, bytes)?;
        if stuck { self.rearm(client_slot) } else { Ok(()) }
    }

    /// An engine may close between exchanges; within one, the client's connection ends with it.
    fn upstream_ended(&mut self, client_slot: usize, slot: usize) -> Result<(), Broken> {
        let client = self.clients.at(client_slot).ok_or(Broken)?;
        if !client.idle() {
            return Err(Broken);
        }
        client.upstream = None;
        self.pipes.remove(slot);
        Ok(())
    }

    /// Reads only where the bytes can go on, and waits to write only where some are left. Called on changes alone.
    fn rearm(&mut self, slot: usize) -> Result<(), Broken> {
        let Some(client) = self.clients.at(slot) else { return Ok(()) };
        let (to_client, to_upstream) = (!client.to_client.is_empty(), !client.to_upstream.is_empty());
        let wanted = |source_stuck: bool, own_pending: bool| {
            let mut flags = EventFlags::empty();
            flags.set(EventFlags::IN, !source_stuck);
            flags.set(EventFlags::OUT, own_pending);
            flags
        };
        let flags = wanted(to_upstream, to_client);
        epoll::modify(&self.epoll, &client.fd, token(slot, Side::Client), flags).map_err(io::Error::from)?;
        let Some(upstream) = client.upstream else { return Ok(()) };
        let Some(pipe) = self.pipes.at(upstream) else { return Ok(()) };
        let flags = wanted(to_client, to_upstream);
        epoll::modify(&self.epoll, &pipe.fd, token(upstream, Side::Upstream), flags).map_err(io::Error::from)?;
        Ok(())
    }

    /// Closing a descriptor also takes it out of the epoll set.
    fn close(&mut self, slot: usize) {
        let Some(client) = self.clients.remove(slot) else { return };
        let Some(upstream) = client.upstream else { return };
        // With bytes for the client left over its upstream is not being read, and would have to be armed anew: rare.
        let reusable = client.idle() && client.to_client.is_empty() && self.pool.len() < MAX_POOLED;
        match self.pipes.at(upstream) {
            Some(pipe) if reusable => {
                pipe.client = None;
                self.pool.push(upstream);
            }
            _ => {
                self.pipes.remove(upstream);
            }
        }
    }
}

fn follow_request(client: &mut Client, mut bytes: &[u8]) -> Result<(), Broken> {
    while !bytes.is_empty() {
        if client.request.at_start() {
            client.outstanding += 1;
        }
        match client.request.feed(bytes, |_| ()).map_err(io::Error::other)? {
            Progress::More => return Ok(()),
            Progress::Done(used) => bytes = &bytes[used..],
        }
        if client.request.head().is_some_and(|head| head.is_head) {
            if client.outstanding > 1 {
                return Err(Broken);
            }
            client.response.expect_no_body();
        }
        if client.outstanding > MAX_PIPELINED {
            return Err(Broken);
        }
    }
    Ok(())
}

fn follow_response(client: &mut Client, mut bytes: &[u8]) -> Result<(), Broken> {
    while !bytes.is_empty() {
        match client.response.feed(bytes, |_| ()).map_err(io::Error::other)? {
            Progress::More => return Ok(()),
            Progress::Done(used) => bytes = &bytes[used..],
        }
        client.outstanding = client.outstanding.checked_sub(1).ok_or(Broken)?;
        if client.response.head().is_some_and(|head| !head.keep_alive) {
            // The answer told the client that the connection ends; the engine will close, and so do we.
            return Err(Broken);
        }
    }
    Ok(())
}

fn connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nodelay(true)?;
    // It blocks, which on loopback is a matter of microseconds; connections are pooled, so it is rare as well.
    socket.connect_timeout(&address.into(), CONNECT)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
