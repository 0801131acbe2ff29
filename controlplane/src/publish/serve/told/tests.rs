//! Held forms in newer states.

use std::collections::HashSet;

use api::decode::{Object, Problem, Reason};
use api::encode;
use api::limits::HELD_HANDLES;

use super::super::archive::Archive;
use super::super::poison::Poison;
use super::*;

/// A state of backends as `name=uid:handle:zone,…`.
fn state(words: &str) -> Snapshot {
    let backend = |word: &str| {
        let (name, endpoints) = word.split_once('=').unwrap();
        let endpoint = |text: &str| {
            let mut parts = text.split(':');
            let [uid, handle, zone] = [(); 3].map(|()| parts.next().unwrap());
            serde_json::json!({
                "handle": handle.parse::<u32>().unwrap(), "name": uid, "uid": uid, "address": "10.0.0.1:80", "zone": zone,
                "labels": {"of": name},
            })
        };
        serde_json::json!({"name": format!("d/{name}"), "endpoints": endpoints.split(',').map(endpoint).collect::<Vec<_>>()})
    };
    let backends: Vec<_> = words.split_whitespace().map(backend).collect();
    api::json::snapshot_from_json(serde_json::json!({"backends": backends}).to_string().as_bytes()).unwrap()
}

fn told(backends: &str, handles: &mut Handles) -> Told {
    Foreign::new(encode::snapshot(&state(backends))).unwrap().adopt(handles).unwrap()
}

/// What becomes of a backend that was told, where `bad` is what is refused now.
fn check(told_form: &str, current: &str, expected: &[(&str, u32, &str)]) {
    let (told, current) = (told(told_form, &mut Handles::held()), state(current));
    let newest = Newest::of(&current, |backend| backend.name.as_str() == "d/bad");
    let settled = newest.settle(&told.objects().backends[0]);
    let found: Vec<_> = (settled.endpoints.iter())
        .map(|e| (&*e.key.uid, if e.handle < HELD_HANDLES { e.handle } else { 0 }, e.zone.as_deref().unwrap()))
        .collect();
    assert_eq!(found, expected, "{told_form} in {current:?}");
    assert!(settled.endpoints.iter().all(|e| e.labels["of"] == "bad"), "it sees its members as it did");
}

#[test]
fn what_others_say_of_an_endpoint_counts_and_a_handle_of_another_epoch_never_does() {
    check("bad=a:1:z", "good=b:1:z", &[("a", 0, "z")]);
    check("bad=a:1:old,b:2:old", "good=b:1:new", &[("a", 0, "old"), ("b", 1, "new")]);
    check("bad=a:1:old,b:2:old", "bad=a:7:new,b:8:new good=b:8:new", &[("a", 7, "old"), ("b", 8, "new")]);
}

#[test]
fn endpoints_that_nobody_else_knows_have_handles_that_differ_and_stay() {
    let names: Vec<_> = (0..2_000).map(|n| format!("e{n}:{}:z", n + 1)).collect();
    let handles = |told: &Told| told.objects().backends[0].endpoints.iter().map(|e| e.handle).collect::<Vec<_>>();
    let mut known = Handles::held();
    let one = told(&format!("bad={}", names.join(",")), &mut known);
    let two = told("bad=e7:1:z,e9:2:z", &mut known);
    assert_eq!(handles(&one).into_iter().collect::<HashSet<_>>().len(), 2_000);
    assert!(handles(&one).iter().all(|handle| *handle >= HELD_HANDLES));
    assert_eq!(handles(&two), [handles(&one)[7], handles(&one)[9]]);
}

#[test]
fn what_makes_no_sense_here_is_not_taken() {
    let wire = proto::Snapshot { routes: vec![proto::Route::default()], ..proto::Snapshot::default() };
    assert!(Foreign::new(wire).is_none());
}

/// What a data plane gets of `current` that holds `held` of another epoch, and refuses these backends one after the other.
fn view(held: &str, current: &str, refused: &[&str]) -> Snapshot {
    let (held, current) = (state(held), state(current));
    let (mut poison, mut handles) = (Poison::default(), Handles::held());
    for name in refused {
        let object = Some(Object::Backend((*name).into()));
        let problem = Problem { object, path: String::new(), reason: Reason::NoWeight };
        let share = |told: Foreign| told.adopt(&mut handles).map(Arc::new);
        assert!(poison.refuse(encode::refusals(&[problem], &held), &current, share));
    }
    poison.view(&current, None)
}

#[test]
fn c13_a_backend_that_is_held_from_another_epoch_fits_the_state_that_it_goes_into() {
    let view = view("bad=a:1:old,b:2:old,c:3:old", "good=b:1:new,d:2:new bad=a:3:new", &["d/bad"]);
    let decoded = decode::snapshot(encode::snapshot(&view));
    assert_eq!(decoded.as_ref(), Ok(&view), "a data plane takes it");
    let of = |n: usize| view.backends[n].endpoints.iter().map(|e| &*e.key.uid).collect::<Vec<_>>();
    assert_eq!((of(0), of(1)), (vec!["b", "d"], vec!["a", "b", "c"]));
}

/// Found among the first 100,000 names: from the hash of their keys both had the same handle when each form was looked at alone.
const ALIKE: [&str; 2] = ["e35556", "e49272"];

#[test]
fn what_only_held_forms_know_is_named_alike_in_all_of_them_and_as_nothing_else_in_any() {
    let [a, b] = ALIKE;
    let held = format!("bad={a}:1:z worse={b}:2:z,{a}:1:z worst={b}:2:z");
    let view = view(&held, "bad=x:1:z worse=x:1:z worst=x:1:z", &["d/bad", "d/worse", "d/worst"]);
    let decoded = decode::snapshot(encode::snapshot(&view));
    assert_eq!(decoded.as_ref(), Ok(&view), "a data plane takes it");
    let handles = |n: usize| view.backends[n].endpoints.iter().map(|e| e.handle).collect::<Vec<_>>();
    assert_eq!((handles(0).len(), handles(1)), (1, [handles(2), handles(0)].concat()));
}

#[test]
fn an_endpoint_that_no_form_has_any_more_leaves_its_handle_to_nobody() {
    let archive = Archive::new(1, 1 << 16, Arc::default());
    let share = |backends: String| {
        let told = archive.share(Foreign::new(encode::snapshot(&state(&backends))).unwrap()).unwrap();
        told.objects().backends[0].endpoints[0].handle
    };
    let first = share("bad=e0:1:z".into());
    let mut handles: HashSet<u32> = (0..3_000).map(|n| share(format!("bad=e{n}:1:z"))).collect();
    assert!(handles.contains(&first) && handles.len() == 3_000);
    assert!(handles.insert(share("bad=e0:1:z".into())), "it was forgotten, and is another one");
    assert!(handles.iter().all(|handle| *handle >= HELD_HANDLES));
}

#[test]
fn no_more_is_kept_of_what_one_tells_than_fits_a_refusal() {
    let many = |name: &str| {
        let members: Vec<_> = (0..9_000).map(|n| format!("{name}{n}:{}:z", n + 1)).collect();
        format!("{name}={}", members.join(","))
    };
    let held = [state(&many("bad")), state(&many("worse"))];
    let current = state("bad=a:1:z worse=b:2:z");
    let mut poison = Poison::default();
    let refused = held.iter().map(|held| {
        let name = held.backends[0].name.to_string();
        let kind = proto::refusal::Kind::Backend.into();
        proto::Refusal { kind, name, held: Some(encode::snapshot(held)), ..proto::Refusal::default() }
    });
    let mut handles = Handles::held();
    assert!(poison.refuse(refused.collect(), &current, |told| told.adopt(&mut handles).map(Arc::new)));
    let kept = poison.view(&current, None).backends;
    let endpoints: Vec<_> = kept.iter().map(|backend| (backend.name.as_str(), backend.endpoints.len())).collect();
    assert_eq!(endpoints, [("d/bad", 9_000), ("d/worse", 0)]);
}
