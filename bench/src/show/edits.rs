//! From an edit to every core of four data planes: at rest, and while somebody edits all the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, future, stream};
use serde::Serialize;
use tokio::time::{sleep, sleep_until};

use super::client::{self, Counts, Kept, Question};
use super::cores;
use super::site::{MODEL, Proxy};

/// After so long an edit is taken as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Edits of a storm that are under way at once at most: fewer than there are routes, so that none is edited twice at a time.
const AT_ONCE: usize = 8;
const PUBLISHED: &str = "kthena_controlplane_published_total";

/// Where routes are edited.
pub trait Edited {
    /// Makes the route of this name one for this model, to a server that serves any model; done once the edit is taken.
    fn route(&self, name: &str, model: &str) -> impl Future<Output = anyhow::Result<()>>;
}

/// How much of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Edits one by one, at rest.
    pub edits: usize,
    /// Routes that the storm edits in turn; the route that is looked at is not among them.
    pub storm_routes: usize,
    /// Edits a second of the storm.
    pub storm_rate: f64,
    /// How long it goes on.
    pub storm_time: Duration,
    /// Requests a second beside it.
    pub requests: f64,
}

/// What came of it, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// From the edit until a request on each core of each data plane saw it.
    pub at_rest: Spread,
    /// The same in the storm, where other edits come all the time.
    pub in_storm: Spread,
    /// Edits of the storm.
    pub storm_edits: usize,
    /// From the end of the storm until the last edit of each of its routes was seen on each core, in milliseconds.
    pub settled_ms: f64,
    /// Cores of all data planes: there is a connection on each.
    pub cores: usize,
    /// Snapshots that the control plane published a second meanwhile.
    pub published_per_s: f64,
    /// Requests beside it.
    pub requests: Counts,
}

/// Of times in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// Half were quicker.
    pub p50_ms: f64,
    /// All but one of a hundred were quicker.
    pub p99_ms: f64,
    /// The slowest.
    pub most_ms: f64,
}

impl Spread {
    /// Of these.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: f64| {
            let last = times.len().saturating_sub(1);
            times
                .get((times.len() as f64 * share) as usize)
                .or(times.get(last))
                .map_or(f64::NAN, |t| t.as_secs_f64() * 1e3)
        };
        Self { count: times.len(), p50_ms: at(0.5), p99_ms: at(0.99), most_ms: at(1.0) }
    }
}

/// Edits, and asks all data planes in turn; `control` is where the control plane's metrics are.
pub async fn run(plan: Plan, edited: &impl Edited, proxies: &[Proxy], control: SocketAddr) -> anyhow::Result<Seen> {
    let mut connections = Vec::new();
    for proxy in proxies {
        connections.extend(cores::of_each_core(proxy).await?);
    }
    let mut at_rest = Vec::new();
    for n in 0..plan.edits {
        // Edits of people come at any time of the publisher's interval.
        sleep(Duration::from_millis(150 + 7 * (n as u64 % 11))).await;
        at_rest.push(edit(edited, &format!("rest-{n}"), &mut connections).await?);
    }
    let (over, stormed) = (AtomicBool::new(false), Instant::now());
    let published = metric(control, PUBLISHED).await?;
    let storm = storm(plan, edited, &over);
    let question = |proxy: &Proxy| {
        let (target, model) = (proxy.listen, MODEL.to_owned());
        Question { target, model, stream: false, max_tokens: 1, limit: PATIENCE }
    };
    let questions: Vec<_> = proxies.iter().map(question).collect();
    let requests = client::open_loop(&questions, plan.requests, || over.load(Relaxed));
    let probes = async {
        let mut times = Vec::new();
        while !over.load(Relaxed) {
            times.push(edit(edited, &format!("storm-{}", times.len()), &mut connections).await?);
            sleep(Duration::from_millis(250)).await;
        }
        anyhow::Ok(times)
    };
    let (storm_edits, requests, in_storm) = tokio::join!(storm, requests, probes);
    let time = stormed.elapsed().as_secs_f64();
    let published_per_s = (metric(control, PUBLISHED).await? - published) / time;
    let (storm_edits, in_storm) = (storm_edits?, in_storm?);
    let settling = Instant::now();
    for n in storm_edits.saturating_sub(plan.storm_routes)..storm_edits {
        in_force(&stormy(n), &mut connections).await?;
    }
    let settled_ms = settling.elapsed().as_secs_f64() * 1e3;
    let (at_rest, in_storm) = (Spread::of(at_rest), Spread::of(in_storm));
    let cores = connections.len();
    Ok(Seen { at_rest, in_storm, storm_edits, settled_ms, cores, published_per_s, requests })
}

/// How long it takes until a request on each of these sees an edit.
async fn edit(edited: &impl Edited, model: &str, connections: &mut [Kept]) -> anyhow::Result<Duration> {
    edited.route("probe", model).await?;
    in_force(model, connections).await
}

async fn in_force(model: &str, connections: &mut [Kept]) -> anyhow::Result<Duration> {
    let (begin, path) = (Instant::now(), format!("/v1/models/{model}"));
    for connection in connections {
        while connection.get(&path).await?.0 != 200 {
            ensure!(begin.elapsed() < PATIENCE, "{model} is not in force after {PATIENCE:?}");
        }
    }
    Ok(begin.elapsed())
}

/// The model of the storm's edit `n`.
fn stormy(n: usize) -> String {
    format!("stormy-{n}")
}

/// Edits on schedule, some at once where one takes longer; how many.
async fn storm(plan: Plan, edited: &impl Edited, over: &AtomicBool) -> anyhow::Result<usize> {
    let begin = Instant::now();
    let due = |n: usize| begin + Duration::from_secs_f64(n as f64 / plan.storm_rate);
    let edits = stream::iter(0_usize..)
        .then(|n| async move {
            sleep_until(due(n).into()).await;
            n
        })
        .take_while(|_| future::ready(begin.elapsed() < plan.storm_time))
        .map(|n| async move { edited.route(&format!("storm-{}", n % plan.storm_routes), &stormy(n)).await })
        .buffer_unordered(AT_ONCE.min(plan.storm_routes))
        .try_fold(0, |edits, ()| future::ok(edits + 1));
    let edits = edits.await;
    over.store(true, Relaxed);
    edits
}

/// A metric without labels of a control plane.
pub async fn metric(control: SocketAddr, name: &str) -> anyhow::Result<f64> {
    let (_, body) = client::get(control, "/metrics").await?;
    let text = String::from_utf8_lossy(&body);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("a control plane says {name}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_all_times() {
        let times = (1..=100).rev().map(Duration::from_millis).collect();
        let Spread { count, p50_ms, p99_ms, most_ms } = Spread::of(times);
        assert_eq!((count, p50_ms, p99_ms, most_ms), (100, 51.0, 100.0, 100.0));
        assert!(Spread::of(Vec::new()).p99_ms.is_nan(), "of nothing, nothing is known");
    }
}
