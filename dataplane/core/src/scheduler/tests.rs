use std::sync::Arc;

use api::snapshot::{Backend, Endpoint, Filter, Profile, Role, Scorer, Scorers, Snapshot};

use super::*;
use crate::health::Event;
use crate::load::{LiveRegistry, Report};
use crate::plan::{Again, MAX_CONSIDERED, Regard, next};
use crate::table::Table;
use crate::table::tests::{backend, endpoint};

const REQUEST: Request<'static> =
    Request { adapter: None, prompt_bytes: 6_400, answer: Answer::Stream, peers: 1, session: None };

fn compiled(backend: Backend, filters: Vec<Filter>, scorers: Scorers) -> Arc<BackendTable> {
    let backend = Backend { profile: Some("p".into()), ..backend };
    let name = backend.name.clone();
    let profiles = vec![Profile { name: "p".into(), filters, scorers }];
    let snapshot = Snapshot { backends: vec![backend], profiles, ..Snapshot::default() };
    let table = Table::compile(&snapshot, &mut LiveRegistry::new());
    table.refresh(0);
    Arc::clone(table.backend(&name).unwrap())
}

fn pool(endpoints: u32) -> Arc<BackendTable> {
    compiled(backend("d/m", (0..endpoints).map(endpoint)), vec![], Scorers::LocalityCost)
}

fn held(held: &[(u32, u32)]) -> Matches {
    let held = held.iter().map(|(slot, blocks)| Held { slot: *slot, blocks: *blocks }).collect();
    Matches { blocks: 100, held, ..Matches::default() }
}

fn eject(backend: &BackendTable, slot: u32, now_ms: u64) {
    let live = &backend.slots[slot as usize].live;
    let anyone = crate::health::Pool { ejection: backend.ejection, endpoints: 1_000, ejected: 0 };
    for _ in 0..backend.ejection.failures {
        crate::health::observe(live.health(), Event::Failure, anyone, now_ms);
    }
    assert!(live.health().is_ejected(now_ms));
}

#[test]
fn goes_where_the_prefix_is_until_others_are_cheaper() {
    let backend = pool(4);
    let mut rng = Rng::new(1);
    let mut place = |matches: &Matches| schedule(&REQUEST, &backend, matches, &mut rng, 0).unwrap();
    let first = place(&held(&[(2, 90)]));
    assert_eq!((first.endpoint.slot, first.endpoint.matched_blocks, first.endpoint.uncached_tokens), (2, 90, 160));
    // Missing everything costs 100 blocks of 16 tokens, 16-fold; 90 blocks held leave a tenth of it.
    let chosen = first.decision.chosen();
    assert_eq!((chosen.missing_tokens, chosen.cost), (10.0 * 16.0 * 16.0, 2_560.0 / 8_000.0));
    // Each further one adds 260 tokens there, so the 23,040 that it is ahead last for 88; then it still takes more.
    let plans = (0..200).map(|_| place(&held(&[(2, 90)]))).collect::<Vec<_>>();
    let away = plans.iter().filter(|plan| plan.endpoint.slot != 2).count();
    assert!(plans[..80].iter().all(|plan| plan.endpoint.slot == 2));
    assert!((30..42).contains(&away), "{away}");
}

#[test]
fn equal_endpoints_share_equally() {
    let seed = 3;
    let (mut rng, mut counts) = (Rng::new(seed), [0; 4]);
    let backend = pool(4);
    for _ in 0..4_000 {
        counts[schedule(&REQUEST, &backend, &held(&[]), &mut rng, 0).unwrap().endpoint.slot as usize] += 1;
    }
    assert!(counts.iter().all(|count| (850..1_150).contains(count)), "seed {seed}: {counts:?}");
}

#[test]
fn few_candidates_are_looked_at_in_a_large_fleet() {
    let small = schedule(&Request { peers: 17, ..REQUEST }, &pool(8), &held(&[(1, 10)]), &mut Rng::new(5), 0).unwrap();
    assert_eq!(small.decision.candidates.len(), 8, "a small one is looked at as a whole");
    let backend = pool(1_000);
    let matches = held(&[(1, 10), (2, 90), (3, 80), (4, 70), (5, 60), (6, 20)]);
    let check = |peers, expected| {
        let plan = schedule(&Request { peers, ..REQUEST }, &backend, &matches, &mut Rng::new(5), 0).unwrap();
        assert_eq!(plan.decision.candidates.len(), expected);
        for slot in [2, 3, 4, 5] {
            assert!(plan.decision.candidates.iter().any(|c| c.slot == slot), "{slot} is among the best");
        }
        assert_eq!(plan.endpoint.slot, 2);
    };
    check(1, MATCHED_CANDIDATES + RANDOM_CANDIDATES);
    check(17, MATCHED_CANDIDATES + RANDOM_CANDIDATES_OF_MANY);
}

#[test]
fn says_why_there_is_no_endpoint() {
    let check = |backend: &Arc<BackendTable>, adapter, expected| {
        let plan = schedule(&Request { adapter, ..REQUEST }, backend, &held(&[]), &mut Rng::new(1), 0);
        assert_eq!(plan.unwrap_err(), expected);
    };
    check(&pool(0), None, NoEndpoint::Empty);
    let prefill = Endpoint { role: Role::Prefill, ..endpoint(1) };
    check(&compiled(backend("d/m", [prefill]), vec![], Scorers::LocalityCost), None, NoEndpoint::Empty);
    let full = Backend { max_in_flight: 0, ..backend("d/m", (0..9).map(endpoint)) };
    check(&compiled(full, vec![], Scorers::LocalityCost), None, NoEndpoint::Saturated);
    let known = Endpoint { adapters: Some(vec!["x".into()]), ..endpoint(1) };
    let lora = compiled(backend("d/m", [known]), vec![Filter::LoraAffinity], Scorers::LocalityCost);
    check(&lora, Some("y"), NoEndpoint::FilteredOut("lora-affinity"));
    schedule(&REQUEST, &lora, &held(&[]), &mut Rng::new(1), 0).expect("a base model is not filtered");
    let queued =
        compiled(backend("d/m", [endpoint(1)]), vec![Filter::LeastRequest { max_waiting: 10 }], Scorers::LocalityCost);
    queued.slots[0].live.set_report(Report { waiting: 10, ..Report::default() }, 1);
    check(&queued, None, NoEndpoint::FilteredOut("least-request"));
}

#[test]
fn ejection_is_ignored_where_nobody_else_is_left() {
    let backend = pool(5);
    (0..4).for_each(|slot| eject(&backend, slot, 0));
    let mut rng = Rng::new(1);
    let plan = schedule(&REQUEST, &backend, &held(&[(0, 100)]), &mut rng, 1).unwrap();
    assert_eq!((plan.endpoint.slot, plan.decision.health), (4, Regard::Considered));
    eject(&backend, 4, 0);
    let plan = schedule(&REQUEST, &backend, &held(&[]), &mut rng, 1).unwrap();
    assert_eq!(plan.decision.health, Regard::Ignored);
}

#[test]
fn a_retry_never_meets_the_same_endpoint() {
    let backend = pool(5);
    let (mut rng, matches) = (Rng::new(9), held(&[(3, 100)]));
    let mut plan = schedule(&REQUEST, &backend, &matches, &mut rng, 0).unwrap();
    let again = Again { request: &REQUEST, backend: &backend, matches: &matches };
    let mut seen = vec![plan.endpoint.slot];
    while next(&mut plan, &again, &mut rng, 0).is_ok() {
        assert!(!seen.contains(&plan.endpoint.slot), "{seen:?}");
        seen.push(plan.endpoint.slot);
        assert_eq!(usize::from(plan.attempts()), seen.len());
    }
    assert_eq!(seen.len(), 5);
    assert_eq!(next(&mut plan, &again, &mut rng, 0).unwrap_err(), NoEndpoint::AllTried);
    drop(plan);
    assert!(backend.slots.iter().all(|entry| entry.live.in_flight() == 0));
}

fn any_scorers(rng: &mut Rng) -> Scorers {
    let all = [
        Scorer::LeastRequest,
        Scorer::LeastLatency { ttft_weight: 0.5 },
        Scorer::GpuUsage,
        Scorer::PrefixCache { max_blocks: 128, top_k: 5 },
        Scorer::Random,
    ];
    match rng.below(2) {
        0 => Scorers::LocalityCost,
        _ => Scorers::Weighted(all.into_iter().filter(|_| rng.below(2) == 0).map(|s| (s, 1)).collect()),
    }
}

/// Whatever the fleet looks like: who is picked could be picked, and somebody is if anybody could be.
#[test]
fn the_picked_endpoint_is_always_eligible() {
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let count = 1 + rng.below(150);
        let endpoints: Vec<Endpoint> = (0..count)
            .map(|number| Endpoint {
                role: [Role::Both, Role::Prefill, Role::Decode][rng.below(3) as usize],
                adapters: [None, Some(vec![]), Some(vec!["x".into()])][rng.below(3) as usize].clone(),
                ..endpoint(number)
            })
            .collect();
        let scorers = any_scorers(&mut rng);
        let fleet = Backend { max_in_flight: 3, ..backend("d/m", endpoints) };
        let backend = compiled(fleet, vec![Filter::LoraAffinity], scorers);
        (0..count)
            .filter(|_| rng.below(4) == 0)
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|slot| eject(&backend, slot, 0));
        let matches = held(&[(rng.below(count), 50), (rng.below(count), 20)]);
        let request = Request { adapter: Some("x"), peers: rng.below(30), ..REQUEST };
        let mut plans = Vec::new();
        let serves = |slot: u32| backend.serving().contains(slot) && backend.with_adapter("x").contains(slot);
        let places = (0..count).filter(|slot| serves(*slot)).count() * 3;
        let healthy = |slot: &u32| serves(*slot) && !backend.slots[*slot as usize].live.health().is_ejected(1);
        while let Ok(plan) = schedule(&request, &backend, &matches, &mut rng, 1) {
            let slot = plan.endpoint.slot;
            assert!(serves(slot), "seed {seed}");
            assert!(backend.slots[slot as usize].live.in_flight() <= 3, "seed {seed}");
            assert!(plan.decision.candidates.len() <= MAX_CONSIDERED && plan.decision.chosen().slot == slot);
            if !healthy(&slot) {
                let free = (0..count).filter(healthy).any(|s| backend.slots[s as usize].live.in_flight() < 3);
                assert!(!free, "seed {seed}: ejected before the healthy were full");
            }
            plans.push(plan);
        }
        assert_eq!(plans.len(), places, "seed {seed}: every place is found");
        drop(plans);
        assert!(backend.slots.iter().all(|entry| entry.live.in_flight() == 0), "seed {seed}");
    }
}

fn with_sessions(endpoints: u32, seed: u32) -> Arc<BackendTable> {
    let scorers = vec![(Scorer::LeastRequest, 1), (Scorer::SessionAffinity { header: "x-session-id".into() }, 10)];
    // Another proxy has the same endpoints in other slots.
    let endpoints = (0..endpoints).map(|number| endpoint((number + seed) % endpoints));
    compiled(backend("d/m", endpoints), vec![], Scorers::Weighted(scorers))
}

fn place_of(backend: &Arc<BackendTable>, session: &str, seed: u64) -> String {
    let request = Request { session: Some(session_hash(session.as_bytes())), ..REQUEST };
    let plan = schedule(&request, backend, &held(&[]), &mut Rng::new(seed), 1).unwrap();
    plan.endpoint.endpoint.name.to_string()
}

#[test]
fn a_session_stays_on_its_endpoint_whichever_proxy_it_meets() {
    for count in [5, 200] {
        let proxies = [with_sessions(count, 0), with_sessions(count, 3)];
        let homes: Vec<String> = (0..50).map(|id| place_of(&proxies[0], &format!("s{id}"), 1)).collect();
        for (id, home) in homes.iter().enumerate() {
            for seed in 0..4 {
                let found = place_of(&proxies[seed as usize % 2], &format!("s{id}"), seed);
                assert_eq!(&found, home, "session {id} of {count} endpoints, seed {seed}");
            }
        }
        let distinct: std::collections::HashSet<_> = homes.iter().collect();
        assert!(distinct.len() >= 5, "{count}: {distinct:?}");
    }
}

#[test]
fn a_session_whose_endpoint_failed_goes_to_one_other() {
    let backend = with_sessions(200, 0);
    let home = place_of(&backend, "alice", 1);
    let slot = backend.slots.iter().position(|entry| *entry.endpoint.name == *home).unwrap();
    eject(&backend, slot as u32, 0);
    let away: std::collections::HashSet<_> = (0..20).map(|seed| place_of(&backend, "alice", seed)).collect();
    assert!(away.len() == 1 && !away.contains(&home), "{away:?}");
}

#[test]
fn without_a_session_the_other_scores_decide() {
    let backend = with_sessions(5, 0);
    let plans: Vec<_> =
        (0..50).map(|seed| schedule(&REQUEST, &backend, &held(&[]), &mut Rng::new(seed), 1).unwrap()).collect();
    assert!(backend.slots.iter().all(|entry| entry.live.in_flight() == 10), "{}", plans.len());
}

#[test]
fn idle_endpoints_nearby_come_first() {
    let on = |number: u32, node: &str, zone: &str| Endpoint {
        node: Some(node.into()),
        zone: Some(zone.into()),
        ..endpoint(number)
    };
    let endpoints = [on(0, "n1", "z1"), on(1, "n2", "z1"), on(2, "n3", "z2")];
    let snapshot = Snapshot { backends: vec![backend("d/m", endpoints)], ..Snapshot::default() };
    let here = crate::table::Place { node: Some("n2".into()), zone: Some("z1".into()) };
    let table = Table::compile(&snapshot, &mut LiveRegistry::at(here));
    let backend = Arc::clone(table.backends().next().unwrap());
    let mut rng = Rng::new(1);
    let plans: Vec<_> = (0..3).map(|_| schedule(&REQUEST, &backend, &held(&[]), &mut rng, 1).unwrap()).collect();
    // Each takes a load with it, so that the next nearest is cheaper.
    assert_eq!(plans.iter().map(|plan| plan.endpoint.slot).collect::<Vec<_>>(), [1, 0, 2]);
}

#[test]
fn own_decisions_are_echoed_until_the_others_are_heard() {
    let backend = pool(2);
    let others = |age_ms| crate::load::Others { proxies: 3, token_rate: 30_000.0, age_ms };
    let decide = |slot, now_ms| {
        let plan = schedule(&REQUEST, &backend, &held(&[(slot, 100)]), &mut Rng::new(1), now_ms).unwrap();
        let of = |slot| plan.decision.candidates.iter().find(|c| c.slot == slot).unwrap().queued_tokens;
        (plan.endpoint.slot, [of(0), of(1)])
    };
    // Each decision without a match is a load of 1,600 tokens and of 100 for the request itself.
    backend.live.hear(others(0), 0);
    for at in 0..10 {
        let first = schedule(&REQUEST, &backend, &held(&[]), &mut Rng::new(at), at * 100).unwrap();
        drop(first);
    }
    backend.refresh(1_000);
    assert_eq!(backend.live.token_rate(), 17_000.0);
    backend.live.hear(others(0), 1_000);
    assert_eq!(decide(0, 1_100), (0, [0, 0]), "nothing was decided since");
    let plan = schedule(&REQUEST, &backend, &held(&[]), &mut Rng::new(1), 1_110).unwrap();
    let slot = plan.endpoint.slot as usize;
    drop(plan);
    let (_, queued) = decide(0, 1_120);
    // `decide` itself has put a request at slot 0.
    let mut own = [100, 0];
    own[slot] += 1_700;
    assert_eq!(queued, own.map(|tokens| tokens * 30 / 17), "the others' share of it");
    backend.live.hear(others(0), 1_300);
    assert_eq!(decide(0, 1_300).1, [0, 0], "heard of since");
    backend.slots[1].live.set_peers(1_000, 1);
    backend.live.hear(others(100), 1_500);
    assert_eq!(decide(0, 1_500).1, [0, 200], "8,000 tokens/s were prefilled for 100 ms");
    let live = &backend.slots[1].live;
    live.set_peers(0, 10);
    let reservation = crate::load::Reservation::try_new(
        live,
        Demand { uncached_tokens: 0, answer: Answer::Stream, speed: 1.0, max_in_flight: 9 },
        1_000,
    );
    reservation.unwrap().finish(1_400);
    let running = |now_ms| Scene::new(&REQUEST, &backend, &Matches::default(), now_ms).consider(1).running;
    assert_eq!([1_400, 1_500, 1_800].map(running), [10, 7, 0], "a request takes 400 ms there");
    let guesses = |peers| -> Vec<[u64; 2]> {
        let guessed = |seed| {
            let (request, matches) = (Request { peers, ..REQUEST }, Matches::default());
            let scene = Scene::new(&request, &backend, &matches, 1_500);
            let mut candidates = [0, 1].map(|slot| scene.consider(slot));
            guess::guess(&scene, &mut candidates, &mut Rng::new(seed));
            candidates.map(|candidate| candidate.guessed_tokens)
        };
        (0..1_000).map(guessed).collect()
    };
    let mean = |guesses: &[[u64; 2]], slot: usize| guesses.iter().map(|guess| guess[slot]).sum::<u64>() / 1_000;
    // They decide 30,000 tokens/s, were heard of 100 ms ago, and have two endpoints.
    let of_few = guesses(MANY_PROXIES);
    assert!(of_few.iter().flatten().all(|guess| *guess <= 3_000), "at most all of it");
    assert!((1_400..1_600).contains(&mean(&of_few, 1)), "{}: an endpoint's share", mean(&of_few, 1));
    // What many have sent went where least waits, until that is as much as at the other.
    let _busy = crate::load::Reservation::try_new(
        live,
        Demand { uncached_tokens: 20_000, answer: Answer::Stream, speed: 1.0, max_in_flight: 9 },
        1_500,
    );
    let of_many = guesses(MANY_PROXIES + 1);
    assert!((2_800..3_200).contains(&mean(&of_many, 0)), "{}: all of it", mean(&of_many, 0));
    assert!(mean(&of_many, 1) < 100 && of_many.iter().any(|guess| guess[0] > 6_000));
    backend.live.hear(crate::load::Others::default(), 1_300);
    assert_eq!(backend.live.proxies(), 1);
}
