//! What a route means. Refusals are in the corpus (tests/corpus/model-route.yaml).

use super::*;

fn route(yaml: &str) -> ValidRoute {
    let spec: crd::ModelRouteSpec = serde_norway::from_str(yaml).unwrap();
    validate(&spec).unwrap()
}

#[test]
fn an_absent_weight_counts_100() {
    let valid =
        route("{modelName: m, rules: [{targetModels: [{modelServerName: a}, {modelServerName: b, weight: 3}]}]}");
    let weights: Vec<_> = valid.rules[0].targets.iter().map(|target| target.weight).collect();
    assert_eq!(weights, [100, 3]);
}

#[test]
fn header_names_are_lower_case_and_conditions_that_always_hold_are_gone() {
    let valid = route(
        "{modelName: m, rules: [{modelMatch: {uri: {}, headers: {X-Tier: {exact: gold}, x-any: {}}}, \
         targetModels: [{modelServerName: a}]}]}",
    );
    let rule = &valid.rules[0];
    assert_eq!(rule.headers, BTreeMap::from([("x-tier".to_owned(), StringMatch::Exact("gold".to_owned()))]));
    assert_eq!(rule.uri, None);
}

#[test]
fn empty_names_are_absent_names() {
    let valid = route(
        "{modelName: '', loraAdapters: [a], rules: [{modelMatch: {body: {model: ''}}, \
         targetModels: [{modelServerName: s, externalModelProviderName: ''}]}]}",
    );
    assert_eq!(valid.model, None);
    assert_eq!(valid.rules[0].body_model, None);
    assert_eq!(valid.rules[0].targets[0].to, TargetName::ModelServer("s".into()));
}

#[test]
fn a_redis_address_is_a_host_and_a_port() {
    let check = |address: &str, expected: Option<(&str, u16)>| {
        assert_eq!(host_and_port(address), expected.map(|(host, port)| (host.into(), port)), "{address}");
    };
    check("redis:6379", Some(("redis", 6379)));
    check("[::1]:6379", Some(("[::1]", 6379)));
    check("redis", None);
    check("redis:0", None);
    check("redis:x", None);
    check(":6379", None);
    check("user@redis:6379", None);
}
