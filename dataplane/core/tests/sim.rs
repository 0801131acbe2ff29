//! A seeded simulation with a virtual clock: four engines with LRU prefix caches, prefill in order of arrival and a
//! number of decode slots, and before them proxies with the real scheduler that hear of each other late. The prefix
//! knowledge is exact here, so what is tested is the decision. All numbers follow from the seeds.
//!
//! What runs with every test takes seconds; `.ci/run sim` runs the rest and prints its tables.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod sim {
    pub(crate) mod benchmark;
    pub(crate) mod engine;
    pub(crate) mod fleet;
    pub(crate) mod policy;
    pub(crate) mod proxy;
    pub(crate) mod report;
    pub(crate) mod run;
    pub(crate) mod tables;
    pub(crate) mod verdict;
    pub(crate) mod workload;
}

use sim::policy::Policy;
use sim::report::Report;
use sim::run::{Counts, Setup, pooled_hits, run};
use sim::workload::{at_load, bursts, conversations, hot_prefix};

fn say(name: &str, setup: Setup, report: &Report) {
    let (mean, p90) = (report.mean_s(), report.quantile_s(0.9));
    println!("{name}, {}, seed {}: TTFT mean {mean:.3} s, p90 {p90:.3} s", setup.policy.name(), setup.seed);
}

fn one(name: &str, requests: &[sim::workload::Arrival], policy: Policy, seed: u64) -> Report {
    let setup = Setup::one(policy, seed);
    let report = run(requests, setup);
    say(name, setup, &report);
    report
}

#[test]
fn locality_cost_beats_round_robin_on_conversations() {
    for seed in [1, 2] {
        let requests = at_load(conversations(seed, 2_000), 0.7);
        let ours = one("conversations", &requests, Policy::Ours, seed);
        let robin = one("conversations", &requests, Policy::RoundRobin, seed);
        let share = ours.hit_share(&pooled_hits(&requests), None);
        println!("seed {seed}: {:.1} % of one pooled cache's hits", share * 100.0);
        assert!(ours.mean_s() < 0.8 * robin.mean_s(), "seed {seed}");
        assert!(share >= 0.97, "seed {seed}: {share:.3} of the pooled hits");
        assert!(ours.busiest() <= 1.3, "seed {seed}: {:.2}", ours.busiest());
    }
}

#[test]
fn a_hot_prefix_makes_no_hot_spot() {
    // Of seeds 3, 6 and 9 three engines could bear the prefix, with queues too short to bring it to the fourth.
    for seed in [1, 2, 3, 6, 9] {
        let requests = at_load(hot_prefix(seed, 2_000), 0.6);
        let ours = one("hot prefix", &requests, Policy::Ours, seed);
        let robin = one("hot prefix", &requests, Policy::RoundRobin, seed);
        assert!(ours.mean_s() <= 1.2 * robin.mean_s(), "seed {seed}");
    }
}

#[test]
fn a_burst_of_a_new_prefix_is_spread_only_as_far_as_it_pays() {
    let requests = at_load(bursts(3, 2_000), 0.5);
    let ours = one("bursts", &requests, Policy::Ours, 3);
    let least = one("bursts", &requests, Policy::LeastRequest, 3);
    assert!(ours.mean_s() < 0.8 * least.mean_s());
}

#[test]
fn four_proxies_that_hear_late_do_not_run_to_one_engine() {
    let ratio = |seed| {
        let requests = at_load(hot_prefix(seed, 2_000), 0.6);
        let alone = one("hot prefix", &requests, Policy::Ours, seed);
        let setup = Setup { proxies: 4, delay_ms: Some(1_000), ..Setup::one(Policy::Ours, seed) };
        let late = run(&requests, setup);
        say("hot prefix, 4 proxies, 1 s late", setup, &late);
        late.mean_s() / alone.mean_s()
    };
    let median = sim::report::median((1..6).map(ratio).collect());
    println!("median of the ratios: {median:.2}");
    assert!(median <= 1.5, "{median:.2} × one proxy");
}

#[test]
fn the_fleets_use_counts_are_worth_more_than_ones_own() {
    let requests = at_load(hot_prefix(5, 2_000), 0.6);
    let of = |counts| {
        let setup = Setup { proxies: 64, delay_ms: Some(20), counts, ..Setup::one(Policy::Ours, 5) };
        let report = run(&requests, setup);
        say(if counts == Counts::Fleet { "64 proxies, the fleet's counts" } else { "own counts" }, setup, &report);
        report.mean_s()
    };
    assert!(of(Counts::Fleet) < of(Counts::Own));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let requests = conversations(5, 300);
    let setup = Setup { proxies: 3, delay_ms: Some(50), ..Setup::one(Policy::Ours, 5) };
    assert_eq!(run(&requests, setup), run(&requests, setup));
}

#[test]
fn the_published_benchmarks_shape_is_won_over_random_as_far_as_one_pooled_cache_would_win_it() {
    let of = |policy| sim::benchmark::one(policy, 1.0, 1);
    let (ours, random, pooled) = (of(Policy::Ours), of(Policy::Random), of(Policy::Pooled));
    println!("ours {ours:?}, random {random:?}, one pooled cache {pooled:?}");
    assert!(ours.per_second >= 2.73 * random.per_second);
    assert!(ours.per_second >= 0.97 * pooled.per_second && ours.ttft_s <= 1.03 * pooled.ttft_s);
}

#[test]
#[ignore = "takes minutes: .ci/run sim"]
fn what_the_scheduler_has_to_show() {
    let mut verdicts = sim::verdict::Verdicts::default();
    sim::benchmark::table(&mut verdicts);
    sim::tables::policies(&mut verdicts);
    sim::fleet::table(&mut verdicts);
    verdicts.finish();
}
