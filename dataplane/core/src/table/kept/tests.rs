use api::id::{BackendName, EndpointKey};
use api::sample;
use api::snapshot::{Rule, Scorer, StringMatch};
use proptest::prelude::*;

use super::*;
use crate::load::LiveRegistry;
use crate::table::tests::{backend, endpoint, of, route, rule};

/// What the prefix tables would say: all have one.
fn seated(key: &EndpointKey) -> Option<u32> {
    key.uid.strip_prefix("uid-")?.parse().ok()
}

fn next(before: &Table, snapshot: &Snapshot, registry: &mut LiveRegistry) -> Table {
    Table::compile_next(&Kept::of(before, snapshot), snapshot, registry, seated)
}

/// Three backends, each of two endpoints, and a route to each; what an edit makes of it, and which backends and routes of the table before
/// are in the next one as they were, by position.
fn taken_over(edit: impl FnOnce(&mut Snapshot)) -> (Vec<usize>, Vec<usize>, bool) {
    let name = |n: u32| ["d/a", "d/b", "d/c"][n as usize];
    let backends = (0..3).map(|n| backend(name(n), [endpoint(2 * n), endpoint(2 * n + 1)])).collect();
    let routes = (0..3).map(|n| route(name(n), Some(name(n)), &[], &[(name(n), 1)])).collect();
    let (first, mut registry) = (of(backends, routes), LiveRegistry::new());
    let before = Table::compile_seated(&first, &mut registry, seated);
    let mut second = first.clone();
    edit(&mut second);
    let after = next(&before, &second, &mut registry);
    let same = |n: &usize| {
        let held = |table: &Table| table.backend(&name(*n as u32).into()).map(Arc::as_ptr);
        held(&after).is_some() && held(&before) == held(&after)
    };
    let has = |n: &usize| after.routes().iter().any(|route| Arc::ptr_eq(route, &before.routes()[*n]));
    ((0..3).filter(same).collect(), (0..3).filter(has).collect(), Arc::ptr_eq(&before.models, &after.models))
}

#[test]
fn the_next_table_has_what_did_not_change_as_it_was() {
    let check = |what: &str, edit: fn(&mut Snapshot), backends: &[usize], routes: &[usize], models: bool| {
        assert_eq!(taken_over(edit), (backends.to_vec(), routes.to_vec(), models), "{what}");
    };
    let all = &[0, 1, 2];
    check("nothing", |_| (), all, all, true);
    check("an endpoint", |s| s.backends[1].endpoints[0] = Arc::new(endpoint(9)), &[0, 2], &[0, 2], true);
    check("the same, written anew", |s| s.backends[1].endpoints[0] = Arc::new(endpoint(2)), &[0, 2], &[0, 2], true);
    check("one more", |s| s.backends[2].endpoints.push(Arc::new(endpoint(9))), &[0, 1], &[0, 1], true);
    check("their order", |s| s.backends[0].endpoints.reverse(), &[1, 2], &[1, 2], true);
    check("a backend's limit", |s| s.backends[0].max_in_flight = 3, &[1, 2], &[1, 2], true);
    check("a backend that goes", |s| drop(s.backends.remove(0)), &[1, 2], &[1, 2], true);
    check("the backends' order", |s| s.backends.reverse(), all, all, true);
    check("a route's target", |s| s.routes[0].rules = [rule(&[("d/c", 1)])].into(), all, &[1, 2], true);
    check("a route's name for clients", |s| s.routes[1].model = Some("z".into()), all, &[0, 2], false);
    check("the routes' order", |s| s.routes.reverse(), all, all, false);
    check("a route that goes", |s| drop(s.routes.remove(1)), all, &[0, 2], false);
    check("the seed", |s| s.fleet_seed = 8, all, all, false);
    let profile = |s: &mut Snapshot| {
        s.backends[0].profile = Some("p".into());
        s.profiles.push(api::snapshot::Profile {
            name: "p".into(),
            filters: vec![],
            scorers: api::snapshot::Scorers::Weighted(vec![(Scorer::LeastRequest, 1)]),
        });
    };
    check("a profile", profile, &[1, 2], &[1, 2], true);
}

#[test]
fn a_pattern_of_a_route_that_is_taken_over_is_not_forgotten() {
    let mut with_pattern = route("d/a", Some("a"), &[], &[("d/m", 1)]);
    let uri = Some(StringMatch::Regex("^/v1/".into()));
    with_pattern.rules = [Rule { uri, ..rule(&[("d/m", 1)]) }].into();
    let (snapshot, mut registry) = (of(vec![backend("d/m", [endpoint(0)])], vec![with_pattern]), LiveRegistry::new());
    let mut table = Table::compile_seated(&snapshot, &mut registry, seated);
    for _ in 0..3 {
        registry.prune();
        assert_eq!(
            registry.patterns(),
            1,
            "another route that needs it, or this one when its backend changes, finds it compiled"
        );
        table = next(&table, &snapshot, &mut registry);
    }
}

#[test]
fn nothing_is_taken_over_where_the_place_changed_nor_whom_the_prefix_tables_had_no_seat_for() {
    let (snapshot, mut registry) = (of(vec![backend("d/m", [endpoint(0)])], vec![]), LiveRegistry::new());
    let name = BackendName::from("d/m");
    let unseated = Table::compile(&snapshot, &mut registry);
    let first = next(&unseated, &snapshot, &mut registry);
    assert_eq!(first.backend(&name).unwrap().slots[0].seat, Some(0), "it has found one");
    let moved = Table::compile_next(&Kept::nothing(&first), &snapshot, &mut registry, seated);
    assert!(!Arc::ptr_eq(first.backend(&name).unwrap(), moved.backend(&name).unwrap()));
    assert!(Arc::ptr_eq(first.backend(&name).unwrap(), next(&first, &snapshot, &mut registry).backend(&name).unwrap()));
}

#[test]
fn who_may_have_come_or_left_are_endpoints_of_backends_that_changed() {
    let backends = vec![backend("d/a", [endpoint(0), endpoint(1)]), backend("d/b", [endpoint(1), endpoint(2)])];
    let (mut snapshot, mut registry) = (of(backends, vec![]), LiveRegistry::new());
    let table = Table::compile_seated(&snapshot, &mut registry, seated);
    snapshot.backends[1].endpoints[1] = Arc::new(endpoint(3));
    snapshot.backends.push(backend("d/c", [endpoint(4)]));
    let kept = Kept::of(&table, &snapshot);
    let uids = |keys: Vec<&EndpointKey>| keys.iter().map(|key| key.uid.to_string()).collect::<Vec<_>>();
    assert_eq!(uids(kept.left().collect()), ["uid-1", "uid-2"]);
    assert_eq!(uids(kept.came(&snapshot).map(|endpoint| &endpoint.key).collect()), ["uid-1", "uid-3", "uid-4"]);
}

/// The words of all of it, sorted: maps have orders of their own.
fn words(table: &Table) -> Vec<String> {
    let text = format!("{table:?}");
    let mut words: Vec<_> = text.split([',', '{', '}']).map(|word| word.trim().to_owned()).collect();
    words.sort_unstable();
    words
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_next_table_is_what_would_be_compiled_anew((old, new) in sample::edit()) {
        let seat = |key: &EndpointKey| Some(u32::from(key.port));
        let mut registry = LiveRegistry::new();
        let before = Table::compile_seated(&old, &mut registry, seat);
        let after = Table::compile_next(&Kept::of(&before, &new), &new, &mut registry, seat);
        let anew = Table::compile_seated(&new, &mut LiveRegistry::new(), seat);
        prop_assert_eq!(words(&after), words(&anew));
    }
}
