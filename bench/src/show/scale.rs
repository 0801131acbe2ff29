//! One fleet after the other, each larger: how long until a data plane has it, what it takes, what one endpoint's change costs, and how long a data
//! plane takes to start from disk while the control plane is away.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use serde_json::Value;
use tokio::time::sleep;

use super::Site;
use super::client;
use super::edits::{Spread, metric};
use super::manifests::{self, Manifests, Size};
use super::site::{Control, Proxy};
use crate::load::process;

/// After so long something is taken as lost.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(1);

/// How much of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// The fleet.
    pub size: Size,
    /// Data planes that are started one after the other, each with empty hands.
    pub starts: usize,
    /// Endpoints that change one after the other.
    pub changes: usize,
    /// Starts from disk, one after the other.
    pub restarts: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// From the start of the control plane until a data plane serves the last route.
    pub sync_ms: f64,
    /// Bytes of the full state.
    pub bytes: f64,
    /// In a data plane, from the last byte of the full state until it is in force on all cores; of each start.
    pub effective_ms: Vec<f64>,
    /// The most that the control plane had resident.
    pub control_peak_kib: u64,
    /// What a data plane had resident.
    pub proxy_kib: u64,
    /// From an endpoint's change until it is in force, at a control plane of one data plane.
    pub change: Spread,
    /// The same within the data plane, from the change's last byte.
    pub change_effective: Spread,
    /// Bytes that went to each data plane for one change, the most of all.
    pub bytes_per_change: f64,
    /// From a data plane's start by what it has on disk until it is ready and serves the last route, without a control plane; of each start.
    pub from_disk_ms: Vec<f64>,
}

/// Runs it.
pub async fn run(plan: Plan, site: &Site) -> anyhow::Result<Seen> {
    let Plan { size, starts, changes, restarts } = plan;
    let folder = site.folder(&format!("scale-{}", size.endpoints));
    let mut manifests = Manifests::large(&folder, size)?;
    let begin = Instant::now();
    let control = site.control(&folder)?;
    let mut proxy = site.programmed(&control)?;
    let last = format!("/v1/models/{}", manifests::model(size.routes - 1));
    let answer = client::get(proxy.listen, &last).await?;
    ensure!(answer.0 == 200, "{last}: {answer:?}");
    let sync_ms = begin.elapsed().as_secs_f64() * 1e3;
    let bytes = metric(control.metrics, ENCODED_BYTES).await?;
    let mut effective_ms = vec![applied(&proxy).await?.1];
    for _ in 1..starts {
        proxy = site.programmed(&control)?;
        effective_ms.push(applied(&proxy).await?.1);
    }
    let (mut times, mut within, mut bytes_per_change) = (Vec::new(), Vec::new(), 0.0_f64);
    for time in 1..=changes {
        let (version, _) = applied(&proxy).await?;
        let before = metric(control.metrics, ENCODED_BYTES).await?;
        let begin = Instant::now();
        manifests.replace(size.endpoints * time / (changes + 1), size)?;
        within.push(Duration::from_secs_f64(newer(&proxy, version).await? / 1e3));
        times.push(begin.elapsed());
        bytes_per_change = bytes_per_change.max(metric(control.metrics, ENCODED_BYTES).await? - before);
    }
    let control_peak_kib = process::usage(control.child.pid())?.peak_kib;
    let proxy_kib = process::usage(proxy.child.pid())?.rss_kib;
    drop(proxy);
    Ok(Seen {
        sync_ms,
        bytes,
        effective_ms,
        control_peak_kib,
        proxy_kib,
        change: Spread::of(times),
        change_effective: Spread::of(within),
        bytes_per_change,
        from_disk_ms: from_disk(control, &last, restarts, site).await?,
    })
}

/// A data plane keeps the state; then the control plane is gone, and it starts again and again.
async fn from_disk(control: Control, last: &str, restarts: usize, site: &Site) -> anyhow::Result<Vec<f64>> {
    let (folder, stream) = (site.folder("state"), control.stream);
    // A fleet before this one left its state there.
    let _ = std::fs::remove_dir_all(&folder);
    let mut proxy = site.keeping(stream, &folder)?;
    let begin = Instant::now();
    while !folder.join("snapshot.bin").exists() {
        ensure!(begin.elapsed() < PATIENCE, "a data plane keeps nothing on disk");
        sleep(POLL).await;
    }
    drop(control);
    let mut took = Vec::new();
    for _ in 0..restarts {
        drop(proxy);
        let begin = Instant::now();
        proxy = site.keeping(stream, &folder)?;
        let answer = client::get(proxy.listen, last).await?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
        ensure!(answer.0 == 200, "{last}: {answer:?}");
        let (_, body) = client::get(proxy.metrics, "/readyz").await?;
        let ready: Value = serde_json::from_slice(&body)?;
        ensure!(ready["control_plane"]["table_from_disk"] == true, "it has its state from elsewhere: {ready}");
    }
    Ok(took)
}

const ENCODED_BYTES: &str = "kthena_controlplane_encoded_bytes_total";

/// Waits for a version after this one; how many milliseconds it took to put it in force.
pub async fn newer(proxy: &Proxy, version: u64) -> anyhow::Result<f64> {
    let begin = Instant::now();
    loop {
        let (now, took) = applied(proxy).await?;
        if now > version {
            return Ok(took);
        }
        ensure!(begin.elapsed() < PATIENCE, "nothing after version {version}");
        sleep(POLL).await;
    }
}

/// Which version is in force, and how many milliseconds it took from its last byte. A data plane is ready a moment before it says so.
pub async fn applied(proxy: &Proxy) -> anyhow::Result<(u64, f64)> {
    let begin = Instant::now();
    loop {
        let (_, body) = client::get(proxy.metrics, "/readyz").await?;
        let ready: Value = serde_json::from_slice(&body)?;
        let took = ready["control_plane"]["applied_ms"].as_f64();
        let version = ready["control_plane"]["applied_version"].as_u64();
        if let Some(applied) = version.zip(took) {
            return Ok(applied);
        }
        ensure!(begin.elapsed() < PATIENCE, "a data plane does not say what it applied: {ready}");
        sleep(POLL).await;
    }
}
