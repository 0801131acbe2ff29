//! C13: a data plane refuses what admission took. It serves by the last form, the condition says why, the rest goes on, and the next form
//! that it can take heals all.

use std::time::Duration;

use perf_tests::cluster::{Cluster, Parts};
use tokio::time::Instant;

use crate::c08_webhook::{flags, install};
use crate::data_plane::DataPlane;
use crate::older::Older;
use crate::program::{Home, get, ports, route, server};
use crate::wait::until;

/// From the API server's answer until a change of an endpoint is in force.
const IN_FORCE: Duration = Duration::from_secs(1);
/// Changes, each of which counts.
const CHANGES: usize = 5;
const OLD: &str = "127.0.0.2";
const NEW: &str = "127.0.0.3";

/// The route that becomes poison, of one path to a server.
fn matching(path: &str, server: &str) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: edited}}\n\
         spec: {{modelName: edited, rules: [{{modelMatch: {{uri: {path}}}, targetModels: [{{modelServerName: {server}}}]}}]}}\n"
    )
}

/// What a condition of the route says: its status, reason and message.
async fn condition(home: &Home, kind: &str) -> [String; 3] {
    let condition = home.condition("ModelRoute", "modelroutes", "edited", kind).await;
    ["status", "reason", "message"].map(|field| condition[field].as_str().unwrap_or_default().to_owned())
}

/// Waits until a condition of the route has this status and reason, and returns its message.
async fn says(home: &Home, kind: &str, status: &str, reason: &str) -> String {
    let mut found = Default::default();
    until(&format!("{kind}={status} {reason}"), async || {
        found = condition(home, kind).await;
        found[..2] == [status, reason]
    })
    .await;
    let [_, _, message] = found;
    message
}

/// The slowest of some changes of a pod's readiness, each until requests go as it says.
async fn in_force(home: &Home, pod: &str, plane: &DataPlane) -> Duration {
    let mut slowest = Duration::ZERO;
    for ready in (0..CHANGES).map(|n| n % 2 == 1) {
        home.pod_ready(pod, ready).await;
        let begin = Instant::now();
        until("a change of an endpoint", async || (plane.ask(pod).await == 200) == ready).await;
        slowest = slowest.max(begin.elapsed());
    }
    // Of an odd number of changes the last one takes it away.
    home.pod_ready(pod, true).await;
    until("the endpoint", async || plane.ask(pod).await == 200).await;
    slowest
}

/// How often a data plane has refused something.
async fn refusals(plane: &DataPlane) -> f64 {
    let text = get(plane.metrics, "/metrics").await.unwrap_or_default().1;
    let value = text.lines().find_map(|line| line.strip_prefix("kthena_router_config_rejected_total "));
    value.map_or(0.0, |value| value.parse().unwrap())
}

/// A server of the engine model, of pods with this label.
fn serving(name: &str, port: u16) -> String {
    let yaml = server(name, port);
    let named = format!("model: {name},");
    assert!(yaml.contains(&named), "{yaml}");
    yaml.replace(&named, "model: chat,")
}

/// Servers `old` and `new` of one engine each, `other` of one that comes and goes, and routes to them.
async fn apply(home: &Home, port: u16) {
    for (name, ip) in [("old", OLD), ("new", NEW), ("other", OLD)] {
        home.pod(name, name, ip).await;
        home.apply(&serving(name, port)).await;
    }
    home.apply(&route("other", "other")).await;
    home.apply(&matching("{prefix: /v1/}", "old")).await;
}

#[tokio::test]
async fn c13_who_refuses_a_route_serves_by_its_last_form_the_condition_says_why_and_the_rest_goes_on() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Parts::ApiServer).unwrap()));
    let home = Home::new(cluster, "refused").await;
    let [port] = ports();
    let (_old, _new) = (home.engine("old", OLD, port), home.engine("new", NEW, port));
    let [old, new] = [OLD, NEW].map(|ip| format!("{ip}:{port}"));
    install(&home).await;
    let flags = flags(&home);
    let mut control = home.control(&flags.each_ref().map(String::as_str));
    home.until_ready().await;
    apply(&home, port).await;
    let between = Older::than(home.stream).await;
    let (newer, mut older) = (DataPlane::start(&home, "newer"), DataPlane::start_at(&home, "older", between.port));
    for plane in [&newer, &older] {
        plane.until_ready().await;
        until("answers", async || plane.ask("edited").await == 200 && plane.ask("other").await == 200).await;
    }
    says(&home, "Programmed", "True", "Programmed").await;
    assert_eq!(refusals(&older).await, 0.0);

    // Admission takes it, and so does the newer one.
    home.apply(&matching("{regex: '^/v1/.*'}", "new")).await;
    let why = says(&home, "Programmed", "False", "Refused").await;
    assert!(why.starts_with("1 of 2 data planes do not run it: ") && why.contains("rules[0].uri"), "{why}");
    assert_eq!(condition(&home, "Accepted").await[0], "True");
    assert_eq!([newer.endpoint("edited").await, older.endpoint("edited").await], [new.clone(), old.clone()]);
    assert!(refusals(&older).await >= 1.0 && refusals(&newer).await == 0.0);
    let took = in_force(&home, "other", &older).await;
    println!("refused: {why}; an endpoint is in force after {took:?}");
    assert!(took < IN_FORCE, "an endpoint of another server is in force after {took:?}");
    assert_eq!(condition(&home, "Programmed").await[1], "Refused", "it is what it was");

    // Another control plane does not know what the older one has acknowledged: that says what it holds, also where that is from disk.
    for dies in [false, true] {
        let before = if dies { 0.0 } else { refusals(&older).await };
        drop(control);
        if dies {
            older.kill();
        }
        control = home.control(&flags.each_ref().map(String::as_str));
        home.until_ready().await;
        if dies {
            older.run();
        }
        until("it refuses again", async || refusals(&older).await > before).await;
        assert_eq!([newer.endpoint("edited").await, older.endpoint("edited").await], [new.clone(), old.clone()]);
        let took = in_force(&home, "other", &older).await;
        println!("by another control plane: an endpoint is in force after {took:?}");
        assert!(took < IN_FORCE, "an endpoint of another server is in force after {took:?}");
        assert_eq!(older.endpoint("edited").await, old.clone());
    }
    // Who holds nothing refuses what the route would take, and has all else.
    let bare = DataPlane::start_at(&home, "bare", between.port);
    bare.until_ready().await;
    until("answers", async || bare.ask("other").await == 200 && bare.ask("edited").await == 503).await;
    home.apply(&matching("{regex: '^/v1/[a-z]'}", "new")).await;
    until("the condition counts it", async || {
        condition(&home, "Programmed").await[2].starts_with("2 of 3 data planes do not run it: ")
    })
    .await;
    assert_eq!((older.endpoint("edited").await, bare.ask("edited").await), (old, 503));

    home.apply(&matching("{exact: /v1/chat/completions}", "new")).await;
    says(&home, "Programmed", "True", "Programmed").await;
    assert_eq!(
        [newer.endpoint("edited").await, older.endpoint("edited").await, bare.endpoint("edited").await],
        [new.clone(), new.clone(), new]
    );
}
