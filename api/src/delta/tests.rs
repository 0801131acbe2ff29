use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::seen::Seen;
use crate::snapshot::{Route, Rule, Target};
use crate::{decode, sample};

fn route(name: &str, model: &str) -> Route {
    let targets = vec![Target { backend: "d/b".into(), weight: 1 }];
    let rule = Rule { name: String::new(), headers: Default::default(), uri: None, body_model: None, targets };
    Route { name: name.into(), model: Some(model.into()), adapters: Vec::new(), rules: [rule].into(), rate_limit: None }
}

/// A snapshot with a route per word, as `name=model`.
fn routes(words: &str) -> Snapshot {
    let route = |word: &str| {
        let (name, model) = word.split_once('=').unwrap_or((word, "m"));
        route(&format!("d/{name}"), model)
    };
    Snapshot { routes: words.split_whitespace().map(route).collect(), ..Snapshot::default() }
}

/// What a change of the routes sends: removed names, and placed ones with their positions.
fn check(old: &str, new: &str, expected: &str) {
    let (old, new) = (routes(old), routes(new));
    let delta = diff(&old, &new);
    let removed = delta.route_removals.iter().map(|name| format!("-{}", &name[2..]));
    let placed = delta.route_upserts.iter();
    let placed = placed.map(|u| format!("{}@{}", &u.route.as_ref().unwrap().name[2..], u.position));
    assert_eq!(removed.chain(placed).collect::<Vec<_>>().join(" "), expected);
    assert_eq!(apply(&old, delta).unwrap(), new);
}

#[test]
fn only_what_changed_is_sent() {
    check("a b c", "a b c", "");
    check("a b c", "a c", "-b");
    check("a b c", "a x b c", "x@1");
    check("a b c", "a b=other c", "b@1");
    check("a b c d", "d a b c", "d@0");
    check("a b c", "c b a", "c@0 b@1");
    check("", "a b", "a@0 b@1");
    check("a b", "", "-a -b");
}

fn seen(words: &str) -> Seen {
    let list = |word: &str| word.split_once('=').map(|(list, version)| (list.to_owned(), version.to_owned())).unwrap();
    words.split_whitespace().map(list).collect()
}

/// What is told of what was seen with a change between two states, after this had moved while the first one stood.
fn told(old: &str, moved: &str, new: &str) -> String {
    let state = |words: &str, saw: &str| Snapshot { seen: seen(saw), ..routes(words) };
    let mut while_it_stood = Moved::default();
    while_it_stood.note(&seen(moved), &Seen::default());
    let (old, new) = (state("a", old), state("a b", new));
    let delta = diff_for(&old, &new, News::Since(&while_it_stood));
    assert_eq!(apply(&old, delta.clone()).unwrap(), new);
    let all = if delta.all_resource_versions { "all:" } else { "" };
    delta.resource_versions.iter().fold(all.to_owned(), |told, (list, version)| format!("{told} {list}={version}"))
}

#[test]
fn of_what_was_seen_a_change_tells_what_differs_and_all_of_it_where_a_list_went() {
    let check = |old, moved, new, expected| assert_eq!(told(old, moved, new), expected, "{old}, {moved}, {new}");
    check("A=5 B=8", "", "A=5 B=9", " B=9");
    check("A=5 B=8", "", "A=5 B=8", "");
    check("A=5 B=8", "A=3", "A=5 B=9", " A=5 B=9");
    check("A=5 B=8", "A=3", "A=5 B=8", " A=5");
    check("A=5", "", "A=5 B=9", " B=9");
    check("A=5 gone=8", "", "A=5 B=9", "all: A=5 B=9");
    check("A=5", "gone=8", "A=5", "all: A=5");
    check("A=5", "", "", "all:");
}

#[test]
fn who_is_told_all_forgets_the_rest_and_who_is_told_news_keeps_it() {
    let state = |words: &str, saw: &str| Snapshot { seen: seen(saw), ..routes(words) };
    let (held, new) = (state("a", "A=3 gone=7"), state("a b", "A=5"));
    let saw = |news| apply(&held, diff_for(&state("a", "A=4"), &new, news)).unwrap().seen;
    assert_eq!(saw(News::All), seen("A=5"));
    assert_eq!(saw(News::Since(&Moved::default())), seen("A=5 gone=7"));
}

/// Applies an edit of `a b` that cannot come from `diff`.
fn refused(edit: impl FnOnce(&mut proto::ConfigDelta), expected: &str) {
    let held = routes("a b");
    let mut delta = diff(&held, &held);
    edit(&mut delta);
    let Err(ApplyError::Refused(problems)) = apply(&held, delta) else { panic!("applied; expected {expected}") };
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), expected);
}

fn upsert(position: u32, name: &str) -> proto::RouteUpsert {
    proto::RouteUpsert { position, route: Some(encode::route(&route(name, "m"))) }
}

#[test]
fn what_does_not_fit_is_refused() {
    let unfit = |text: &str| format!("routes: the delta does not fit its base: {text}");
    let removal = unfit("it removes a name twice, or one that is not held");
    refused(|d| d.route_removals = vec!["d/x".into()], &removal);
    refused(|d| d.route_removals = vec!["d/a".into(); 2], &removal);
    let place = unfit("two are placed at one position, or one beyond the end");
    refused(|d| d.route_upserts = vec![upsert(3, "d/x")], &place);
    refused(|d| d.route_upserts = vec![upsert(1, "d/x"), upsert(1, "d/y")], &place);
    refused(
        |d| (d.route_removals, d.route_upserts) = (vec!["d/a".into()], vec![upsert(0, "d/a")]),
        &unfit("it removes and places the same name"),
    );
    let twice = "routes[1].name: the name \"d/x\" is used twice, first by routes[0]: each must be unique";
    refused(|d| d.route_upserts = vec![upsert(0, "d/x"), upsert(1, "d/x")], twice);
    let empty = "routes[0].name: is missing: give it a name, as `namespace/name`\n\
                 routes[0].model: is missing: a route answers for a model, for adapters, or for both";
    refused(|d| d.route_upserts = vec![proto::RouteUpsert { position: 0, route: None }], empty);
    refused(|d| d.version = None, "version: is missing: a delta says what version it leads to");
}

/// Backends `d/a` and `d/b` that share an endpoint on this node.
fn sharing(node: &str) -> Snapshot {
    let endpoint = proto::Endpoint {
        name: "e".into(),
        address: "10.0.0.1:80".into(),
        node: node.into(),
        handle: 7,
        ..Default::default()
    };
    let backend =
        |name: &str| proto::Backend { name: name.into(), endpoints: vec![endpoint.clone()], ..Default::default() };
    let wire = proto::Snapshot { backends: vec![backend("d/a"), backend("d/b")], ..Default::default() };
    decode::snapshot(wire).unwrap()
}

#[test]
fn a_shared_endpoint_changes_in_all_its_backends_or_not_at_all() {
    let (old, new) = (sharing("n1"), sharing("n2"));
    let delta = diff(&old, &new);
    assert_eq!((delta.backend_upserts.len(), delta.endpoint_edits.len()), (0, 2));
    assert_eq!(apply(&old, delta.clone()).unwrap(), new);

    let half = proto::ConfigDelta { endpoint_edits: delta.endpoint_edits[..1].to_vec(), ..delta.clone() };
    let Err(ApplyError::Refused(problems)) = apply(&old, half) else { panic!("half of a change was applied") };
    let expected = "backends[1].endpoints[0].node: \"n1\" contradicts backends[0].endpoints[0], which says \"n2\" of the \
                    same endpoint (uid, port, rank)";
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);

    let left = proto::ConfigDelta {
        endpoint_edits: delta.endpoint_edits[..1].to_vec(),
        backend_removals: vec!["d/b".into()],
        ..delta
    };
    let found = apply(&old, left).unwrap();
    assert_eq!((&found.backends[..], found.backends[0].endpoints[0].handle), (&new.backends[..1], 7));
}

#[test]
fn a_delta_to_another_state_asks_for_a_resync() {
    let (mut held, wanted) = (routes("a"), Version { epoch: 1, version: 2 });
    let delta = diff(&Snapshot { version: wanted, ..held.clone() }, &routes("b"));
    held.version = Version { epoch: 2, version: 2 };
    assert_eq!(apply(&held, delta), Err(ApplyError::Base { held: held.version, wanted }));
}

/// A backend with endpoints by handle.
fn endpoints(handles: &[u32]) -> Snapshot {
    let one =
        |handle: &u32| format!(r#"{{"handle": {handle}, "name": "t/e{handle}", "address": "10.0.0.1:{handle}"}}"#);
    let list = handles.iter().map(one).collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"backends": [{{"name": "t/other"}}, {{"name": "t/b", "endpoints": [{list}]}}]}}"#);
    crate::json::snapshot_from_json(text.as_bytes()).unwrap()
}

#[test]
fn an_edit_too_large_for_a_message_is_sent_as_the_whole_backend_which_can_be_split() {
    let old = endpoints(&(1..=300).collect::<Vec<_>>());
    let mut new = Snapshot { version: Version { epoch: 0, version: 1 }, ..old.clone() };
    for endpoint in &mut new.backends[1].endpoints {
        let labels = (0..8).map(|n| (format!("key-{n}"), "x".repeat(200)));
        std::sync::Arc::make_mut(endpoint).labels.extend(labels);
    }
    let delta = diff(&old, &new);
    assert_eq!((delta.endpoint_edits.len(), delta.backend_upserts.len()), (0, 1));
    let parts = split(delta.clone(), 64 << 10);
    assert!(parts.len() > 4 && parts.iter().all(|part| part.encoded_len() <= 66 << 10), "{} parts", parts.len());
    assert_eq!(apply(&old, delta).unwrap(), new);
}

#[test]
fn one_endpoint_of_many_is_sent_alone() {
    let many: Vec<u32> = (1..=10_000).collect();
    let old = endpoints(&many);
    let mut new = endpoints(&[&many[..5_000], &many[5_001..], &[20_000]].concat());
    std::sync::Arc::make_mut(&mut new.backends[1].endpoints[7]).zone = Some("z".into());
    let delta = diff(&old, &new);
    assert!(delta.backend_upserts.is_empty());
    let edit = &delta.endpoint_edits[0];
    let placed: Vec<u32> = edit.upserts.iter().map(|u| u.position).collect();
    assert_eq!((&*edit.removals, placed), (&[5_001][..], vec![7, 9_999]));
    assert!(delta.encoded_len() < 300, "{} bytes", delta.encoded_len());
    assert_eq!(apply(&old, delta).unwrap(), new);
    // What more changes of than that is sent whole.
    new.backends[1].max_in_flight = 7;
    let delta = diff(&old, &new);
    assert_eq!((delta.backend_upserts.len(), delta.endpoint_edits.len()), (1, 0));
    assert_eq!(apply(&old, delta).unwrap(), new);
    let other = endpoints(&(30_000..40_000).collect::<Vec<_>>());
    assert_eq!(diff(&old, &other).backend_upserts.len(), 1);
}

#[test]
fn an_edit_of_endpoints_that_does_not_fit_is_refused() {
    let old = endpoints(&[1, 2]);
    let check = |change: &dyn Fn(&mut proto::ConfigDelta), expected: &str| {
        let mut delta = diff(&old, &endpoints(&[1, 2, 3]));
        change(&mut delta);
        let Err(ApplyError::Refused(problems)) = apply(&old, delta) else { panic!("applied; expected {expected}") };
        let said = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert_eq!(said, expected);
        let named = Some(decode::Object::Backend("t/b".into()));
        assert!(expected.contains("is not held, is placed") || problems[0].object == named, "{problems:?}");
    };
    let unknown = "endpointEdits[0]: the delta does not fit its base: it edits a backend that is not held, is placed too, or twice";
    check(&|d| d.endpoint_edits[0].backend = "t/x".into(), unknown);
    check(&|d| d.endpoint_edits.push(d.endpoint_edits[0].clone()), &unknown.replace("[0]", "[1]"));
    let upsert = |d: &mut proto::ConfigDelta| {
        let backend = Some(encode::backend(&old.backends[1]));
        d.backend_upserts = vec![proto::BackendUpsert { position: 1, backend }];
    };
    check(&upsert, unknown);
    let removal = "endpointEdits[0]: the delta does not fit its base: it removes a name twice, or one that is not held";
    check(&|d| d.endpoint_edits[0].removals = vec![9], removal);
    let address = |d: &mut proto::ConfigDelta| {
        d.endpoint_edits[0].upserts[0].endpoint.as_mut().unwrap().address = "host:1".into();
    };
    let mut delta = diff(&old, &endpoints(&[1, 2, 3]));
    address(&mut delta);
    let Err(ApplyError::Refused(problems)) = apply(&old, delta) else { panic!("applied") };
    assert_eq!(problems[0].path, "endpointEdits[0].endpoints[2].address");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn endpoints_come_and_go_and_change_places(
        old in proptest::collection::vec(1u32..40, 0..20),
        new in proptest::collection::vec(1u32..40, 0..20),
        zones in any::<u64>(),
    ) {
        let unique = |mut list: Vec<u32>| {
            let mut seen = std::collections::HashSet::new();
            list.retain(|handle| seen.insert(*handle));
            list
        };
        let (old, mut new) = (endpoints(&unique(old)), endpoints(&unique(new)));
        for (i, endpoint) in new.backends[1].endpoints.iter_mut().enumerate() {
            if zones >> i & 1 == 1 {
                std::sync::Arc::make_mut(endpoint).zone = Some("z".into());
            }
        }
        let delta = diff(&old, &new);
        prop_assert_eq!(apply(&old, delta).unwrap(), new);
    }

    #[test]
    fn applying_a_difference_gives_the_new_state((old, new) in sample::edit()) {
        prop_assert_eq!(apply(&old, diff(&old, &new)).unwrap(), new.clone());
        prop_assert_eq!(apply(&old, full(&new)).unwrap(), new);
    }

    /// Only what a change brings is held against all: that finds as much as to hold all against each other.
    #[test]
    fn what_a_change_brings_contradicts_nothing_that_stays(
        (old, new) in sample::edit(),
        picks in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8), 1..4),
    ) {
        let mut delta = diff(&old, &new);
        let others: Vec<_> = old.backends.iter().chain(&new.backends).flat_map(|backend| &backend.endpoints).collect();
        let mut brought: Vec<&mut proto::Endpoint> = (delta.endpoint_edits.iter_mut())
            .flat_map(|edit| &mut edit.upserts)
            .filter_map(|upsert| upsert.endpoint.as_mut())
            .chain((delta.backend_upserts.iter_mut()).filter_map(|u| u.backend.as_mut()).flat_map(|b| &mut b.endpoints))
            .collect();
        for (at, other, what) in picks {
            if brought.is_empty() || others.is_empty() {
                break;
            }
            let (at, other) = (at.index(brought.len()), encode::endpoint(others[other.index(others.len())]));
            match what {
                0 => brought[at].handle = other.handle,
                1 => brought[at].handle = 0,
                2 => (brought[at].uid, brought[at].address, brought[at].rank) = (other.uid, other.address, other.rank),
                _ => *brought[at] = other,
            }
        }
        if let Ok(result) = apply(&old, delta) {
            prop_assert_eq!(decode::snapshot(encode::snapshot(&result)), Ok(result));
        }
    }

    #[test]
    fn the_difference_to_itself_has_no_content(state in sample::snapshot()) {
        let delta = diff(&state, &state);
        let version = Some(wire_version(state.version));
        let nothing = proto::ConfigDelta { version, base: version, fleet_seed: state.fleet_seed, ..Default::default() };
        prop_assert_eq!(delta, nothing);
    }

    #[test]
    fn damaged_deltas_never_panic(
        (old, new) in sample::edit(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = proto::ConfigDelta { base: None, ..diff(&old, &new) }.encode_to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(delta) = proto::ConfigDelta::decode(&*bytes)
            && let Ok(result) = apply(&old, delta)
        {
            prop_assert_eq!(decode::snapshot(encode::snapshot(&result)).unwrap(), result);
        }
    }
}
