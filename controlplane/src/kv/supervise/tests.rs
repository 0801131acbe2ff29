//! Which endpoints are wanted, and by what name of their model.

use api::snapshot::Engine;

use super::*;

fn models(backends: &str, routes: &str) -> Vec<String> {
    let text = format!(r#"{{"version": 1, "backends": [{backends}], "routes": [{routes}]}}"#);
    let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
    let text =
        |(key, wanted): (&EndpointKey, &Wanted)| format!("{}={}", key.uid, wanted.model.as_deref().unwrap_or("?"));
    wanted(&snapshot).iter().map(text).collect()
}

fn backend(name: &str, rest: &str, endpoint: &str) -> String {
    let endpoint = format!(r#"{{"name": "{endpoint}", "uid": "{endpoint}", "address": "10.0.0.1:8000"}}"#);
    format!(r#"{{"name": "d/{name}", "endpoints": [{endpoint}]{rest}}}"#)
}

fn route(name: &str, model: &str, backend: &str) -> String {
    format!(r#"{{"name": "d/{name}", "model": "{model}", "rules": [{{"targets": [{{"backend": "d/{backend}"}}]}}]}}"#)
}

#[test]
fn a_model_is_called_as_its_server_says_or_as_its_routes_do() {
    let named = backend("a", r#", "model": "real""#, "e");
    assert_eq!(models(&named, &route("r", "virtual", "a")), ["e=real"]);
    let unnamed = backend("a", "", "e");
    assert_eq!(models(&unnamed, &route("r", "m", "a")), ["e=m"]);
    assert_eq!(models(&unnamed, &[route("r", "m", "a"), route("s", "m", "a")].join(",")), ["e=m"]);
    assert_eq!(models(&unnamed, &[route("r", "m", "a"), route("s", "n", "a")].join(",")), ["e=?"]);
    assert_eq!(models(&unnamed, ""), ["e=?"]);
}

#[test]
fn another_template_or_size_makes_no_other_endpoint_and_all_else_does() {
    let of = |rest: &str| {
        let text = format!(r#"{{"version": 1, "backends": [{}]}}"#, backend("a", rest, "e"));
        wanted(&api::json::snapshot_from_json(text.as_bytes()).unwrap()).into_values().next().unwrap()
    };
    let (before, now) = (of(r#", "model": "m""#), of(r#", "model": "m", "chatTemplate": {"source": "{{ 'x' }}"}"#));
    assert!(now != before && now.is_as(&before), "{now:?}");
    assert!(!of(r#", "model": "n""#).is_as(&before));
    // It says how large it is a moment after it is there.
    assert!(Wanted { cache_tokens: Some(9), ..before.clone() }.is_as(&before));
    for other in [
        Wanted { handle: 9, ..before.clone() },
        Wanted { address: ([10, 0, 0, 9], 8000).into(), ..before.clone() },
        Wanted { engine: Engine::Sglang, ..before.clone() },
        Wanted { fleet_seed: 9, ..before.clone() },
    ] {
        assert!(!other.is_as(&before), "{other:?}");
    }
}

#[test]
fn only_engines_that_publish_are_wanted() {
    let of = |engine: &str| models(&backend("a", &format!(r#", "engine": "{engine}", "model": "m""#), "e"), "").len();
    assert_eq!(["VLLM", "SGLANG", "TRITON", "TORCHSERVE"].map(of), [1, 1, 0, 0]);
}

fn staff() -> Staff {
    let lane = Arc::new(Lane::new(1));
    let vocabularies = Vocabularies::new(None);
    let supervision = Supervision::new(lane, vocabularies);
    let (ears, next) = (supervision.ears(), Numbers::default());
    let (heard, _) = mpsc::channel(1);
    let (attended, placed) = (BTreeMap::new(), BTreeMap::new());
    Staff { supervision, ears, heard, next, tasks: JoinSet::new(), attended, placed }
}

#[tokio::test]
async fn an_engine_that_is_anothers_is_let_go_of_where_nothing_was_heard_of_it_and_else_after_a_while() {
    let text = format!(r#"{{"version": 1, "backends": [{}]}}"#, backend("a", r#", "model": "m""#, "e"));
    let (key, wanted) = wanted(&api::json::snapshot_from_json(text.as_bytes()).unwrap()).into_iter().next().unwrap();
    let (ours, theirs) = (Shard::alone(), Shard { me: "b".into(), members: Arc::from(["a".into(), "b".into()]) });
    let theirs = if theirs.owns(&key.uid) { Shard { me: "a".into(), ..theirs } } else { theirs };
    let (mut staff, now) = (staff(), Instant::now());
    staff.ears.place(&key, wanted.model.as_ref().unwrap(), wanted.handle);
    staff.begin(key.clone(), wanted.clone());
    assert!(!staff.hand_over(&ours, now) && staff.attended.len() == 1);
    assert!(!staff.hand_over(&theirs, now) && staff.attended.is_empty(), "nothing was heard");

    staff.begin(key.clone(), wanted.clone());
    let (rank, model) = (staff.attended[&key].rank, wanted.model.clone().unwrap());
    let seat = Seat { key: key.clone(), model: model.clone(), handle: 1, capacity_tokens: 0, ranks: 1 };
    let vocabulary = Arc::new(crate::kv::vocabulary::Vocabulary::quads());
    staff.ears.admit(rank, seat, 9, crate::kv::text::Reading { vocabulary, fleet_seed: 1, model });
    let soon = HANDED_OVER - Duration::from_millis(1);
    assert!(
        staff.hand_over(&theirs, now) && staff.hand_over(&theirs, now + soon),
        "it is heard until another knows it"
    );
    // It was ours again for a moment, so the time begins anew.
    assert!(!staff.hand_over(&ours, now + soon) && staff.hand_over(&theirs, now + soon));
    assert!(staff.hand_over(&theirs, now + HANDED_OVER) && staff.attended.len() == 1);
    assert!(!staff.hand_over(&theirs, now + soon + HANDED_OVER) && staff.attended.is_empty());
}
