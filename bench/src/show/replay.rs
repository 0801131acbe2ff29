//! A trace of real requests, some times as fast as it was, over engines that are as many times as fast: how much of what one pooled cache
//! would have found was found, by the engines' own count. One proxy serves all of it, or several share it, to each of which a
//! spreader sends what it will.

use std::io::{BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use crate::load::rng::Rng;
use crate::load::trace::{self, Entry};
use crate::load::{Pace, Plan, Shape};

/// What is replayed, and how.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Replay {
    /// Times as fast as the trace, and as an engine of [`PREFILL_TOKENS_PER_S`] and [`TOKEN_US`].
    pub speed: u32,
    /// Each with a cache of [`CACHE_BLOCKS`].
    pub engines: u8,
    /// Requests of the trace, from its begin.
    pub requests: usize,
    /// Of the spreader and of when within its second a request comes: the trace's times are rounded.
    pub seed: u64,
}

/// Of an engine: 400,000 tokens.
pub const CACHE_BLOCKS: usize = 25_000;
/// Of an engine, at the trace's own speed: what one pooled cache would leave to compute keeps four of them busy for 0.7 of the time, as in
/// the simulation (dataplane/core/tests/sim). At 8,000 it would be 1.5 of it.
pub const PREFILL_TOKENS_PER_S: u64 = 17_000;
/// Of an engine, at the trace's own speed.
pub const TOKEN_US: u64 = 15_000;
/// The trace's times are whole seconds, or thirds of them.
const SPREAD_MS: usize = 1_000;
/// For the last answers.
const AFTER: Duration = Duration::from_secs(30);

impl Replay {
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

    /// The requests of the trace, spread over their seconds.
    pub fn entries(&self, trace: &Path) -> anyhow::Result<Vec<Entry>> {
        let file = std::fs::File::open(trace).with_context(|| format!("{}", trace.display()))?;
        let mut rng = Rng::new(self.seed);
        let mut entries = trace::read(BufReader::new(file))?;
        entries.truncate(self.requests);
        for entry in &mut entries {
            entry.timestamp += rng.below(SPREAD_MS) as u64;
        }
        entries.sort_by_key(|entry| entry.timestamp);
        Ok(entries)
    }

    /// Dealt out at random, as traces of their own in this folder.
    pub fn deal(&self, entries: &[Entry], folder: &Path, parts: usize) -> anyhow::Result<Vec<PathBuf>> {
        std::fs::create_dir_all(folder)?;
        let mut rng = Rng::new(self.seed.wrapping_add(1));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_comes_once_and_in_its_second() {
        let folder = std::env::temp_dir().join(format!("kthena-replay-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let line = |n: u64| {
            format!(
                "{{\"timestamp\": {}, \"input_length\": 512, \"output_length\": 1, \"hash_ids\": [{n}]}}\n",
                n * 1_000
            )
        };
        let trace = folder.join("trace.jsonl");
        std::fs::write(&trace, (0..200).map(line).collect::<String>()).unwrap();
        let replay = Replay { speed: 4, engines: 4, requests: 150, seed: 7 };
        let entries = replay.entries(&trace).unwrap();
        assert!(entries.iter().zip(0..).all(|(entry, n)| entry.timestamp / 1_000 == n), "{entries:?}");
        let parts = replay.deal(&entries, &folder, 3).unwrap();
        let read = |part: &PathBuf| trace::read(BufReader::new(std::fs::File::open(part).unwrap())).unwrap();
        let mut dealt: Vec<Entry> = parts.iter().flat_map(read).collect();
        assert!(parts.iter().all(|part| read(part).len() > 30), "a fair spreader");
        dealt.sort_by_key(|entry| entry.timestamp);
        assert_eq!(dealt, entries);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
