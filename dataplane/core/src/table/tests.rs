use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::id::{BackendName, EndpointKey};
use api::snapshot::{
    Backend, Credentials, Ejection, Endpoint, Engine, Profile, Retry, Role, Route, Rule, Scorer, Scorers, Snapshot,
    Target, Timeouts, UsageInjection,
};

use super::{CompiledProfile, Table};
use crate::load::{Answer, Demand, LiveRegistry, Reservation};

/// An endpoint that serves everything.
pub(crate) fn endpoint(number: u32) -> Endpoint {
    let [_, _, high, low] = number.to_be_bytes();
    Endpoint {
        handle: number,
        key: EndpointKey { uid: format!("uid-{number}").into(), port: 8000, rank: 0 },
        name: format!("pod-{number}").into(),
        address: ([127, 1, high, low], 8000).into(),
        labels: BTreeMap::new(),
        role: Role::Both,
        group: None,
        revision: None,
        node: None,
        zone: None,
        adapters: None,
        cache_tokens: None,
    }
}

/// A backend with the defaults of the limits.
pub(crate) fn backend(name: &str, endpoints: impl IntoIterator<Item = Endpoint>) -> Backend {
    use api::limits::*;
    Backend {
        name: name.into(),
        engine: Engine::Vllm,
        model: None,
        endpoints: endpoints.into_iter().map(Arc::new).collect(),
        profile: None,
        timeouts: Timeouts {
            connect: CONNECT_TIMEOUT,
            first_byte: FIRST_BYTE_TIMEOUT,
            idle: STREAM_IDLE_TIMEOUT,
            total: TOTAL_TIMEOUT,
        },
        retry: Retry { attempts: RETRY_ATTEMPTS, interval: Duration::ZERO, budget_percent: RETRY_BUDGET_PERCENT },
        ejection: ejection(),
        max_in_flight: MAX_IN_FLIGHT,
        usage: UsageInjection::Always,
        credentials: Credentials::Pass,
        chat_template: None,
    }
}

/// Three failures, 1 s to 8 s, half of the backend, 10 s of slow start.
pub(crate) fn ejection() -> Ejection {
    Ejection {
        failures: 3,
        base: Duration::from_secs(1),
        max: Duration::from_secs(8),
        max_percent: 50,
        slow_start: Duration::from_secs(10),
    }
}

/// A route with one rule that matches everything.
pub(crate) fn route(name: &str, model: Option<&str>, adapters: &[&str], targets: &[(&str, u32)]) -> Route {
    Route {
        name: name.into(),
        model: model.map(Into::into),
        adapters: adapters.iter().map(|name| (*name).into()).collect(),
        rules: [rule(targets)].into(),
        rate_limit: None,
    }
}

/// A rule that matches everything.
pub(crate) fn rule(targets: &[(&str, u32)]) -> Rule {
    let targets = targets.iter().map(|(name, weight)| Target { backend: (*name).into(), weight: *weight }).collect();
    Rule { name: String::new(), headers: BTreeMap::new(), uri: None, body_model: None, targets }
}

pub(crate) fn of(backends: Vec<Backend>, routes: Vec<Route>) -> Snapshot {
    Snapshot { backends, routes, fleet_seed: 7, ..Snapshot::default() }
}

#[test]
fn lists_every_name_once_and_knows_no_other() {
    let routes =
        vec![route("d/r1", Some("b"), &["z", "a"], &[("d/m", 1)]), route("d/r2", Some("a"), &[], &[("d/m", 1)])];
    let table = Table::compile(&of(vec![], routes), &mut LiveRegistry::new());
    let names: Vec<&str> = table.models().iter().map(|name| &**name).collect();
    assert_eq!(names, ["a", "b", "z"]);
    assert_eq!(table.known_model("z").map(|name| &**name), Some("z"));
    assert_eq!(table.known_model("y"), None);
}

#[test]
fn live_numbers_survive_swaps_by_key_and_die_with_their_holders() {
    let mut registry = LiveRegistry::new();
    let snapshot = of(vec![backend("d/m", (0..3).map(endpoint))], vec![]);
    let first = Table::compile(&snapshot, &mut registry);
    let second = Table::compile(&snapshot, &mut registry);
    let name = BackendName::from("d/m");
    let (a, b) = (first.backend(&name).unwrap(), second.backend(&name).unwrap());
    assert!(a.slots.iter().zip(&b.slots).all(|(a, b)| Arc::ptr_eq(&a.live, &b.live)));
    assert!(Arc::ptr_eq(&a.live, &b.live));

    let held = Arc::clone(&a.slots[1].live);
    drop((first, second));
    Table::compile(&of(vec![], vec![]), &mut registry);
    assert_eq!(registry.len(), 1, "a request still holds one");
    let third = Table::compile(&snapshot, &mut registry);
    let slots = &third.backend(&name).unwrap().slots;
    assert!(Arc::ptr_eq(&slots[1].live, &held));
}

#[test]
fn what_was_expected_is_what_the_table_has_and_dies_where_it_has_it_not() {
    let mut registry = LiveRegistry::new();
    let snapshot = of(vec![backend("d/m", [endpoint(0), endpoint(1), endpoint(2)])], vec![]);
    let [first, second, third] = &snapshot.backends[0].endpoints[..] else { panic!("three") };
    registry.expect(first, Some(70));
    registry.expect(&Arc::new(endpoint(9)), Some(71));
    registry.expect(second, Some(72));
    registry.expect_backend(&"d/m".into());
    let numbers = |registry: &mut LiveRegistry| [first, second].map(|e| Arc::as_ptr(&registry.endpoint(&e.key)));
    let (made, of_backend) = (numbers(&mut registry), Arc::as_ptr(&registry.backend(&"d/m".into())));

    let table = Table::compile_seated(&snapshot, &mut registry, |key| Some(u32::from(*key == third.key)));
    let compiled = table.backend(&"d/m".into()).unwrap();
    assert_eq!(Arc::as_ptr(&compiled.live), of_backend);
    assert_eq!([0, 1].map(|slot| Arc::as_ptr(&compiled.slots[slot].live)), made);
    assert_eq!(compiled.slots.iter().map(|entry| entry.seat).collect::<Vec<_>>(), [Some(70), Some(0), Some(1)]);
    registry.prune();
    assert_eq!(registry.len(), 3, "the one that came unexpected, and not the one that never came");
}

#[test]
fn what_was_expected_of_an_update_that_was_broken_off_does_not_hide_the_next_one() {
    let mut registry = LiveRegistry::new();
    let snapshot = of(vec![backend("d/m", [endpoint(0), endpoint(1)])], vec![]);
    let [first, second] = &snapshot.backends[0].endpoints[..] else { panic!("two") };
    let never = Arc::new(endpoint(9));
    registry.expect(&never, Some(69));
    registry.expect_backend(&"d/never".into());
    registry.expect_nothing();
    assert_eq!(Arc::strong_count(&never), 1, "nothing of it is held");
    registry.expect(first, Some(70));
    registry.expect(second, Some(71));
    let table = Table::compile_seated(&snapshot, &mut registry, |_| None);
    let seats: Vec<_> = table.backend(&"d/m".into()).unwrap().slots.iter().map(|entry| entry.seat).collect();
    assert_eq!(seats, [Some(70), Some(71)]);
}

#[test]
fn an_endpoint_of_two_backends_has_one_cell_and_one_seat_and_a_slot_in_each() {
    let prefill = Endpoint { role: Role::Prefill, ..endpoint(1) };
    let backends = vec![backend("d/b", [endpoint(0), endpoint(1)]), backend("d/a", [prefill, endpoint(2)])];
    let mut registry = LiveRegistry::new();
    let seat = |key: &EndpointKey| key.uid.strip_prefix("uid-")?.parse().ok();
    let table = Table::compile_seated(&of(backends, vec![]), &mut registry, seat);
    assert_eq!(registry.len(), 3);

    let [a, b] = ["d/a", "d/b"].map(|name| table.backend(&name.into()).unwrap());
    assert_eq!((a.slots.len(), b.slots.len()), (2, 2));
    assert!(Arc::ptr_eq(&a.slots[0].live, &b.slots[1].live));
    assert_eq!((a.slot_of_seat(1), b.slot_of_seat(1)), (Some(0), Some(1)));
    assert_eq!((a.serving().contains(0), b.serving().contains(1)), (false, true), "each sees it in its own way");

    let demand = Demand { uncached_tokens: 10, answer: Answer::Stream, speed: 1.0, max_in_flight: 1 };
    let held = Reservation::try_new(&a.slots[0].live, demand, 0).unwrap();
    assert_eq!(b.slots[1].live.in_flight(), 1);
    assert!(Reservation::try_new(&b.slots[1].live, demand, 0).is_none(), "the limit is on what the endpoint has");
    drop(held);
    assert_eq!(b.slots[1].live.in_flight(), 0);

    let found = table.endpoints();
    let found: Vec<_> = found
        .iter()
        .map(|m| (&*m.entry.endpoint.name, m.backends.iter().map(|b| b.name.as_str()).collect::<Vec<_>>()))
        .collect();
    assert_eq!(found, [("pod-1", vec!["d/a", "d/b"]), ("pod-2", vec!["d/a"]), ("pod-0", vec!["d/b"])]);
}

#[test]
fn a_pattern_is_compiled_as_the_decoder_does() {
    let mut registry = LiveRegistry::new();
    for pattern in ["^u[0-9]+$", "\\w{10}", "(?-u:\\xff)"] {
        assert!(api::decode::compile(pattern).is_ok(), "{pattern}");
        assert!(registry.pattern(pattern).is_some(), "{pattern}");
    }
    assert!(api::decode::compile("\\w{1000}").is_err());
    assert!(registry.pattern("\\w{1000}").is_none());
}

#[test]
fn sets_of_slots_follow_roles_and_adapters() {
    let with = |number, role, adapters: Option<&[&str]>| Endpoint {
        role,
        adapters: adapters.map(|names| names.iter().map(|name| (*name).into()).collect()),
        ..endpoint(number)
    };
    let endpoints = [
        with(0, Role::Both, Some(&["x"])),
        with(1, Role::Prefill, Some(&["x"])),
        with(2, Role::Decode, None),
        with(3, Role::Both, Some(&["y"])),
        with(4, Role::Prefill, None),
    ];
    let table = Table::compile(&of(vec![backend("d/m", endpoints)], vec![]), &mut LiveRegistry::new());
    let backend = table.backend(&"d/m".into()).unwrap();
    let check = |set: &super::Bitset, expected: &[u32]| assert_eq!(set.iter_from(0).collect::<Vec<_>>(), expected);
    check(backend.serving(), &[0, 2, 3]);
    check(backend.with_adapter("x"), &[0, 2]);
    check(backend.with_adapter("y"), &[2, 3]);
    check(backend.with_adapter("unheard of"), &[2]);
}

#[test]
fn finds_slots_by_seat() {
    let snapshot = of(vec![backend("d/m", (0..4).map(endpoint))], vec![]);
    let seat =
        |key: &EndpointKey| key.uid.strip_prefix("uid-")?.parse::<u32>().ok().filter(|n| *n != 2).map(|n| 90 - n);
    let table = Table::compile_seated(&snapshot, &mut LiveRegistry::new(), seat);
    let backend = table.backend(&"d/m".into()).unwrap();
    let slots: Vec<_> = [90, 89, 88, 87].map(|seat| backend.slot_of_seat(seat)).into();
    assert_eq!(slots, [Some(0), Some(1), None, Some(3)]);
    assert_eq!(backend.slots[3].seat, Some(87));
}

#[test]
fn profiles_can_always_be_run() {
    let check = |scorers: Vec<(Scorer, u32)>, expected: Vec<(Scorer, u32)>| {
        let profile = Profile { name: "p".into(), filters: vec![], scorers: Scorers::Weighted(scorers) };
        assert_eq!(CompiledProfile::compile(&profile).scorers, Scorers::Weighted(expected));
    };
    check(vec![], vec![(Scorer::Random, 1)]);
    check(vec![(Scorer::Random, 3)], vec![(Scorer::Random, 1)]);
    check(vec![(Scorer::Random, 3), (Scorer::GpuUsage, 2)], vec![(Scorer::GpuUsage, 2)]);
}
