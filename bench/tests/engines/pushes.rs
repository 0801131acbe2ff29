//! What an SGLang pushes of its load. Its metrics have vLLM's names, so that of one nothing is read there: what is known was pushed.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bench::engine::{Config, Engine, KvConfig, ModelConfig, Running};

use crate::fleet::{Fleet, request, running, send};
use crate::stage::until;
use crate::{PORTS, ips};

/// Two of them, each for so many requests at once.
fn engines(test: u8, at_once: usize) -> (Fleet, [IpAddr; 2], [Running; 2]) {
    let ips = ips(test);
    let fleet = Fleet::new("sglang", "SGLang", "sim", &format!("workloadPort: {{port: {}}}", PORTS[0]), &ips);
    fleet.put(
        "route.yaml",
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: r}\n\
         spec: {modelName: sim, rules: [{targetModels: [{modelServerName: s}]}]}\n",
    );
    let start = |ip: IpAddr| {
        let place = SocketAddr::new(ip, 0);
        let kv = KvConfig { publish: place, replay: None, load: Some(place), ..KvConfig::default() };
        let model = ModelConfig { max_num_seqs: at_once, ..ModelConfig::default() };
        let listen = (ip, PORTS[0]).into();
        let config = Config { listen, kv: Some(kv), engine: model, ..Config::default() };
        fleet.stage.runtime.block_on(Engine::start(config)).unwrap()
    };
    let engines = ips.map(start);
    (fleet, ips, engines)
}

/// Takes minutes.
fn slow() -> String {
    request("POST", "/v1/completions", r#"{"model": "sim", "prompt": "a", "max_tokens": 10000}"#)
}

#[test]
fn what_an_sglang_pushes_of_its_load_is_known_at_once_and_without_its_metrics() {
    let (fleet, ips, _engines) = engines(6, 1);
    let (control, plane) = fleet.serve();
    let running = || running(&plane);
    assert_eq!(running(), [0, 0]);
    // Not by way of the proxy: only the engine can tell.
    let sent: Vec<_> = (0..3).map(|_| send(SocketAddr::new(ips[1], PORTS[0]), &slow())).collect();
    until("what runs and what waits there is known", || running() == [0, 3]);
    drop(sent);
    until("and that it has ended", || running() == [0, 0]);
    plane.stop();
    drop(control);
}

/// Of which up to 20 ms are the engine's, which looks at its load so often.
const KNOWN: Duration = Duration::from_millis(60);

#[test]
fn a_load_that_changes_all_the_time_is_known_as_it_changes() {
    let (fleet, ips, _engines) = engines(14, 64);
    let (control, plane) = fleet.serve();
    let (mut sent, mut took) = (Vec::new(), Vec::new());
    let change = |sent: &mut Vec<_>| sent.push(send(SocketAddr::new(ips[1], PORTS[0]), &slow()));
    change(&mut sent);
    until("the first of them is known", || running(&plane) == [0, 1]);
    for n in 2..=20 {
        let begun = Instant::now();
        change(&mut sent);
        until("one more of them is known", || running(&plane) == [0, n]);
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let [median, most] = [took[took.len() / 2], took[took.len() - 1]];
    println!("a change of an engine's load is known after {median:?} (median of {}), {most:?} at most", took.len());
    assert!(median < KNOWN, "{took:?}");
    plane.stop();
    drop(control);
}
