//! Reading a request: its head, then its whole body, because the model is in it.

use std::ops::Range;

use dataplane_core::http::{BodyReader, CONTINUE, HeadScanner, RequestFraming, RequestHead};

use super::Ended;
use crate::metrics::Limit;
use crate::refusal::Refusal;
use crate::server::connection::Connection;
use crate::server::reader::{Input, WAIT_FOR};
use crate::server::watch::Waiting;
use crate::shared::Buffered;

/// Bytes that are set aside for a body because its length was announced; more only as it arrives.
const TRUSTED_LENGTH: usize = 64 << 10;
/// Room after a body for what is spliced into it, so that it need not move for that.
const SPLICED: usize = 256;
/// Of a body of which so much has come, room for all of it is taken at once: it costs memory only as it is filled, and to move what has
/// come each time that it doubles would hold the core.
const EARNED: usize = 256 << 10;
/// Room of each further read of a chunked body.
const CHUNKED_READ: usize = 16 << 10;
/// The whole of a body may take so many times what its parts may.
const WHOLE: u64 = 10;
/// Bodies that came in one read are counted from here on: smaller ones are bounded by the number of connections, and
/// counting them would only make cores contend.
const LARGE: usize = 16 << 10;

/// A whole request: head and body in one buffer.
pub(crate) struct Received {
    pub(crate) input: Input,
    /// Boxed, as all that is large and handed from phase to phase.
    pub(crate) head: Box<RequestHead>,
    /// Of the input's bytes.
    pub(crate) body: Range<usize>,
    /// Held as long as the bytes are.
    pub(crate) room: Buffered,
}

impl Received {
    /// The body as it was sent, without chunks.
    pub(crate) fn body(&self) -> &[u8] {
        &self.input.bytes()[self.body.clone()]
    }

    /// The path, which is ASCII.
    pub(crate) fn path(&self) -> &str {
        path(&self.head, self.input.bytes())
    }
}

/// The path of a head, which the codec has checked to be ASCII.
pub(crate) fn path<'b>(head: &RequestHead, bytes: &'b [u8]) -> &'b str {
    std::str::from_utf8(head.path.of(bytes)).unwrap_or_default()
}

/// Reads a head; its bytes stay in the reader.
pub(crate) async fn head(connection: &mut Connection) -> Result<Box<RequestHead>, Ended> {
    let limits = connection.worker.shared.config.limits.head;
    let header_ms = connection.worker.limits_ms.header_time;
    let mut scanner = HeadScanner::default();
    let mut waited = false;
    loop {
        match scanner.request(connection.reader.input().bytes(), &limits) {
            Ok(Some(head)) => return Ok(Box::new(head)),
            Err(bad) => return Err(Refusal::bad_head(&bad).into()),
            Ok(None) => {}
        }
        if !waited {
            // The limit is on the whole head, not on each read.
            connection.watch.wait(Waiting::Head, connection.worker.now_ms(), header_ms);
            waited = true;
        }
        if !connection.reader.more().await {
            return Err(ended(connection, "head", Limit::HeaderTime));
        }
    }
}

/// Reads the body that follows the head in the reader.
pub(crate) async fn body(connection: &mut Connection, head: Box<RequestHead>) -> Result<Received, Ended> {
    let room = Buffered::new(&connection.worker.shared);
    match head.framing {
        RequestFraming::None => Ok(received(connection, head, 0, room)),
        RequestFraming::Length(length) => of_length(connection, head, (length, room)).await,
        RequestFraming::Chunked => chunked(connection, head, room).await,
    }
}

async fn of_length(
    connection: &mut Connection,
    head: Box<RequestHead>,
    (length, mut room): (u64, Buffered),
) -> Result<Received, Ended> {
    let most = connection.worker.shared.config.limits.body_bytes;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > most {
        return Err(Refusal::body_too_large(most).into());
    }
    let end = head.len as usize + length;
    let mut have = connection.reader.input().bytes().len();
    if have < end {
        let mut pace = Pace::begin(connection, &head).await?;
        while have < end {
            // Room is taken as bytes arrive, doubling: an announced length costs its sender nothing.
            let wanted = (end - have).min(have.max(TRUSTED_LENGTH));
            hold(&mut room, have + wanted - head.len as usize)?;
            connection.reader.reserve(if have < EARNED { wanted } else { end - have } + SPLICED);
            if !connection.reader.more_of(end - have).await {
                return Err(ended(connection, "body", Limit::BodyIdle));
            }
            let came = connection.reader.input().bytes().len() - have;
            pace.came(connection, came);
            have += came;
        }
    }
    if length >= LARGE {
        hold(&mut room, length)?;
    }
    Ok(received(connection, head, length, room))
}

/// Takes room for so many bytes in all.
fn hold(room: &mut Buffered, bytes: usize) -> Result<(), Refusal> {
    if room.grow_to(bytes) { Ok(()) } else { Err(Refusal::memory_full()) }
}

/// The request as it lies in the reader; what follows it stays there.
fn received(connection: &mut Connection, head: Box<RequestHead>, length: usize, room: Buffered) -> Received {
    let mut input = connection.reader.take_input();
    let start = head.len as usize;
    let body = start..start + length;
    let next = input.split_off(body.end);
    connection.reader.put_back(next);
    Received { input, head, body, room }
}

/// Takes the chunks apart on the way: the request leaves with a length.
async fn chunked(connection: &mut Connection, head: Box<RequestHead>, mut room: Buffered) -> Result<Received, Ended> {
    let limits = connection.worker.shared.config.limits;
    let most = limits.body_bytes;
    let mut reader = BodyReader::request(head.framing, &limits.head);
    let mut raw = connection.reader.take_input();
    let start = head.len as usize;
    let mut input = Input::with_room(raw.bytes().len());
    input.0.extend_from_slice(&raw.bytes()[..start]);
    let mut from = start;
    let mut pace: Option<Pace> = None;
    loop {
        let scan = reader.scan(&raw.bytes()[from..], |data| input.0.extend_from_slice(data));
        let scan = scan.map_err(|bad| Refusal::bad_chunk(&bad))?;
        let length = input.bytes().len() - start;
        if length > most {
            return Err(Refusal::body_too_large(most).into());
        }
        if length > room.bytes() && (pace.is_some() || length >= LARGE) {
            // Doubled, so that a body in small chunks does not ask for room with each of them.
            hold(&mut room, (2 * length).min(most))?;
        }
        if scan.done {
            connection.reader.put_back(raw.split_off(from + scan.consumed));
            return Ok(Received { body: start..start + length, input, head, room });
        }
        match &mut pace {
            Some(pace) => pace.came(connection, raw.bytes().len()),
            None => {
                pace = Some(Pace::begin(connection, &head).await?);
                raw = Input::with_room(CHUNKED_READ);
            }
        }
        raw.clear();
        connection.reader.put_back(raw);
        if !connection.reader.more().await {
            return Err(ended(connection, "body", Limit::BodyIdle));
        }
        raw = connection.reader.take_input();
        from = 0;
    }
}

/// How fast the rest of a body comes: [`WAIT_FOR`] bytes, or what is missing, each `body_idle`, and all of it within [`WHOLE`] times that. A byte
/// now and then buys no time: a few clients could hold the room that all bodies share.
struct Pace {
    end_ms: u64,
    /// Since the limit was moved.
    came: usize,
}

impl Pace {
    /// Answers `Expect: 100-continue` first.
    async fn begin(connection: &mut Connection, head: &RequestHead) -> Result<Self, Ended> {
        if head.expect_continue && !connection.write(CONTINUE.to_vec()).await {
            return Err(Ended::Gone);
        }
        let worker = &connection.worker;
        let pace = Self { end_ms: worker.now_ms() + WHOLE * worker.limits_ms.body_idle, came: 0 };
        pace.wait(connection);
        Ok(pace)
    }

    /// So many bytes more have come, of chunks their framing too.
    fn came(&mut self, connection: &Connection, bytes: usize) {
        self.came += bytes;
        if self.came >= WAIT_FOR {
            self.came = 0;
            self.wait(connection);
        }
    }

    fn wait(&self, connection: &Connection) {
        let now_ms = connection.worker.now_ms();
        let due_ms = self.end_ms.min(now_ms + connection.worker.limits_ms.body_idle);
        connection.watch.wait_until(Waiting::Body, now_ms, due_ms);
    }
}

/// Why no more bytes came.
fn ended(connection: &Connection, what: &'static str, limit: Limit) -> Ended {
    match connection.watch.fired() {
        Some(fired) if fired == limit => Refusal::client_slow(what).into(),
        _ => Ended::Gone,
    }
}
