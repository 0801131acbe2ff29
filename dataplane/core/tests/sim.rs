//! A seeded simulation with a virtual clock: four engines with LRU prefix caches, prefill in order of arrival and a
//! number of decode slots, and the real scheduler before them. The prefix knowledge is exact here, so what is tested
//! is the decision. All numbers follow from the seeds.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod sim {
    pub(crate) mod engine;
    pub(crate) mod run;
    pub(crate) mod workload;
}

use sim::run::{Policy, Report, pooled_hits, run};
use sim::workload::{conversations, hot_prefix};

fn report(name: &str, seed: u64, report: &Report) {
    println!("{name} seed {seed}: mean TTFT {:.3} s, hits {} tokens", report.mean_ttft_s(), report.hit_tokens);
}

#[test]
fn locality_cost_beats_round_robin_on_conversations() {
    for seed in [1, 2] {
        let requests = conversations(seed, 3_000);
        let ours = run(&requests, Policy::LocalityCost, seed);
        let robin = run(&requests, Policy::RoundRobin, seed);
        let bound = pooled_hits(&requests);
        report("ours", seed, &ours);
        report("round robin", seed, &robin);
        let share = ours.hit_tokens as f64 / bound as f64;
        println!("seed {seed}: {:.1} % of one pooled cache's {bound} hits", share * 100.0);
        assert!(ours.mean_ttft_s() < 0.8 * robin.mean_ttft_s(), "seed {seed}");
        assert!(share >= 0.97, "seed {seed}: {share:.3} of the pooled hits");
    }
}

#[test]
fn a_hot_prefix_makes_no_hot_spot() {
    for seed in [1, 2] {
        let requests = hot_prefix(seed, 3_000);
        let ours = run(&requests, Policy::LocalityCost, seed);
        let robin = run(&requests, Policy::RoundRobin, seed);
        report("ours", seed, &ours);
        report("round robin", seed, &robin);
        assert!(ours.mean_ttft_s() <= 1.2 * robin.mean_ttft_s(), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let requests = conversations(5, 300);
    assert_eq!(run(&requests, Policy::LocalityCost, 5), run(&requests, Policy::LocalityCost, 5));
}
