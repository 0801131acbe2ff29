//! The results as a page of Markdown.

use std::fmt::Write;

use super::contender::Kind;
use super::row::Unit;
use super::stats::{Spread, differences, p99_ratios, ratios, spread, values};
use super::{OTHER, Results, RowResult, Sample};

/// The name that ratios are to.
pub const FLOOR: &str = "floor";
/// The name whose latency is subtracted.
pub const DIRECT: &str = "direct";
/// The end of the name of our proxy without prefix awareness.
pub const PLAIN: &str = "-random";

/// The page.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    let machine = &results.machine;
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# {} {}\n", machine.date, results.options.name);
    let _ = writeln!(out, "- machine: {}, {} cores, kernel {}", machine.cpu, machine.cores, machine.kernel);
    let _ = writeln!(out, "- load average at the start: {}", machine.load);
    let _ = writeln!(out, "- revision: {}", machine.revision);
    let _ = writeln!(out, "- command: `{}`", machine.command.join(" "));
    for (name, version) in &results.versions {
        let _ = writeln!(out, "- {name}: {version}");
    }
    let _ = writeln!(
        out,
        "\nMedian [least, most] of {} interleaved rounds; ratios are paired within a round. ",
        results.options.rounds
    );
    let _ = writeln!(out, "p99 is of the hop (or of the gap between events) for streams, else of the latency, in µs.");
    for row in &results.rows {
        section(&mut out, results, row);
    }
    out
}

fn section(out: &mut String, results: &Results, row: &RowResult) {
    let budget = row.row.budget();
    let loads: Vec<&str> = row.loads.iter().filter_map(|load| load.split(' ').next()).collect();
    let marks: Vec<String> = row.marks.iter().map(|(name, marks)| format!("{name} {marks}")).collect();
    let idle = row.row.unit() == Unit::Idle;
    let _ = writeln!(out, "\n## {}\n", row.row.title());
    let rival = budget.rival.map(|rival| format!(", and ≤ {rival:.2} × the better rival")).unwrap_or_default();
    let unit = if idle { "bytes" } else { "× the floor" };
    let _ = writeln!(out, "Budget: ≤ {:.2} {unit}{rival}.\n", budget.floor);
    let _ = writeln!(
        out,
        "Load average before each round: {}. Marks at the start: {}.\n",
        loads.join(", "),
        marks.join(", ")
    );
    let _ = writeln!(
        out,
        "| contender | value | × floor | × better rival | p99 | p99 × floor | admitted | own CPU, other CPU, % | errors | over random, µs |"
    );
    let _ = writeln!(out, "|---|---|---|---|---|---|---|---|---|---|");
    let base = (row.row.unit() == Unit::Latency).then_some(DIRECT);
    let better = better_rival(results, row, base);
    for contender in &results.options.contenders {
        let name = contender.name.as_str();
        let own_base = base.filter(|base| *base != name);
        let value = spread(values(&row.rounds, name, own_base));
        let floor = spread(ratios(&row.rounds, name, FLOOR, base)).filter(|_| name != DIRECT);
        let rival = better.and_then(|better| spread(ratios(&row.rounds, name, better, base)));
        let plain = spread(differences(&row.rounds, name, &format!("{name}{PLAIN}")));
        let samples = || row.rounds.iter().flatten().filter(|sample| sample.contender == name);
        let p99 = spread(samples().map(|sample| sample.p99_us).collect());
        let errors: u64 = samples().map(|sample| sample.errors).sum();
        let failed = samples().filter(|sample| sample.detail.get("error").is_some()).count();
        let p99_floor = spread(p99_ratios(&row.rounds, name, FLOOR));
        let admitted = samples().filter_map(|sample| sample.detail["concurrency"]["answering_peak"].as_u64()).min();
        let admitted = admitted.map_or_else(|| "-".to_owned(), |least| least.to_string());
        let [own, other] = [true, false].map(|own| busy(samples(), own));
        let failed = if failed > 0 { format!(" ({failed} rounds failed)") } else { String::new() };
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {admitted} | {own}, {other} | {errors}{failed} | {} |",
            cell(value),
            cell(floor),
            cell(rival),
            cell(p99),
            cell(p99_floor),
            cell(plain)
        );
    }
}

/// The rival with the least median.
fn better_rival<'a>(results: &'a Results, row: &RowResult, base: Option<&str>) -> Option<&'a str> {
    let rivals = results.options.contenders.iter().filter(|one| matches!(one.kind, Kind::Haproxy(_) | Kind::Nginx(_)));
    let medians = rivals.filter_map(|one| Some((spread(values(&row.rounds, &one.name, base))?.median, &one.name)));
    medians.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name.as_str())
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |Spread { median, min, max }| format!("{median:.2} [{min:.2}, {max:.2}]"))
}

/// The most of a CPU that the contender, or all other processes of the run, took in any round: near 100, the rest of the run
/// waited for them.
fn busy<'a>(samples: impl Iterator<Item = &'a Sample>, own: bool) -> String {
    let share = |sample: &Sample| {
        let processes = sample.detail["processes"].as_array()?;
        let of = processes.iter().filter(|process| (process["label"] != OTHER) == own);
        let cpu_ns: f64 = of.filter_map(|process| process["cpu_ns"].as_f64()).sum();
        Some(cpu_ns / 1e7 / sample.detail["seconds"].as_f64()?)
    };
    samples.filter_map(share).max_by(f64::total_cmp).map_or_else(|| "-".to_owned(), |share| format!("{share:.0}"))
}
