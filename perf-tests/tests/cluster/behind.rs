//! A data plane comes from one control plane to another one that has heard less: it is not sent back in time, but for a while only.

use perf_tests::cluster::{Cluster, Parts};

use crate::data_plane::DataPlane;
use crate::program::{Home, get, ports, server};
use crate::wait::until;

const OLD: &str = "127.0.0.2";
const NEW: &str = "127.0.0.3";

/// A route of one path to a server.
fn route(path: &str, server: &str) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: moved}}\n\
         spec: {{modelName: moved, rules: [{{modelMatch: {{uri: {path}}}, targetModels: [{{modelServerName: {server}}}]}}]}}\n"
    )
}

async fn metric(home: &Home, name: &str) -> Option<f64> {
    let text = get(home.metrics, "/metrics").await?.1;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn who_has_seen_more_than_a_replica_is_told_nothing_older_before_that_was_waited_for() {
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start(Parts::ApiServer).unwrap()));
    let first = Home::new(cluster, "behind").await;
    let second = first.beside().await;
    let [port] = ports();
    let _engines = [first.engine("old", OLD, port), first.engine("new", NEW, port)];
    for (name, ip) in [("old", OLD), ("new", NEW)] {
        first.pod(name, name, ip).await;
        first.apply(&server(name, port).replace(&format!("model: {name},"), "model: chat,")).await;
    }
    first.apply(&route("{prefix: /v1/}", "old")).await;
    let (knows, _behind) = (first.control(&[]), second.control(&[]));
    first.until_ready().await;
    second.until_ready().await;
    let mut plane = DataPlane::start(&first, "plane");
    plane.until_ready().await;
    let [old, new] = [OLD, NEW].map(|ip| format!("{ip}:{port}"));
    until("answers", async || plane.ask("moved").await == 200).await;
    assert_eq!(plane.endpoint("moved").await, old);

    second.proxy.set_away(true);
    first.apply(&route("{exact: /v1/chat/completions}", "new")).await;
    until("it is kept", async || plane.keeps("/v1/chat/completions")).await;
    assert_eq!(plane.endpoint("moved").await, new);
    drop(knows);
    plane.kill();
    plane.turn_to(second.stream);
    plane.run();
    plane.until_ready().await;
    // The world goes on also where it never hears of that, but not before it has been waited for, which is counted then. How long that is a
    // test with a paused clock says.
    until("it is told", async || {
        let served = plane.endpoint("moved").await;
        assert!(served == new || served == old, "{served}");
        served == old
    })
    .await;
    assert_eq!(metric(&second, "kthena_controlplane_streams_behind_total").await, Some(1.0));
    second.proxy.set_away(false);
    until("all is known", async || plane.endpoint("moved").await == new).await;

    // Where it has heard of it by then, nothing is counted.
    let streams = metric(&second, "kthena_controlplane_streams_total").await;
    plane.kill();
    plane.run();
    plane.until_ready().await;
    until("its stream", async || {
        metric(&second, "kthena_controlplane_streams_total").await > streams
            && metric(&second, "kthena_controlplane_subscribers_applied").await == Some(1.0)
    })
    .await;
    assert_eq!(plane.endpoint("moved").await, new);
    assert_eq!(metric(&second, "kthena_controlplane_streams_behind_total").await, Some(1.0));
}
