//! What is left after the corpus: nothing that grew.

use std::time::{Duration, Instant};

use dataplane::config::LogFormat;
use dataplane::process::Running;

use crate::bounds::scrape;
use crate::case::{BODY, ensure, post};
use crate::client::Client;
use crate::lane::{Lane, World};

/// Memory that cases of many megabytes, run side by side, may leave with allocators of client, proxy and engine.
const RSS_GROWTH: usize = 400 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// Before the corpus.
pub(crate) struct Base {
    fds: usize,
    rss: usize,
}

impl Base {
    pub(crate) fn new() -> Self {
        Self { fds: fds(), rss: rss() }
    }
}

fn fds() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn rss() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|n| n.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// What is wrong.
pub(crate) fn check(running: &Running, world: &World, lanes: &[Lane], base: &Base) -> Vec<String> {
    let checks = [
        ("serves", serves(world, lanes)),
        ("reservations", until(|| in_flight(running), 0)),
        ("buffered bytes", until(|| running.shared().buffered_bytes(), 0)),
        ("connections", until(|| running.shared().open_connections(), 0)),
        ("descriptors", descriptors(lanes, base)),
        ("memory", memory(base)),
        ("panics", panics(world)),
        ("log", log(world)),
    ];
    checks.into_iter().filter_map(|(name, result)| result.err().map(|why| format!("after/{name}: {why}"))).collect()
}

fn until(read: impl Fn() -> usize, expected: usize) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    while read() > expected && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let left = read();
    ensure(left <= expected, || format!("{left} are left, {expected} were there"))
}

fn in_flight(running: &Running) -> usize {
    let table = running.shared().table.load();
    table.backends().flat_map(|b| b.slots.iter()).map(|slot| slot.live.in_flight() as usize).sum()
}

fn serves(world: &World, lanes: &[Lane]) -> Result<(), String> {
    for lane in lanes {
        lane.engine.reset();
        let mut client = Client::new(world.proxy);
        client.send(&lane.own(&post("x-token: last\r\n", BODY)));
        let replies = client.replies(1)?;
        ensure(replies.len() == 1 && replies[0].body == br#"{"echo":"last"}"#, || format!("{replies:?}"))?;
    }
    Ok(())
}

fn descriptors(lanes: &[Lane], base: &Base) -> Result<(), String> {
    lanes.iter().for_each(|lane| lane.engine.reset());
    until(|| lanes.iter().map(|lane| lane.engine.open()).sum(), 0)?;
    until(fds, base.fds)
}

fn memory(base: &Base) -> Result<(), String> {
    let grown = rss().saturating_sub(base.rss);
    ensure(grown <= RSS_GROWTH, || format!("{} MiB more", grown >> 20))
}

fn panics(world: &World) -> Result<(), String> {
    let text = scrape(world)?;
    let counted = text.lines().find_map(|l| l.strip_prefix("kthena_router_panics_total "));
    let ours = dataplane::rt::panics();
    ensure(counted == Some("0") && ours == 0, || format!("the metric says {counted:?}, the runtime {ours}"))
}

/// Each line of the access log is one of the proxy's, whatever clients sent.
fn log(world: &World) -> Result<(), String> {
    let bytes = std::fs::read(&world.log).map_err(|e| e.to_string())?;
    let odd = bytes.iter().position(|&b| (b < b' ' && b != b'\n') || b == 0x7f);
    ensure(odd.is_none(), || format!("a control character at byte {odd:?}"))?;
    let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
    ensure(text.lines().count() > 0, || format!("{} lines", text.lines().count()))?;
    for line in text.lines() {
        let fine = match world.log_format {
            LogFormat::Json => {
                serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v["timestamp"].is_string())
            }
            LogFormat::Text => line.starts_with("[20"),
        };
        ensure(fine, || format!("not a line of ours: {line:?}"))?;
        ensure(line.len() < 64 << 10, || format!("a line of {} bytes", line.len()))?;
    }
    Ok(())
}
