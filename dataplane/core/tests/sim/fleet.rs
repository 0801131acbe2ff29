//! Many proxies behind a random spreader: how late they may hear of each other.

use super::policy::Policy;
use super::report::{Report, median};
use super::run::{Counts, Setup, pooled_hits, run};
use super::verdict::Verdicts;
use super::workload::{self, Arrival, at_load, trace};

const SEEDS: std::ops::Range<u64> = 1..6;
const COUNT: usize = 4_000;

/// (proxies, delay of reports in ms, whose use counts, at most so many times the TTFT of one proxy). Reports are made every 5 ms, and handed on
/// every 5 ms to up to 64 proxies: those come after 5 ms at most, besides the network.
const FLEETS: [(usize, Option<u64>, Counts, Option<f64>); 11] = [
    (1, Some(0), Counts::Fleet, None),
    (4, Some(SOON), Counts::Fleet, Some(1.15)),
    (4, Some(20), Counts::Fleet, None),
    (4, Some(200), Counts::Fleet, None),
    (4, Some(1_000), Counts::Fleet, Some(1.5)),
    (4, None, Counts::Fleet, None),
    (4, Some(SOON), Counts::Own, None),
    (64, Some(SOON), Counts::Fleet, Some(1.15)),
    (64, Some(20), Counts::Fleet, None),
    (64, Some(200), Counts::Fleet, None),
    (64, Some(SOON), Counts::Own, None),
];
const SOON: u64 = 5;

pub(crate) fn table(verdicts: &mut Verdicts) {
    compare(verdicts, "conversations at 0.7", |seed| at_load(workload::conversations(seed, COUNT), 0.7));
    compare(verdicts, "one hot prefix at 0.6", |seed| at_load(workload::hot_prefix(seed, COUNT), 0.6));
    compare(verdicts, "Zipf at 0.7", |seed| at_load(workload::zipf(seed, COUNT), 0.7));
    match trace::mooncake() {
        Some(trace) => compare(verdicts, "synthetic trace at 0.7", |_| at_load(trace.clone(), 0.7)),
        None => println!("\nsynthetic trace: SKIPPED, shared/traces is not beside this checkout"),
    }
}

fn compare(verdicts: &mut Verdicts, name: &str, make: impl Fn(u64) -> Vec<Arrival>) {
    let requests: Vec<_> = SEEDS.map(|seed| (seed, make(seed))).collect();
    println!("\n| {name}: proxies, delay, use counts | mean TTFT, s | × one proxy | hits | the least of all proxies |");
    println!("|---|---|---|---|---|");
    let pooled: Vec<Vec<u64>> = requests.iter().map(|(_, list)| pooled_hits(list)).collect();
    let mut alone = 0.0;
    for (proxies, delay_ms, counts, most) in FLEETS {
        let setup = |seed| Setup { proxies, delay_ms, counts, ..Setup::one(Policy::Ours, seed) };
        let runs: Vec<Report> = requests.iter().map(|(seed, list)| run(list, setup(*seed))).collect();
        let mean = median(runs.iter().map(Report::mean_s).collect());
        // Of all seeds together: what one proxy has of one of them is few long prompts.
        let hits_of = |proxy| {
            let sums = runs.iter().zip(&pooled).map(|(report, pooled)| report.hits(pooled, proxy));
            let (hits, bound) = sums.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            hits as f64 / bound.max(1) as f64
        };
        let hits = hits_of(None);
        let least = (0..proxies).map(|proxy| hits_of(Some(proxy))).fold(1.0, f64::min);
        alone = if proxies == 1 { mean } else { alone };
        let (ratio, delay) = (mean / alone, delay_ms.map_or("never".to_owned(), |ms| format!("{ms} ms")));
        let percent = (hits * 100.0, least * 100.0);
        println!(
            "| {proxies}, {delay}, {counts:?} | {mean:.3} | {ratio:.2} | {:.1} % | {:.1} % |",
            percent.0, percent.1
        );
        if let Some(most) = most {
            verdicts.at_most(
                &format!("{name}: {proxies} proxies, reports after {delay}: TTFT over one's"),
                ratio,
                most,
            );
        }
        let heard = delay_ms == Some(if proxies == 1 { 0 } else { SOON }) && counts == Counts::Fleet;
        if name.starts_with("synthetic") && proxies <= 4 && heard {
            verdicts.at_least(
                &format!("{name}: share of the pooled hits, the least of {proxies} proxies"),
                least,
                0.97,
            );
        }
    }
}
