use serde_json::{Value, json};

use super::*;
use crate::engine::tests::{built, round};
use crate::world::{Facts, Unready};

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

fn targets(servers: &mut Servers, specs: &[(String, Value)]) -> BTreeMap<Place, Target> {
    servers.targets(&round(specs, &["10.0.0.1".parse().unwrap()]))
}

fn at(place: &Place) -> String {
    format!("{}{}", place.address, place.path)
}

/// Places of a topic as `address path`, and for how many endpoints each speaks.
fn places(servers: &mut Servers, specs: &[(String, Value)], topic: Topic) -> Vec<(String, usize)> {
    let targets = targets(servers, specs);
    let of_topic = targets.iter().filter(|(place, _)| place.topic == topic);
    of_topic.map(|(place, target)| (at(place), target.members.len())).collect()
}

#[test]
fn each_engine_has_its_places_and_a_server_may_name_others() {
    for (engine, metrics, load, facts) in [
        ("vLLM", Value::Null, Some("10.0.0.1:8000/metrics"), "10.0.0.1:8000"),
        ("SGLang", Value::Null, Some("10.0.0.1:8000/metrics"), "10.0.0.1:8000"),
        ("Triton", Value::Null, Some("10.0.0.1:8002/metrics"), "10.0.0.1:8000"),
        ("TorchServe", Value::Null, None, "10.0.0.1:8081"),
        ("vLLM", json!({"port": 9000}), Some("10.0.0.1:9000/metrics"), "10.0.0.1:8000"),
        ("Triton", json!({"path": "/m"}), Some("10.0.0.1:8002/m"), "10.0.0.1:8000"),
    ] {
        let specs = [server("a", engine, metrics)];
        let expected: Vec<_> = load.map(|at| (at.to_owned(), 1)).into_iter().collect();
        assert_eq!(places(&mut Servers::default(), &specs, Topic::Metrics), expected, "{engine}");
        assert_eq!(places(&mut Servers::default(), &specs, Topic::Models), [(facts.to_owned(), 1)], "{engine}");
    }
}

#[test]
fn only_an_engine_that_may_push_its_load_is_asked_where_at_its_api() {
    for (engine, metrics, expected) in [
        ("SGLang", Value::Null, vec!["10.0.0.1:8000"]),
        ("SGLang", json!({"port": 9000}), vec!["10.0.0.1:8000"]),
        ("vLLM", Value::Null, vec![]),
        ("Triton", Value::Null, vec![]),
        ("TorchServe", Value::Null, vec![]),
    ] {
        let targets = targets(&mut Servers::default(), &[server("a", engine, metrics)]);
        let pushes: Vec<String> = targets.values().filter_map(|target| Some(target.pushes?.to_string())).collect();
        assert_eq!(pushes, expected, "{engine}");
    }
}

#[test]
fn torchserves_metrics_stand_in_for_its_management_and_both_can_be_elsewhere() {
    let mut spec = server("a", "TorchServe", json!({"port": 9082, "path": "/m"}));
    spec.1["managementPort"] = 9081.into();
    let targets = targets(&mut Servers::default(), &[spec]);
    let (place, target) = targets.first_key_value().unwrap();
    assert_eq!((at(place), targets.len()), ("10.0.0.1:9081".to_owned(), 1));
    assert_eq!(target.ask.otherwise.as_ref().map(at), Some("10.0.0.1:9082/m".to_owned()));
}

#[test]
fn an_endpoint_of_several_servers_is_asked_once_and_for_the_models_of_all() {
    let mut two = [server("a", "vLLM", Value::Null), server("b", "vLLM", json!({"port": 9000}))];
    two[0].1["model"] = "m".into();
    two[1].1["model"] = "n".into();
    assert_eq!(places(&mut Servers::default(), &two, Topic::Metrics), [("10.0.0.1:8000/metrics".to_owned(), 1)]);
    let targets = targets(&mut Servers::default(), &two);
    let (_, facts) = targets.iter().find(|(place, _)| place.topic == Topic::Models).unwrap();
    assert_eq!((facts.members.len(), &facts.ask.models), (1, &["m".into(), "n".into()].into()));
}

#[test]
fn a_place_speaks_for_all_ports_of_a_pod() {
    let mut two = [server("a", "Triton", Value::Null), server("b", "Triton", Value::Null)];
    two[1].1["workloadPort"]["port"] = 8500.into();
    assert_eq!(places(&mut Servers::default(), &two, Topic::Metrics), [("10.0.0.1:8002/metrics".to_owned(), 2)]);
}

#[test]
fn a_pod_that_was_taken_out_on_its_engines_word_is_asked_on() {
    let specs = [server("a", "Triton", Value::Null)];
    let ips = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    let mut world = round(&specs, &ips).world;
    let gone = EndpointKey { uid: "10.0.0.2".into(), port: 8000, rank: 0 };
    let facts = Arc::new(Facts { unready: Unready::All, ..Facts::default() });
    world.engines = [(gone.clone(), facts)].into_iter().collect();
    let round = built(world);
    assert_eq!(round.snapshot.backends[0].endpoints.len(), 1);
    let targets = Servers::default().targets(&round);
    let members: Vec<_> = targets.values().flat_map(|target| &target.members).filter(|m| m.key == gone).collect();
    assert_eq!(members.iter().map(|member| member.handle).collect::<Vec<_>>(), [None, None]);
    assert_eq!(targets.len(), 4);
}

#[test]
fn a_server_keeps_its_place_while_its_latest_form_is_refused_and_loses_it_when_it_goes() {
    let mut servers = Servers::default();
    assert_eq!(places(&mut servers, &[server("a", "vLLM", json!({"port": 9000}))], Topic::Metrics).len(), 1);
    let (name, mut spec) = server("a", "vLLM", Value::Null);
    spec["managementPort"] = 1.into();
    let refused = round(&[(name, spec)], &[]);
    servers.learn(&refused);
    assert_eq!(servers.0["default/a"].metrics.port, 9000);
    servers.learn(&round(&[], &[]));
    assert!(servers.0.is_empty());
}
