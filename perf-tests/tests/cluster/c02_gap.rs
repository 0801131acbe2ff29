//! C2: events are lost, and the list that is read after a 410 makes them good, in one step.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use perf_tests::cluster::{Cluster, Parts};
use perf_tests::proxy::{Fault, Often, Verb, When};
use serde_json::json;

use crate::program::{Home, server};
use crate::published::{Published, published};
use crate::wait::until;

#[tokio::test]
async fn c02_a_pod_whose_end_was_missed_goes_with_the_next_list_and_the_others_stay_all_along() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Parts::ApiServer).unwrap()));
    let home = Home::new(cluster, "gap").await;
    home.apply(&server("s", 8000)).await;
    for (name, ip) in [("kept", "10.1.0.1"), ("missed", "10.1.0.2")] {
        home.pod(name, "s", ip).await;
    }
    let _control = home.control(&[]);
    home.until_ready().await;
    until("two endpoints", async || published(&home).await == Some(2)).await;
    let events = || When::of(Verb::Watch, "pods");
    let seen = Published::of(&home);
    let lost = home.proxy.inject(events(), Fault::LoseEvent, Often::Always);
    let pods = Api::<Pod>::namespaced(home.admin.clone(), &home.namespace);
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    pods.delete("missed", &at_once).await.unwrap();
    for (name, ip) in [("new", "10.1.0.3"), ("newer", "10.1.0.4")] {
        home.pod(name, "s", ip).await;
    }
    // An end has one event at least, a pod that is made and becomes ready two.
    until("events that are lost", async || lost.hits() >= 5).await;
    lost.lift();
    assert_eq!(published(&home).await, Some(2), "nothing is known of any of them");

    let expired = home.proxy.inject(events(), Fault::Expire, Often::First(1));
    let note = json!({"metadata": {"annotations": {"changes": "nothing"}}});
    pods.patch("kept", &PatchParams::default(), &Patch::Merge(note)).await.unwrap();
    until("three endpoints", async || seen.has(3)).await;
    assert_eq!((seen.end(), expired.hits()), ([2, 3].into(), 1), "none was gone in between");
}
