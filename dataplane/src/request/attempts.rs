//! From a plan to an answer: attempts at engines, one after another, only while that is safe.

use std::time::Duration;

use api::snapshot::Engine;
use dataplane_core::health::Event;
use dataplane_core::http::{BodyReader, Method};
use dataplane_core::plan::{Downstream, Failed, Failure as Kind, Refusal as Meaning};

use super::ask::Ask;
use super::compose::{Edits, compose, renamed_target};
use super::decide::Decided;
use super::finish::Flight;
use super::forward::{self, Answer, Attempt, Failure, Wire, unless_gone};
use super::read::Received;
use super::{Client, Ended};
use crate::refusal::{Reason, Refusal};
use crate::rt;
use crate::server::connection::Connection;

/// A request that is ready to go.
pub(crate) struct Outgoing {
    pub(crate) received: Received,
    pub(crate) ask: Box<Ask>,
    pub(crate) decided: Box<Decided>,
}

/// A request that an engine answers.
pub(crate) struct Answered {
    pub(crate) ask: Box<Ask>,
    pub(crate) decided: Box<Decided>,
    pub(crate) answer: Answer,
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
        flight.attempt(&endpoint, decided.plan.endpoint.matched_blocks);
        let (result, back) = forward::attempt(connection, &attempt, wire).await;
        let (failed, refusal) = match judge(connection, &decided, result).await {
            Ok(answer) => {
                flight.attempt_ended(Some(answer.head.status));
                flight.answered();
                observe(&decided, Event::Success, worker.now_ms());
                return Ok(Answered { ask, decided, answer });
            }
            Err(Lost::Gone) => {
                flight.attempt_ended(None);
                abandon(connection, decided);
                return Err(Ended::Gone);
            }
            Err(Lost::Failed(kind, lost)) => (kind, lost),
        };
        flight.attempt_ended(status_of(failed));
        if failed.is_unhealthy() {
            observe(&decided, Event::Failure, worker.now_ms());
        }
        let again = Failed { failure: failed, downstream: Downstream::Untouched };
        match back {
            Some(back) if decided.plan.retry.take(again) && decided.again(&worker, flight) => {
                pause(connection, decided.plan.retry.interval).await?;
                wire = back.for_rank(decided.plan.endpoint.endpoint.key.rank);
            }
            _ => match refusal {
                Outcome::Refuse(refusal) => return Err((*refusal).into()),
                Outcome::Pass(answer) => {
                    flight.answered();
                    return Ok(Answered { ask, decided, answer: *answer });
                }
            },
        }
    }
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
        plain_answer: ask.in_path.is_none(),
        ranked: decided.backend.ranked,
        target: target.as_deref(),
    };
    compose(received, &decided.splices, &decided.plan.endpoint.endpoint, &edits)
}

/// Why an attempt is lost.
enum Lost {
    Gone,
    Failed(Kind, Outcome),
}

/// What the client gets if this attempt was the last.
enum Outcome {
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
    let refuse = |kind, refusal: Refusal| Lost::Failed(kind, Outcome::Refuse(Box::new(refusal)));
    let transport = |text: String| Refusal::new(502, Reason::UpstreamTransport, text).code("upstream_unreachable");
    match result {
        Ok(answer) if matches!(answer.head.status, 502..=504) => {
            let (answer, meaning) = meaning(connection, decided.backend.engine, answer).await?;
            Err(Lost::Failed(Kind::Status(answer.head.status, meaning), Outcome::Pass(Box::new(answer))))
        }
        Ok(answer) => Ok(answer),
        Err(Failure::Gone) => Err(Lost::Gone),
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
        Err(Failure::Slow(limit)) => Err(refuse(Kind::FirstByteTimeout, Refusal::upstream_slow(limit))),
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
        let Some((result, bytes)) = read else { return Err(Lost::Gone) };
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

fn observe(decided: &Decided, event: Event, now_ms: u64) {
    decided.plan.endpoint.observe(event, now_ms);
}

async fn pause(connection: &mut Connection, interval: Duration) -> Result<(), Ended> {
    connection.watch.nothing();
    if interval.is_zero() {
        return Ok(());
    }
    unless_gone(rt::sleep(interval), &mut connection.reader).await.ok_or(Ended::Gone)
}

/// The client left. An engine that does not notice stays counted for as long as it usually works.
pub(crate) fn abandon(connection: &Connection, decided: Box<Decided>) {
    let worker = &connection.worker;
    let runs_on = matches!(decided.backend.engine, Engine::Triton | Engine::Torchserve);
    let reservation = decided.plan.endpoint.reservation;
    if runs_on {
        let until = reservation.abandoned_until_ms();
        worker.parking.borrow_mut().abandon_until(reservation, until);
    }
}
