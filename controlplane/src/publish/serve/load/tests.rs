use std::time::Duration;

use super::*;

pub(super) fn report(loads: &[(u32, u64, u32)]) -> LoadReport {
    let load =
        |&(handle, queued_tokens, running)| EndpointLoad { handle, queued_tokens, running, ..EndpointLoad::default() };
    LoadReport { epoch: 1, endpoints: loads.iter().map(load).collect(), ..LoadReport::default() }
}

fn told(loads: &Loads, owner: u64, seen: &mut u64) -> Vec<(u32, u64, u32)> {
    let (sum, up_to) = loads.sum(Owner::Proxy(owner), *seen, Instant::now());
    *seen = up_to;
    sum.endpoints.iter().map(|e| (e.handle, e.queued_tokens, e.running)).collect()
}

#[test]
fn each_is_told_what_the_others_have_and_only_what_changed() {
    let loads = Loads::new(1);
    let (mut a, mut b) = (0, 0);
    loads.report(Owner::Proxy(1), 1, &report(&[(7, 100, 1)]));
    assert_eq!(told(&loads, 1, &mut a), [], "its own changes are no news to it");
    assert_eq!(told(&loads, 2, &mut b), [(7, 100, 1)]);
    loads.report(Owner::Proxy(2), 2, &report(&[(7, 30, 2), (8, 5, 1)]));
    assert_eq!(told(&loads, 1, &mut a), [(7, 30, 2), (8, 5, 1)]);
    assert_eq!(told(&loads, 2, &mut b), []);
    loads.report(Owner::Proxy(2), 2, &report(&[(7, 0, 0)]));
    loads.report(Owner::Proxy(1), 1, &report(&[(7, 101, 1)]));
    assert_eq!(told(&loads, 1, &mut a), [(7, 0, 0)], "also where its own change came after it");
    assert_eq!(told(&loads, 2, &mut b), [(7, 101, 1)]);
    assert_eq!((told(&loads, 1, &mut a), told(&loads, 2, &mut b)), (vec![], vec![]));
}

#[test]
fn a_proxy_that_is_gone_is_taken_out_unless_it_speaks_by_another_stream() {
    let loads = Loads::new(1);
    loads.report(Owner::Proxy(1), 1, &report(&[(7, 100, 1), (8, 1, 1)]));
    let mut seen = 0;
    assert_eq!(told(&loads, 2, &mut seen).len(), 2);
    loads.report(Owner::Proxy(1), 2, &report(&[(7, 90, 1)]));
    loads.forget(Owner::Proxy(1), 1);
    let mut news = told(&loads, 2, &mut seen);
    news.sort_unstable();
    assert_eq!(news, [(7, 90, 1), (8, 0, 0)], "the new stream replaces what the old one said");
    loads.forget(Owner::Proxy(1), 2);
    assert_eq!(told(&loads, 2, &mut seen), [(7, 0, 0)]);
    assert_eq!(loads.proxies(), 0);
}

#[test]
fn what_is_of_another_epoch_is_of_other_endpoints() {
    let loads = Loads::new(1);
    loads.report(Owner::Proxy(1), 1, &LoadReport { epoch: 2, ..report(&[(7, 100, 1)]) });
    assert_eq!(loads.at(7), Load::default());
}

#[test]
fn the_time_to_the_first_token_is_the_mean_over_proxies_and_outlasts_their_requests() {
    let loads = Loads::new(1);
    let tell = |owner: u64, running, ttft| {
        let endpoints = vec![EndpointLoad { handle: 7, queued_tokens: 0, running, ttft, ..EndpointLoad::default() }];
        loads.report(Owner::Proxy(owner), owner, &LoadReport { epoch: 1, endpoints, ..LoadReport::default() });
        loads.at(7).ttft
    };
    assert_eq!(tell(1, 1, 0.0), 0.0);
    assert_eq!(tell(1, 2, 0.5), 0.5);
    assert_eq!(tell(2, 1, 0.25), 0.375);
    assert_eq!(tell(2, 0, 0.25), 0.5);
    assert_eq!(tell(1, 0, 0.75), 0.75, "nobody has requests there now");
    assert_eq!((tell(1, 1, 0.5), tell(2, 1, f32::INFINITY), tell(2, 1, f32::NAN)), (0.5, 0.5, 0.5));
    assert_eq!((tell(2, 1, 0.25), tell(2, 2, 0.75)), (0.375, 0.625), "the same requests, measured anew");
}

#[test]
fn nothing_is_lost_where_a_proxy_changes_itself_what_was_cut_off() {
    let loads = Loads { room: Room { endpoints: 2, shares: 2, uses: 2 }, ..Loads::new(1) };
    loads.report(Owner::Proxy(1), 1, &report(&[(0, 1, 1), (1, 2, 1), (2, 3, 1)]));
    // By this the first one is the last that was changed, but what is news of it is as old as before.
    loads.report(Owner::Proxy(2), 2, &report(&[(0, 50, 1)]));
    let mut seen = 0;
    let mut pieces: Vec<_> = (0..3).flat_map(|_| told(&loads, 2, &mut seen)).collect();
    pieces.sort_unstable();
    assert_eq!(pieces, [(0, 1, 1), (1, 2, 1), (2, 3, 1)]);
}

#[test]
fn use_counts_that_are_cut_off_come_next_with_the_loads_that_changed_after_them() {
    let loads = Loads { room: Room { uses: 2, ..Room::default() }, ..Loads::new(1) };
    let uses = packed((1..6).map(|hash| (hash, 2.0)));
    loads.report(Owner::Proxy(1), 1, &LoadReport { uses, ..report(&[(7, 1, 1)]) });
    loads.report(Owner::Proxy(1), 1, &report(&[(8, 1, 1)]));
    let mut seen = 0;
    let mut piece = || {
        let (sum, up_to) = loads.sum(Owner::Proxy(2), seen, Instant::now());
        seen = up_to;
        let hashes: Vec<u64> = counts(&sum.uses).map(|(hash, _)| hash).collect();
        (sum.endpoints.iter().map(|e| e.handle).collect::<Vec<_>>(), hashes)
    };
    let pieces: Vec<_> = (0..4).map(|_| piece()).collect();
    assert_eq!(pieces, [(vec![7], vec![1, 2]), (vec![], vec![3, 4]), (vec![8], vec![5]), (vec![], vec![])]);
}

#[test]
fn the_whole_fleets_load_is_the_sum_of_all_reports_however_it_is_cut() {
    // The seed is in the message of a failure.
    for seed in 0..60u64 {
        let room = Room { endpoints: [1, 2, 100][seed as usize % 3], ..Room::default() };
        let loads = Loads { room, ..Loads::new(1) };
        let mut truth: HashMap<(u64, u32), (u64, u32)> = HashMap::new();
        let mut seen = [0u64; 5];
        let mut known: HashMap<(usize, u32), (u64, u32)> = HashMap::new();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..2_000 {
            let (owner, handle) = (random(5), random(6) as u32);
            if random(3) > 0 {
                let load = (random(4) * 10, random(3) as u32);
                loads.report(Owner::Proxy(owner), owner + 1, &report(&[(handle, load.0, load.1)]));
                truth.insert((owner, handle), load);
            } else {
                let seen = &mut seen[owner as usize];
                while *seen < *loads.changed.borrow() {
                    for (handle, tokens, running) in told(&loads, owner, seen) {
                        known.insert((owner as usize, handle), (tokens, running));
                    }
                }
                for handle in 0..6 {
                    let others = truth.iter().filter(|((o, h), _)| *o != owner && *h == handle);
                    let sum = others.fold((0, 0), |sum, (_, load)| (sum.0 + load.0, sum.1 + load.1));
                    let known = known.get(&(owner as usize, handle)).copied().unwrap_or_default();
                    assert_eq!(known, sum, "seed {seed}, proxy {owner}, endpoint {handle}");
                }
            }
        }
    }
}

#[test]
fn a_large_sum_comes_in_pieces() {
    let (loads, in_one) = (Loads::new(1), Room::default().endpoints);
    let all: Vec<_> = (0..40_000).map(|handle| (handle, 1, 1)).collect();
    loads.report(Owner::Proxy(1), 1, &report(&all));
    let mut seen = 0;
    let pieces: Vec<usize> = (0..4).map(|_| told(&loads, 2, &mut seen).len()).collect();
    assert_eq!(pieces, [in_one, in_one, 40_000 - 2 * in_one, 0]);
}

#[test]
fn idle_endpoints_are_not_kept_for_ever() {
    let loads = Loads::new(1);
    for first in (0..MOST as u32 + 40_000).step_by(10_000) {
        for running in [1, 0] {
            let all: Vec<_> = (first..first + 10_000).map(|handle| (handle, 0, running)).collect();
            loads.report(Owner::Proxy(1), 1, &report(&all));
        }
    }
    let book = loads.book();
    assert!(book.endpoints.len() <= MOST && book.order.len() == book.endpoints.len(), "{}", book.endpoints.len());
}

fn engine(handle: u32, running: u32) -> EngineLoad {
    EngineLoad { handle, running, ..EngineLoad::default() }
}

/// What a new data plane is told of engines, at a time, and how old it is.
fn engines(loads: &Loads, now: Instant) -> Vec<(u32, u32, u32)> {
    let (sum, _) = loads.sum(Owner::Proxy(1), 0, now);
    sum.engines.iter().map(|said| (said.handle, said.running, said.age_ms)).collect()
}

#[test]
fn what_an_engine_says_is_told_when_it_changes_and_before_it_is_forgotten() {
    let (loads, begun) = (Loads::new(1), Instant::now());
    let mut seen = 0;
    let mut news = |running, second| {
        let now = begun + Duration::from_secs(second);
        loads.engine(engine(7, running), now);
        let (sum, up_to) = loads.sum(Owner::Proxy(1), seen, now);
        seen = up_to;
        sum.engines.len()
    };
    let told = [(3, 0), (3, 1), (4, 2), (4, 5), (4, 6), (4, 9), (4, 10)].map(|(running, at)| news(running, at));
    assert_eq!(told, [1, 0, 1, 0, 1, 0, 1]);
}

#[test]
fn what_an_engine_said_grows_old_and_expires() {
    let (loads, begun) = (Loads::new(1), Instant::now());
    loads.engine(engine(7, 3), begun);
    assert_eq!(engines(&loads, begun + Duration::from_millis(9_999)), [(7, 3, 9_999)]);
    assert_eq!(engines(&loads, begun + Duration::from_secs(10)), []);
    loads.engine(engine(8, 1), begun);
    loads.keep_engines(&HashSet::from([8]));
    assert_eq!(engines(&loads, begun), [(8, 1, 0)], "an endpoint that is gone says nothing");
}

#[test]
fn many_engines_come_in_pieces_and_no_change_is_lost_between() {
    let (loads, now, in_one) = (Loads::new(1), Instant::now(), Room::default().endpoints);
    for handle in 0..20_000 {
        loads.engine(engine(handle, 1), now);
        loads.report(Owner::Proxy(2), 2, &report(&[(handle, 1, 1)]));
    }
    let (mut seen, mut pieces) = (0, Vec::new());
    for _ in 0..3 {
        let (sum, up_to) = loads.sum(Owner::Proxy(1), seen, now);
        seen = up_to;
        pieces.push((sum.engines.len(), sum.endpoints.len()));
    }
    assert_eq!(pieces, [(in_one, in_one), (20_000 - in_one, 20_000 - in_one), (0, 0)]);
}

#[test]
fn what_waits_is_summed_for_all_and_is_never_more_than_there_is() {
    let loads = Loads::new(1);
    let report = |of: u64, running, queue_depth| {
        let endpoints =
            vec![EndpointLoad { handle: 7, queued_tokens: 10, running, queue_depth, ..EndpointLoad::default() }];
        loads.report(Owner::Proxy(of), of, &LoadReport { epoch: 1, endpoints, ..LoadReport::default() });
        loads.at(7).queue_depth
    };
    assert_eq!(report(1, 5, 2), 2);
    assert_eq!(report(2, 4, 1_000), 6, "as many wait as there are");
    // By itself it is no news, and it is known all the same.
    let before = *loads.watch().borrow();
    assert_eq!(report(1, 5, 4), 8);
    assert_eq!(*loads.watch().borrow(), before);
    let (sum, _) = loads.sum(Owner::Proxy(3), 0, Instant::now());
    assert_eq!((sum.endpoints[0].running, sum.endpoints[0].queue_depth), (9, 0), "proxies do not ask for it");
    let has = |of: u64| loads.outstanding()[&of];
    let outstanding = |running, queue_depth| Outstanding { endpoints: 1, queued_tokens: 10, running, queue_depth };
    assert_eq!((has(1), has(2)), (outstanding(5, 4), outstanding(4, 4)));
    loads.forget(Owner::Proxy(2), 2);
    assert_eq!((loads.at(7).queue_depth, loads.outstanding().len()), (4, 1));
    assert_eq!(report(1, 0, 9), 0, "of none nothing waits");
    assert_eq!(loads.outstanding()[&1], Outstanding { endpoints: 1, queued_tokens: 10, ..Outstanding::default() });
    loads.report(
        Owner::Proxy(1),
        1,
        &LoadReport {
            epoch: 1,
            endpoints: vec![EndpointLoad { handle: 7, ..EndpointLoad::default() }],
            ..LoadReport::default()
        },
    );
    assert_eq!(loads.outstanding()[&1], Outstanding::default());
}
