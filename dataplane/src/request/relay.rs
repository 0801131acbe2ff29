//! The engine's answer to the client: one read, one write for each batch of bytes, nothing held back. No read is posted
//! until the write is done, so a client that reads slowly slows the engine, not this process's memory.

use std::future::poll_fn;
use std::pin::pin;

use api::snapshot::Engine;
use dataplane_core::health::Event;
use dataplane_core::http::{
    BodyReader, Downstream, DownstreamFraming, Known, ResponseEdits, ResponseFraming, Version, write_response_head,
};
use dataplane_core::inspect::ApiKind;
use dataplane_core::relay::{Forward, Outlet, Relay, Step};
use dataplane_core::sse::{CutError, UsageFilter, Watch};

use super::ask::Ask;
use super::attempts::{Answered, Served, abandon};
use super::finish::Flight;
use super::forward::{Answer, poll_unless_gone};
use super::{Client, Ended};
use crate::metrics::StreamOutcome;
use crate::refusal::{Reason, Refusal};
use crate::rt::{self, Stream};
use crate::server::connection::{After, Connection};
use crate::server::watch::Waiting;

/// Room of a read: small while events trickle, for each stream holds it; grown while reads fill it.
/// A client that reads slowly holds one such buffer.
const ROOM: (usize, usize) = (4 << 10, 32 << 10);
/// Reads in a row that need not wait, before others get the core.
const IN_A_ROW: u32 = 16;

/// What is relayed, apart from its bytes.
struct Course {
    relay: Relay,
    ask: Box<Ask>,
    served: Served,
    stream: Stream,
    is_events: bool,
    status: u16,
    kept: Downstream,
    /// The engine's connection can be used again if all ends well.
    reusable: bool,
}

/// Why the relaying ended before the answer did.
enum Broken {
    /// The client left or does not read.
    Client,
    /// The engine broke off, with a sentence.
    Engine(&'static str, Reason),
}

/// Relays the answer to its end, whichever that is.
pub(crate) async fn relay(
    connection: &mut Connection,
    flight: &mut Flight,
    client: &Client,
    answered: Answered,
) -> Result<After, Ended> {
    let Answered { ask, served, answer } = answered;
    let worker = connection.worker.clone();
    let is_events = is_events(&answer);
    let (framing, outlet) = framing(&answer, client.version, is_events);
    let kept = if outlet == Outlet::Close { Downstream::Close } else { client.connection(&worker) };
    let mut out = Vec::with_capacity(answer.bytes.len() + 512);
    write_head(connection, client, (&answer, &served), (framing, kept), &mut out);
    let status = answer.head.status;
    let (mut course, bytes, from) = course(connection, ask, served, answer, (outlet, kept));
    // What came with the head is looked at before the head goes out: while nothing has, there is a right answer.
    let Ok(first) = course.relay.push(&bytes[from..], &mut out) else {
        course.served.endpoint.observe(Event::Failure, worker.now_ms());
        let text = "The model server's answer is malformed.";
        return Err(Refusal::new(502, Reason::UpstreamResponse, text).code("upstream_malformed").into());
    };
    flight.status(status);
    let ended = run(connection, flight, &mut course, First { out, bytes, from, step: first }).await;
    Ok(match ended {
        Ok(()) => succeed(connection, flight, course),
        Err(Broken::Client) => {
            flight.failed(Reason::ClientGone, "the client left", "router");
            flight.stream_if(course.is_events, StreamOutcome::ClientGone);
            abandon(connection, course.served.engine, course.served.endpoint);
            After::Cut
        }
        Err(Broken::Engine(sentence, reason)) => cut(connection, flight, course, sentence, reason).await,
    })
}

/// How the answer is delimited for the client.
fn framing(answer: &Answer, version: Version, is_events: bool) -> (DownstreamFraming, Outlet) {
    let in_chunks = match version {
        Version::Http11 => (DownstreamFraming::Chunked, Outlet::Chunks),
        Version::Http10 => (DownstreamFraming::Close, Outlet::Close),
    };
    match answer.head.framing {
        ResponseFraming::None => (DownstreamFraming::Bodiless, Outlet::Same),
        // An event stream of known length may lose an event, or end in one of ours.
        ResponseFraming::Length(length) if !is_events => (DownstreamFraming::Length(length), Outlet::Same),
        ResponseFraming::Chunked if version == Version::Http11 && !is_events => {
            (DownstreamFraming::Chunked, Outlet::Same)
        }
        ResponseFraming::Length(_) | ResponseFraming::Chunked | ResponseFraming::UntilClose => in_chunks,
    }
}

fn is_events(answer: &Answer) -> bool {
    let kind = answer.head.known(&answer.bytes, Known::ContentType).unwrap_or_default();
    kind.len() >= 17 && kind[..17].eq_ignore_ascii_case(b"text/event-stream")
}

fn write_head(
    connection: &Connection,
    client: &Client,
    (answer, served): (&Answer, &Served),
    (framing, kept): (DownstreamFraming, Downstream),
    out: &mut Vec<u8>,
) {
    let expose = connection.worker.shared.config.expose;
    let mut extra: Vec<(&str, &[u8])> = Vec::new();
    let (address, decision);
    if expose.endpoint {
        address = served.endpoint.endpoint.address.to_string();
        extra.push(("x-kthena-endpoint", address.as_bytes()));
    }
    if expose.decision {
        decision = told(served);
        extra.push(("x-kthena-decision", decision.as_bytes()));
    }
    let edits =
        ResponseEdits { framing, connection: kept, request_id: Some(client.id.as_str().as_bytes()), extra: &extra };
    write_response_head(out, &answer.head, &answer.bytes, &edits);
}

/// The decision in one line.
fn told(served: &Served) -> String {
    let chosen = served.decision.chosen();
    format!(
        "endpoint={} matched_blocks={} queued_tokens={} running={} cost_ms={:.3} score={} candidates={} attempts={}",
        served.endpoint.endpoint.name,
        chosen.matched_blocks,
        chosen.queued_tokens,
        chosen.running,
        chosen.cost * 1e3,
        chosen.score,
        served.decision.candidates.len(),
        served.attempts,
    )
}

fn course(
    connection: &Connection,
    ask: Box<Ask>,
    served: Served,
    answer: Answer,
    (outlet, kept): (Outlet, Downstream),
) -> (Course, Vec<u8>, usize) {
    let is_events = is_events(&answer);
    let watch = match (is_events, ask.api) {
        (true, ApiKind::Messages) => Watch::AnthropicEvents,
        (true, _) => Watch::Events,
        (false, _) => Watch::Json,
    };
    let filter = is_events && served.usage_injected && outlet != Outlet::Same;
    let body = BodyReader::response(answer.head.framing, &connection.worker.shared.config.limits.head);
    let relay = Relay::new(body, outlet, Some(watch), filter.then(UsageFilter::new));
    let Answer { stream, head, bytes, early } = answer;
    // TorchServe resets a connection after an error, whatever its head says.
    let resets = served.engine == Engine::Torchserve && head.status >= 400;
    let reusable = head.keep_alive && !early && !resets;
    let course = Course { relay, ask, served, stream, is_events, status: head.status, kept, reusable };
    (course, bytes, head.len as usize)
}

/// What is there when relaying begins.
struct First {
    /// The head, and what the first push made.
    out: Vec<u8>,
    /// What was read; the body is from `from` on.
    bytes: Vec<u8>,
    from: usize,
    step: Step,
}

/// Reads and writes until the answer is complete.
async fn run(
    connection: &mut Connection,
    flight: &mut Flight,
    course: &mut Course,
    first: First,
) -> Result<(), Broken> {
    let First { mut out, mut bytes, from, mut step } = first;
    if let Forward::AsIs(n) = step.forward {
        out.extend_from_slice(&bytes[from..from + n]);
        step.forward = Forward::Out;
    }
    let mut unread = from + step.consumed;
    let idle_ms = course.served.idle.as_millis() as u64;
    let mut in_a_row = 0;
    loop {
        if step.seen.first_event {
            let (reservation, now_ms) = (&mut course.served.endpoint.reservation, connection.worker.now_ms());
            if course.is_events && course.status < 400 {
                reservation.first_event(now_ms);
            } else {
                reservation.answered(now_ms);
            }
        }
        course.reusable &= unread == bytes.len();
        let (length, capacity) = (bytes.len(), bytes.capacity());
        match step.forward {
            Forward::AsIs(n) => {
                bytes.truncate(n);
                bytes = send(connection, bytes).await?;
            }
            Forward::Out => {
                if capacity > ROOM.0 {
                    // A client that reads slowly would hold both buffers.
                    bytes = Vec::new();
                }
                out = send(connection, out).await?;
            }
        }
        flight.relayed(step.data, course.relay.events());
        if step.done {
            return Ok(());
        }
        out = spare(out);
        bytes = resized(bytes, (length, capacity));
        connection.watch.wait(Waiting::Stream, connection.worker.now_ms(), idle_ms);
        let (arrived, waited) = read(connection, course, bytes).await;
        in_a_row = if waited { 0 } else { in_a_row + 1 };
        if in_a_row == IN_A_ROW {
            // Both sides are so fast that nothing ever waits; the core's other connections must not.
            in_a_row = 0;
            rt::yield_now().await;
        }
        let (result, back) = arrived.ok_or(Broken::Client)?;
        bytes = back;
        match result {
            Ok(n) if n > 0 => {}
            other => return ended(connection, course, out, other.is_ok()).await,
        }
        let malformed = |_| Broken::Engine("the model server's answer is malformed", Reason::UpstreamResponse);
        step = course.relay.push(&bytes, &mut out).map_err(malformed)?;
        unread = step.consumed;
    }
}

type Read = (std::io::Result<usize>, Vec<u8>);

/// Reads once, unless the client leaves first; and whether that had to wait.
async fn read(connection: &mut Connection, course: &mut Course, bytes: Vec<u8>) -> (Option<Read>, bool) {
    let mut waited = false;
    let mut reading = pin!(course.stream.read(bytes));
    let read = poll_fn(|cx| {
        let polled = poll_unless_gone(reading.as_mut(), &mut connection.reader, cx);
        waited |= polled.is_pending();
        polled
    })
    .await;
    (read, waited)
}

async fn send(connection: &mut Connection, bytes: Vec<u8>) -> Result<Vec<u8>, Broken> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    connection.write_back(bytes).await.ok_or(Broken::Client)
}

/// An empty buffer; a large one is not kept, for most reads are small.
fn spare(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.capacity() > ROOM.1 / 2 {
        return Vec::new();
    }
    bytes.clear();
    bytes
}

/// An empty buffer for the next read: larger after a read that filled it, small again after a small one.
fn resized(mut bytes: Vec<u8>, (read, capacity): (usize, usize)) -> Vec<u8> {
    if read >= capacity && capacity < ROOM.1 {
        Vec::with_capacity((capacity * 4).min(ROOM.1))
    } else if read * 4 <= capacity && capacity > ROOM.0 {
        Vec::with_capacity(ROOM.0)
    } else if bytes.capacity() < capacity {
        // It was let go while a slow client was waited for.
        Vec::with_capacity(capacity)
    } else {
        bytes.clear();
        bytes
    }
}

/// The engine closed, in order or not.
async fn ended(
    connection: &mut Connection,
    course: &mut Course,
    mut out: Vec<u8>,
    in_order: bool,
) -> Result<(), Broken> {
    course.reusable = false;
    if connection.watch.fired().is_some() {
        return Err(Broken::Engine("the model server went silent for too long", Reason::UpstreamTimeout));
    }
    // A reset is no end, also where closing would be one.
    if !in_order || !course.relay.closed(&mut out) {
        return Err(Broken::Engine("the model server broke off its answer", Reason::UpstreamTransport));
    }
    send(connection, out).await.map(drop)
}

fn succeed(connection: &Connection, flight: &mut Flight, course: Course) -> After {
    let Course { relay, ask, served, stream, is_events, status, kept, reusable } = course;
    let worker = &connection.worker;
    let now_ms = worker.now_ms();
    if let Some(usage) = relay.usage() {
        flight.usage(&usage);
        // Where the engine sees more than the text that was hashed, its count would teach a wrong ratio.
        if let (Some(tokens), true) = (usage.prompt, ask.inspected.is_all_text()) {
            served.endpoint.backend().learn_bytes_per_token(served.prompt_bytes.into(), tokens);
            flight.cached(served.prompt_bytes, &usage);
        }
    }
    // An error status says for itself what it is.
    let in_band = relay.has_error() && status < 400;
    flight.stream_if(is_events, if in_band { StreamOutcome::InBandError } else { StreamOutcome::Ok });
    if in_band {
        flight.failed(Reason::UpstreamResponse, "the model server reported an error inside its answer", "upstream");
    }
    if served.healthy {
        served.endpoint.observe(Event::Success, now_ms);
    }
    let address = served.endpoint.endpoint.address;
    served.endpoint.reservation.finish(now_ms);
    if reusable {
        worker.pool.put(address, stream, now_ms);
    }
    if kept == Downstream::Close { After::Close } else { After::Keep }
}

/// The engine broke off: an event stream gets an error event, and every answer a visible cut.
async fn cut(
    connection: &mut Connection,
    flight: &mut Flight,
    mut course: Course,
    sentence: &'static str,
    reason: Reason,
) -> After {
    let worker = connection.worker.clone();
    flight.failed(reason, sentence, "upstream");
    flight.stream_if(course.is_events, StreamOutcome::UpstreamError);
    course.served.endpoint.observe(Event::Failure, worker.now_ms());
    let mut out = Vec::new();
    let error = CutError { message: sentence, kind: "upstream_error", code: "stream_cut" };
    let told = course.is_events && course.relay.cut(course.ask.api, &error, &mut out) && connection.write(out).await;
    if reason == Reason::UpstreamTimeout {
        abandon(connection, course.served.engine, course.served.endpoint);
    }
    // Closed with FIN rather than a reset, which could destroy the event on its way; the missing last chunk shows that
    // the answer was cut. A client of HTTP/1.0 can tell by the event alone.
    if told { After::Close } else { After::Cut }
}
