//! One connection of the generator: sends a request, follows its answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::report::{Failure, Tally};
use super::sse::{Event, Scanner};
use crate::floor::framing::{Framing, Kind, Progress};

/// When a request was due and what has come back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// Latency counts from here.
    pub(super) due_ns: u64,
    pub(super) sent_ns: u64,
    pub(super) last_ns: u64,
    pub(super) events: u64,
    pub(super) chunks_before: u64,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Sending,
    Waiting,
    Answering,
}

/// What a read led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Goes,
    Done {
        keep: bool,
    },
    Failed(Failure),
    /// The peer closed between two requests.
    Closed,
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) fd: Option<OwnedFd>,
    pub(super) phase: Phase,
    pub(super) request: Vec<u8>,
    pub(super) sent: usize,
    pub(super) times: Times,
    framing: Framing,
    scanner: Scanner,
    done: bool,
    in_band: bool,
}

impl Conn {
    pub(super) fn new() -> Self {
        Self {
            fd: None,
            phase: Phase::Idle,
            request: Vec::new(),
            sent: 0,
            times: Times::default(),
            framing: Framing::new(Kind::Response),
            scanner: Scanner::default(),
            done: false,
            in_band: false,
        }
    }

    /// Makes ready for the request that is in `request`.
    pub(super) fn begin(&mut self, due_ns: u64, now_ns: u64) {
        self.sent = 0;
        self.phase = Phase::Sending;
        self.scanner.reset();
        (self.done, self.in_band) = (false, false);
        self.times = Times { due_ns, sent_ns: now_ns, last_ns: 0, events: 0, chunks_before: self.framing.chunks() };
    }

    /// Takes a fresh socket; a new connection is a new series of messages.
    pub(super) fn open(&mut self, fd: OwnedFd) {
        self.fd = Some(fd);
        self.framing = Framing::new(Kind::Response);
        self.times.chunks_before = 0;
    }

    /// Writes what the socket takes; false when some is left.
    pub(super) fn send(&mut self) -> io::Result<bool> {
        let Some(fd) = &self.fd else { return Err(io::ErrorKind::NotConnected.into()) };
        match rustix::io::write(fd, &self.request[self.sent..]) {
            Ok(sent) => self.sent += sent,
            Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => {}
            Err(error) => return Err(error.into()),
        }
        let all = self.sent == self.request.len();
        if all && self.phase == Phase::Sending {
            self.phase = Phase::Waiting;
        }
        Ok(all)
    }

    /// Reads once. `stream` says that the answer should be events.
    pub(super) fn receive(&mut self, buffer: &mut [u8], stream: bool, counted: &mut Counted<'_>) -> Step {
        let Some(fd) = &self.fd else { return Step::Closed };
        let bytes = match rustix::io::read(fd, &mut *buffer) {
            Ok(0) => return self.ended(),
            Ok(read) => &buffer[..read],
            Err(Errno::AGAIN | Errno::INTR) => return Step::Goes,
            Err(_) if self.phase == Phase::Idle => return Step::Closed,
            Err(_) => return Step::Failed(Failure::Reset),
        };
        if self.phase == Phase::Idle {
            return Step::Closed;
        }
        self.phase = Phase::Answering;
        counted.bytes(bytes.len());
        let Self { framing, scanner, times, done, in_band, .. } = self;
        let fed = framing.feed(bytes, |data| {
            if !stream {
                counted.first(times);
                return;
            }
            scanner.feed(data, |event| match event {
                Event::Data(sent_ns) => counted.event(times, sent_ns),
                Event::Done => *done = true,
                Event::Error => *in_band = true,
            });
        });
        match fed {
            Err(_) => Step::Failed(Failure::Framing),
            Ok(Progress::More) => Step::Goes,
            Ok(Progress::Done(_)) => self.finished(stream),
        }
    }

    fn finished(&mut self, stream: bool) -> Step {
        let Some(head) = self.framing.head() else { return Step::Failed(Failure::Framing) };
        if !(200..300).contains(&head.status) {
            return Step::Failed(Failure::Status);
        }
        match (stream, self.in_band, self.done) {
            (true, true, _) => Step::Failed(Failure::InBand),
            (true, false, false) => Step::Failed(Failure::Undone),
            // An early answer leaves the rest of the request unsent: the connection is of no more use.
            _ => Step::Done { keep: head.keep_alive && self.sent == self.request.len() },
        }
    }

    fn ended(&mut self) -> Step {
        match self.phase {
            Phase::Idle => Step::Closed,
            Phase::Sending | Phase::Waiting => Step::Failed(Failure::Reset),
            Phase::Answering if self.framing.until_close() => Step::Done { keep: false },
            Phase::Answering => Step::Failed(Failure::Truncated),
        }
    }

    /// HTTP chunks of the current answer.
    pub(super) fn chunks(&self) -> u64 {
        self.framing.chunks() - self.times.chunks_before
    }
}

/// Counts into a tally what arrives now, if now is within the measured window.
pub(super) struct Counted<'a> {
    pub(super) tally: &'a mut Tally,
    pub(super) now_ns: u64,
    pub(super) within: bool,
}

impl Counted<'_> {
    fn bytes(&mut self, bytes: usize) {
        if self.within {
            self.tally.bytes += bytes as u64;
        }
    }

    fn first(&mut self, times: &mut Times) {
        if times.last_ns == 0 {
            if self.within {
                self.tally.ttft.record(self.now_ns.saturating_sub(times.due_ns));
            }
            times.last_ns = self.now_ns;
        }
    }

    fn event(&mut self, times: &mut Times, sent_ns: Option<u64>) {
        times.events += 1;
        let last_ns = times.last_ns;
        self.first(times);
        if !self.within {
            times.last_ns = self.now_ns;
            return;
        }
        self.tally.events += 1;
        if last_ns != 0 {
            self.tally.gap.record(self.now_ns - last_ns);
            times.last_ns = self.now_ns;
        }
        if let Some(sent_ns) = sent_ns {
            self.tally.hop.record(self.now_ns.saturating_sub(sent_ns));
        }
    }
}

/// Begins to connect. On loopback the connection is there when this returns.
pub(super) fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}
