//! Hundreds of data planes whose control plane restarts: how soon all are in sync, and how many statuses that writes.

use std::time::{Duration, Instant};

use bench::load::process;
use bench::show::edits::metric;
use bench::show::fleet::all_have;
use bench::show::manifests::Size;
use bench::show::site::Control;
use bench::show::subscribers::Subscribers;
use bench::show::{Bound, Check};
use serde_json::{Value, json};

use super::bed::{Bed, With};
use super::{Form, memory};

const METHOD: &str = "The real control plane at a real API server. Subscribers of one process come by TLS of our own CA, each with the token of a pod of its \
     own, want all lanes, hold nothing and acknowledge all. From the start of the second control plane until it has all of their acknowledgements; \
     statuses by the API server's audit log, for 90 s more.";
const POLL: Duration = Duration::from_millis(200);
/// Twenty statuses are written a second.
const PATIENCE: Duration = Duration::from_secs(600);

/// Waits until a control plane leads, and every status says what it should.
async fn settled(control: &Control) {
    let begin = Instant::now();
    loop {
        let leads = metric(control.metrics, "kthena_controlplane_leader").await.unwrap();
        let behind = metric(control.metrics, "kthena_controlplane_status_behind").await.unwrap();
        if leads == 1.0 && behind == 0.0 {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "leads {leads}, behind {behind} after {PATIENCE:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// Writes of statuses of ours that the API server took so far.
fn writes(bed: &Bed) -> usize {
    let log = std::fs::read_to_string(bed.cluster.audit_log()).unwrap();
    let taken = |line: &&str| {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { return false };
        let (object, code) = (&entry["objectRef"], entry["responseStatus"]["code"].as_u64());
        entry["stage"] == "ResponseComplete"
            && object["subresource"] == "status"
            && object["apiGroup"] == "networking.serving.volcano.sh"
            && entry["verb"] == "patch"
            && code.is_some_and(|code| code / 100 == 2)
    };
    log.lines().filter(taken).count()
}

#[tokio::test]
async fn a_control_plane_that_restarts_under_many_data_planes_writes_next_to_no_status() {
    let form = Form::asked();
    let small = (30, Size { endpoints: 60, routes: 20 });
    let (subscribers, size) = form.pick(small, (500, Size { endpoints: 10_000, routes: 2_000 }));
    let bed = Bed::start(With::Tls).await;
    bed.grow(Size { endpoints: 0, routes: 0 }, size).await;
    // One for each route and each server.
    let statuses = 2 * size.routes;

    let control = bed.control();
    let subscribers = Subscribers::by_tls(bed.trust(subscribers).await, control.stream);
    all_have(&control, &subscribers, 1.0).await.unwrap();
    // Nothing is behind before the writer has looked for the first time, either.
    let begin = Instant::now();
    let before = loop {
        settled(&control).await;
        let before = writes(&bed);
        if before >= statuses {
            break before;
        }
        assert!(begin.elapsed() < PATIENCE, "{before} statuses of {statuses}");
        tokio::time::sleep(POLL).await;
    };

    let first_peak = process::usage(control.child.pid()).unwrap().peak_kib;
    let args = bed.args();
    let begin = Instant::now();
    let control = bed.site.restart(control, &args.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let ready_ms = begin.elapsed().as_secs_f64() * 1e3;
    all_have(&control, &subscribers, 1.0).await.unwrap();
    let back_ms = begin.elapsed().as_secs_f64() * 1e3;
    // Of what is published, not of who it is for.
    let encoded = metric(control.metrics, "kthena_controlplane_encoded_total").await.unwrap();
    let published = metric(control.metrics, "kthena_controlplane_published_total").await.unwrap();
    settled(&control).await;
    // Counts are written at most once a minute, so that is how long they have to be watched.
    tokio::time::sleep(Duration::from_secs(form.pick(2, 90))).await;
    let written = writes(&bed) - before;
    let usage = process::usage(control.child.pid()).unwrap();
    let checks = vec![
        Check::new("ms from the restart until all are in sync", back_ms, Bound::AtMost(form.pick(60_000.0, 15_000.0))),
        Check::new("statuses written since", written as f64, Bound::AtMost(form.pick(2.0, 100.0))),
        Check::new("states and changes encoded for one publish", encoded / published, Bound::AtMost(2.0)),
        memory(usage.peak_kib.max(first_peak)),
    ];
    let numbers = json!({"subscribers": subscribers.count(), "size": size, "encoded": encoded, "published": published,
        "ready_ms": ready_ms, "back_ms": back_ms, "usage": usage, "first_peak_kib": first_peak, "statuses_before": before});
    form.show("cluster-restart", METHOD, checks, numbers);
}
