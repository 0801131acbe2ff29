//! Many proxies behind a random spreader: how late they may hear of each other.

use super::policy::Policy;
use super::report::median;
use super::run::{Counts, Setup, pooled_hits, run};
use super::workload::{self, Arrival, at_load, trace};

const SEEDS: std::ops::Range<u64> = 1..6;
const COUNT: usize = 4_000;

/// (proxies, delay of reports in ms, whose use counts, at most so many times the TTFT of one proxy).
const FLEETS: [(usize, Option<u64>, Counts, Option<f64>); 9] = [
    (1, Some(0), Counts::Fleet, None),
    (4, Some(20), Counts::Fleet, Some(1.15)),
    (4, Some(200), Counts::Fleet, None),
    (4, Some(1_000), Counts::Fleet, Some(1.5)),
    (4, None, Counts::Fleet, None),
    (4, Some(20), Counts::Own, None),
    (64, Some(20), Counts::Fleet, Some(1.15)),
    (64, Some(200), Counts::Fleet, None),
    (64, Some(20), Counts::Own, None),
];

pub(crate) fn table() {
    let conversations = |seed| at_load(workload::conversations(seed, COUNT), 0.7);
    let mut faults = compare("conversations at 0.7", conversations);
    faults.extend(compare("one hot prefix at 0.6", |seed| at_load(workload::hot_prefix(seed, COUNT), 0.6)));
    faults.extend(compare("Zipf at 0.7", |seed| at_load(workload::zipf(seed, COUNT), 0.7)));
    match trace::mooncake(1) {
        Some(_) => faults.extend(compare("synthetic trace at 0.7", |seed| {
            at_load(trace::mooncake(seed).expect("it was there"), 0.7)
        })),
        None => println!("\nsynthetic trace: SKIPPED, shared/traces is not beside this checkout"),
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn compare(name: &str, make: impl Fn(u64) -> Vec<Arrival>) -> Vec<String> {
    let requests: Vec<_> = SEEDS.map(|seed| (seed, make(seed))).collect();
    println!("\n| {name}: proxies, delay, use counts | mean TTFT, s | × one proxy | hits, the least of all proxies |");
    println!("|---|---|---|---|");
    let (mut alone, mut faults) = (0.0, Vec::new());
    for (proxies, delay_ms, counts, most) in FLEETS {
        let runs: Vec<(f64, f64)> = requests
            .iter()
            .map(|(seed, list)| {
                let report = run(list, Setup { proxies, delay_ms, counts, ..Setup::one(Policy::Ours, *seed) });
                let pooled = pooled_hits(list);
                let least = (0..proxies).map(|proxy| report.hit_share(&pooled, Some(proxy))).fold(1.0, f64::min);
                (report.mean_s(), least)
            })
            .collect();
        let mean = median(runs.iter().map(|(mean, _)| *mean).collect());
        let hits = median(runs.iter().map(|(_, hits)| *hits).collect());
        alone = if proxies == 1 { mean } else { alone };
        let (ratio, delay) = (mean / alone, delay_ms.map_or("never".to_owned(), |ms| format!("{ms} ms")));
        println!("| {proxies}, {delay}, {counts:?} | {mean:.3} | {ratio:.2} | {:.1} % |", hits * 100.0);
        if most.is_some_and(|most| ratio > most) {
            faults.push(format!("{name}: {proxies} proxies, {delay}: {ratio:.2} × one proxy"));
        }
        if name.starts_with("synthetic")
            && proxies <= 4
            && delay_ms == Some(20)
            && counts == Counts::Fleet
            && hits < 0.97
        {
            faults.push(format!("{name}: a proxy of {proxies} has {:.1} % of the pooled hits", hits * 100.0));
        }
    }
    faults
}
