//! The engine's answer to the client: one read, one write for each batch of bytes, nothing held back. No read is posted
//! until the write is done, so a client that reads slowly slows the engine, not this process's memory.

use dataplane_core::http::{
    BodyReader, Downstream, DownstreamFraming, ResponseEdits, ResponseFraming, Version, write_response_head,
};
use dataplane_core::inspect::ApiKind;
use dataplane_core::plan::Usage;
use dataplane_core::relay::{Forward, Outlet, Relay};
use dataplane_core::sse::{CutError, Tap, UsageFilter, Watch};

use super::Client;
use super::ask::Ask;
use super::attempts::{Answered, abandon};
use super::decide::Decided;
use super::finish::Flight;
use super::forward::{Answer, unless_gone};
use crate::metrics::StreamOutcome;
use crate::refusal::Reason;
use crate::rt::Stream;
use crate::server::connection::{After, Connection};
use crate::server::watch::Waiting;

/// Room of a read: small while events trickle, for each stream holds it; grown while reads fill it.
const ROOM: (usize, usize) = (4 << 10, 64 << 10);

/// What is relayed, apart from its bytes.
struct Course {
    relay: Relay,
    ask: Ask,
    decided: Decided,
    stream: Stream,
    is_events: bool,
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
) -> After {
    let Answered { ask, decided, answer } = answered;
    let worker = connection.worker.clone();
    let mut kept = client.connection(&worker);
    let (framing, outlet) = framing(&answer, client.version, is_events(&answer));
    if outlet == Outlet::Close {
        kept = Downstream::Close;
    }
    flight.status(answer.head.status);
    let mut out = Vec::with_capacity(answer.bytes.len() + 512);
    write_head(connection, client, (&answer, &decided), (framing, kept), &mut out);
    let (mut course, bytes, from) = course(connection, ask, decided, answer, (outlet, kept));
    match run(connection, flight, &mut course, (out, bytes, from)).await {
        Ok(()) => succeed(connection, flight, course),
        Err(Broken::Client) => {
            flight.failed(Reason::ClientGone, "the client left", "router");
            flight.stream_if(course.is_events, StreamOutcome::ClientGone);
            abandon(connection, course.decided);
            After::Cut
        }
        Err(Broken::Engine(sentence, reason)) => cut(connection, flight, course, sentence, reason).await,
    }
}

/// How the answer is delimited for the client.
fn framing(answer: &Answer, version: Version, is_events: bool) -> (DownstreamFraming, Outlet) {
    let in_chunks = match version {
        Version::Http11 => (DownstreamFraming::Chunked, Outlet::Chunks),
        Version::Http10 => (DownstreamFraming::Close, Outlet::Close),
    };
    match answer.head.framing {
        ResponseFraming::None => (DownstreamFraming::Bodiless, Outlet::Same),
        ResponseFraming::Length(length) => (DownstreamFraming::Length(length), Outlet::Same),
        ResponseFraming::Chunked if version == Version::Http11 && !is_events => {
            (DownstreamFraming::Chunked, Outlet::Same)
        }
        ResponseFraming::Chunked | ResponseFraming::UntilClose => in_chunks,
    }
}

fn is_events(answer: &Answer) -> bool {
    let kind = answer.head.header(&answer.bytes, "content-type").unwrap_or_default();
    kind.len() >= 17 && kind[..17].eq_ignore_ascii_case(b"text/event-stream")
}

fn write_head(
    connection: &Connection,
    client: &Client,
    (answer, decided): (&Answer, &Decided),
    (framing, kept): (DownstreamFraming, Downstream),
    out: &mut Vec<u8>,
) {
    let expose = connection.worker.shared.config.expose;
    let mut extra: Vec<(&str, &[u8])> = Vec::new();
    let (address, decision);
    if expose.endpoint {
        address = decided.plan.endpoint.endpoint.address.to_string();
        extra.push(("x-kthena-endpoint", address.as_bytes()));
    }
    if expose.decision {
        decision = told(decided);
        extra.push(("x-kthena-decision", decision.as_bytes()));
    }
    let edits =
        ResponseEdits { framing, connection: kept, request_id: Some(client.id.as_str().as_bytes()), extra: &extra };
    write_response_head(out, &answer.head, &answer.bytes, &edits);
}

/// The decision in one line.
fn told(decided: &Decided) -> String {
    let chosen = decided.plan.decision.chosen();
    format!(
        "endpoint={} matched_blocks={} queued_tokens={} running={} cost_ms={:.3} score={} candidates={} attempts={}",
        decided.plan.endpoint.endpoint.name,
        chosen.matched_blocks,
        chosen.queued_tokens,
        chosen.running,
        chosen.cost * 1e3,
        chosen.score,
        decided.plan.decision.candidates.len(),
        decided.plan.attempts(),
    )
}

fn course(
    connection: &Connection,
    ask: Ask,
    decided: Decided,
    answer: Answer,
    (outlet, kept): (Outlet, Downstream),
) -> (Course, Vec<u8>, usize) {
    let is_events = is_events(&answer);
    let watch = match (is_events, ask.api) {
        (true, ApiKind::Messages) => Watch::AnthropicEvents,
        (true, _) => Watch::Events,
        (false, _) => Watch::Json,
    };
    let filter = is_events && decided.splices.usage_injected() && outlet != Outlet::Same;
    let body = BodyReader::response(answer.head.framing, &connection.worker.shared.config.limits.head);
    let relay = Relay::new(body, outlet, Some(Tap::new(watch)), filter.then(UsageFilter::new));
    // TorchServe resets a connection after an error, whatever its head says.
    let resets = decided.backend.engine == api::snapshot::Engine::Torchserve && answer.head.status >= 400;
    let reusable = answer.head.keep_alive && !answer.early && !resets;
    let Answer { stream, head, bytes, early: _ } = answer;
    (Course { relay, ask, decided, stream, is_events, kept, reusable }, bytes, head.len as usize)
}

/// Reads and writes until the answer is complete.
async fn run(
    connection: &mut Connection,
    flight: &mut Flight,
    course: &mut Course,
    (mut out, mut bytes, mut from): (Vec<u8>, Vec<u8>, usize),
) -> Result<(), Broken> {
    let worker = connection.worker.clone();
    let idle_ms = course.decided.plan.deadlines.idle.as_millis() as u64;
    loop {
        let pushed = course.relay.push(&bytes[from..], &mut out);
        let malformed = |_| Broken::Engine("the model server's answer is malformed", Reason::UpstreamResponse);
        let step = pushed.map_err(malformed)?;
        if step.seen.first_event && !flight.has_first_event() {
            course.decided.plan.endpoint.reservation.first_event(worker.now_ms());
        }
        if from + step.consumed < bytes.len() {
            course.reusable = false;
        }
        let written = match step.forward {
            Forward::AsIs(n) if out.is_empty() && from == 0 => {
                let room = bytes.capacity();
                bytes.truncate(n);
                let spare = send(connection, std::mem::take(&mut bytes)).await?;
                bytes = resized(spare, n, room);
                true
            }
            Forward::AsIs(n) => {
                out.extend_from_slice(&bytes[from..from + n]);
                false
            }
            Forward::Out => false,
        };
        if !written {
            out = send(connection, std::mem::take(&mut out)).await?;
            let (n, room) = (bytes.len(), bytes.capacity());
            bytes = resized(bytes, n, room);
        }
        flight.relayed(step.data, course.relay.events());
        if step.done {
            return Ok(());
        }
        (out, from) = (cleared(out), 0);
        connection.watch.wait(Waiting::Stream, worker.now_ms(), idle_ms);
        let read = unless_gone(course.stream.read(bytes), &mut connection.reader).await;
        let (result, back) = read.ok_or(Broken::Client)?;
        bytes = back;
        if !matches!(result, Ok(n) if n > 0) {
            return ended(connection, course, out, result.is_ok()).await;
        }
    }
}

async fn send(connection: &mut Connection, bytes: Vec<u8>) -> Result<Vec<u8>, Broken> {
    if bytes.is_empty() {
        return Ok(bytes);
    }
    connection.write_back(bytes).await.ok_or(Broken::Client)
}

fn cleared(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.clear();
    bytes
}

/// An empty buffer for the next read: larger after a read that filled it, small again after a small one.
fn resized(bytes: Vec<u8>, read: usize, room: usize) -> Vec<u8> {
    if read >= room && room < ROOM.1 {
        Vec::with_capacity((room * 4).min(ROOM.1))
    } else if read * 4 <= room && room > ROOM.0 {
        Vec::with_capacity(ROOM.0)
    } else {
        cleared(bytes)
    }
}

/// The engine closed, in order or not: a reset never ends an answer, also not one that is delimited by the close.
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
    if !in_order || !course.relay.closed(&mut out) {
        return Err(Broken::Engine("the model server broke off its answer", Reason::UpstreamTransport));
    }
    send(connection, out).await.map(drop)
}

fn succeed(connection: &Connection, flight: &mut Flight, course: Course) -> After {
    let Course { relay, ask, decided, stream, is_events, kept, reusable } = course;
    let worker = &connection.worker;
    let now_ms = worker.now_ms();
    if let Some(usage) = relay.usage() {
        let prompt_tokens = usage.prompt.unwrap_or(0);
        flight.usage(&Usage {
            prompt_tokens,
            cached_tokens: usage.cached,
            completion_tokens: usage.completion.unwrap_or(0),
        });
        let plain = ask.inspected.tools.is_none();
        if plain {
            decided.backend.live.learn_bytes_per_token(decided.prompt_bytes().into(), prompt_tokens);
        }
    }
    flight.stream_if(is_events, if relay.has_error() { StreamOutcome::InBandError } else { StreamOutcome::Ok });
    if relay.has_error() {
        flight.failed(Reason::UpstreamResponse, "the model server reported an error inside its answer", "upstream");
    }
    let address = decided.plan.endpoint.endpoint.address;
    decided.plan.endpoint.reservation.finish(now_ms);
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
    course.decided.plan.endpoint.observe(dataplane_core::health::Event::Failure, worker.now_ms());
    let mut out = Vec::new();
    let error = CutError { message: sentence, kind: "upstream_error", code: "stream_cut" };
    if course.is_events && course.relay.cut(course.ask.api, &error, &mut out) && connection.write(out).await {
        // Closed with FIN rather than a reset, which could destroy the event on its way; the missing last chunk shows
        // that the answer was cut. A client of HTTP/1.0 can tell by the event alone.
        return After::Close;
    }
    After::Cut
}
