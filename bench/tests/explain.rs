//! What the control plane's `explain` says is what the data plane does.

use std::collections::BTreeMap;

use api::proto::string_match::Match;
use api::proto::{self, StringMatch};
use api::snapshot::Snapshot;
use controlplane::explain::{Named, Query, explain};
use dataplane_core::load::LiveRegistry;
use dataplane_core::route::{RouteMiss, RouteQuery, route};
use dataplane_core::table::Table;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const MODELS: [&str; 3] = ["m", "n", "a"];
const HEADERS: [&str; 2] = ["x-a", "x-b"];
const VALUES: [&str; 4] = ["", "/v1/u", "/v1/uv", "/v2"];

fn string_match() -> impl Strategy<Value = StringMatch> {
    let value = || select(&VALUES[..]).prop_map(str::to_owned);
    let regex = select(vec!["^/v[12]/u$", "u", "^$", "/v1/.v"]).prop_map(str::to_owned);
    prop_oneof![value().prop_map(Match::Exact), value().prop_map(Match::Prefix), regex.prop_map(Match::Regex)]
        .prop_map(|on| StringMatch { r#match: Some(on) })
}

fn rule() -> impl Strategy<Value = proto::Rule> {
    let headers = btree_map(select(&HEADERS[..]).prop_map(str::to_owned), string_match(), 0..2);
    let targets = vec((select(vec!["d/s", "d/t", "d/gone"]), 0u32..=2), 1..3);
    let body_model = prop_oneof![3 => Just(String::new()), 1 => select(&MODELS[..]).prop_map(str::to_owned)];
    (headers, option::of(string_match()), body_model, targets).prop_map(|(headers, uri, body_model, targets)| {
        let mut targets: Vec<proto::Target> = targets
            .into_iter()
            .map(|(name, weight)| proto::Target { backend: name.into(), weight: Some(weight) })
            .collect();
        targets[0].weight = targets[0].weight.max(Some(1));
        proto::Rule { name: String::new(), headers, uri, body_model, targets }
    })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let model = || select(&MODELS[..]).prop_map(str::to_owned);
    let routes = vec((model(), vec(model(), 0..3), vec(rule(), 0..3), any::<bool>()), 0..4);
    routes.prop_map(|routes| {
        let route = |(i, (model, adapters, rules, base)): (usize, (String, Vec<String>, Vec<proto::Rule>, bool))| {
            let model = if base || adapters.is_empty() { model } else { String::new() };
            proto::Route { name: format!("d/r{i}"), model, adapters, rules, ..Default::default() }
        };
        let backend =
            |name: &str, model: &str| proto::Backend { name: name.into(), model: model.into(), ..Default::default() };
        let wire = proto::Snapshot {
            routes: routes.into_iter().enumerate().map(route).collect(),
            backends: vec![backend("d/s", ""), backend("d/t", "served")],
            ..Default::default()
        };
        api::decode::snapshot(wire).expect("it is valid by construction")
    })
}

fn query() -> impl Strategy<Value = Query> {
    let headers = btree_map(select(&HEADERS[..]), select(&VALUES[..]), 0..2);
    (select(&MODELS[..]), select(&VALUES[..]), headers).prop_map(|(model, path, headers)| Query {
        model: model.to_owned(),
        path: path.to_owned(),
        headers: headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<BTreeMap<_, _>>(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn what_is_explained_is_what_is_done(snapshot in snapshot(), query in query(), random: u64) {
        let table = Table::compile(&snapshot, &mut LiveRegistry::new());
        let headers: Vec<(&str, &str)> = query.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let asked = RouteQuery { model: &query.model, path: &query.path, headers: &headers[..], random };
        let done = route(&table, &asked);
        let said = explain(&snapshot, &query);
        match (done, said.end) {
            (Err(RouteMiss::NoRoute), None) => {}
            (Err(RouteMiss::BackendMissing(name)), Some(end)) => {
                prop_assert!(end.choices.iter().any(|c| *c.backend == name && c.share > 0.0 && c.found.is_none()));
            }
            (Ok(routed), Some(end)) => {
                prop_assert_eq!(&routed.route.name, end.route);
                prop_assert!(std::ptr::eq(routed.rule, &routed.route.rules[end.rule]));
                prop_assert_eq!(routed.adapter.is_some(), end.named == Named::Adapter);
                let name = &routed.backend.name;
                prop_assert!(end.choices.iter().any(|c| c.backend == name && c.share > 0.0 && c.found.is_some()));
            }
            (done, end) => prop_assert!(false, "done {done:?}, said {end:?}"),
        }
    }
}
