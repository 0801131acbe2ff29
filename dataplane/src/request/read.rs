//! Reading a request: its head, then its whole body, because the model is in it.

use std::ops::Range;

use dataplane_core::http::{BodyReader, CONTINUE, HeadScanner, RequestFraming, RequestHead};

use super::Ended;
use crate::metrics::Limit;
use crate::refusal::Refusal;
use crate::server::connection::Connection;
use crate::server::reader::Input;
use crate::server::watch::Waiting;
use crate::shared::Buffered;

/// Bytes that are set aside for a body because its length was announced; more only as it arrives.
const TRUSTED_LENGTH: usize = 1 << 20;

/// A whole request: head and body in one buffer.
pub(crate) struct Received {
    pub(crate) input: Input,
    pub(crate) head: RequestHead,
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
pub(crate) async fn head(connection: &mut Connection) -> Result<RequestHead, Ended> {
    let limits = connection.worker.shared.config.limits.head;
    let header_ms = connection.worker.limits_ms.header_time;
    let mut scanner = HeadScanner::default();
    let mut waited = false;
    loop {
        match scanner.request(connection.reader.input().bytes(), &limits) {
            Ok(Some(head)) => return Ok(head),
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

/// Reads the body that follows the head in the reader. What comes after it is not the client's to wait for, such as a
/// turn on a helper thread.
pub(crate) async fn body(connection: &mut Connection, head: RequestHead) -> Result<Received, Ended> {
    let received = match head.framing {
        RequestFraming::None => {
            let room = connection.worker.shared.buffer(0).ok_or_else(Refusal::memory_full)?;
            Ok(received(connection, head, 0, room))
        }
        RequestFraming::Length(length) => of_length(connection, head, length).await,
        RequestFraming::Chunked => chunked(connection, head).await,
    };
    connection.watch.nothing();
    received
}

async fn of_length(connection: &mut Connection, head: RequestHead, length: u64) -> Result<Received, Ended> {
    let most = connection.worker.shared.config.limits.body_bytes;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > most {
        return Err(Refusal::body_too_large(most).into());
    }
    let room = connection.worker.shared.buffer(length).ok_or_else(Refusal::memory_full)?;
    let end = head.len as usize + length;
    let have = connection.reader.input().bytes().len();
    if have < end {
        expect(connection, &head).await?;
        connection.reader.reserve((end - have).min(TRUSTED_LENGTH));
    }
    loop {
        let have = connection.reader.input().bytes().len();
        if have >= end {
            return Ok(received(connection, head, length, room));
        }
        wait(connection);
        if !connection.reader.more_of(end - have).await {
            return Err(ended(connection, "body", Limit::BodyIdle));
        }
    }
}

/// The request as it lies in the reader; what follows it stays there.
fn received(connection: &mut Connection, head: RequestHead, length: usize, room: Buffered) -> Received {
    let mut input = connection.reader.take_input();
    let start = head.len as usize;
    let body = start..start + length;
    let next = input.split_off(body.end);
    connection.reader.put_back(next);
    Received { input, head, body, room }
}

/// Takes the chunks apart on the way: the request leaves with a length.
async fn chunked(connection: &mut Connection, head: RequestHead) -> Result<Received, Ended> {
    let shared = connection.worker.shared.clone();
    let most = shared.config.limits.body_bytes;
    let mut reader = BodyReader::request(head.framing, &shared.config.limits.head);
    let mut raw = connection.reader.take_input();
    let start = head.len as usize;
    let mut input = Input::with_room(raw.bytes().len());
    input.0.extend_from_slice(&raw.bytes()[..start]);
    let mut from = start;
    let mut asked = false;
    let mut room = shared.buffer(0).ok_or_else(Refusal::memory_full)?;
    loop {
        let scan = reader.scan(&raw.bytes()[from..], |data| input.0.extend_from_slice(data));
        let scan = scan.map_err(|bad| Refusal::bad_chunk(&bad))?;
        let length = input.bytes().len() - start;
        if length > most {
            return Err(Refusal::body_too_large(most).into());
        }
        if length > room.bytes() {
            // Doubled, so that a body in small chunks does not ask for room with each of them.
            drop(room);
            room = shared.buffer((2 * length).min(most)).ok_or_else(Refusal::memory_full)?;
        }
        if scan.done {
            connection.reader.put_back(raw.split_off(from + scan.consumed));
            return Ok(Received { body: start..start + length, input, head, room });
        }
        if !std::mem::replace(&mut asked, true) {
            expect(connection, &head).await?;
        }
        wait(connection);
        if !connection.reader.more().await {
            return Err(ended(connection, "body", Limit::BodyIdle));
        }
        raw = connection.reader.take_input();
        from = 0;
    }
}

/// Answers `Expect: 100-continue` before the body is read.
async fn expect(connection: &mut Connection, head: &RequestHead) -> Result<(), Ended> {
    if head.expect_continue && !connection.write(CONTINUE.to_vec()).await {
        return Err(Ended::Gone);
    }
    Ok(())
}

fn wait(connection: &Connection) {
    let worker = &connection.worker;
    connection.watch.wait(Waiting::Body, worker.now_ms(), worker.limits_ms.body_idle);
}

/// Why no more bytes came.
fn ended(connection: &Connection, what: &'static str, limit: Limit) -> Ended {
    match connection.watch.fired() {
        Some(fired) if fired == limit => Refusal::client_slow(what, limit).into(),
        _ => Ended::Gone,
    }
}
