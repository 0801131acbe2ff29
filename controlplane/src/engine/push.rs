//! Listens to what an engine pushes of its load: the shell around [`super::pushed`].
//!
//! An engine is asked where its ranks publish it, and each rank has a connection that is held while it lasts. What comes is
//! passed on at most a hundred times a second, the newest only: an engine looks at its load every few steps, and data planes, which
//! are told every 5 ms at most, are to know it within 20.

use std::net::SocketAddr;
use std::time::Duration;

use api::snapshot::Engine;
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::pushed::Pushed;
use super::targets::Place;
use crate::chance::{jittered, random};
use crate::kv::decode;
use crate::kv::discover::discover;
use crate::kv::endpoint::Endpoint;
use crate::kv::event::Load;
use crate::kv::subscribe::dial;
use crate::kv::zmtp::{Connection, Frames, ZmtpError};

/// For an answer to where it publishes.
const ANSWER: Duration = Duration::from_secs(2);
/// Until it is asked again, for it may have been started anew with other settings.
const AGAIN: Duration = Duration::from_secs(60);
/// The same where it did not answer, doubled each time up to the longer one above.
const RETRY: Duration = Duration::from_secs(1);
/// Between two connections to a rank, doubled up to the longest while none lasts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A connection that lasted for so long was one.
const STEADY: Duration = Duration::from_secs(5);
/// Between two loads that are passed on.
const PACE: Duration = Duration::from_millis(10);
/// It pushes each second: one that is silent for so long is dialled anew.
const SILENCE: Duration = Duration::from_secs(10);

/// What a rank of the engine at a place pushed.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) place: Place,
    pub(super) pushed: Pushed,
}

/// One engine that is listened to, until this is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    /// Where it was asked.
    pub(super) api: SocketAddr,
    task: AbortHandle,
}

impl Listening {
    /// Listens to the engine whose metrics are at a place, within a runtime.
    pub(super) fn start(place: Place, api: SocketAddr, out: Sender<Push>) -> Self {
        Self { api, task: tokio::spawn(attend(place, api, out)).abort_handle() }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// By rank: where it publishes its load, and with which topic.
type Sources = Vec<(u32, Endpoint, String)>;

async fn attend(place: Place, api: SocketAddr, out: Sender<Push>) {
    let (mut known, mut followers, mut retry) = (Sources::new(), JoinSet::new(), RETRY);
    loop {
        let rest = match sources(api).await {
            Ok(now) => {
                if now != known {
                    followers = follow(&place, &now, &out);
                    known = now;
                }
                retry = RETRY;
                AGAIN
            }
            // Whether it can still be heard its followers know.
            Err(error) => {
                tracing::debug!(address = %api, %error, "an engine does not say where it pushes its load");
                let longer = (retry * 2).min(AGAIN);
                std::mem::replace(&mut retry, longer)
            }
        };
        sleep(jittered(rest, random())).await;
        while followers.try_join_next().is_some() {}
    }
}

async fn sources(api: SocketAddr) -> Result<Sources, crate::kv::discover::DiscoverError> {
    let told = discover(Engine::Sglang, api, ANSWER).await?;
    let of = told.publishers.into_iter().filter_map(|publisher| {
        let (place, topic) = publisher.load?;
        Some((publisher.rank, place, topic))
    });
    Ok(of.collect())
}

fn follow(place: &Place, sources: &Sources, out: &Sender<Push>) -> JoinSet<()> {
    let ranks = sources.len();
    let one = |(rank, engine, topic): &(u32, Endpoint, String)| {
        let (rank, place, out) = (*rank, place.clone(), out.clone());
        let pass = move |load| {
            let push = Push { place: place.clone(), pushed: Pushed { rank, ranks, load } };
            let out = out.clone();
            async move { out.send(push).await.is_ok() }
        };
        keep(engine.clone(), topic.clone(), pass)
    };
    sources.iter().map(one).collect()
}

/// Hears one rank until nobody takes what it says.
async fn keep<P: Future<Output = bool>>(engine: Endpoint, topic: String, pass: impl Fn(Load) -> P) {
    let (mut pause, mut faulty) = (PAUSE.0, false);
    loop {
        let begun = Instant::now();
        let fault = match dial(&engine, &topic).await {
            Ok(connection) => match hear(connection, &pass).await {
                Ok(Gone) => return,
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        if begun.elapsed() >= STEADY {
            (pause, faulty) = (PAUSE.0, false);
        }
        if !std::mem::replace(&mut faulty, true) {
            tracing::warn!(%engine, %fault, "an engine's load is not pushed: its metrics are read");
        }
        sleep(jittered(pause, random())).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Nobody takes it.
struct Gone;

async fn hear<P: Future<Output = bool>>(
    mut connection: Connection,
    pass: &impl Fn(Load) -> P,
) -> Result<Gone, ZmtpError> {
    let (mut heard, mut due, mut newest) = (Instant::now(), Instant::now(), None::<Load>);
    loop {
        tokio::select! {
            frames = timeout_at(heard + SILENCE, connection.receive()) => {
                heard = Instant::now();
                newest = Some(read(&frames.map_err(|_| ZmtpError::Late)??)?);
            }
            () = sleep_until(due), if newest.is_some() => {
                due = Instant::now() + PACE;
                if let Some(load) = newest.take() && !pass(load).await {
                    return Ok(Gone);
                }
            }
        }
    }
}

fn read(frames: &Frames) -> Result<Load, ZmtpError> {
    let (_, payload) = decode::live(frames).map_err(|_| ZmtpError::Frame("a message is not of an engine's form"))?;
    decode::load(payload).map_err(|_| ZmtpError::Frame("a load event cannot be read"))
}
