//! Hundreds of subscribers of a large fleet: they all come at once, an endpoint changes, and the control plane is killed and
//! comes back to full states for all of them.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use tokio::time::sleep;

use super::Site;
use super::edits::metric;
use super::manifests::{Manifests, Size};
use super::site::Control;
use super::subscribers::Subscribers;
use crate::load::process;

/// After so long somebody is taken as lost.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// How much of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Data planes.
    pub subscribers: usize,
    /// What they are told of.
    pub size: Size,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Seen {
    /// From the first connection until all had acknowledged.
    pub joined_ms: f64,
    /// Changes that were encoded for that, and their bytes.
    pub encoded_for_all: f64,
    /// See there.
    pub bytes_for_each: f64,
    /// From an endpoint's change until all had acknowledged it.
    pub change_ms: f64,
    /// Changes that were encoded for that.
    pub encoded_for_change: f64,
    /// From the start of the second control plane until all had acknowledged.
    pub back_ms: f64,
    /// Changes that were encoded for that.
    pub encoded_for_return: f64,
    /// The most that either control plane had resident.
    pub peak_kib: u64,
}

/// Runs it.
pub async fn run(plan: Plan, site: &Site) -> anyhow::Result<Seen> {
    let folder = site.folder("fleet");
    let mut manifests = Manifests::large(&folder, plan.size)?;
    let args = ["serve".to_owned(), folder.display().to_string()];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let control = site.control_with(&args)?;
    let begin = Instant::now();
    let subscribers = Subscribers::start(plan.subscribers, control.stream);
    all_have(&control, &subscribers, 1.0).await?;
    let joined_ms = ms(begin);
    let encoded_for_all = metric(control.metrics, ENCODED).await?;
    let bytes_for_each = metric(control.metrics, ENCODED_BYTES).await?;
    let begin = Instant::now();
    manifests.replace(plan.size.endpoints / 2, plan.size)?;
    all_have(&control, &subscribers, 2.0).await?;
    let change_ms = ms(begin);
    let encoded_for_change = metric(control.metrics, ENCODED).await? - encoded_for_all;
    let first_peak = process::usage(control.child.pid())?.peak_kib;
    // Handles are given anew, so that nobody holds what the second one publishes.
    let begin = Instant::now();
    let control = site.restart(control, &args)?;
    all_have(&control, &subscribers, 1.0).await?;
    let back_ms = ms(begin);
    Ok(Seen {
        joined_ms,
        encoded_for_all,
        bytes_for_each,
        change_ms,
        encoded_for_change,
        back_ms,
        encoded_for_return: metric(control.metrics, ENCODED).await?,
        peak_kib: process::usage(control.child.pid())?.peak_kib.max(first_peak),
    })
}

const ENCODED: &str = "kthena_controlplane_encoded_total";
const ENCODED_BYTES: &str = "kthena_controlplane_encoded_bytes_total";

/// Waits until a control plane has published so much, and all have acknowledged it.
pub async fn all_have(control: &Control, subscribers: &Subscribers, published: f64) -> anyhow::Result<()> {
    let (begin, all) = (Instant::now(), subscribers.count() as f64);
    loop {
        let now = [
            metric(control.metrics, "kthena_controlplane_published_total").await?,
            metric(control.metrics, "kthena_controlplane_subscribers_connected").await?,
            metric(control.metrics, "kthena_controlplane_subscribers_applied").await?,
        ];
        if now[0] >= published && now[1] == all && now[2] == all {
            return Ok(());
        }
        ensure!(begin.elapsed() < PATIENCE, "published, connected, applied: {now:?} after {PATIENCE:?}");
        sleep(POLL).await;
    }
}

fn ms(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
