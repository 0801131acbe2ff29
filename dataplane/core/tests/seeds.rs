//! The fuzz targets' oracles on every seed that is kept, without a nightly compiler or libFuzzer. What a fuzzer has found
//! is among the seeds, so that it is looked at for ever.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "it is a library of its own where it is fuzzed")]
mod oracle;

use std::panic::catch_unwind;
use std::path::Path;

/// Runs all seeds of one target and names those that fail.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    let fails = |file: &&std::path::PathBuf| {
        let bytes = std::fs::read(file).unwrap();
        catch_unwind(|| check(&bytes)).is_err()
    };
    let failed: Vec<_> = files.iter().filter(fails).collect();
    println!("{target}: {} seeds", files.len());
    assert!(failed.is_empty(), "{target}: {failed:?}");
}

#[test]
fn heads() {
    replay("head", oracle::head::check);
}

#[test]
fn chunks() {
    replay("chunk", oracle::chunk::check);
}

#[test]
fn bodies() {
    replay("inspect", oracle::inspect::check);
}

#[test]
fn events() {
    replay("sse", oracle::sse::check);
}

#[test]
fn snapshots() {
    replay("decode", oracle::decode::check);
}
