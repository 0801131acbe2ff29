//! Whom a model name belongs to.

use super::{built, check, name, route};
use crate::publish::Reason;
use crate::world::Seniority;

#[test]
fn c11_a_name_belongs_to_the_namespace_of_its_oldest_route() {
    let yaml = route("b/first", "modelName: m", "s") + &route("a/second", "modelName: m", "s");
    check(&yaml, "route b/first model m\n  rule → b/s 100");
    let verdicts = built(&yaml).verdicts.routes;
    let lost = &verdicts[&name("a/second")];
    assert_eq!((lost.accepted.holds, lost.accepted.reason, lost.published), (false, Reason::Conflicted, false));
    assert!(lost.accepted.message.contains("b/first"), "{}", lost.accepted.message);
    assert!(verdicts[&name("b/first")].accepted.holds);
}

#[test]
fn routes_of_one_namespace_fall_through_oldest_first() {
    let yaml = route("a/z", "modelName: m", "s") + &route("a/b", "modelName: m", "t");
    check(
        &yaml,
        "
        route a/z model m
          rule → a/s 100
        route a/b model m
          rule → a/t 100
        ",
    );
}

#[test]
fn adapters_are_names_too_and_a_route_that_loses_one_takes_none() {
    let yaml = route("a/base", "modelName: m", "s")
        + &route("b/thief", "modelName: n, loraAdapters: [m]", "s")
        + &route("c/free", "modelName: n", "s");
    check(
        &yaml,
        "
        route a/base model m
          rule → a/s 100
        route c/free model n
          rule → c/s 100
        ",
    );
}

#[test]
fn c11_age_is_the_creation_time_then_the_name() {
    let yaml = route("b/old", "modelName: m", "s")
        + &route("a/new", "modelName: m", "s")
        + &route("c/old", "modelName: n", "s");
    let mut world = crate::source::directory::reading_of(&[("all.yaml", &yaml)]).world;
    for (route, seconds) in [("a/new", 20), ("b/old", 10), ("c/old", 10)] {
        world.routes.get_mut(&name(route)).unwrap().seniority = Seniority::Created(seconds);
    }
    let built = super::build(&world, &super::SETTINGS, &mut super::Memory::default());
    let names: Vec<&str> = built.snapshot.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["b/old", "c/old"]);
}

#[test]
fn a_name_at_a_gateway_is_another_than_at_the_port() {
    let yaml = route("a/gateway", "modelName: m, parentRefs: [{name: g}]", "s") + &route("b/port", "modelName: m", "s");
    check(&yaml, "route b/port model m\n  rule → b/s 100");
    let verdict = &built(&yaml).verdicts.routes[&name("a/gateway")];
    assert_eq!((verdict.accepted.reason, verdict.published), (Reason::GatewayNotServed, false));
}
