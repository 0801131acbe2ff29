//! The table of what engines report, at its size: memory at any fill, updates as the lane takes them, look-ups beside the
//! chained hash of the same bytes, and look-ups while updates are written.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use api::kv::{Entries, Entry, Said, Update};
use api::limits::BLOCK_BYTES;
use api::snapshot::Snapshot;
use dataplane_core::index::{Config, Query, Reader, Writer};
use dataplane_core::kv::Lane;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde_json::json;

/// Endpoints that the blocks are spread over.
const ENDPOINTS: u32 = 16;
/// Entries of one message: what a stream of 1 MB/s carries in 65 ms.
const MESSAGE: u64 = 4_096;
/// Blocks of a prompt of 100,000 tokens, four bytes each.
const LONG: usize = 6_250;
/// Prompts that are looked up while updates are written, of 64 KB each.
const PROMPTS: u64 = 64;
const PROMPT: usize = 1_024;
/// What is read between two cold look-ups: more than the last-level caches that this is likely to run on.
const SWEPT: usize = 96 << 20;
/// Below this the fixed floor of empty segments counts for more than the entries.
const SMALLEST: u64 = 100_000;

/// How much.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Blocks at the end; memory is told at a tenth, a half, and all of them.
    pub blocks: u64,
    /// Look-ups of which the median is taken, for each rate of updates.
    pub looks: usize,
}

/// What was measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// Blocks, and bytes for them.
    pub memory: Vec<(u64, u64)>,
    /// The most bytes for a block, of all fills from 100,000 blocks on.
    pub worst_bytes_per_block: f64,
    /// Of one update while the table grows, in the lane's own time on its thread.
    pub grow_ns: f64,
    /// The same once it is full: half of the updates take blocks back.
    pub churn_ns: f64,
    /// The longest that one message of 4,096 updates took.
    pub worst_message_ms: f64,
    /// Look-up of a prompt of 100,000 tokens: least of 30, cached and cold.
    pub look_warm_us: f64,
    /// See there.
    pub look_cold_us: f64,
    /// The yardstick: the chained hash of the same bytes.
    pub hash_us: f64,
    /// Medians of look-ups of 64 KB prompts, by updates a second.
    pub beside: Vec<Beside>,
}

/// Look-ups while updates are written.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Beside {
    /// Updates asked for, in a second.
    pub rate: u64,
    /// And written.
    pub written_per_s: f64,
    /// The median look-up.
    pub median_us: f64,
    /// Of a hundred look-ups the second slowest.
    pub p99_us: f64,
}

/// Runs it all on the calling thread, and on one more beside the look-ups.
pub fn run(plan: Plan) -> anyhow::Result<Seen> {
    let mut bed = Bed::new()?;
    let mut seen = Seen::default();
    let mut reader = bed.writer.reader();
    let long = chain(u64::MAX, LONG);
    bed.tell(long.iter().map(|hash| (*hash, 1, Said::Held)));
    for prompt in 0..PROMPTS {
        bed.tell(chain(prompt, PROMPT).into_iter().map(|hash| (hash, 1 + prompt as u32 % ENDPOINTS, Said::Held)));
    }
    grow(plan, &mut bed, &mut reader, &mut seen);
    churn(plan, &mut bed, &mut seen);
    look(&mut reader, &long, &mut seen);
    for rate in [0, 100_000, 1_000_000] {
        let (back, beside) = beside(plan, bed, &mut reader, rate);
        bed = back?;
        seen.beside.push(beside);
    }
    Ok(seen)
}

/// A lane with its writer, and what was told so far.
struct Bed {
    lane: Lane,
    writer: Writer,
    sequence: u64,
    /// The next block to be told of, and the oldest that was not taken back.
    next: u64,
    oldest: u64,
}

impl Bed {
    fn new() -> anyhow::Result<Self> {
        let endpoint =
            |n: u32| json!({"handle": n, "name": format!("e-{n}"), "address": format!("127.0.0.1:{}", 8_000 + n)});
        let endpoints: Vec<_> = (1..=ENDPOINTS).map(endpoint).collect();
        let text = json!({"epoch": 1, "version": 1, "backends": [{"name": "t/b", "endpoints": endpoints}]}).to_string();
        let snapshot: Snapshot = api::json::snapshot_from_json(text.as_bytes())
            .map_err(|problems| anyhow::anyhow!("{problems:?}"))
            .context("the snapshot is made valid")?;
        let (mut lane, mut writer) = (Lane::default(), Writer::new(Config::default()));
        for key in snapshot.backends.iter().flat_map(|b| &b.endpoints).map(|e| &e.key) {
            writer.seat(key);
        }
        lane.seated(&Arc::new(snapshot), 0, &mut writer);
        lane.opened(1, 0, &mut writer);
        Ok(Self { lane, writer, sequence: 0, next: 0, oldest: 0 })
    }

    fn tell(&mut self, entries: impl Iterator<Item = (u64, u32, Said)>) -> u64 {
        let entries = Entries::pack(entries.map(|(hash, handle, said)| Entry { hash, handle, position: 0, said }));
        self.sequence += 1;
        let update = Update {
            epoch: 1,
            model: "m".into(),
            generation: 1,
            sequence: self.sequence,
            reset: self.sequence == 1,
            level: 0,
            ranks: Vec::new(),
            entries,
        };
        let begin = thread_ns();
        self.lane.take(black_box(&update), 0, &mut self.writer);
        thread_ns() - begin
    }

    /// So many blocks more, and so many of the oldest less. Returns the lane's own nanoseconds.
    fn step(&mut self, more: u64, less: u64) -> u64 {
        let block = |at: u64, said| (hash(at), 1 + (at / 256) as u32 % ENDPOINTS, said);
        let held = (self.next..self.next + more).map(|at| block(at, Said::Held));
        let gone = (self.oldest..self.oldest + less).map(|at| block(at, Said::Gone));
        let entries: Vec<_> = held.chain(gone).collect();
        (self.next, self.oldest) = (self.next + more, self.oldest + less);
        self.tell(entries.into_iter())
    }
}

fn grow(plan: Plan, bed: &mut Bed, reader: &mut Reader, seen: &mut Seen) {
    let (mut spent, mut looked) = (0, 0);
    let mut told = [plan.blocks / 10, plan.blocks / 2, plan.blocks].into_iter().peekable();
    while bed.next < plan.blocks {
        let ns = bed.step(MESSAGE, 0);
        spent += ns;
        seen.worst_message_ms = seen.worst_message_ms.max(ns as f64 / 1e6);
        let (blocks, bytes) = (bed.lane.look().blocks, bed.writer.reported().bytes() as u64);
        if blocks >= SMALLEST {
            seen.worst_bytes_per_block = seen.worst_bytes_per_block.max(bytes as f64 / blocks as f64);
        }
        if told.next_if(|at| bed.next >= *at).is_some() {
            seen.memory.push((blocks, bytes));
        }
        // An idle core looks once a second and holds until then what was replaced. A second of a stream's budget is a
        // sixteenth of a million blocks, and a second at a million updates a tenth of ten million.
        if bed.next >= looked + blocks / 16 {
            looked = bed.next;
            reader.refresh();
        }
    }
    seen.grow_ns = spent as f64 / bed.next as f64;
}

fn churn(plan: Plan, bed: &mut Bed, seen: &mut Seen) {
    let messages = (plan.blocks / MESSAGE / 4).max(1);
    let spent: u64 = (0..messages).map(|_| bed.step(MESSAGE / 2, MESSAGE / 2)).sum();
    seen.churn_ns = spent as f64 / (messages * MESSAGE) as f64;
}

fn look(reader: &mut Reader, long: &[u64], seen: &mut Seen) {
    let mut ask = || {
        let begin = Instant::now();
        let matches = reader.lookup(&Query { chain: black_box(long), now_ms: 1, tie: 3 }, |_| true);
        assert_eq!(matches.best().first().map(|found| found.blocks), Some(LONG as u32), "the prompt is held");
        begin.elapsed().as_nanos() as f64 / 1e3
    };
    let least = |of: &mut dyn FnMut() -> f64| (0..30).map(|_| of()).fold(f64::INFINITY, f64::min);
    seen.look_warm_us = least(&mut ask);
    let mut swept = vec![1_u8; SWEPT];
    seen.look_cold_us = least(&mut || {
        swept.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
        ask()
    });
    let (text, mut blocks) = (vec![b'x'; LONG * BLOCK_BYTES], Vec::with_capacity(LONG));
    seen.hash_us = least(&mut || {
        blocks.clear();
        let begin = Instant::now();
        api::prefix::chain(7, black_box(&text), &mut blocks);
        begin.elapsed().as_nanos() as f64 / 1e3
    });
}

/// Look-ups on this thread while another writes so many updates a second.
fn beside(plan: Plan, bed: Bed, reader: &mut Reader, rate: u64) -> (anyhow::Result<Bed>, Beside) {
    let prompts: Vec<Vec<u64>> = (0..PROMPTS).map(|prompt| chain(prompt, PROMPT)).collect();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (its_stop, its_written) = (stop.clone(), written.clone());
    let writing = thread::spawn(move || write(bed, rate, &its_stop, &its_written));
    let begin = Instant::now();
    let mut looks: Vec<f64> = (0..plan.looks)
        .map(|n| {
            let query = Query { chain: &prompts[n % prompts.len()], now_ms: 1, tie: n as u64 };
            let begin = Instant::now();
            black_box(reader.lookup(&query, |_| true));
            let us = begin.elapsed().as_nanos() as f64 / 1e3;
            // As a core, which looks up once in some hundred microseconds and does other work between.
            while begin.elapsed() < Duration::from_micros(50) {
                std::hint::spin_loop();
            }
            us
        })
        .collect();
    let written_per_s = written.load(Relaxed) as f64 / begin.elapsed().as_secs_f64();
    stop.store(true, Relaxed);
    let bed = writing.join().map_err(|_| anyhow::anyhow!("the writer's thread panicked"));
    looks.sort_unstable_by(f64::total_cmp);
    let beside =
        Beside { rate, written_per_s, median_us: looks[looks.len() / 2], p99_us: looks[looks.len() * 99 / 100] };
    (bed, beside)
}

fn write(mut bed: Bed, rate: u64, stop: &AtomicBool, written: &AtomicU64) -> Bed {
    let begin = Instant::now();
    while !stop.load(Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * rate as f64) as u64;
        if written.load(Relaxed) + MESSAGE <= due {
            bed.step(MESSAGE / 2, MESSAGE / 2);
            written.fetch_add(MESSAGE, Relaxed);
        } else {
            thread::park_timeout(Duration::from_millis(1));
        }
    }
    bed
}

fn hash(at: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), 5)
}

/// Hashes that look like a chain's.
fn chain(seed: u64, blocks: usize) -> Vec<u64> {
    (0..blocks as u64).map(|at| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), !seed)).collect()
}

/// This thread's own CPU time, so that other work on the machine does not count.
fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_table_keeps_to_its_bytes_and_is_found_in() {
        let seen = run(Plan { blocks: 200_000, looks: 50 }).unwrap();
        assert!(seen.worst_bytes_per_block <= 32.0, "{seen:?}");
        assert_eq!(seen.memory.len(), 3);
        assert_eq!(seen.beside.iter().map(|beside| beside.rate).collect::<Vec<_>>(), [0, 100_000, 1_000_000]);
    }
}
