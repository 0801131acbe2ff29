//! Follows one engine rank: the shell around `trust`.
//!
//! The engine may publish where it listens, or dial us; either way one rank has one place of its own. What it says goes to
//! one receiver, in order. A receiver that is slow makes the engine drop messages, which shows as a gap and is asked for.

mod ask;
mod reach;

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use xxhash_rust::xxh3::xxh3_64;

use super::decode;
use super::endpoint::Endpoint;
use super::event::Batch;
use super::store::RankId;
use super::trust::{Act, Clears, Counts, Message, Replayable, Stream, Trust};
use super::zmtp::{Connection, Frames, ZmtpError};
use ask::{Answered, Question};
use reach::Reach;
pub(crate) use reach::dial;

/// The first pause after a connection that failed, and the longest. Each is drawn from its upper half.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A connection that lasted for so long was one: who lets us in and shows us out at once is not dialled ten times a second.
const STEADY: Duration = Duration::from_secs(1);

/// Where a rank's events are to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Whose they are.
    pub rank: RankId,
    /// Where.
    pub at: At,
    /// What messages' topics begin with.
    pub topic: String,
    /// Where lost messages are asked for.
    pub replay: Option<Endpoint>,
}

/// Who dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// We do; the engine listens.
    Connect(Endpoint),
    /// The engine does; we listen here. Of two that dial, the later one counts: it has been restarted.
    Listen(std::net::SocketAddr),
}

/// Something that a rank said, or that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Who.
    pub rank: RankId,
    /// What.
    pub what: What,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Its cache changed.
    Apply(Batch),
    /// Nothing that it said may be believed any longer.
    Forget,
    /// How far what it said can be relied on from here on.
    Trust(Trust),
}

/// How a rank is followed, for metrics and pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How far it can be relied on.
    pub trust: Trust,
    /// What happened so far.
    pub counts: Counts,
    /// Connections so far.
    pub connections: u64,
    /// Why there is no connection.
    pub fault: Option<String>,
}

impl Default for Status {
    fn default() -> Self {
        Self { trust: Trust::Cold, counts: Counts::default(), connections: 0, fault: None }
    }
}

/// Follows a rank until nobody listens any longer. `jitter` draws a number from 0 to 1. An error is of the address that
/// engines are to dial.
pub async fn follow(
    source: Source,
    heard: mpsc::Sender<Heard>,
    status: watch::Sender<Status>,
    jitter: impl Fn() -> f64,
) -> std::io::Result<()> {
    let mut reach = Reach::new(&source).await?;
    let replayable = if source.replay.is_some() { Replayable::Yes } else { Replayable::No };
    let stream = Stream::new(replayable);
    let mut follower = Follower { source, stream, heard, status, question: None, trust: Trust::Cold };
    let mut pause = PAUSE.0;
    loop {
        let Some(reached) = follower.meanwhile(reach.next()).await else { return Ok(()) };
        let fault = match reached {
            Ok(connection) => {
                let begun = Instant::now();
                let fault = match follower.converse(connection, &mut reach).await {
                    Ok(Gone) => return Ok(()),
                    Err(fault) => fault,
                };
                if begun.elapsed() >= STEADY {
                    pause = PAUSE.0;
                }
                fault
            }
            Err(fault) => fault,
        };
        follower.note(&fault);
        let rest = tokio::time::sleep(pause.mul_f64((1.0 + jitter().clamp(0.0, 1.0)) / 2.0));
        pause = (pause * 2).min(PAUSE.1);
        if follower.meanwhile(rest).await.is_none() {
            return Ok(());
        }
    }
}

/// Nobody listens.
struct Gone;

struct Follower {
    source: Source,
    stream: Stream<Batch>,
    heard: mpsc::Sender<Heard>,
    status: watch::Sender<Status>,
    question: Option<Question>,
    /// As last told.
    trust: Trust,
}

impl Follower {
    /// Hears a connection until it ends, or another one takes its place.
    async fn converse(&mut self, mut connection: Connection, reach: &mut Reach) -> Result<Gone, ZmtpError> {
        let mut replaced = None;
        loop {
            self.status.send_modify(|status| {
                status.connections += 1;
                status.fault = None;
            });
            let mut acts = Vec::new();
            self.stream.connected(Instant::now(), &mut acts);
            let mut ended = self.carry_out(acts).await.map(Ok);
            while ended.is_none() {
                ended = self.hear(&mut connection, reach, &mut replaced).await;
            }
            self.question = None;
            self.stream.disconnected(Instant::now());
            match (ended, replaced.take()) {
                (Some(Ok(gone)), _) => return Ok(gone),
                (_, Some(newer)) => connection = newer,
                (Some(Err(fault)), None) => return Err(fault),
                (None, None) => {}
            }
        }
    }

    /// One thing that happens. Some where the connection is done with.
    async fn hear(
        &mut self,
        connection: &mut Connection,
        reach: &mut Reach,
        replaced: &mut Option<Connection>,
    ) -> Option<Result<Gone, ZmtpError>> {
        let mut acts = Vec::new();
        tokio::select! {
            frames = connection.receive() => match frames.and_then(|frames| message(&frames)) {
                Ok(message) => self.stream.live(Instant::now(), message, &mut acts),
                Err(fault) => return Some(Err(fault)),
            },
            answered = answered(&mut self.question) => self.take(answered, &mut acts),
            newer = reach.replacement() => {
                *replaced = Some(newer);
                return Some(Err(ZmtpError::Closed));
            }
            () = sleep_until(self.stream.deadline()) => {
                self.question = None;
                self.stream.tick(Instant::now(), &mut acts);
            }
            () = self.heard.closed() => return Some(Ok(Gone)),
        }
        self.carry_out(acts).await.map(Ok)
    }

    fn take(&mut self, answered: Answered, acts: &mut Vec<Act<Batch>>) {
        let now = Instant::now();
        match answered {
            Answered::Message { sequence, payload } => self.stream.replayed(now, read(sequence, &payload), acts),
            Answered::End => {
                self.question = None;
                self.stream.replay_ended(now, acts);
            }
            Answered::Failed(fault) => {
                self.question = None;
                tracing::debug!(rank = self.source.rank.0, %fault, "an engine does not repeat its events");
                self.stream.replay_failed(now, acts);
            }
        }
    }

    async fn carry_out(&mut self, acts: Vec<Act<Batch>>) -> Option<Gone> {
        for act in acts {
            let what = match act {
                Act::Apply(batch) => What::Apply(batch),
                Act::Forget => What::Forget,
                Act::Ask(from) => {
                    self.question = self.source.replay.clone().map(|replay| Question::ask(replay, from));
                    continue;
                }
            };
            if let gone @ Some(_) = self.tell(what).await {
                return gone;
            }
        }
        self.tell_trust().await
    }

    async fn tell_trust(&mut self) -> Option<Gone> {
        let (trust, counts) = (self.stream.trust(), self.stream.counts());
        self.status.send_if_modified(|status| {
            let changed = (status.trust, status.counts) != (trust, counts);
            (status.trust, status.counts) = (trust, counts);
            changed
        });
        if trust == self.trust {
            return None;
        }
        self.trust = trust;
        self.tell(What::Trust(trust)).await
    }

    async fn tell(&self, what: What) -> Option<Gone> {
        let heard = Heard { rank: self.source.rank, what };
        self.heard.send(heard).await.err().map(|_| Gone)
    }

    /// While there is no connection time goes on, and what is held grows old; none where nobody listens any longer. What has to be
    /// told then is told to its end, whatever else happens: half of it would be believed for ever.
    async fn meanwhile<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                came = &mut what => return Some(came),
                () = sleep_until(self.stream.deadline()) => {}
                () = self.heard.closed() => return None,
            }
            let mut acts = Vec::new();
            self.stream.tick(Instant::now(), &mut acts);
            if self.carry_out(acts).await.is_some() {
                return None;
            }
        }
    }

    fn note(&self, fault: &ZmtpError) {
        let text = fault.to_string();
        let news = self.status.borrow().fault.is_none();
        if news {
            tracing::warn!(rank = self.source.rank.0, fault = text, "no events come from an engine");
        }
        self.status.send_modify(|status| status.fault = Some(text));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn answered(question: &mut Option<Question>) -> Answered {
    match question {
        Some(question) => question.next().await,
        None => std::future::pending().await,
    }
}

/// A connection whose frames make no sense is not an engine's: it is closed.
fn message(frames: &Frames) -> Result<Message<Batch>, ZmtpError> {
    let (sequence, payload) =
        decode::live(frames).map_err(|_| ZmtpError::Frame("a message is not of an engine's form"))?;
    Ok(read(sequence, payload))
}

fn read(sequence: u64, payload: &[u8]) -> Message<Batch> {
    let body = decode::batch(payload).inspect_err(|fault| tracing::warn!(sequence, %fault, "events cannot be read"));
    let body = body.ok().map(|batch| {
        let clears = Clears::new(batch.clears());
        (batch, clears)
    });
    Message { sequence, digest: xxh3_64(payload), size: payload.len(), body }
}
