//! From a plan to an answer: attempts at engines, one after another, only while that is safe.

use std::sync::Arc;
use std::time::Duration;

use api::snapshot::Engine;
use dataplane_core::health::Event;
use dataplane_core::http::{BodyReader, Method};
use dataplane_core::plan::{Chosen, Decision, Downstream, Failed, Failure as Kind, Refusal as Meaning};

use super::ask::Ask;
use super::compose::{Edits, compose, renamed_target};
use super::decide::Decided;
use super::finish::Flight;
use super::forward::{self, Answer, Attempt, Failure, Wire, unless_gone};
use super::read::Received;
use super::triton;
use super::{Client, Ended};
use crate::metrics::Limit;
use crate::refusal::{Reason, Refusal};
use crate::rt;
use crate::server::connection::Connection;

/// A request that is ready to go.
pub(crate) struct Outgoing {
    pub(crate) received: Received,
    pub(crate) ask: Box<Ask>,
    pub(crate) decided: Box<Decided>,
}

/// A request that an engine answers. Of the decision only what the answer needs is held: no table.
pub(crate) struct Answered {
    pub(crate) ask: Box<Ask>,
    pub(crate) served: Served,
    pub(crate) answer: Answer,
}

/// By whom, and what is to be learned from it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) endpoint: Chosen,
    pub(crate) engine: Engine,
    pub(crate) decision: Arc<Decision>,
    pub(crate) attempts: u8,
    pub(crate) idle: Duration,
    pub(crate) usage_injected: bool,
    pub(crate) prompt_bytes: u32,
    /// The answer is no sign of illness.
    pub(crate) healthy: bool,
}

/// Sends the request until an engine answers or no further attempt is allowed.
pub(crate) async fn run(
    connection: &mut Connection,
    flight: &mut Flight,
    client: &Client,
    outgoing: Outgoing,
) -> Result<Answered, Ended> {
    let worker = connection.worker.clone();
    let Outgoing { received, ask, mut decided } = outgoing;
    let to_head = received.head.method == Method::Head;
    let mut wire = compose_for(connection, client, received, (&ask, &decided));
    if decided.backend.engine == Engine::Triton {
        triton::takes(&wire.bytes[wire.from..])?;
    }
    let deadlines = decided.plan.deadlines;
    connection.watch.limit_total(0, deadlines.total_at_ms);
    loop {
        let endpoint = decided.plan.endpoint.endpoint.clone();
        let attempt = Attempt {
            address: endpoint.address,
            connect: deadlines.connect,
            first_byte_ms: deadlines.first_byte.as_millis() as u64,
            to_head,
        };
        decided.plan.endpoint.reservation.live().attempt();
        flight.attempt(&endpoint, decided.plan.endpoint.matched_blocks);
        let (result, back) = forward::attempt(connection, &attempt, wire).await;
        let lost = match judge(connection, &decided, result).await {
            Ok(answer) => return Ok(answered(flight, ask, *decided, (answer, true))),
            Err(lost) => lost,
        };
        let (kind, last) = match lost {
            Lost::Gone { sent } => {
                flight.attempt_failed(None);
                let Decided { plan, backend, .. } = *decided;
                if sent {
                    abandon(connection, backend.engine, plan.endpoint);
                }
                return Err(Ended::Gone);
            }
            Lost::Refused(refusal) => return Err((*refusal).into()),
            Lost::Failed(kind, last) => (kind, last),
        };
        flight.attempt_failed(status_of(kind));
        if kind.is_unhealthy() {
            decided.plan.endpoint.observe(Event::Failure, worker.now_ms());
        }
        match back {
            Some(back) if try_again(connection, flight, &mut decided, kind) => {
                pause(connection, decided.plan.retry.interval).await?;
                let rank = decided.plan.endpoint.endpoint.key.rank;
                wire = if decided.backend.ranked { back.for_rank(rank) } else { back };
            }
            _ => return settle(connection, flight, (ask, *decided), last),
        }
    }
}

/// Whether a further attempt is allowed; then it is decided.
fn try_again(connection: &Connection, flight: &mut Flight, decided: &mut Decided, kind: Kind) -> bool {
    let failed = Failed { failure: kind, downstream: Downstream::Untouched };
    if !decided.plan.retry.may_retry(failed) {
        return false;
    }
    if !decided.plan.retry.take(failed) {
        connection.worker.metrics.hit(Limit::RetryBudget);
        return false;
    }
    decided.again(&connection.worker, flight)
}

/// The last attempt failed: the client gets our answer, or the engine's.
fn settle(
    connection: &Connection,
    flight: &mut Flight,
    (ask, decided): (Box<Ask>, Decided),
    last: Last,
) -> Result<Answered, Ended> {
    match last {
        Last::Refuse(refusal) => {
            if refusal.reason == Reason::UpstreamTimeout {
                abandon(connection, decided.backend.engine, decided.plan.endpoint);
            }
            Err((*refusal).into())
        }
        Last::Pass(answer) => Ok(answered(flight, ask, decided, (*answer, false))),
    }
}

fn answered(flight: &mut Flight, ask: Box<Ask>, decided: Decided, (answer, healthy): (Answer, bool)) -> Answered {
    flight.answered(answer.head.status);
    let served = Served {
        engine: decided.backend.engine,
        decision: decided.plan.decision.clone(),
        attempts: decided.plan.attempts(),
        idle: decided.plan.deadlines.idle,
        usage_injected: decided.splices.usage_injected(),
        prompt_bytes: decided.prompt_bytes(),
        endpoint: decided.plan.endpoint,
        healthy,
    };
    Answered { ask, served, answer }
}

fn compose_for(connection: &Connection, client: &Client, received: Received, (ask, decided): (&Ask, &Decided)) -> Wire {
    let target = match (&ask.in_path, &decided.served) {
        (Some(at), Some(name)) => {
            let query = received.head.query.map(|q| q.of(received.input.bytes()));
            Some(renamed_target(received.path(), query, at, name.as_str()))
        }
        _ => None,
    };
    let edits = Edits {
        id: client.id.as_str(),
        client: connection.peer.ip(),
        credentials: decided.backend.credentials,
        ranked: decided.backend.ranked,
        target: target.as_deref(),
    };
    compose(received, &decided.splices, &decided.plan.endpoint.endpoint, &edits)
}

/// Why an attempt is lost.
enum Lost {
    Gone {
        sent: bool,
    },
    /// For want of something here; no other engine would help.
    Refused(Box<Refusal>),
    Failed(Kind, Last),
}

/// What the client gets if this attempt was the last.
enum Last {
    /// An answer of ours.
    Refuse(Box<Refusal>),
    /// The engine's answer, an error that another engine might not have given.
    Pass(Box<Answer>),
}

async fn judge(
    connection: &mut Connection,
    decided: &Decided,
    result: Result<Answer, Failure>,
) -> Result<Answer, Lost> {
    let refuse = |kind, refusal: Refusal| Lost::Failed(kind, Last::Refuse(Box::new(refusal)));
    let transport = |text: String| Refusal::new(502, Reason::UpstreamTransport, text).code("upstream_unreachable");
    match result {
        Ok(answer) if matches!(answer.head.status, 502..=504) => {
            let (answer, meaning) = meaning(connection, decided.backend.engine, answer).await?;
            Err(Lost::Failed(Kind::Status(answer.head.status, meaning), Last::Pass(Box::new(answer))))
        }
        Ok(answer) => Ok(answer),
        Err(Failure::Gone { sent }) => Err(Lost::Gone { sent }),
        Err(Failure::Local(error)) => {
            let text = format!("The proxy cannot open a connection: {error}.");
            let refusal = Refusal::new(503, Reason::Proxy, text).code("overloaded").retry_after(1);
            Err(Lost::Refused(Box::new(refusal)))
        }
        Err(Failure::Connect(error)) => {
            Err(refuse(Kind::Connect, transport(format!("The model server cannot be reached: {error}."))))
        }
        Err(Failure::Broken(error)) => {
            let text = format!("The model server closed the connection before it answered: {error}.");
            Err(refuse(Kind::ResetBeforeAnswer, transport(text)))
        }
        Err(Failure::Cut) => {
            Err(refuse(Kind::CutAnswer, transport("The model server broke off within its answer's head.".into())))
        }
        Err(Failure::Slow) => Err(refuse(Kind::FirstByteTimeout, Refusal::upstream_slow())),
        Err(Failure::Malformed(bad)) => {
            let text = format!("The model server's answer is not valid HTTP: {bad}.");
            let refusal = Refusal::new(502, Reason::UpstreamResponse, text).code("upstream_malformed");
            Err(refuse(Kind::Framing, refusal))
        }
    }
}

/// Reads as much of an error as tells what the engine means by it.
async fn meaning(connection: &mut Connection, engine: Engine, mut answer: Answer) -> Result<(Answer, Meaning), Lost> {
    let telling = matches!(engine, Engine::Triton | Engine::Torchserve) && answer.head.status == 503;
    if !telling {
        return Ok((answer, Meaning::Unknown));
    }
    let limits = connection.worker.shared.config.limits.head;
    loop {
        let mut body = Vec::new();
        let mut reader = BodyReader::response(answer.head.framing, &limits);
        let scan = reader.scan(&answer.bytes[answer.head.len as usize..], |data| body.extend_from_slice(data));
        let enough = body.len() >= Meaning::LOOK_BYTES || !matches!(scan, Ok(scan) if !scan.done);
        if enough || reader.is_done() {
            return Ok((answer, Meaning::of_503(engine, &body)));
        }
        let read = unless_gone(answer.stream.read(answer.bytes), &mut connection.reader).await;
        let Some((result, bytes)) = read else { return Err(Lost::Gone { sent: true }) };
        answer.bytes = bytes;
        if !matches!(result, Ok(n) if n > 0) {
            return Ok((answer, Meaning::of_503(engine, &body)));
        }
    }
}

fn status_of(kind: Kind) -> Option<u16> {
    match kind {
        Kind::Status(status, _) => Some(status),
        _ => None,
    }
}

async fn pause(connection: &mut Connection, interval: Duration) -> Result<(), Ended> {
    connection.watch.nothing();
    if interval.is_zero() {
        return Ok(());
    }
    unless_gone(rt::sleep(interval), &mut connection.reader).await.ok_or(Ended::Gone)
}

/// Nobody waits for the answer any more. An engine that does not notice stays counted for as long as it usually works.
pub(crate) fn abandon(connection: &Connection, engine: Engine, endpoint: Chosen) {
    if matches!(engine, Engine::Triton | Engine::Torchserve) {
        let until = endpoint.reservation.abandoned_until_ms();
        connection.worker.parking.borrow_mut().abandon_until(endpoint.reservation, until);
    }
}
