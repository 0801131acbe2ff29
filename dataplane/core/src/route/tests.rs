use api::snapshot::{Backend, Route, Rule, Snapshot, StringMatch};

use super::{RouteMiss, RouteQuery, route};
use crate::load::LiveRegistry;
use crate::scheduler::Rng;
use crate::table::Table;
use crate::table::tests::{backend, endpoint, route as simple, rule};

fn table(routes: Vec<Route>) -> Table {
    let named = |name: &str| Backend { model: Some("upstream".into()), ..backend(name, [endpoint(1)]) };
    let backends = vec![named("d/a"), named("d/b"), named("d/c")];
    let snapshot = Snapshot { routes, backends, ..Snapshot::default() };
    Table::compile(&snapshot, &mut LiveRegistry::new())
}

fn query<'q>(model: &'q str, path: &'q str, headers: &'q [(&'q str, &'q str)]) -> RouteQuery<'q, [(&'q str, &'q str)]> {
    RouteQuery { model, path, headers, random: 0 }
}

/// Route, backend, rename and adapter.
type Found<'f> = (&'f str, &'f str, Option<&'f str>, Option<&'f str>);

fn check(table: &Table, model: &str, expected: Result<Found<'_>, RouteMiss>) {
    let query = query(model, "/v1/x", &[]);
    let found = route(table, &query);
    let found = found.map(|r| {
        let (served, adapter) = (r.served_model.map(|m| m.as_str()), r.adapter.map(|m| m.as_str()));
        (r.route.name.as_str(), r.backend.name.as_str(), served, adapter)
    });
    assert_eq!(found, expected, "{model}");
}

#[test]
fn models_are_renamed_and_adapters_are_not() {
    let table = table(vec![simple("d/r", Some("m"), &["lora"], &[("d/a", 1)])]);
    check(&table, "m", Ok(("d/r", "d/a", Some("upstream"), None)));
    check(&table, "lora", Ok(("d/r", "d/a", None, Some("lora"))));
    check(&table, "M", Err(RouteMiss::NoRoute));
    check(&table, "", Err(RouteMiss::NoRoute));
}

#[test]
fn a_base_route_does_not_hide_an_adapters_route() {
    let closed = Route {
        rules: [Rule { uri: Some(StringMatch::Exact("/never".into())), ..rule(&[("d/a", 1)]) }].into(),
        ..simple("d/base", Some("m"), &[], &[])
    };
    let table = table(vec![simple("d/lora", None, &["m"], &[("d/b", 1)]), closed]);
    check(&table, "m", Ok(("d/lora", "d/b", None, Some("m"))));
}

#[test]
fn the_oldest_route_that_matches_wins_and_base_routes_come_first() {
    let table = table(vec![
        simple("d/lora", None, &["m"], &[("d/c", 1)]),
        simple("d/weightless", Some("m"), &[], &[("d/a", 0)]),
        simple("d/old", Some("m"), &[], &[("d/a", 1)]),
        simple("d/new", Some("m"), &[], &[("d/b", 1)]),
    ]);
    check(&table, "m", Ok(("d/old", "d/a", Some("upstream"), None)));
}

#[test]
fn a_missing_backend_is_named() {
    let table =
        table(vec![simple("d/r", Some("m"), &[], &[("d/gone", 1)]), simple("d/s", Some("m"), &[], &[("d/a", 1)])]);
    check(&table, "m", Err(RouteMiss::BackendMissing("d/gone".into())));
    assert_eq!(RouteMiss::NoRoute.to_string(), "route not found");
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let exact = |text: &str| StringMatch::Exact(text.into());
    let regex = |text: &str| StringMatch::Regex(text.into());
    let rules = vec![
        Rule {
            headers: [("x-tier".to_owned(), exact("gold")), ("x-user".to_owned(), regex("^a+$"))].into(),
            uri: Some(StringMatch::Prefix("/v1/chat".into())),
            ..rule(&[("d/a", 1)])
        },
        Rule {
            headers: [("x-absent".to_owned(), regex("^$"))].into(),
            body_model: Some("m".into()),
            ..rule(&[("d/b", 1)])
        },
        Rule { body_model: Some("other".into()), ..rule(&[("d/c", 1)]) },
    ];
    let table = table(vec![Route { rules: rules.into(), ..simple("d/r", Some("m"), &[], &[]) }]);
    let check = |path: &str, headers: &[(&str, &str)], expected: Option<&str>| {
        let found = route(&table, &query("m", path, headers)).ok().map(|r| r.backend.name.as_str());
        assert_eq!(found, expected, "{path} {headers:?}");
    };
    check("/v1/chat/completions", &[("x-tier", "gold"), ("x-user", "aaa")], Some("d/a"));
    check("/v1/chat/completions", &[("x-tier", "gold"), ("x-user", "ab")], Some("d/b"));
    check("/v1/completions", &[("x-tier", "gold"), ("x-user", "aaa")], Some("d/b"));
    check("/v1/chat", &[("x-tier", "Gold"), ("x-user", "aaa")], Some("d/b"));
    check("/v1/chat", &[("x-tier", "silver"), ("x-tier", "gold"), ("x-user", "a")], Some("d/b"));
    check("/v1/chat", &[("x-absent", "")], Some("d/b"));
    check("/v1/chat", &[("x-absent", "here")], None);
}

#[test]
fn weights_hold_over_many_requests() {
    let seed = 0x5eed;
    let check = |weights: [u32; 3], expected: [f64; 3]| {
        let targets = [("d/a", weights[0]), ("d/b", weights[1]), ("d/c", weights[2])];
        let table = table(vec![simple("d/r", Some("m"), &[], &targets)]);
        let mut rng = Rng::new(seed);
        let mut counts = [0u32; 3];
        for _ in 0..30_000 {
            let query = RouteQuery { random: rng.next_u64(), ..query("m", "/", &[]) };
            let name = route(&table, &query).unwrap().backend.name.as_str();
            counts[usize::from(name.as_bytes()[2] - b'a')] += 1;
        }
        for (count, expected) in counts.iter().zip(expected) {
            let share = f64::from(*count) / 30_000.0;
            assert!((share - expected).abs() < 0.012, "seed {seed:#x}: {weights:?} gave {counts:?}");
        }
    };
    check([70, 20, 10], [0.7, 0.2, 0.1]);
    check([100, 100, 200], [0.25, 0.25, 0.5]);
    check([0, 3, 0], [0.0, 1.0, 0.0]);
}
