//! A large cluster: how long a control plane and a data plane take to have all of it, what it takes, and what one endpoint's change costs.

use std::time::Instant;

use bench::load::process;
use bench::show::edits::{Spread, metric};
use bench::show::manifests::{self, Size};
use bench::show::scale::{applied, newer};
use bench::show::{Bound, Check, client};
use serde::Serialize;
use serde_json::json;

use super::bed::{Bed, With};
use super::{Form, memory};

const METHOD: &str = "The real programs at a real API server, which has all objects before the control plane is started. From that start \
     until a data plane that is started with it answers for each route; one endpoint's change is a pod's condition Ready, false and true again, from the \
     API server's answer until the data plane has it in force.";
const ENCODED_BYTES: &str = "kthena_controlplane_encoded_bytes_total";

/// What came of one size.
#[derive(Debug, Serialize)]
struct Seen {
    size: Size,
    /// Until the control plane says that it is ready.
    ready_ms: f64,
    sync_ms: f64,
    endpoints: usize,
    bytes: f64,
    change: Spread,
    bytes_per_change: f64,
    peak_kib: u64,
}

/// Starts both programs, has pods change one after the other, and ends both. Pods before `first` are called as in a smaller cluster.
async fn run(bed: &Bed, size: Size, first: usize, changes: usize) -> Seen {
    let begin = Instant::now();
    let control = bed.control();
    let ready_ms = begin.elapsed().as_secs_f64() * 1e3;
    let proxy = bed.site.programmed(&control).unwrap();
    let mut connection = client::Kept::open(proxy.listen).await.unwrap();
    for n in 0..size.routes {
        let path = format!("/v1/models/{}", manifests::model(n));
        let answer = connection.get(&path).await.unwrap();
        assert_eq!(answer.0, 200, "{path}: {answer:?}");
    }
    let sync_ms = begin.elapsed().as_secs_f64() * 1e3;
    let endpoints = metric(control.metrics, "kthena_controlplane_snapshot_endpoints").await.unwrap() as usize;
    let bytes = metric(control.metrics, ENCODED_BYTES).await.unwrap();
    let (mut times, mut bytes_per_change) = (Vec::new(), 0.0_f64);
    for change in 0..2 * changes {
        let pod = manifests::pod(first + (size.endpoints - first) * (change / 2) / changes, size, 0);
        let version = applied(&proxy).await.unwrap().0;
        let before = metric(control.metrics, ENCODED_BYTES).await.unwrap();
        bed.ready(pod["metadata"]["name"].as_str().unwrap(), change % 2 == 1).await;
        let answered = Instant::now();
        newer(&proxy, version).await.unwrap();
        times.push(answered.elapsed());
        bytes_per_change = bytes_per_change.max(metric(control.metrics, ENCODED_BYTES).await.unwrap() - before);
    }
    let peak_kib = process::usage(control.child.pid()).unwrap().peak_kib;
    Seen { size, ready_ms, sync_ms, endpoints, bytes, change: Spread::of(times), bytes_per_change, peak_kib }
}

#[tokio::test]
async fn a_large_cluster_is_in_force_soon_and_one_endpoints_change_costs_as_much_as_in_a_small_one() {
    let form = Form::asked();
    let small = form.pick(Size { endpoints: 50, routes: 10 }, Size { endpoints: 1_000, routes: 200 });
    let large = form.pick(Size { endpoints: 500, routes: 100 }, Size { endpoints: 10_000, routes: 2_000 });
    let changes = form.pick(3, 15);
    let bed = Bed::start(With::Nothing).await;
    bed.grow(Size { endpoints: 0, routes: 0 }, small).await;
    let first = run(&bed, small, 0, changes).await;
    bed.grow(small, large).await;
    let seen = run(&bed, large, small.endpoints, changes).await;
    let growth = seen.bytes_per_change - first.bytes_per_change;
    let sync = form.pick(60_000.0, 10_000.0);
    let checks = vec![
        Check::new("endpoints in force", seen.endpoints as f64, Bound::AtLeast(large.endpoints as f64)),
        Check::new("ms from the start until a data plane has all in force", seen.sync_ms, Bound::AtMost(sync)),
        memory(seen.peak_kib),
        Check::new("bytes for one endpoint's change", seen.bytes_per_change, Bound::AtMost(1_000.0)),
        // Numbers with more digits.
        Check::new("of these, more than in the small cluster", growth, Bound::AtMost(16.0)),
    ];
    form.show("cluster-scale", METHOD, checks, json!({"small": first, "large": seen}));
}
