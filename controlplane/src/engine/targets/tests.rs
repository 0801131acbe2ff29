use serde_json::{Value, json};

use super::*;
use crate::engine::tests::round;

fn server(name: &str, engine: &str, metrics: Value) -> (String, Value) {
    let mut spec = json!({
        "inferenceEngine": engine,
        "workloadSelector": {"matchLabels": {"app": "x"}},
        "workloadPort": {"port": 8000},
    });
    if !metrics.is_null() {
        spec["metrics"] = metrics;
    }
    (name.to_owned(), spec)
}

/// Places as `address path`, and for how many endpoints each speaks.
fn places(servers: &mut Servers, specs: &[(String, Value)]) -> Vec<(String, usize)> {
    let round = round(specs, &["10.0.0.1".parse().unwrap()]);
    let targets = servers.targets(&round);
    targets.iter().map(|(at, target)| (format!("{}{}", at.address, at.path), target.handles.len())).collect()
}

#[test]
fn each_engine_has_its_place_and_a_server_may_name_another() {
    for (engine, metrics, expected) in [
        ("vLLM", Value::Null, Some("10.0.0.1:8000/metrics")),
        ("SGLang", Value::Null, Some("10.0.0.1:8000/metrics")),
        ("Triton", Value::Null, Some("10.0.0.1:8002/metrics")),
        ("TorchServe", Value::Null, None),
        ("vLLM", json!({"port": 9000}), Some("10.0.0.1:9000/metrics")),
        ("Triton", json!({"path": "/m"}), Some("10.0.0.1:8002/m")),
    ] {
        let expected: Vec<_> = expected.map(|at| (at.to_owned(), 1)).into_iter().collect();
        assert_eq!(places(&mut Servers::default(), &[server("a", engine, metrics)]), expected, "{engine}");
    }
}

#[test]
fn an_endpoint_of_several_servers_is_asked_once() {
    let two = [server("a", "vLLM", Value::Null), server("b", "vLLM", json!({"port": 9000}))];
    assert_eq!(places(&mut Servers::default(), &two), [("10.0.0.1:8000/metrics".to_owned(), 1)]);
}

#[test]
fn a_place_speaks_for_all_ports_of_a_pod() {
    let mut two = [server("a", "Triton", Value::Null), server("b", "Triton", Value::Null)];
    two[1].1["workloadPort"]["port"] = 8500.into();
    assert_eq!(places(&mut Servers::default(), &two), [("10.0.0.1:8002/metrics".to_owned(), 2)]);
}

#[test]
fn a_server_keeps_its_place_while_its_latest_form_is_refused_and_loses_it_when_it_goes() {
    let mut servers = Servers::default();
    assert_eq!(places(&mut servers, &[server("a", "vLLM", json!({"port": 9000}))]).len(), 1);
    let (name, mut spec) = server("a", "vLLM", Value::Null);
    spec["managementPort"] = 1.into();
    let refused = round(&[(name, spec)], &[]);
    servers.learn(&refused);
    assert_eq!(servers.0["default/a"].1.port, 9000);
    servers.learn(&round(&[], &[]));
    assert!(servers.0.is_empty());
}
