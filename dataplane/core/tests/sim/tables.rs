//! Every policy on every workload, one proxy: the table of DESIGN 3.6, and what must hold of it. `KTHENA_SIM` set to a part
//! of a workload's name runs only those.

use super::policy::Policy;
use super::report::{Report, median};
use super::run::{Setup, pooled_hits, run};
use super::verdict::Verdicts;
use super::workload::{self, Arrival, at_load, trace};

const SEEDS: std::ops::Range<u64> = 1..6;
const COUNT: usize = 4_000;

const POLICIES: [Policy; 8] = [
    Policy::Ours,
    Policy::Constant(1.0),
    Policy::Constant(4.0),
    Policy::Constant(10.0),
    Policy::Kthena,
    Policy::CacheAware,
    Policy::RoundRobin,
    Policy::LeastRequest,
];

/// What a policy made of a workload, each the median over the seeds.
struct Row {
    mean_s: f64,
    p50_s: f64,
    p90_s: f64,
    hits: f64,
    busiest: f64,
}

type Requests = Box<dyn Fn(u64) -> Option<Vec<Arrival>>>;

fn workloads() -> Vec<(String, Requests)> {
    let mut all: Vec<(String, Requests)> = Vec::new();
    let shared: [(&str, workload::Workload); 4] = [
        ("conversations", workload::conversations),
        ("Zipf", workload::zipf),
        ("agents", workload::agents),
        ("bursts", workload::bursts),
    ];
    for load in [0.5, 0.7, 0.9] {
        all.push((format!("synthetic trace at {load}"), Box::new(move |_| Some(at_load(trace::mooncake()?, load)))));
        for (name, make) in shared {
            all.push((format!("{name} at {load}"), Box::new(move |seed| Some(at_load(make(seed, COUNT), load)))));
        }
    }
    all.push(("one hot prefix at 0.6".into(), Box::new(|seed| Some(at_load(workload::hot_prefix(seed, COUNT), 0.6)))));
    all.push(("unshared at 0.7".into(), Box::new(|seed| Some(at_load(workload::unshared(seed, COUNT), 0.7)))));
    all.push(("Azure's lengths at 0.7".into(), Box::new(|seed| Some(at_load(trace::azure(seed, COUNT)?, 0.7)))));
    all
}

pub(crate) fn policies(verdicts: &mut Verdicts) {
    println!("seeds {SEEDS:?}, medians; TTFT in s; hits as share of one pooled cache's; busiest engine over the mean");
    let wanted = std::env::var("KTHENA_SIM").unwrap_or_default();
    for (name, requests) in workloads().into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let Some(requests) = SEEDS.map(|seed| Some((seed, requests(seed)?))).collect::<Option<Vec<_>>>() else {
            println!("\n{name}: SKIPPED, shared/traces is not beside this checkout");
            continue;
        };
        println!("\n| {name} | mean | p50 | p90 | hits | busiest |\n|---|---|---|---|---|---|");
        let rows: Vec<_> = POLICIES.iter().map(|policy| (*policy, row(&requests, *policy))).collect();
        for (policy, Row { mean_s, p50_s, p90_s, hits, busiest }) in &rows {
            let name = policy.name();
            println!("| {name} | {mean_s:.3} | {p50_s:.3} | {p90_s:.3} | {:.1} % | {busiest:.2} |", hits * 100.0);
        }
        judge(verdicts, &name, &rows);
    }
}

fn row(requests: &[(u64, Vec<Arrival>)], policy: Policy) -> Row {
    let runs: Vec<Report> = requests.iter().map(|(seed, list)| run(list, Setup::one(policy, *seed))).collect();
    let shares = requests.iter().zip(&runs).map(|((_, list), report)| report.hit_share(&pooled_hits(list), None));
    let over = |value: fn(&Report) -> f64| median(runs.iter().map(value).collect());
    Row {
        mean_s: over(Report::mean_s),
        p50_s: over(|report| report.quantile_s(0.5)),
        p90_s: over(|report| report.quantile_s(0.9)),
        hits: median(shares.collect()),
        busiest: over(Report::busiest),
    }
}

/// Issue 5: ahead of round robin and least request where prompts share something, and nowhere far behind.
fn judge(verdicts: &mut Verdicts, name: &str, rows: &[(Policy, Row)]) {
    let of =
        |policy| rows.iter().find(|(other, _)| *other == policy).map(|(_, row)| row).expect("every policy has run");
    let (ours, robin, least) = (of(Policy::Ours), of(Policy::RoundRobin), of(Policy::LeastRequest));
    let shares = ["synthetic", "conversations", "Zipf", "agents", "bursts"].iter().any(|kind| name.starts_with(kind));
    let factor = if shares { 1.0 } else { 1.25 };
    for (what, ours, best) in
        [("p50", ours.p50_s, robin.p50_s.min(least.p50_s)), ("p90", ours.p90_s, robin.p90_s.min(least.p90_s))]
    {
        let line = format!("{name}: TTFT's {what} in s, {factor} × the better of round robin and least request");
        verdicts.at_most(&line, ours, factor * best);
    }
    verdicts.at_most(&format!("{name}: the busiest engine over the mean"), ours.busiest, 1.3);
    if name.starts_with("synthetic") {
        verdicts.at_least(&format!("{name}: share of the pooled hits"), ours.hits, 0.97);
    }
}
