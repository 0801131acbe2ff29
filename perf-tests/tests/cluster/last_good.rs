//! A route that was good, and is broken in a way that only we see, goes on in its last good form: also where both planes start anew
//! and neither remembers anything.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use perf_tests::cluster::Cluster;
use serde_json::{Value, json};

use crate::data_plane::DataPlane;
use crate::program::{Home, Program, ports, route, server};
use crate::wait::until;

const ADDRESS: &str = "127.0.0.2";

/// The route `chat`, answered on these paths.
fn on(paths: &str) -> String {
    route("chat", "chat").replace("targetModels", &format!("modelMatch: {{uri: {paths}}}, targetModels"))
}

async fn status(home: &Home) -> Value {
    home.api("ModelRoute", "modelroutes").get("chat").await.unwrap().data["status"].take()
}

/// Waits until the status speaks of this generation, by its condition Accepted; that one.
async fn accepted(home: &Home, generation: i64, reason: &str) -> Value {
    let mut found = Value::Null;
    until("verdict", async || {
        found = home.condition("ModelRoute", "modelroutes", "chat", "Accepted").await;
        found["observedGeneration"] == generation && found["reason"] == reason
    })
    .await;
    found
}

#[tokio::test]
async fn the_last_good_form_of_a_broken_route_outlives_both_planes_and_goes_once_it_is_mended() {
    let home = Home::new(Cluster::shared(), "last-good").await;
    let [engine] = ports();
    let listen = format!("--listen={ADDRESS}:{engine}");
    let _engine = Program::start(home.folder.path(), "engine-sim", &[listen, "--model=chat".to_owned()]);
    home.apply(&server("chat", engine)).await;
    home.pod("one", "chat", ADDRESS).await;
    home.apply(&on("{prefix: /v1}")).await;
    let control = home.control(&[]);
    let mut proxy = DataPlane::start(&home, "proxy");
    proxy.until_ready().await;
    until("an answer", async || proxy.ask("chat").await == 200).await;
    accepted(&home, 1, "Accepted").await;
    assert_eq!(status(&home).await["lastGood"], Value::Null, "a good one keeps nothing");

    // There is no webhook, and CEL does not compile a pattern.
    home.apply(&on("{regex: '('}")).await;
    let sentence = "its last valid form, of generation 1, stays in force";
    let refused = accepted(&home, 2, "Invalid").await;
    assert!(refused["message"].as_str().unwrap().contains(sentence), "{refused}");
    let kept = status(&home).await["lastGood"].take();
    assert_eq!((&kept["generation"], &kept["spec"]["modelName"]), (&json!(1), &json!("chat")), "{kept}");
    assert_eq!(proxy.ask("chat").await, 200);

    control.kill();
    proxy.lose();
    let control = home.control(&[]);
    proxy.run();
    proxy.until_ready().await;
    assert_eq!(proxy.ask("chat").await, 200, "by the first thing that the data plane is told");
    assert_eq!(status(&home).await["lastGood"], kept);

    // A second bad edit is answered by the same form, of whose generation the condition speaks.
    home.apply(&on("{regex: '['}")).await;
    let refused = accepted(&home, 3, "Invalid").await;
    assert!(refused["message"].as_str().unwrap().contains(sentence), "{refused}");
    assert_eq!((status(&home).await["lastGood"].take(), proxy.ask("chat").await), (kept, 200));

    home.apply(&on("{prefix: /elsewhere}")).await;
    accepted(&home, 4, "Accepted").await;
    assert_eq!(status(&home).await["lastGood"], Value::Null);
    until("the new form", async || proxy.ask("chat").await == 404).await;

    // Another object of its name has no past.
    home.apply(&on("{regex: '('}")).await;
    accepted(&home, 5, "Invalid").await;
    assert_eq!(status(&home).await["lastGood"]["generation"], 4);
    control.kill();
    home.api("ModelRoute", "modelroutes").delete("chat", &DeleteParams::default()).await.unwrap();
    home.apply(&on("{regex: '('}")).await;
    let _control = home.control(&[]);
    let refused = accepted(&home, 1, "Invalid").await;
    assert!(!refused["message"].as_str().unwrap().contains("stays in force"), "{refused}");
    assert_eq!(status(&home).await["lastGood"], Value::Null);
}

/// The scheduler's ConfigMap that says this.
async fn configure(home: &Home, text: &str) {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-router-config"},
        "data": {"routerConfiguration": text},
    });
    // JSON is YAML.
    home.apply(&object.to_string()).await;
}

/// What it keeps; null where that is nothing.
async fn kept(home: &Home) -> Value {
    let maps = Api::<ConfigMap>::namespaced(home.admin.clone(), &home.namespace);
    let annotations = maps.get("kthena-router-config").await.unwrap().metadata.annotations.unwrap_or_default();
    let kept = annotations.get("networking.serving.volcano.sh/last-good-router-configuration");
    kept.map_or(Value::Null, |kept| serde_json::from_str(kept).unwrap())
}

#[tokio::test]
async fn the_last_good_form_of_the_schedulers_configuration_outlives_both_planes_too() {
    const GOOD: &str = "scheduler: {plugins: {Score: {enabled: [{name: least-request, weight: 1}]}}}";
    let home = Home::new(Cluster::shared(), "configured").await;
    home.apply(&server("chat", 8000)).await;
    configure(&home, GOOD).await;
    let control = home.control(&[]);
    let mut proxy = DataPlane::start(&home, "proxy");
    proxy.until_ready().await;
    // Its profile goes by this name.
    until("the profile", async || proxy.keeps("scheduler")).await;
    assert_eq!(kept(&home).await, Value::Null, "a good one keeps nothing");
    configure(&home, "scheduler: 7").await;
    until("the form is kept", async || kept(&home).await["text"] == GOOD).await;

    control.kill();
    proxy.lose();
    let _control = home.control(&[]);
    proxy.run();
    proxy.until_ready().await;
    until("a snapshot on disk", async || proxy.keeps("/chat")).await;
    assert!(proxy.keeps("scheduler"), "it goes by the form that was kept");
    configure(&home, "scheduler: {}").await;
    until("nothing is kept", async || kept(&home).await.is_null()).await;
}

/// By these words the writer of statuses knows that definitions are of an earlier release, and does without the form.
#[tokio::test]
async fn a_field_that_definitions_lack_is_refused_in_the_words_that_are_looked_for() {
    let home = Home::new(Cluster::shared(), "last-good").await;
    home.apply(&on("{prefix: /v1}")).await;
    let patch = json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
        "metadata": {"name": "chat", "namespace": home.namespace}, "status": {"lastGoods": {}},
    });
    let parameters = PatchParams::apply("tests").force();
    let patched = home.api("ModelRoute", "modelroutes").patch_status("chat", &parameters, &Patch::Apply(patch)).await;
    let refused = patched.unwrap_err().to_string();
    assert!(refused.contains(".status.lastGood") && refused.contains("not declared in schema"), "{refused}");
}
