//! The pages by themselves, and by real bytes over the listeners of a plane that runs.

use std::time::Instant;

use api::decode::Object;
use api::snapshot::Version;
use http::{Method, StatusCode};
use prometheus::Registry;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::metrics::Builds;
use crate::publish::serve::{DataPlane, Progress};
use crate::publish::{Memory, Settings, build};
use crate::run::{self, Listen, Plane, Round, Source};
use crate::source::directory::Directory;

const SEED: u64 = 0x5ec2_e75e_ed00_0001;
/// A good server with a pod that is left out, a route to it, and a route without rules.
const MANIFESTS: &str = r#"
{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelServer, metadata: {name: s, generation: 4},
 spec: {inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: s}}, workloadPort: {port: 8000}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {app: s}}, status: {podIP: 10.0.0.1, startTime: "2026-01-02T03:04:05Z"}}
---
{apiVersion: v1, kind: Pod, metadata: {name: q, labels: {app: s}}, status: {phase: Pending}}
---
{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelRoute, metadata: {name: good},
 spec: {modelName: m, rules: [{targetModels: [{modelServerName: s}]}]}}
---
{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelRoute, metadata: {name: lost},
 spec: {modelName: n, rateLimit: {inputTokensPerUnit: 1, unit: second}, rules: [{targetModels: [{modelServerName: s}]}]}}
"#;

fn manifests() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("all.yaml"), MANIFESTS).unwrap();
    folder
}

fn look() -> Look {
    let folder = manifests();
    let (_, reading) = Directory::open(folder.path()).unwrap();
    let built = build(&reading.world, &Settings { fleet_seed: SEED }, &mut Memory::default());
    let version = Version { epoch: 0, version: 3 };
    let snapshot = Arc::new(api::snapshot::Snapshot { version, ..built.snapshot });
    let round = Arc::new(Round { world: reading.world, verdicts: built.verdicts, snapshot });
    let newest = Version { epoch: 9, version: 2 };
    let refused = [(Object::Route("default/good".into()), "too new".to_owned())].into();
    let data_plane = DataPlane {
        node: "node-a".into(),
        namespace: "kthena".into(),
        pod: "node-a-x7".into(),
        uid: "5e0b".into(),
        zone: "zone-1".into(),
        proof_ends_s: Some(1_900_000_000),
        version: "0.1.0".into(),
        instance: 7,
        applied: Some(newest),
        refused,
        stuck: None,
    };
    let progress = Progress { version: newest, source: version, connected: 1, applied: 1, ..Progress::default() };
    Look { round: Some(round), progress: Arc::new(progress), data_planes: vec![data_plane], ..Look::default() }
}

fn page(page: Page, look: &Look) -> Reply {
    render(page, look, &Registry::new())
}

fn json(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn unknown_paths_are_told_which_there_are_and_other_methods_which_may_be_used() {
    let refused = route(Which::Metrics, &Method::GET, "/debug/objects").unwrap_err();
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(json(&refused)["paths"], serde_json::json!(["/healthz", "/readyz", "/metrics"]));
    assert_eq!(route(Which::Debug, &Method::HEAD, "/debug/objects"), Ok(Page::Objects));
    assert_eq!(route(Which::Debug, &Method::DELETE, "/debug").unwrap_err().status, StatusCode::NOT_FOUND);
    let refused = route(Which::Debug, &Method::DELETE, "/debug/objects").unwrap_err();
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(Response::from(refused).headers()["allow"], "GET, HEAD");
}

#[test]
fn it_is_ready_once_something_is_published() {
    let none = Look::default();
    assert_eq!(page(Page::Health, &none).status, StatusCode::OK);
    let built = Look { progress: Arc::default(), ..look() };
    for early in [&none, &built] {
        let reply = page(Page::Ready, early);
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(json(&reply)["message"].as_str().unwrap().contains("nothing is published yet"));
    }
    let waiting = Look { waiting: vec!["pods in a: forbidden".to_owned(), "nodes".to_owned()], ..Look::default() };
    assert!(
        json(&page(Page::Ready, &waiting))["message"]
            .as_str()
            .unwrap()
            .ends_with("; waiting for pods in a: forbidden; nodes")
    );
    let ready = page(Page::Ready, &look());
    assert_eq!((ready.status, &json(&ready)["message"]), (StatusCode::OK, &serde_json::json!("ready")));
    // It serves on where a build panics, if it has anything to serve.
    let panicked = Some("of the test".into());
    let serving = page(Page::Ready, &Look { panicked: panicked.clone(), ..look() });
    let first = page(Page::Ready, &Look { panicked, ..Look::default() });
    assert_eq!([serving.status, first.status], [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE]);
    for reply in [serving, first] {
        assert!(json(&reply)["message"].as_str().unwrap().contains("makes a build panic"), "{}", reply.body);
    }
    for unbuilt in [Page::ConfigDump, Page::Objects] {
        assert_eq!(page(unbuilt, &none).status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[test]
fn the_dump_is_a_snapshot_without_its_secret() {
    let look = look();
    let reply = page(Page::ConfigDump, &look);
    assert!(!reply.body.contains(&SEED.to_string()), "{}", reply.body);
    let read = api::json::snapshot_from_json(reply.body.as_bytes()).unwrap();
    let held = &look.round.as_ref().unwrap().snapshot;
    assert_eq!((held.fleet_seed, read.fleet_seed), (SEED, 0));
    assert_eq!((&read.routes, &read.backends), (&held.routes, &held.backends));
}

#[test]
fn objects_say_what_became_of_each() {
    let objects = json(&page(Page::Objects, &look()));
    let server = &objects["modelservers"][0];
    assert_eq!((&server["name"], &server["generation"], &server["endpoints"]), (&"s".into(), &4.into(), &1.into()));
    assert_eq!(server["left_out"], serde_json::json!([{"pod": "default/q", "reason": "not running yet"}]));
    let accepted = |n: usize| objects["modelroutes"][n]["accepted"].clone();
    assert_eq!((&accepted(0)["status"], &accepted(0)["reason"]), (&true.into(), &"Accepted".into()));
    assert_eq!((&accepted(1)["status"], &accepted(1)["reason"]), (&false.into(), &"NotServed".into()));
    assert!(accepted(1)["message"].as_str().unwrap().contains("rateLimit"));
}

#[test]
fn kthena_s_dumps_are_answered_in_its_shapes() {
    let (loads, look) = (Arc::new(crate::publish::serve::Loads::new(1)), look());
    let handle = look.round.as_ref().unwrap().snapshot.backends[0].endpoints[0].handle;
    let said = api::proto::EngineLoad { handle, running: 3, waiting: 2, cache_usage: 0.5, ..Default::default() };
    loads.engine(said, Instant::now());
    let look = Look { loads: Some(loads), ..look };
    let get = |path: &str| {
        let page = route(Which::Debug, &Method::GET, &format!("/debug/config_dump/{path}")).unwrap();
        let reply = render(page, &look, &Registry::new());
        (reply.status.as_u16(), json(&reply))
    };
    let (_, routes) = get("modelroutes");
    let names: Vec<&str> =
        routes["modelroutes"].as_array().unwrap().iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!((names, &routes["modelroutes"][0]["spec"]["modelName"]), (vec!["good", "lost"], &"m".into()));
    let (_, servers) = get("modelservers");
    let server = &servers["modelservers"][0];
    assert_eq!((&server["namespace"], &server["spec"]["inferenceEngine"]), (&"default".into(), &"vLLM".into()));
    assert_eq!((&server["associatedPods"][0], server.get("prefillPods")), (&"default/p".into(), None));
    let (_, pods) = get("pods");
    assert_eq!(pods["pods"].as_array().unwrap().len(), 1, "what is no endpoint is not there: {pods}");
    let pod = &pods["pods"][0];
    assert_eq!(
        (&pod["name"], &pod["engine"], &pod["modelServers"][0]),
        (&"p".into(), &"vLLM".into(), &"default/s".into())
    );
    let metrics = &pod["metrics"];
    assert_eq!((&metrics["requestRunningNum"], &metrics["requestWaitingNum"]), (&3.into(), &2.into()));
    assert_eq!(metrics["gpuCacheUsage"], 0.5);
    assert_eq!(get("namespaces/default/modelroutes/good"), (200, routes["modelroutes"][0].clone()));
    assert_eq!(get("namespaces/default/modelservers/s"), (200, server.clone()));
    let info = get("namespaces/default/pods/p").1["podInfo"].take();
    assert_eq!((&info["podIP"], &info["startTime"]), (&"10.0.0.1".into(), &"2026-01-02T03:04:05Z".into()));
    let missing = (404, serde_json::json!({"error": "ModelServer not found"}));
    assert_eq!(get("namespaces/default/modelservers/t"), missing);
    assert_eq!(get("namespaces//pods/p").0, 400);
    // Nobody here reads these.
    for (plural, kind) in [("gateways", "Gateway"), ("httproutes", "HTTPRoute"), ("inferencepools", "InferencePool")] {
        assert_eq!(get(plural), (200, serde_json::json!({plural: []})));
        let missing = (404, serde_json::json!({"error": format!("{kind} not found")}));
        assert_eq!(get(&format!("namespaces/default/{plural}/g")), missing);
    }
    let elsewhere = route(Which::Metrics, &Method::GET, "/debug/config_dump/pods").unwrap_err();
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
    let unknown = json(&route(Which::Debug, &Method::GET, "/debug/config_dump/secrets").unwrap_err());
    assert!(unknown["paths"].as_array().unwrap().contains(&"/debug/config_dump/pods".into()), "{unknown}");
}

#[test]
fn what_is_wrong_with_an_engine_is_on_a_page() {
    let asked = |fault: Option<&str>| crate::engine::Asked {
        address: ([10, 0, 0, 1], 8081).into(),
        engine: api::snapshot::Engine::Torchserve,
        topic: "models",
        endpoints: 1,
        fault: fault.map(Into::into),
    };
    let told =
        json(&page(Page::Engines, &Look { asked: vec![asked(Some("it wants a token")), asked(None)], ..look() }));
    let first = serde_json::json!({
        "address": "10.0.0.1:8081", "engine": "TorchServe", "asked_for": "models", "endpoints": 1, "fault": "it wants a token",
    });
    assert_eq!((&told["engines"][0], &told["engines"][1]["fault"]), (&first, &Value::Null));
}

#[test]
fn data_planes_say_what_each_has_and_refuses() {
    let told = json(&page(Page::DataPlanes, &look()));
    let row = &told["data_planes"][0];
    assert_eq!((&row["pod"], &row["uid"]), (&"node-a-x7".into(), &"5e0b".into()));
    assert_eq!((&row["node"], &row["zone"], &row["newest"]), (&"node-a".into(), &"zone-1".into(), &true.into()));
    assert_eq!(row["applied"], serde_json::json!({"epoch": 9, "version": 2}));
    assert_eq!(row["token_ends_s"], 1_900_000_000);
    let refused = serde_json::json!([{"kind": "route", "name": "default/good", "reason": "too new"}]);
    assert_eq!((&row["refused"], &row["stuck"]), (&refused, &Value::Null));
    assert_eq!(json(&page(Page::DataPlanes, &Look::default()))["newest"], Value::Null);
}

#[test]
fn a_scrape_has_the_builds_the_snapshot_and_the_stream() {
    let (registry, look) = (Registry::new(), look());
    let builds = Builds::new(&registry);
    builds.built(Duration::from_millis(3));
    look.counts.cut_off.store(5, std::sync::atomic::Ordering::Relaxed);
    look.counts.excused.store(7, std::sync::atomic::Ordering::Relaxed);
    look.counts.behind.store(3, std::sync::atomic::Ordering::Relaxed);
    let text = render(Page::Metrics, &look, &registry).body;
    for line in [
        "kthena_controlplane_builds_total 1",
        "kthena_controlplane_build_seconds_count 1",
        r#"kthena_controlplane_build_seconds_bucket{le="0.0032"} 1"#,
        r#"kthena_controlplane_objects{kind="ModelRoute",verdict="Accepted"} 1"#,
        r#"kthena_controlplane_objects{kind="ModelRoute",verdict="NotServed"} 1"#,
        "kthena_controlplane_snapshot_endpoints 1",
        "kthena_controlplane_source_version 3",
        "kthena_controlplane_subscribers_connected 1",
        "kthena_controlplane_subscribers{version=\"0.1.0\"} 1",
        "kthena_controlplane_load_queue_depth 0",
        "kthena_controlplane_subscribers_refused 1",
        "kthena_controlplane_streams_cut_off_total 5",
        "kthena_controlplane_streams_excused_total 7",
        "kthena_controlplane_streams_behind_total 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    // Of what nobody is there to have nothing is said, and the rest all the same.
    let alone = render(Page::Metrics, &Look { data_planes: Vec::new(), ..look }, &registry).body;
    assert!(alone.contains("kthena_controlplane_snapshot_endpoints 1\n"), "{alone}");
    assert!(!alone.contains("kthena_controlplane_subscribers{"), "{alone}");
}

/// Everything that comes back for these bytes.
async fn ask(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // A reset is what a refused connection may look like.
    let _ = timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.expect("it closes");
    answer
}

async fn get(address: SocketAddr, path: &str) -> String {
    ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
}

/// A plane that serves, and its admin addresses.
async fn running(folder: &std::path::Path) -> (SocketAddr, SocketAddr) {
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let options =
        run::Options { source: Source::Directory(folder.into()), listen: Listen::Plain(any), fleet_seed: SEED };
    let plane = Plane::start(options).await.unwrap();
    let admin = Admin::bind(&Options { metrics: any, debug: Some(any) }, plane.view()).await.unwrap();
    let addresses = (admin.metrics(), admin.debug().unwrap());
    tokio::spawn(plane.serve(std::future::pending()));
    tokio::spawn(admin.serve());
    addresses
}

#[tokio::test]
async fn a_running_plane_answers_on_both_listeners() {
    let folder = manifests();
    let (metrics, debug) = running(folder.path()).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !get(metrics, "/readyz").await.starts_with("HTTP/1.1 200") {
        assert!(Instant::now() < deadline, "it never became ready");
    }
    assert!(get(metrics, "/healthz").await.starts_with("HTTP/1.1 200"));
    let text = get(metrics, "/metrics").await;
    assert!(text.contains("kthena_controlplane_builds_total 1\n"), "{text}");
    assert!(text.contains("\nprocess_cpu_seconds_total "), "{text}");
    assert!(get(metrics, "/debug/config_dump").await.starts_with("HTTP/1.1 404"));
    for (path, word) in [
        ("config_dump", "default/good"),
        ("objects", "left_out"),
        ("dataplanes", "source_version"),
        ("kv", "endpoints"),
        ("engines", "engines"),
    ] {
        let answer = get(debug, &format!("/debug/{path}?x=y")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(word), "{answer}");
    }
    let posted = ask(debug, "POST /debug/objects HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx").await;
    assert!(posted.starts_with("HTTP/1.1 405") && posted.contains("allow: GET, HEAD"), "{posted}");
    let head = ask(debug, "HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let long = ask(metrics, &format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_BYTES))).await;
    assert!(long.is_empty() || long.starts_with("HTTP/1.1 4"), "{long}");
}

#[tokio::test]
async fn who_holds_all_connections_is_cut_off_and_the_other_listener_answers_meanwhile() {
    let folder = manifests();
    let (metrics, debug) = running(folder.path()).await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        held.push(TcpStream::connect(metrics).await.unwrap());
    }
    // Accepted in order: all that are held come before this one.
    assert_eq!(get(metrics, "/healthz").await, "");
    assert!(get(debug, "/healthz").await.starts_with("HTTP/1.1 200"));
    let since = Instant::now();
    for mut stream in held {
        let mut answer = Vec::new();
        let _ = timeout(2 * HEAD_TIME, stream.read_to_end(&mut answer)).await.expect("it is cut off");
    }
    assert!(since.elapsed() < HEAD_TIME + Duration::from_secs(4), "{:?}", since.elapsed());
    assert!(get(metrics, "/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn as_many_scrapes_at_once_as_there_is_room_for_are_all_answered_while_manifests_are_built() {
    let folder = manifests();
    let (metrics, debug) = running(folder.path()).await;
    let mut scrapes = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(metrics).await.unwrap();
        // All but the last byte, so that all are under way at one time.
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r").await.unwrap();
        scrapes.push(stream);
    }
    let built = "kthena_controlplane_objects{kind=\"ModelRoute\",verdict=\"Accepted\"} 2\n";
    let more = "{apiVersion: networking.serving.volcano.sh/v1alpha1, kind: ModelRoute, metadata: {name: more},\n \
                spec: {modelName: o, rules: [{targetModels: [{modelServerName: s}]}]}}\n";
    std::fs::write(folder.path().join("more.yaml"), more).unwrap();
    let deadline = Instant::now() + HEAD_TIME - Duration::from_secs(1);
    while !get(debug, "/metrics").await.contains(built) {
        assert!(Instant::now() < deadline, "the new route is not built while scrapes wait");
    }
    for stream in &mut scrapes {
        stream.write_all(b"\n").await.unwrap();
    }
    for mut stream in scrapes {
        let mut answer = String::new();
        timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(built), "{answer}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_a_sentence_that_says_what_to_do() {
    let folder = manifests();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let any: SocketAddr = ([127, 0, 0, 1], 0).into();
    let plane = Plane::start(run::Options {
        source: Source::Directory(folder.path().into()),
        listen: Listen::Plain(any),
        fleet_seed: 1,
    })
    .await
    .unwrap();
    let options = Options::new(any, taken.local_addr().unwrap().port());
    let said = Admin::bind(&options, plane.view()).await.unwrap_err().to_string();
    assert!(said.contains("in use") && said.contains("--debug-port, or 0"), "{said}");
    assert_eq!(Options::new(any, 0).debug, None);
}
