//! Objects that users write while the control plane is rolled out, beside a pod of it that does not come to serve: each is judged by its webhook,
//! and none is refused for want of one.

use std::cell::RefCell;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use tokio::time::sleep;

use super::site::{RELEASE, Site};
use crate::program::server;
use crate::wait::until;

/// At once, so that the API server has to connect anew where a pod of the control plane has gone.
const WRITERS: usize = 8;
const EVERY: Duration = Duration::from_millis(50);
/// Fewer would show little.
const ENOUGH: usize = 200;
const STARTS: &str = "starts-for-ever";

/// As long as its image is pulled, say: it has an address, and nobody listens there.
async fn add_pod_that_starts(site: &Site) {
    let labels = json!({"app.kubernetes.io/name": "kthena-controlplane", "app.kubernetes.io/instance": RELEASE});
    let container = json!({"name": "main", "image": "sleep", "args": ["100000"],
        "ports": [{"name": "webhook", "containerPort": 8443}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8443}}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": STARTS, "labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}});
    let pods = site.pods(&site.namespace);
    let pod: Pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    until("its address", async || pods.get(STARTS).await.unwrap().status.is_some_and(|status| status.pod_ip.is_some()))
        .await;
}

/// Writes until `act` is done.
pub async fn all_along<T>(site: &Site, act: impl Future<Output = T>) -> T {
    add_pod_that_starts(site).await;
    let (tried, failed) = (RefCell::new(0), RefCell::new(Vec::new()));
    let (tries, fails) = (&tried, &failed);
    let write = |writer: usize| async move {
        for n in (0..1000).cycle() {
            // Another port each time: what changes no spec is not judged.
            let object = server(&format!("written-{writer}"), 8000 + n);
            let written = site.cluster.apply(&site.client, &site.models, &object).await;
            fails.borrow_mut().extend(written.err().map(|error| format!("{error:#}")));
            *tries.borrow_mut() += 1;
            sleep(EVERY).await;
        }
    };
    let done = tokio::select! {
        done = act => done,
        _ = join_all((0..WRITERS).map(write)) => unreachable!("they go round and round"),
    };
    site.pods(&site.namespace).delete(STARTS, &DeleteParams::default()).await.unwrap();
    let (tried, failed) = (tried.into_inner(), failed.into_inner());
    println!("{tried} objects were written meanwhile");
    assert!(
        failed.is_empty(),
        "{} of {tried} were not written, as {:#?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    assert!(tried >= ENOUGH, "only {tried} were written");
    done
}
