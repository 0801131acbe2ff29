//! What a choice costs among ten thousand endpoints, beside the chained hash of a 64 KB prompt as a yardstick. Nothing here
//! runs with the other tests: a time says something in a release build on a quiet machine only, `cargo test --release -p
//! dataplane-core --test choice -- --ignored --nocapture`. For instructions, run its binary under callgrind with `--toggle-collect=*choose*`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use api::limits::BLOCK_BYTES;
use dataplane_core::load::{Answer, LiveRegistry, Others};
use dataplane_core::scheduler::{Held, Matches, Request, Rng, Uses, schedule};
use dataplane_core::table::{BackendTable, Table};

const CALLS: usize = 2_000;
const RUNS: usize = 40;

fn backend(endpoints: usize) -> Arc<BackendTable> {
    let endpoint = |n: usize| {
        let address = format!("10.{}.{}.1:8000", n >> 8, n & 255);
        serde_json::json!({"handle": n + 1, "name": format!("d/e{n}"), "address": address})
    };
    let endpoints: Vec<_> = (0..endpoints).map(endpoint).collect();
    let text = serde_json::json!({"backends": [{"name": "d/b", "endpoints": endpoints}]}).to_string();
    let table = Table::compile(&api::json::snapshot_from_json(text.as_bytes()).unwrap(), &mut LiveRegistry::new());
    table.backends().next().unwrap().clone()
}

/// A 64 KB prompt that eight endpoints hold parts of.
fn matches() -> Matches {
    let held = (0..8).map(|n| Held { slot: n * 1_111, blocks: 1_024 - 96 * n });
    let uses = (1..17).map(|n| Uses { end: 64 * n, uses: 20.0 / n as f32 });
    Matches { blocks: 1_024, held: held.collect(), uses: uses.collect() }
}

/// The least nanoseconds of a call.
fn least(mut call: impl FnMut(usize)) -> f64 {
    let run = |run: usize| {
        let begin = Instant::now();
        (0..CALLS).for_each(|n| call(run * CALLS + n));
        begin.elapsed().as_nanos() as f64 / CALLS as f64
    };
    (0..RUNS).map(run).fold(f64::INFINITY, f64::min)
}

/// Kept apart, so that callgrind counts it alone.
#[inline(never)]
fn choose(backend: &Arc<BackendTable>, matches: &Matches, rng: &mut Rng, now_ms: u64) {
    let request = Request {
        adapter: None,
        prompt_bytes: 65_536,
        answer: Answer::Stream,
        peers: backend.live.proxies(),
        session: None,
    };
    drop(black_box(schedule(&request, backend, matches, rng, now_ms).unwrap()));
}

fn check(endpoints: usize, proxies: u32) -> f64 {
    let (backend, matches, mut rng) = (backend(endpoints), matches(), Rng::new(1));
    if proxies > 1 {
        backend.live.hear(Others { proxies: proxies - 1, token_rate: 1e6, age_ms: 0 }, 1_000);
    }
    let held =
        Matches { held: matches.held.iter().copied().filter(|h| (h.slot as usize) < endpoints).collect(), ..matches };
    let ns = least(|n| choose(&backend, &held, &mut rng, 1_000 + n as u64 / 100));
    println!("a choice among {endpoints} endpoints, {proxies} proxies: {ns:.0} ns");
    ns
}

#[test]
#[ignore = "a time"]
fn a_choice_among_ten_thousand_endpoints_takes_less_than_2_us() {
    let text = vec![b'x'; 64 << 10];
    let mut chain = Vec::with_capacity(text.len() / BLOCK_BYTES);
    let yardstick = least(|n| {
        chain.clear();
        api::prefix::chain(n as u64, black_box(&text), &mut chain);
    });
    println!("the chained hash of 64 KB: {yardstick:.0} ns");
    check(16, 1);
    let most = [check(10_000, 1), check(10_000, 4), check(10_000, 64)].into_iter().fold(0.0, f64::max);
    assert!(most < 2_000.0, "{most:.0} ns");
}
