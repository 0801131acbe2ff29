//! The published benchmark of Kthena's router in shape: three replicas, 256 groups of 32 prompts that share 4,096 tokens,
//! 256 tokens of their own and 128 of answer, 300 clients that wait. What its authors do not state is fixed here: an engine
//! caches 350k tokens, prefills 8,000 a second and decodes 256 requests at once.

use dataplane_core::scheduler::Rng;

use super::policy::Policy;
use super::report::{Report, median};
use super::run::{Engines, Setup, run_closed};
use super::verdict::Verdicts;
use super::workload::{Arrival, UNIT_TOKENS};

const REPLICAS: u32 = 3;
const CACHE_TOKENS: usize = 350_000;
const SLOTS: usize = 256;
const CLIENTS: usize = 300;
const PER_SECOND: f64 = 800.0;
const GROUPS: u64 = 256;
const PROMPTS: u64 = 32;
/// Units that a group shares.
const SHARED: u64 = 4_096 / UNIT_TOKENS as u64;
const ANSWER_TOKENS: u32 = 128;
/// What its best row is over random.
const THROUGHPUT: f64 = 2.73;
const TTFT: f64 = 1.0 - 0.735;

/// What came of it: requests per second, mean TTFT in seconds, and the share of the shared tokens that was cached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) per_second: f64,
    pub(crate) ttft_s: f64,
    pub(crate) hits: f64,
}

fn prompts(seed: u64) -> Vec<Arrival> {
    let mut rng = Rng::new(seed);
    let prompt = |id: u64| {
        let group = id / PROMPTS;
        let unit = |unit| if unit < SHARED { group << 20 | unit } else { (GROUPS + id) << 20 | unit };
        Arrival { at_ms: 0, chain: (0..=SHARED).map(unit).collect(), answer_tokens: ANSWER_TOKENS }
    };
    let mut all: Vec<Arrival> = (0..GROUPS * PROMPTS).map(prompt).collect();
    for last in (1..all.len()).rev() {
        all.swap(last, rng.below(last as u32 + 1) as usize);
    }
    all
}

/// One run where engines cache so many times what the scenario says.
pub(crate) fn one(policy: Policy, cache: f64, seed: u64) -> Row {
    let cache_units = (CACHE_TOKENS as f64 * cache) as usize / UNIT_TOKENS as usize;
    let engines = Engines { count: REPLICAS, cache_units, slots: SLOTS };
    let prompts = prompts(seed);
    let (report, took_ms) = run_closed(&prompts, CLIENTS, PER_SECOND, Setup { engines, ..Setup::one(policy, seed) });
    let shared = prompts.len() as u64 * SHARED * u64::from(UNIT_TOKENS);
    Row {
        per_second: prompts.len() as f64 * 1_000.0 / took_ms as f64,
        ttft_s: report.whole_mean_s(),
        hits: hits(&report) as f64 / shared as f64,
    }
}

fn hits(report: &Report) -> u64 {
    report.requests.iter().map(|request| request.hit_tokens).sum()
}

/// The table, and what must hold of it where one pooled cache, which no choice of an engine can beat, would.
pub(crate) fn table(verdicts: &mut Verdicts) {
    println!(
        "\n| the published benchmark's shape: cache, policy | requests/s | × random | TTFT, s | over random | hits |"
    );
    println!("|---|---|---|---|---|---|");
    for cache in [0.5, 1.0, 2.0] {
        let random = median_of(Policy::Random, cache);
        let over_random = |row: Row| (row.per_second / random.per_second, row.ttft_s / random.ttft_s);
        for policy in [Policy::Pooled, Policy::Ours, Policy::Kthena, Policy::CacheAware, Policy::LeastRequest] {
            say(cache, policy, median_of(policy, cache), over_random(median_of(policy, cache)));
        }
        say(cache, Policy::Random, random, (1.0, 1.0));
        let (ours, bound) =
            (over_random(median_of(Policy::Ours, cache)), over_random(median_of(Policy::Pooled, cache)));
        let name = format!("published benchmark, {cache} × the cache");
        verdicts.at_least_or_bound(&format!("{name}: throughput over random"), ours.0, THROUGHPUT, bound.0);
        verdicts.at_most_or_bound(&format!("{name}: TTFT over random"), ours.1, TTFT, bound.1);
    }
}

fn median_of(policy: Policy, cache: f64) -> Row {
    let rows: Vec<Row> = (1..4).map(|seed| one(policy, cache, seed)).collect();
    let over = |value: fn(&Row) -> f64| median(rows.iter().map(value).collect());
    Row { per_second: over(|row| row.per_second), ttft_s: over(|row| row.ttft_s), hits: over(|row| row.hits) }
}

fn say(cache: f64, policy: Policy, row: Row, (times, ttft): (f64, f64)) {
    let Row { per_second, ttft_s, hits } = row;
    let (name, less, hits) = (policy.name(), (ttft - 1.0) * 100.0, hits * 100.0);
    println!("| {cache} ×, {name} | {per_second:.2} | {times:.2} | {ttft_s:.2} | {less:+.1} % | {hits:.1} % |");
}
