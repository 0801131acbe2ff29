//! Clients leave at random points; how long until the engine sees it. Each lane has an engine of its own and one client at
//! a time, so that every abort is known by its leave.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::engine;
use crate::load::rng::Rng;

/// An engine that has not seen an abort after this long never will.
const LOST: Duration = Duration::from_secs(10);
/// Clients leave up to this long after the engine has the request.
const STAY_MS: usize = 60;

/// Where a client is when it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// The engine is silent and has sent nothing.
    BeforeHead,
    /// Events come.
    BetweenEvents,
    /// Some events came, and then none.
    Silent,
}

impl Point {
    const ALL: [Self; 3] = [Self::BeforeHead, Self::BetweenEvents, Self::Silent];

    fn header(self) -> &'static str {
        match self {
            Self::BeforeHead => "x-sim-fail: hang\r\n",
            Self::BetweenEvents => "",
            Self::Silent => "x-sim-fail: stall:2\r\n",
        }
    }
}

/// An engine and the model that leads to it alone.
#[derive(Debug)]
pub struct Lane<'a> {
    /// In this process, so that its counters can be read often.
    pub engine: &'a engine::Running,
    /// Its model's name.
    pub model: String,
}

/// One leave.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Leave {
    /// Where.
    pub point: Point,
    /// By RST rather than FIN.
    pub reset: bool,
    /// Until the engine saw it.
    pub us: u64,
}

/// `count` clients on this lane, one after the other.
pub async fn lane(proxy: SocketAddr, lane: &Lane<'_>, count: usize, seed: u64) -> anyhow::Result<Vec<Leave>> {
    let mut rng = Rng::new(seed);
    let mut leaves = Vec::with_capacity(count);
    for n in 0..count {
        let (point, reset) = (Point::ALL[n % Point::ALL.len()], rng.below(2) == 0);
        let us = leave(proxy, lane, point, (reset, rng.below(STAY_MS * 1000) as u64)).await;
        leaves.push(Leave { point, reset, us: us.with_context(|| format!("client {n} at {point:?}, seed {seed}"))? });
    }
    Ok(leaves)
}

async fn leave(proxy: SocketAddr, lane: &Lane<'_>, point: Point, (reset, stay_us): (bool, u64)) -> anyhow::Result<u64> {
    let before = lane.engine.stats();
    let mut client = TcpStream::connect(proxy).await?;
    client.set_nodelay(true)?;
    if reset {
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    }
    client.write_all(&request(proxy, &lane.model, point)).await?;
    until("the engine to have the request", || lane.engine.stats().requests > before.requests).await?;
    // What comes is read, as a client would: unread bytes would turn every FIN into an RST.
    let stay = tokio::time::sleep(Duration::from_micros(stay_us));
    tokio::pin!(stay);
    let mut bytes = [0; 4096];
    loop {
        tokio::select! {
            () = &mut stay => break,
            read = client.read(&mut bytes) => if read? == 0 { bail!("the proxy closed before the client left") },
        }
    }
    let left_us = lane.engine.stats().now_us;
    drop(client);
    until("the engine to see that the client left", || lane.engine.stats().aborted > before.aborted).await?;
    let seen_us = lane.engine.stats().aborted_at_us.last().copied().context("an abort has a time")?;
    Ok(seen_us.saturating_sub(left_us))
}

async fn until(what: &str, holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + LOST;
    while !holds() {
        if Instant::now() > deadline {
            bail!("waited {LOST:?} for {what}");
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    Ok(())
}

fn request(proxy: SocketAddr, model: &str, point: Point) -> Vec<u8> {
    let body = json!({"model": model, "stream": true, "max_tokens": 4000,
        "messages": [{"role": "user", "content": "Tell me everything."}]})
    .to_string();
    let (more, length) = (point.header(), body.len());
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {proxy}\r\n{more}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Median, 99th percentile and maximum, in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Spread {
    pub count: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Spread {
    /// Of these leaves.
    pub fn of<'a>(leaves: impl Iterator<Item = &'a Leave>) -> Self {
        let mut sorted: Vec<u64> = leaves.map(|leave| leave.us).collect();
        sorted.sort_unstable();
        // The smallest value that this share of all does not exceed.
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.max(1) - 1).map_or(f64::NAN, |&us| us as f64 / 1e3)
        };
        Self { count: sorted.len(), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let leaves: Vec<Leave> =
            (1..=100).map(|n| Leave { point: Point::Silent, reset: false, us: n * 1000 }).collect();
        let expected = Spread { count: 100, p50_ms: 50.0, p99_ms: 99.0, max_ms: 100.0 };
        assert_eq!(Spread::of(leaves.iter()), expected);
        assert!(Spread::of([].iter()).p99_ms.is_nan());
    }
}
