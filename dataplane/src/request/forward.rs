//! One attempt at one engine: a connection, the request out, the answer's head in. While the engine is silent a read
//! stays posted on the client's socket, so that a client that leaves ends the attempt at once.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use dataplane_core::http::{BadResponse, HeadLimits, HeadScanner, ResponseHead, parse_response};
use memchr::memmem;

use crate::metrics::Limit;
use crate::rt::Stream;
use crate::server::connection::Connection;
use crate::server::reader::Reader;
use crate::server::watch::Waiting;
use crate::shared::Buffered;

/// Room for the first read of an answer: most unary answers whole.
const FIRST_READ: usize = 8 << 10;

/// The bytes that go to the engine.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Head and body, in one piece, from `from` on.
    pub(crate) bytes: Vec<u8>,
    pub(crate) from: usize,
    /// Held as long as the bytes are.
    pub(crate) room: Buffered,
}

impl Wire {
    /// The same request for another data-parallel rank, where ranks are told.
    pub(crate) fn for_rank(mut self, rank: u16) -> Self {
        const NAME: &[u8] = b"\r\nx-data-parallel-rank: ";
        let head = &self.bytes[self.from..];
        let end = memmem::find(head, b"\r\n\r\n").unwrap_or(0);
        let lower = head[..end].to_ascii_lowercase();
        let Some(at) = memmem::find(&lower, NAME) else { return self };
        let start = self.from + at + NAME.len();
        let value = &head[at + NAME.len()..];
        let stop = start + memmem::find(value, b"\r\n").unwrap_or(value.len());
        self.bytes.splice(start..stop, rank.to_string().into_bytes());
        self
    }
}

/// Where and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) address: SocketAddr,
    pub(crate) connect: Duration,
    pub(crate) first_byte_ms: u64,
    pub(crate) to_head: bool,
}

/// The engine's answer so far.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) stream: Stream,
    pub(crate) head: Box<ResponseHead>,
    /// The head, and what came with it.
    pub(crate) bytes: Vec<u8>,
    /// The engine answered before it had the whole request; its connection is not used again.
    pub(crate) early: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client left, before or after the request was sent.
    Gone { sent: bool },
    /// This process or machine lacks something: no fault of the engine.
    Local(io::Error),
    /// No connection.
    Connect(io::Error),
    /// It broke before the first byte of an answer.
    Broken(io::Error),
    /// It broke inside the head.
    Cut,
    /// A limit ended it.
    Slow,
    /// The head is not HTTP.
    Malformed(BadResponse),
}

/// Sends the request and waits for the answer's head. The wire is given back unless it cannot be sent again.
pub(crate) async fn attempt(
    connection: &mut Connection,
    attempt: &Attempt,
    mut wire: Wire,
) -> (Result<Answer, Failure>, Option<Wire>) {
    let worker = connection.worker.clone();
    let taken = worker.pool.take(attempt.address, worker.now_ms());
    worker.metrics.plain.stale.add(taken.stale);
    let mut pooled = taken.stream;
    loop {
        let reused = pooled.is_some();
        let stream = match pooled.take() {
            Some(stream) => stream,
            None => match connect(connection, attempt).await {
                Ok(stream) => stream,
                Err(failure) => return (Err(failure), Some(wire)),
            },
        };
        if connection.watch.fired() == Some(Limit::Total) {
            return (Err(Failure::Slow), Some(wire));
        }
        connection.watch.engine(Some(stream.killer()));
        connection.watch.wait(Waiting::FirstByte, worker.now_ms(), attempt.first_byte_ms);
        let (result, back) = exchange(connection, stream, attempt.to_head, wire).await;
        match (result, back) {
            // The engine closed an idle connection as we used it: that says nothing about the engine.
            (Err(Failure::Broken(_)), Some(back)) if reused => {
                worker.metrics.plain.stale.add(1);
                wire = back;
            }
            other => return other,
        }
    }
}

async fn connect(connection: &mut Connection, attempt: &Attempt) -> Result<Stream, Failure> {
    let worker = connection.worker.clone();
    worker.metrics.plain.connects.add(1);
    connection.watch.nothing();
    let connecting = Stream::connect(attempt.address, attempt.connect);
    match unless_gone(connecting, &mut connection.reader).await {
        None => Err(Failure::Gone { sent: false }),
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) if is_local(&error) => Err(Failure::Local(error)),
        Some(Err(error)) => {
            worker.pool.clear(attempt.address);
            if error.kind() == io::ErrorKind::TimedOut {
                worker.metrics.hit(Limit::Connect);
            }
            Err(Failure::Connect(error))
        }
    }
}

/// What an exchange waited for.
enum Step {
    Read(io::Result<usize>, Vec<u8>),
    Gone,
}

async fn exchange(
    connection: &mut Connection,
    mut stream: Stream,
    to_head: bool,
    wire: Wire,
) -> (Result<Answer, Failure>, Option<Wire>) {
    let from = wire.from;
    let room = wire.room;
    let (step, wrote) = write_and_read(connection, &mut stream, wire.bytes, from).await;
    let early = wrote.as_ref().is_none_or(|(result, _)| result.is_err());
    let back = wrote.map(|(_, bytes)| Wire { bytes, from, room });
    match step {
        Step::Gone => (Err(Failure::Gone { sent: true }), None),
        Step::Read(result, bytes) => match broken(connection, result) {
            Some(failure) => (Err(failure), back),
            None => (head(connection, stream, bytes, (to_head, early)).await, back),
        },
    }
}

type Wrote = (io::Result<()>, Vec<u8>);

/// Writes and reads at once: an engine may answer, or refuse, before it has read the whole request.
async fn write_and_read(
    connection: &mut Connection,
    stream: &mut Stream,
    bytes: Vec<u8>,
    from: usize,
) -> (Step, Option<Wrote>) {
    let killer = stream.killer();
    let (read, write) = stream.sides();
    let mut writing = pin!(write.write_from(bytes, from));
    let mut wrote = None;
    let mut buf = Vec::with_capacity(FIRST_READ);
    let step = loop {
        let mut reading = pin!(read.read(buf));
        let step = poll_fn(|cx| {
            if wrote.is_none()
                && let Poll::Ready(done) = writing.as_mut().poll(cx)
            {
                wrote = Some(done);
            }
            if let Poll::Ready((result, bytes)) = reading.as_mut().poll(cx) {
                return Poll::Ready(Step::Read(result, bytes));
            }
            connection.reader.poll_left(cx).map(|()| Step::Gone)
        })
        .await;
        match step {
            // `100 Continue` is no reason to stop sending.
            Step::Read(Ok(n), bytes) if n > 0 && wrote.is_none() && !has_final_head(&bytes) => buf = bytes,
            step => break step,
        }
    };
    let lost = !matches!(&step, Step::Read(Ok(n), _) if *n > 0);
    if lost && wrote.is_none() {
        // The request may be sent again, so its bytes are wanted back from the write that cannot succeed any more.
        killer.kill();
        wrote = Some(writing.as_mut().await);
    }
    (step, wrote)
}

/// Whether more than interim heads has come: a final head, or what is none.
fn has_final_head(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    loop {
        match parse_response(rest, &HeadLimits::default(), false) {
            Ok(Some(head)) if head.interim => rest = &rest[head.len as usize..],
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

/// Whether a connection failed for want of something here.
fn is_local(error: &io::Error) -> bool {
    let ours = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

/// Why a first read brought nothing, if it did not.
fn broken(connection: &Connection, result: io::Result<usize>) -> Option<Failure> {
    let error = match result {
        Ok(n) if n > 0 => return None,
        Ok(_) => io::ErrorKind::UnexpectedEof.into(),
        Err(error) => error,
    };
    Some(connection.watch.fired().map_or(Failure::Broken(error), |_| Failure::Slow))
}

/// Reads on until the head is whole; interim heads are skipped.
async fn head(
    connection: &mut Connection,
    mut stream: Stream,
    mut bytes: Vec<u8>,
    (to_head, early): (bool, bool),
) -> Result<Answer, Failure> {
    let limits = connection.worker.shared.config.limits.head;
    let mut scanner = HeadScanner::default();
    loop {
        match scanner.response(&bytes, &limits, to_head) {
            Err(bad) => return Err(Failure::Malformed(bad)),
            Ok(Some(head)) if head.interim => {
                bytes.drain(..head.len as usize);
                scanner = HeadScanner::default();
                continue;
            }
            Ok(Some(head)) => return Ok(Answer { stream, head: Box::new(head), bytes, early }),
            Ok(None) => {}
        }
        let read = unless_gone(stream.read(bytes), &mut connection.reader).await;
        let Some((result, back)) = read else { return Err(Failure::Gone { sent: true }) };
        bytes = back;
        if !matches!(result, Ok(n) if n > 0) {
            return Err(connection.watch.fired().map_or(Failure::Cut, |_| Failure::Slow));
        }
    }
}

/// The future's value, unless the client leaves first.
pub(crate) async fn unless_gone<F: Future>(future: F, reader: &mut Reader) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| poll_unless_gone(future.as_mut(), reader, cx)).await
}

/// One look at both.
pub(crate) fn poll_unless_gone<F: Future>(
    future: Pin<&mut F>,
    reader: &mut Reader,
    cx: &mut Context<'_>,
) -> Poll<Option<F::Output>> {
    match future.poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => reader.poll_left(cx).map(|()| None),
    }
}
