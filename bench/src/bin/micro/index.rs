//! The table of what engines report, at its size.

use std::hint::black_box;
use std::time::Instant;

use api::id::EndpointKey;
use api::limits::MARK_EVERY_BLOCKS;
use dataplane_core::index::{Config, OwnerId, Query, Reader, Writer};

use super::timing::{Beside, Page, thread_ns};

const ENDPOINTS: usize = 16;
/// A sixteenth of the blocks of the prompts that are looked up: 64 KB, 100,000 tokens, and 100,000 blocks.
const MARKS: [usize; 3] = [64, 390, 6_250];
/// What is read between two cold look-ups: more than the last-level caches that this is likely to run on.
const SWEPT: usize = 96 << 20;

pub(crate) fn all(page: &Page, keys: usize) {
    let mut writer = Writer::new(Config::default());
    let owners: Vec<OwnerId> = (0..ENDPOINTS).map(|number| seat(&mut writer, number)).collect();
    let prompts = MARKS.map(|marks| chain(marks as u64, marks * MARK_EVERY_BLOCKS));
    for prompt in &prompts {
        for key in prompt {
            writer.reported().insert(owners[0], *key);
        }
    }
    writer.reported().set_levels(Some((0, 0)));
    fill(page, &mut writer, &owners, keys);
    let stats = writer.stats();
    let mb = stats.reported_bytes as f64 / 1e6;
    println!("| {} keys: {mb:.0} MB, {} segments rebuilt | - | - | - | - |", stats.reported_keys, stats.rebuilds);
    let mut reader = writer.reader();
    let mut swept = vec![1u8; SWEPT];
    for (marks, prompt) in MARKS.into_iter().zip(&prompts) {
        let blocks = prompt.len();
        let beside = if marks == 390 { Beside::Budget(100.0) } else { Beside::None };
        let warm = page.least(20, |_| look(&mut reader, prompt));
        page.row(&format!("look-up of {blocks} blocks, {keys} keys, warm"), warm, beside);
        let mut cold = f64::INFINITY;
        for _ in 0..30 {
            swept.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
            let begin = Instant::now();
            look(&mut reader, black_box(prompt));
            cold = cold.min(begin.elapsed().as_nanos() as f64);
        }
        page.row(&format!("look-up of {blocks} blocks, {keys} keys, cold"), cold, beside);
    }
    let stranger = chain(99, 64 * MARK_EVERY_BLOCKS);
    let ns = page.least(20, |_| look(&mut reader, &stranger));
    page.row(&format!("look-up of 1,024 unknown blocks, {keys} keys, warm"), ns, Beside::None);
}

fn seat(writer: &mut Writer, number: usize) -> OwnerId {
    let key = EndpointKey { uid: format!("uid-{number}").into(), port: 8_000, rank: 0 };
    let seat = writer.seat(&key).expect("the table has room for more than this");
    writer.reported().begin(Some(seat)).expect("the table has room for more than this")
}

fn look(reader: &mut Reader, prompt: &[u64]) -> usize {
    reader.lookup(&Query { chain: prompt, now_ms: 1, tie: 3 }, |_| true).best().len()
}

/// Hashes that look like a chain's.
fn chain(seed: u64, blocks: usize) -> Vec<u64> {
    (0..blocks as u64).map(|at| xxhash_rust::xxh3::xxh3_64_with_seed(&at.to_le_bytes(), seed)).collect()
}

/// Inserts keys one by one and tells the mean and the worst, which is an insert that rebuilt a segment. By the thread's own
/// clock, so that other work on the machine does not count.
fn fill(page: &Page, writer: &mut Writer, owners: &[OwnerId], keys: usize) {
    // Timed in groups: the clock is a system call.
    const GROUP: u64 = 16;
    let mut worst = 0;
    let begin = thread_ns();
    let mut last = begin;
    for group in 0..keys as u64 / GROUP {
        for at in 0..GROUP {
            let key = xxhash_rust::xxh3::xxh3_64_with_seed(&(group * GROUP + at).to_le_bytes(), 5);
            writer.reported().insert(owners[(at as usize) % owners.len()], key);
        }
        let now = thread_ns();
        worst = worst.max(now - last);
        last = now;
    }
    let mean = (last - begin) as f64 / keys as f64;
    page.row(&format!("insert, mean up to {keys} keys"), mean, Beside::Budget(1.0));
    page.row(
        &format!("{GROUP} inserts, the worst (a segment rebuilt), up to {keys} keys"),
        worst as f64,
        Beside::Budget(1_000.0),
    );
}
