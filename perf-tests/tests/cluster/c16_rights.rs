//! C16 and C17: a token that is no longer taken, rights that are taken away, and a server that wants to be left alone.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, DeleteParams};
use perf_tests::cluster::Cluster;
use perf_tests::proxy::{Fault, Often, Verb, When};
use tokio::time::Instant;

use crate::program::{Home, get, route, server};
use crate::wait::until;

/// A sample of the control plane's metrics.
async fn metric(home: &Home, sample: &str) -> f64 {
    let text = get(home.metrics, "/metrics").await.unwrap_or_default().1;
    let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

async fn routes(home: &Home) -> f64 {
    metric(home, "kthena_controlplane_snapshot_routes").await
}

async fn fails(home: &Home) -> bool {
    metric(home, "kthena_controlplane_watches_failing{kind=\"ModelRoute\"}").await > 0.0
}

/// How long it takes until routes have been asked for six times more. The pauses double from 0.2 s.
async fn six_more(home: &Home) -> Duration {
    let asked = || {
        let of = |verb| home.proxy.count(&When::of(verb, "modelroutes"));
        of(Verb::List) + of(Verb::Watch)
    };
    let (before, begin) = (asked(), Instant::now());
    until("six more requests", async || asked() >= before + 6).await;
    begin.elapsed()
}

#[tokio::test]
async fn c16_a_token_that_is_refused_is_read_again_and_rights_that_come_back_are_used() {
    let home = Home::new(Cluster::shared(), "rights").await;
    home.apply(&server("s", 8000)).await;
    home.apply(&route("first", "s")).await;
    let _control = home.control(&[]);
    home.until_ready().await;
    until("the first route", async || routes(&home).await == 1.0).await;

    // As after a rotation of the cluster's keys: watches run on until they are cut.
    let token = std::fs::read_to_string(&home.token).unwrap();
    std::fs::write(&home.token, "not.a.token").unwrap();
    home.proxy.cut_all();
    until("it says that it fails", async || fails(&home).await).await;
    let took = six_more(&home).await;
    assert!(took >= Duration::from_secs(2), "six requests without a token that is taken: {took:?}");
    assert_eq!(
        (routes(&home).await, get(home.metrics, "/readyz").await.unwrap().0),
        (1.0, 200),
        "what was read counts on"
    );
    home.apply(&route("second", "s")).await;
    std::fs::write(&home.token, token).unwrap();
    until("the second route", async || routes(&home).await == 2.0).await;
    until("it is well again", async || !fails(&home).await).await;

    // The rights, too, are asked for only where a watch begins.
    let bindings = Api::<ClusterRoleBinding>::all(home.admin.clone());
    let name = format!("kthena-controlplane-{}", home.namespace);
    let binding = bindings.get(&name).await.unwrap();
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    home.proxy.cut_all();
    until("it says that it fails", async || fails(&home).await).await;
    let took = six_more(&home).await;
    assert!(took >= Duration::from_secs(2), "six requests without rights: {took:?}");
    home.apply(&route("third", "s")).await;
    let mut again = binding;
    again.metadata = kube::api::ObjectMeta { name: Some(name), ..Default::default() };
    bindings.create(&kube::api::PostParams::default(), &again).await.unwrap();
    until("the third route", async || routes(&home).await == 3.0).await;
}

#[tokio::test]
async fn c17_while_a_server_asks_to_be_left_alone_it_is_and_statuses_come_when_it_is_over() {
    let home = Home::new(Cluster::shared(), "throttled").await;
    home.apply(&server("s", 8000)).await;
    home.apply(&route("r", "s")).await;
    let throttled = || Fault::Refuse { code: 429, retry_after_s: Some(4) };
    let _control = home.control(&[]);
    home.until_ready().await;
    until("a status", async || home.condition("ModelRoute", "modelroutes", "r", "Accepted").await["status"] == "True")
        .await;
    let statuses = || When::of(Verb::Patch, "modelroutes/status");
    let writes = home.proxy.inject(statuses(), throttled(), Often::Always);
    let watches = home.proxy.inject(When::of(Verb::Watch, "modelroutes"), throttled(), Often::Always);
    home.proxy.cut_all();
    home.apply(&route("r", "nowhere")).await;
    home.apply(&route("r2", "nowhere")).await;
    until("both were refused", async || watches.hits() >= 2).await;
    let (before, begin) = (watches.hits(), Instant::now());
    until("three more refusals", async || watches.hits() >= before + 3).await;
    assert!(begin.elapsed() >= Duration::from_secs(8), "{:?}", begin.elapsed());
    watches.lift();
    until("a refused status", async || writes.hits() >= 1).await;
    let (before, begin) = (writes.hits(), Instant::now());
    until("two more refusals", async || writes.hits() >= before + 2).await;
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    writes.lift();
    for name in ["r", "r2"] {
        until("its status", async || {
            home.condition("ModelRoute", "modelroutes", name, "ResolvedRefs").await["status"] == "False"
        })
        .await;
    }
}
