//! A trace of real requests, some times as fast as it was, over engines that are as many times as fast: how much of what one pooled cache
//! would have found was found, by the engines' own count. One proxy serves all of it, or several share it, to each of which a
//! spreader sends what it will.

use std::io::{BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use super::Site;
use super::manifests::Manifests;
use super::prefix::{self, Hits};
use super::site::{self, Control, MODEL, Proxy};
use crate::engine::text;
use crate::load::rng::Rng;
use crate::load::trace::{self, Entry};
use crate::load::{self, Pace, Plan, Report, Shape};

/// What is replayed, and how.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Replay {
    /// Times as fast as the trace, and as an engine of [`PREFILL_TOKENS_PER_S`] and [`TOKEN_US`].
    pub speed: u32,
    /// Each with a cache of [`CACHE_BLOCKS`].
    pub engines: u8,
    /// Requests of the trace, from its begin.
    pub requests: usize,
    /// Of the spreader.
    pub seed: u64,
}

/// Of an engine: 400,000 tokens.
pub const CACHE_BLOCKS: usize = 25_000;
/// Of an engine, at the trace's own speed: what one pooled cache would leave to compute keeps four of them busy for 0.7 of the time, as in
/// the simulation (dataplane/core/tests/sim). At 8,000 it would be 1.5 of it.
pub const PREFILL_TOKENS_PER_S: u64 = 17_000;
/// Of an engine, at the trace's own speed.
pub const TOKEN_US: u64 = 15_000;
/// For the last answers.
const AFTER: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Seen {
    /// What one cache of all engines finds for the same requests, one after the other.
    pub pooled: Hits,
    /// By one data plane, and by several.
    pub parts: Vec<Part>,
}

/// By so many data planes.
#[derive(Debug, Serialize)]
pub struct Part {
    /// How many.
    pub data_planes: usize,
    /// What all engines found, and each.
    pub hits: Hits,
    /// See there.
    pub of_each: Vec<Hits>,
    /// Of the load of each data plane.
    pub reports: Vec<Report>,
}

/// Data planes of a run.
const DATA_PLANES: [usize; 2] = [1, 4];

impl Replay {
    /// Runs it.
    pub async fn run(&self, trace: &Path, site: &Site) -> anyhow::Result<Seen> {
        let entries = self.entries(trace)?;
        let last = entries.last().context("a trace has requests")?;
        let whole = self.deal(&entries, &site.folder("traces"), 1)?.remove(0);
        let nobody = self.plan(SocketAddr::from(([127, 0, 0, 1], 9)), MODEL, whole, last);
        let blocks = usize::from(self.engines) * CACHE_BLOCKS;
        let pooled = prefix::pooled(&nobody, blocks, entries.len() as u64)?;
        let mut parts = Vec::new();
        for data_planes in DATA_PLANES {
            parts.push(self.part(&entries, data_planes, site).await?);
        }
        Ok(Seen { pooled, parts })
    }

    async fn part(&self, entries: &[Entry], data_planes: usize, site: &Site) -> anyhow::Result<Part> {
        let last = entries.last().context("a trace has requests")?;
        let addresses = site::at_one_port(self.engines)?;
        let flags = self.engine();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let engines = addresses.iter().map(|address| site.engine(*address, MODEL, &flags));
        let _engines = engines.collect::<anyhow::Result<Vec<_>>>()?;
        let (_control, proxies) = programs(site, &addresses, data_planes)?;
        let traces = self.deal(entries, &site.folder("traces"), data_planes)?;
        let plans = proxies.iter().zip(traces).map(|(proxy, part)| self.plan(proxy.listen, MODEL, part, last));
        let running: Vec<_> = plans.map(|plan| std::thread::spawn(move || load::run(&plan))).collect();
        let reports = running.into_iter().map(|run| run.join().expect("a run of load does not panic"));
        let reports = reports.collect::<anyhow::Result<Vec<_>>>()?;
        let mut of_each = Vec::new();
        for address in &addresses {
            of_each.push(Hits::of(&[*address]).await?);
        }
        Ok(Part { data_planes, hits: Hits::of(&addresses).await?, of_each, reports })
    }

    /// What an engine-sim is told.
    pub fn engine(&self) -> Vec<String> {
        let speed = u64::from(self.speed);
        let numbers = [
            ("--cache-blocks", CACHE_BLOCKS as u64),
            ("--prefill-tokens-per-s", PREFILL_TOKENS_PER_S * speed),
            ("--gap-us", TOKEN_US / speed),
            // The longest prompts of the trace are longer than most models take.
            ("--max-model-len", 1 << 18),
        ];
        numbers.iter().flat_map(|(flag, number)| [(*flag).to_owned(), number.to_string()]).collect()
    }

    /// The requests of the trace, in the order in which they came.
    pub fn entries(&self, trace: &Path) -> anyhow::Result<Vec<Entry>> {
        let file = std::fs::File::open(trace).with_context(|| format!("{}", trace.display()))?;
        let mut entries = trace::read(BufReader::new(file))?;
        anyhow::ensure!(entries.is_sorted_by_key(|entry| entry.timestamp), "{} is not in order", trace.display());
        entries.truncate(self.requests);
        Ok(entries)
    }

    /// Dealt out at random, as traces of their own in this folder.
    pub fn deal(&self, entries: &[Entry], folder: &Path, parts: usize) -> anyhow::Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder)?;
        let mut rng = Rng::new(self.seed);
        let paths: Vec<PathBuf> = (0..parts).map(|n| folder.join(format!("part-{n}-of-{parts}.jsonl"))).collect();
        let mut files = paths.iter().map(std::fs::File::create).collect::<Result<Vec<_>, _>>()?;
        for entry in entries {
            writeln!(files[rng.below(parts)], "{}", serde_json::to_string(entry)?)?;
        }
        Ok(paths)
    }

    /// The load of one part.
    pub fn plan(&self, target: SocketAddr, model: &str, part: PathBuf, last: &Entry) -> Plan {
        let speed = f64::from(self.speed);
        Plan {
            connections: 512,
            pace: Pace::Trace { speed },
            shape: Shape::Trace { file: part, limit: usize::MAX },
            stream: true,
            duration: Duration::from_secs_f64(last.timestamp as f64 / 1e3 / speed) + AFTER,
            timeout: Duration::from_secs(60),
            ..Plan::small(target, model, 1024)
        }
    }
}

/// One data plane by a snapshot, or several by a control plane.
fn programs(site: &Site, engines: &[SocketAddr], count: usize) -> anyhow::Result<(Option<Control>, Vec<Proxy>)> {
    if count == 1 {
        let tokens = CACHE_BLOCKS as u64 * u64::from(text::BLOCK_TOKENS);
        return Ok((None, vec![site.proxy(&site::snapshot(&[engines], &site::locality(), tokens), "auto")?]));
    }
    let folder = site.folder("replay");
    Manifests::engines(&folder, engines)?;
    let control = site.control(&folder)?;
    let proxies = (0..count).map(|_| site.programmed(&control)).collect::<anyhow::Result<_>>()?;
    Ok((Some(control), proxies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_comes_once_and_at_its_time() {
        let folder = std::env::temp_dir().join(format!("kthena-replay-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let line = |n: u64| {
            let at = n * 40;
            format!("{{\"timestamp\": {at}, \"input_length\": 512, \"output_length\": 1, \"hash_ids\": [{n}]}}\n")
        };
        let trace = folder.join("trace.jsonl");
        std::fs::write(&trace, (0..200).map(line).collect::<String>()).unwrap();
        let replay = Replay { speed: 4, engines: 4, requests: 150, seed: 7 };
        let entries = replay.entries(&trace).unwrap();
        assert!(entries.iter().zip(0..).all(|(entry, n)| entry.timestamp == n * 40), "{entries:?}");
        let parts = replay.deal(&entries, &folder, 3).unwrap();
        let read = |part: &PathBuf| trace::read(BufReader::new(std::fs::File::open(part).unwrap())).unwrap();
        let mut dealt: Vec<Entry> = parts.iter().flat_map(read).collect();
        assert!(parts.iter().all(|part| read(part).len() > 30), "a fair spreader");
        dealt.sort_by_key(|entry| entry.timestamp);
        assert_eq!(dealt, entries);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
