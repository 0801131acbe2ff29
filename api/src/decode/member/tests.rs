use std::collections::HashSet;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::json::snapshot_from_json;
use crate::sample;
use crate::snapshot::Snapshot;

/// Backends `d/0`, `d/1`, … with these endpoints; one without an address has `10.0.0.1:80`.
fn file(backends: &[&[&str]]) -> String {
    let endpoint = |rest: &&str| {
        let address = if rest.contains("address") { "" } else { r#""address": "10.0.0.1:80", "# };
        format!("{{{address}{rest}}}")
    };
    let backend = |(i, endpoints): (usize, &&[&str])| {
        let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
        format!(r#"{{"name": "d/{i}", "endpoints": [{}]}}"#, endpoints.join(", "))
    };
    let backends: Vec<_> = backends.iter().enumerate().map(backend).collect();
    format!(r#"{{"backends": [{}]}}"#, backends.join(", "))
}

fn read(backends: &[&[&str]]) -> Result<Snapshot, String> {
    let lines = |problems: Vec<crate::decode::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    snapshot_from_json(file(backends).as_bytes()).map_err(|problems| lines(problems).join("\n"))
}

fn refused(backends: &[&[&str]], expected: &str) {
    assert_eq!(read(backends).unwrap_err(), expected, "{backends:?}");
}

/// The handles by backend.
fn handles(backends: &[&[&str]], expected: &[&[u32]]) {
    let found = read(backends).unwrap();
    let found: Vec<Vec<u32>> = found.backends.iter().map(|b| b.endpoints.iter().map(|e| e.handle).collect()).collect();
    assert_eq!(found, expected, "{backends:?}");
}

#[test]
fn an_endpoint_may_be_a_member_of_several_backends() {
    let seen = r#""name": "e", "role": "DECODE", "group": "g", "revision": "r", "labels": {"a": "b"}"#;
    let found = read(&[&[r#""name": "e", "node": "n""#], &[r#""name": "f""#], &[&format!(r#"{seen}, "node": "n""#)]]);
    let found = found.unwrap();
    let [first, _, last] = &found.backends[..] else { panic!("{found:?}") };
    assert_eq!(first.endpoints[0].key, last.endpoints[0].key);
    assert_eq!((first.endpoints[0].handle, last.endpoints[0].handle), (1, 1));
    assert_eq!(last.endpoints[0].group.as_deref(), Some("g"), "how a backend sees its member is its own");
    assert_eq!(first.endpoints[0].group, None);
}

#[test]
fn backends_that_contradict_each_other_are_refused_in_every_point() {
    let at = "backends[1].endpoints[0]";
    let said = |field: &str, found: &str, other: &str| {
        let first = "contradicts backends[0].endpoints[0], which says";
        format!("{at}.{field}: {found} {first} {other} of the same endpoint (uid, port, rank)")
    };
    refused(
        &[
            &[r#""name": "e", "uid": "u", "handle": 7, "zone": "z", "adapters": {"names": ["x"]}"#],
            &[r#""name": "f", "uid": "u", "handle": 8, "address": "10.0.0.2:80", "node": "n", "cacheTokens": "9""#],
        ],
        &[
            said("handle", "8", "7"),
            said("name", "\"f\"", "\"e\""),
            said("address", "10.0.0.2:80", "10.0.0.1:80"),
            said("node", "\"n\"", "nothing"),
            said("zone", "nothing", "\"z\""),
            said("adapters", "nothing", "[\"x\"]"),
            said("cacheTokens", "9", "nothing"),
        ]
        .join("\n"),
    );
    let long = format!(r#""name": "e", "zone": "{}""#, "é".repeat(200));
    refused(&[&[r#""name": "e""#], &[&long]], &said("zone", &format!("\"{}…", "é".repeat(79)), "nothing"));
}

#[test]
fn each_contradiction_is_told_and_attributed_to_the_later_backend() {
    let (one, two) = (r#""name": "e", "zone": "1""#, r#""name": "e", "zone": "2""#);
    let problems = snapshot_from_json(file(&[&[one], &[two], &[one], &[two]]).as_bytes()).unwrap_err();
    let found: Vec<_> = problems.iter().map(|p| (p.path.as_str(), p.object.clone())).collect();
    let of = |name: &str| Some(crate::decode::Object::Backend(name.into()));
    let expected = [("backends[1].endpoints[0].zone", of("d/1")), ("backends[3].endpoints[0].zone", of("d/3"))];
    assert_eq!(found, expected);
}

#[test]
fn a_backend_has_each_endpoint_once() {
    let key = r#"the endpoint (uid, port, rank) ("e", 80, 0) in one backend"#;
    let twice = |at: &str, first: &str| format!("{at}: {key} is used twice, first by {first}: each must be unique");
    let e = r#""name": "e""#;
    refused(&[&[e, e]], &twice("backends[0].endpoints[1]", "backends[0].endpoints[0]"));
    refused(&[&[e], &[e, e]], &twice("backends[1].endpoints[1]", "backends[0].endpoints[0]"));
    for other in [r#""name": "e", "rank": 1"#, r#""name": "e", "uid": "u""#, r#""name": "e", "address": "10.0.0.1:81""#]
    {
        assert_eq!(read(&[&[e, other]]).err(), None);
    }
}

#[test]
fn a_handle_names_one_endpoint() {
    let twice =
        "backends[1].endpoints[0]: the handle 7 is used twice, first by backends[0].endpoints[0]: each must be unique";
    refused(&[&[r#""name": "e", "handle": 7"#], &[r#""name": "f", "handle": 7"#]], twice);
    refused(&[&[r#""name": "e", "handle": 7"#], &[r#""name": "e", "handle": 7, "rank": 1"#]], twice);
}

/// A refused address is one problem: that the endpoint might be another one is not another.
#[test]
fn a_refused_address_is_told_alone() {
    let bad = r#""name": "e", "address": "host:80""#;
    let told = |at: &str| {
        let text =
            "has a host name: endpoints are IP:port, write the address that the name stands for (IPv6 in brackets)";
        format!("{at}.address: \"host:80\" {text}")
    };
    refused(
        &[&[bad], &[bad], &[r#""name": "e", "handle": 3"#]],
        &[told("backends[0].endpoints[0]"), told("backends[1].endpoints[0]")].join("\n"),
    );
    let bad = r#""name": "e", "address": "host:80", "handle": 3"#;
    refused(&[&[bad], &[r#""name": "e", "handle": 3"#]], &told("backends[0].endpoints[0]"));
}

#[test]
fn handles_that_are_left_out_are_the_lowest_free_ones_in_order() {
    let (a, d) = (r#""name": "a""#, r#""name": "d""#);
    let (b, c) = (r#""name": "b", "handle": 1"#, r#""name": "c", "handle": 3"#);
    handles(&[&[a, b, c, d]], &[&[2, 1, 3, 4]]);
    handles(&[&[a, b], &[c, a, d], &[d]], &[&[2, 1], &[3, 2, 4], &[4]]);
    handles(&[&[r#""name": "b""#, a], &[b]], &[&[1, 2], &[1]]);
}

/// The properties of decoding, encoding and deltas say nothing of shared endpoints if no sample has any.
#[test]
fn many_samples_have_an_endpoint_in_two_backends() {
    let mut runner = TestRunner::deterministic();
    let shared = |snapshot: &Snapshot| {
        let mut keys = HashSet::new();
        !snapshot.backends.iter().flat_map(|b| &b.endpoints).all(|e| keys.insert(e.key.clone()))
    };
    let edits: Vec<_> = (0..200).map(|_| sample::edit().new_tree(&mut runner).unwrap().current()).collect();
    assert!(edits.iter().filter(|(old, new)| shared(old) && shared(new) && old != new).count() > 20);
}
