use std::time::Instant;

use api::proto::LoadReport;

use super::super::Loads;
use super::super::cut::Room;
use super::*;

fn report(shares: &[(&str, f64)]) -> LoadReport {
    let share = |&(backend, token_rate): &(&str, f64)| BackendShare {
        backend: backend.into(),
        token_rate,
        ..BackendShare::default()
    };
    LoadReport { epoch: 1, shares: shares.iter().map(share).collect(), ..LoadReport::default() }
}

/// (backend, the others' rate, how many they are) as a proxy is told next.
fn told(loads: &Loads, owner: u64, seen: &mut u64) -> Vec<(String, f64, u32)> {
    let (sum, up_to) = loads.sum(Owner::Proxy(owner), *seen, Instant::now());
    *seen = up_to;
    sum.shares.into_iter().map(|share| (share.backend, share.token_rate, share.proxies)).collect()
}

fn named(shares: &[(&str, f64, u32)]) -> Vec<(String, f64, u32)> {
    shares.iter().map(|(backend, rate, proxies)| ((*backend).to_owned(), *rate, *proxies)).collect()
}

#[test]
fn each_is_told_what_the_others_decide_and_how_many_they_are() {
    let (loads, mut seen) = (Loads::new(1), [0; 4]);
    loads.report(Owner::Proxy(1), 1, &report(&[("d/a", 100.0)]));
    assert_eq!(told(&loads, 1, &mut seen[1]), [], "its own part is no news to it");
    loads.report(Owner::Proxy(2), 2, &report(&[("d/a", 30.0), ("d/b", 5.0)]));
    assert_eq!(told(&loads, 1, &mut seen[1]), named(&[("d/a", 30.0, 1), ("d/b", 5.0, 1)]));
    assert_eq!(told(&loads, 2, &mut seen[2]), named(&[("d/a", 100.0, 1)]));
    assert_eq!(told(&loads, 3, &mut seen[3]), named(&[("d/a", 130.0, 2), ("d/b", 5.0, 1)]));
    loads.report(Owner::Proxy(2), 2, &report(&[("d/a", 0.0)]));
    loads.report(Owner::Proxy(1), 1, &report(&[("d/a", 101.0)]));
    assert_eq!(told(&loads, 1, &mut seen[1]), named(&[("d/a", 0.0, 0)]), "also where its own change came after it");
    assert_eq!(told(&loads, 3, &mut seen[3]), named(&[("d/a", 101.0, 1)]));
    loads.report(Owner::Proxy(1), 1, &report(&[("d/a", 101.0)]));
    assert_eq!(told(&loads, 3, &mut seen[3]), [], "the same again is no change");
}

#[test]
fn a_share_goes_with_its_stream_unless_another_took_over() {
    let (loads, mut seen) = (Loads::new(1), 0);
    loads.report(Owner::Proxy(1), 1, &report(&[("d/a", 100.0), ("d/b", 5.0)]));
    assert_eq!(told(&loads, 2, &mut seen).len(), 2);
    loads.report(Owner::Proxy(1), 2, &report(&[("d/a", 90.0)]));
    loads.forget(Owner::Proxy(1), 1);
    let mut news = told(&loads, 2, &mut seen);
    news.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(news, named(&[("d/a", 90.0, 1), ("d/b", 0.0, 0)]), "the new stream replaces what the old one said");
    loads.forget(Owner::Proxy(1), 2);
    assert_eq!(told(&loads, 2, &mut seen), named(&[("d/a", 0.0, 0)]));
    assert!(loads.book().shares.of.is_empty(), "nothing is kept of who is gone");
}

#[test]
fn what_makes_no_sense_is_zero() {
    for rate in [f64::NAN, f64::INFINITY, f64::MAX, -1.0] {
        let (loads, mut seen) = (Loads::new(1), 0);
        loads.report(Owner::Proxy(1), 1, &report(&[("d/a", 100.0)]));
        loads.report(Owner::Proxy(1), 1, &report(&[("d/a", rate)]));
        assert_eq!(told(&loads, 2, &mut seen), named(&[("d/a", 0.0, 0)]), "{rate}");
    }
}

#[test]
fn many_shares_come_in_pieces_beside_endpoints_and_no_change_is_lost_between() {
    let (loads, mut seen, in_one) = (Loads::new(1), 0, Room::default().shares);
    for number in 0..1_500 {
        let one = report(&[(&format!("d/{number}"), 1.0)]);
        let endpoints =
            vec![api::proto::EndpointLoad { handle: number, queued_tokens: 1, running: 1, ..Default::default() }];
        loads.report(Owner::Proxy(2), 2, &LoadReport { endpoints, ..one });
    }
    let mut pieces = Vec::new();
    for _ in 0..3 {
        let (sum, up_to) = loads.sum(Owner::Proxy(1), seen, Instant::now());
        seen = up_to;
        pieces.push((sum.shares.len(), sum.endpoints.len()));
    }
    // An endpoint's change comes before its report's share: that of the first share left out is told already.
    let rest = 1_500 - in_one;
    assert_eq!(pieces, [(in_one, in_one + 1), (rest, rest - 1), (0, 0)]);
}

/// Reports as many backends as a hostile proxy likes.
fn flood(loads: &Loads, owner: u64, names: std::ops::Range<usize>, rate: f64) {
    let names: Vec<String> = names.map(|number| format!("d/{number}")).collect();
    for part in names.chunks(10_000) {
        let shares: Vec<_> = part.iter().map(|name| (name.as_str(), rate)).collect();
        loads.report(Owner::Proxy(owner), owner, &report(&shares));
    }
}

#[test]
fn what_is_kept_is_bounded_and_idle_backends_make_room() {
    let loads = Loads::new(1);
    loads.report(Owner::Proxy(1), 1, &report(&[(&"x".repeat(MAX_NAME_BYTES + 1), 1.0)]));
    assert_eq!(loads.book().shares.backends.len(), 0);
    flood(&loads, 1, 0..MAX_BACKENDS + 10, 1.0);
    assert_eq!(loads.book().shares.backends.len(), MAX_BACKENDS, "of one proxy");
    flood(&loads, 2, MAX_BACKENDS..2 * MAX_BACKENDS, 1.0);
    flood(&loads, 3, 2 * MAX_BACKENDS..2 * MAX_BACKENDS + 10, 1.0);
    assert_eq!(loads.book().shares.backends.len(), MOST, "of all");
    flood(&loads, 2, MAX_BACKENDS..2 * MAX_BACKENDS, 0.0);
    flood(&loads, 3, 2 * MAX_BACKENDS..2 * MAX_BACKENDS + 10, 1.0);
    let book = loads.book();
    let Shares { backends, order, order_here, of, idle } = &book.shares;
    assert_eq!(of[&Owner::Proxy(3)].len(), 10, "idle ones make room");
    assert_eq!(order_here.len(), order.len(), "all of them are of our own proxies");
    assert_eq!((order.len(), *idle), (backends.len(), backends.values().filter(|b| b.rates.is_empty()).count()));
}

#[test]
fn a_proxy_knows_what_the_others_decide_whatever_the_order_and_however_it_is_cut() {
    // The seed is in the message of a failure.
    for seed in 0..60u64 {
        let room = Room { shares: [1, 2, 100][seed as usize % 3], ..Room::default() };
        let loads = Loads { room, ..Loads::new(1) };
        let mut truth: HashMap<(u64, u64), f64> = HashMap::new();
        let mut known: HashMap<(u64, String), (f64, u32)> = HashMap::new();
        let mut seen = [0u64; 5];
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..2_000 {
            let (owner, backend, kind) = (random(5), random(4), random(8));
            match kind {
                0 => {
                    loads.forget(Owner::Proxy(owner), owner + 1);
                    truth.retain(|(other, _), _| *other != owner);
                }
                1..5 => {
                    let rate = random(4) as f64;
                    loads.report(Owner::Proxy(owner), owner + 1, &report(&[(&format!("d/{backend}"), rate)]));
                    truth.insert((owner, backend), rate);
                }
                _ => {
                    let seen = &mut seen[owner as usize];
                    while *seen < *loads.watch().borrow() {
                        for (name, rate, proxies) in told(&loads, owner, seen) {
                            known.insert((owner, name), (rate, proxies));
                        }
                    }
                    for backend in 0..4 {
                        let others = truth.iter().filter(|((o, b), rate)| *o != owner && *b == backend && **rate > 0.0);
                        let sum = others.fold((0.0, 0), |sum, (_, rate)| (sum.0 + rate, sum.1 + 1));
                        let known = known.get(&(owner, format!("d/{backend}"))).copied().unwrap_or_default();
                        assert_eq!(known, sum, "seed {seed}, proxy {owner}, backend {backend}");
                    }
                }
            }
        }
    }
}
