//! What engines say of themselves, from the engine to where requests go: the control plane asks, the data plane decides.
//! The simulated engines play it always; the real ones where their packages are installed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../publish/http.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod http;
#[path = "../publish/stage.rs"]
#[allow(dead_code, reason = "shared with other tests")]
mod stage;

mod caches;
mod fleet;
mod pushes;
mod real;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bench::engine::{self, torchserve, triton};
use fleet::{Fleet, Play, request};
use stage::until;

/// Ports that are free on the addresses of a test, which nobody else uses.
const PORTS: [u16; 3] = [28_000, 28_001, 28_002];

fn ips(test: u8) -> [IpAddr; 2] {
    [2, 3].map(|n| IpAddr::V4(Ipv4Addr::new(127, 77, test, n)))
}

const SCHEDULER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kthena-router-config}\ndata:\n  \
    routerConfiguration: |\n    scheduler:\n      plugins:\n        Filter: {enabled: [lora-affinity]}\n        \
    Score: {enabled: [{name: random, weight: 1}]}\n";

#[test]
fn requests_for_an_adapter_go_where_it_is_loaded() {
    let ips = ips(1);
    let fleet = Fleet::new("lora", "vLLM", "sim", &format!("workloadPort: {{port: {}}}", PORTS[0]), &ips);
    fleet.put("scheduler.yaml", SCHEDULER);
    fleet.put(
        "route.yaml",
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: r}\n\
         spec: {modelName: m, loraAdapters: [sql], rules: [{targetModels: [{modelServerName: s}]}]}\n",
    );
    let start = |ip: IpAddr, loras: &[&str]| {
        let loras = loras.iter().map(|name| (*name).to_owned()).collect();
        let config = engine::Config { listen: (ip, PORTS[0]).into(), loras, ..engine::Config::default() };
        fleet.stage.runtime.block_on(engine::Engine::start(config)).unwrap()
    };
    let engines = [start(ips[0], &["sql"]), start(ips[1], &[])];
    let (control, plane) = fleet.serve();
    let mut connection = http::Connection::open(plane.listen());
    // Of ten requests at random nothing would come to the right engine by chance.
    let mut all_at = |wanted: usize| {
        let before = engines.each_ref().map(|engine| engine.stats().requests);
        let statuses: Vec<u16> = (0..10).map(|_| connection.chat("sql")).collect();
        let after = engines.each_ref().map(|engine| engine.stats().requests);
        statuses.iter().all(|status| *status == 200) && after[wanted] - before[wanted] == 10
    };
    until("requests go to the engine that has it", || all_at(0));
    let adapter = |verb: &str| format!("/v1/{verb}_lora_adapter");
    let body = r#"{"lora_name": "sql", "lora_path": "/models/sql"}"#;
    let mut other = http::Connection::open(engines[1].addr);
    assert_eq!(other.ask(&request("POST", &adapter("load"), body)).0, 200);
    let mut first = http::Connection::open(engines[0].addr);
    assert_eq!(first.ask(&request("POST", &adapter("unload"), body)).0, 200);
    until("they follow it", || all_at(1));
    plane.stop();
    drop(control);
}

/// The play of engines with one model, of which one says that it is not ready, and what waits at the other.
const TRITON: Play = Play {
    engine: "Triton",
    model: "slowq",
    infer: "/v2/models/slowq/infer",
    quick: r#"{"inputs":[{"name":"text_input","shape":[1,1],"datatype":"BYTES","data":["a"]}]}"#,
    slow: r#"{"inputs":[{"name":"text_input","shape":[1,1],"datatype":"BYTES","data":["a"]},{"name":"delay_ms","shape":[1,1],"datatype":"INT32","data":[4000]}]}"#,
    ports: [PORTS[0], PORTS[0], PORTS[2]],
    out: ("POST", "/v2/repository/models/slowq/unload", "{}"),
    back: ("POST", "/v2/repository/models/slowq/load", "{}"),
};

const TORCHSERVE: Play = Play {
    engine: "TorchServe",
    model: "small",
    infer: "/predictions/small",
    quick: r#"{"prompt":"a","max_tokens":1,"itl_ms":1}"#,
    slow: r#"{"prompt":"a","max_tokens":1,"itl_ms":4000}"#,
    ports: PORTS,
    out: ("PUT", "/models/small?min_worker=0&max_worker=0&synchronous=true", ""),
    back: ("PUT", "/models/small?min_worker=1&max_worker=1&synchronous=true", ""),
};

#[test]
fn a_triton_whose_model_is_unloaded_gets_no_requests_and_what_waits_at_the_other_is_seen() {
    let ips = ips(2);
    let fleet = TRITON.fleet("triton", &ips);
    let model =
        triton::Model { queue: 3, queue_timeout: Some(Duration::from_secs(60)), ..triton::Model::unary("slowq") };
    let start = |ip: IpAddr| {
        let config = triton::Config {
            listen: (ip, PORTS[0]).into(),
            metrics: (ip, PORTS[2]).into(),
            models: vec![model.clone()],
        };
        fleet.stage.runtime.block_on(triton::start(config)).unwrap()
    };
    let _engines = ips.map(start);
    TRITON.perform(&fleet, &ips);
}

#[test]
fn a_torchserve_without_workers_gets_no_requests_and_what_waits_at_the_other_is_seen() {
    let ips = ips(3);
    let fleet = TORCHSERVE.fleet("torchserve", &ips);
    let start = |ip: IpAddr| {
        let at = |n: usize| SocketAddr::from((ip, PORTS[n]));
        let config = torchserve::Config {
            inference: at(0),
            management: at(1),
            metrics: at(2),
            models: vec![torchserve::Model { queue: 2, ..torchserve::Model::new("small") }],
            token: None,
            prometheus: true,
        };
        fleet.stage.runtime.block_on(torchserve::start(config)).unwrap()
    };
    let _engines = ips.map(start);
    TORCHSERVE.perform(&fleet, &ips);
}

#[test]
fn a_real_triton_plays_the_same() {
    let Some(venv) = real::venv("KTHENA_TRITON_VENV", "tritonserver of nvidia-pytriton==0.7.0") else { return };
    let ips = ips(4);
    let fleet = TRITON.fleet("real-triton", &ips);
    let _engines = ips.map(|ip| real::triton(&venv, &fleet.folder, ip, PORTS));
    TRITON.perform(&fleet, &ips);
}

#[test]
fn a_real_torchserve_plays_the_same() {
    let Some(venv) = real::venv("KTHENA_TORCHSERVE_VENV", "torchserve==0.12.0") else { return };
    let ips = ips(5);
    let fleet = TORCHSERVE.fleet("real-torchserve", &ips);
    let _engines = ips.map(|ip| real::torchserve(&venv, &fleet.folder, ip, PORTS));
    TORCHSERVE.perform(&fleet, &ips);
}
