//! From an edit that the API server took, through the webhook, to every core of four data planes.

use std::time::Duration;

use bench::show::edits::{self, Edited, Plan};
use bench::show::site::{self, MODEL};
use bench::show::{Bound, Check, manifests};
use serde_json::json;

use super::Form;
use super::bed::{Bed, With};
use crate::objects::refusal;

const METHOD: &str = "The real programs at a real API server, which asks the control plane's webhook about each edit; four data planes of two cores. \
     The clock starts when the API server has answered and ends when a request on a connection of each core of each data plane sees the edit. The storm \
     edits other routes in turn, and the edit that is timed is of a route that it leaves alone. Requests beside it go to all data planes in turn.";

/// People, who edit by `kubectl apply`.
struct People<'b>(&'b Bed);

impl Edited for People<'_> {
    async fn route(&self, name: &str, model: &str) -> anyhow::Result<()> {
        // A route's model name stays what it is. The names of adapters are asked for in the same way.
        let mut route = manifests::route(name, "", "s");
        route["spec"] = json!({"loraAdapters": [model], "rules": route["spec"]["rules"]});
        self.0.routes.apply(&route, "people", true).await?;
        Ok(())
    }
}

#[tokio::test]
async fn an_edit_at_the_api_server_reaches_every_core_and_a_storm_of_them_costs_no_request() {
    let form = Form::asked();
    let bed = Bed::start(With::Webhook).await;
    let control = bed.control();
    let engine = site::addresses(1).unwrap()[0];
    let _engine = bed.site.engine(engine, MODEL, &["--fast"]).unwrap();
    bed.serve(manifests::server("s", "s", engine.port())).await;
    bed.pod(json!({
        "metadata": {"name": "e", "labels": {"app": "s"}}, "spec": {"nodeName": "n"},
        "status": {"podIP": engine.ip().to_string()},
    }))
    .await;
    People(&bed).route("first", MODEL).await.unwrap();
    // Neither the schema nor CEL can tell.
    let mut wrong = manifests::route("wrong", "wrong", "s");
    wrong["spec"]["rules"][0]["modelMatch"] = json!({"uri": {"regex": "("}});
    let (_, sentence) = refusal(bed.routes.apply(&wrong, "people", true).await);
    assert!(sentence.contains("denied the request"), "the webhook judges what is applied: {sentence}");
    let proxies: Vec<_> = (0..4).map(|_| bed.site.programmed(&control).unwrap()).collect();
    let seconds = Duration::from_secs;
    let small = Plan { edits: 10, storm_routes: 20, storm_rate: 40.0, storm_time: seconds(3), requests: 20.0 };
    let full = Plan { edits: 300, storm_routes: 100, storm_rate: 100.0, storm_time: seconds(60), requests: 50.0 };
    let plan = form.pick(small, full);
    let seen = edits::run(plan, &People(&bed), &proxies, control.metrics).await.unwrap();
    let (rest, storm) = form.pick((5_000.0, 5_000.0), (50.0, 500.0));
    let edits = 0.9 * plan.storm_rate * plan.storm_time.as_secs_f64();
    let failed = (seen.requests.failed + seen.requests.cut) as f64;
    let checks = vec![
        Check::new("ms from the API server's answer to all cores, p99", seen.at_rest.p99_ms, Bound::AtMost(rest)),
        Check::new("cores that were asked", seen.cores as f64, Bound::AtLeast(8.0)),
        Check::new("edits of the storm", seen.storm_edits as f64, Bound::AtLeast(form.pick(1.0, edits))),
        Check::new("the same in the storm, ms", seen.in_storm.p99_ms, Bound::AtMost(storm)),
        Check::new("snapshots published a second", seen.published_per_s, Bound::AtMost(20.0)),
        Check::new("failed requests", failed, Bound::AtMost(0.0)),
    ];
    form.show("cluster-edits", METHOD, checks, json!({"plan": plan, "seen": seen}));
}
