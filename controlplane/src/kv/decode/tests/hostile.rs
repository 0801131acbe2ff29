//! Recorded bytes with a few changes, again and again: an answer or an error each time, and never more than came in.

use std::panic::catch_unwind;

use serde_json::json;

use super::pack::pack;
use super::recorded::messages;
use crate::chance::testing::Rng;
use crate::kv::decode::{Answer, answer, batch, live, load};
use crate::kv::event::Event;

const ROUNDS: u64 = 100_000;

/// Markers, and what lengths are made of.
const TELLING: [u8; 16] =
    [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xc0, 0xc1, 0xc6, 0xc9, 0xd3, 0xdb, 0xdd, 0xdf, 0xff];

/// What a batch holds never outgrows its bytes: a number takes one of them at least.
fn check(bytes: &[u8]) {
    // An answer or an error, whichever it is.
    let _ = load(bytes);
    let Ok(batch) = batch(bytes) else { return };
    let parts = batch.events.iter().map(|event| match event {
        Event::Stored(stored) => stored.hashes.len() + stored.tokens.len(),
        Event::Removed(removed) => removed.hashes.len(),
        Event::Cleared => 1,
    });
    assert!(parts.sum::<usize>() <= bytes.len());
}

#[test]
fn changed_bytes_never_panic_nor_grow() {
    let mut seeds: Vec<Vec<u8>> = messages().iter().map(|frames| frames[2].to_vec()).collect();
    let load = json!(["LoadStat", 3, 700, 70_000, 5_000_000_000_u64, null, 9, 10, 11, 12, 13]);
    seeds.extend([pack(&load), pack(&json!(["LoadStat", 0, 0, 0, 0]))]);
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let mut bytes = seeds[rng.index(seeds.len())].clone();
        rng.change(&mut bytes, &TELLING);
        assert!(catch_unwind(|| check(&bytes)).is_ok(), "seed {seed}: {bytes:?}");
    }
}

/// Frames of live messages and of answers, in number and in length: what is taken for a payload is one of them.
#[test]
fn changed_frames_are_an_answer_or_an_error_and_nothing_that_did_not_come() {
    let end: Vec<&[u8]> = vec![&[], &[0xff; 8], &[]];
    let replayed = messages().into_iter().map(|frames| [&[&[][..]], &frames[..]].concat());
    let seeds: Vec<Vec<&[u8]>> = messages().into_iter().chain(replayed).chain([end]).collect();
    let mut understood = 0;
    for seed in 0..ROUNDS {
        let mut rng = Rng::new(seed);
        let mut frames: Vec<Vec<u8>> = seeds[rng.index(seeds.len())].iter().map(|frame| frame.to_vec()).collect();
        for _ in 0..=rng.index(2) {
            let at = rng.index(frames.len().max(1));
            match rng.index(3) {
                0 if at < frames.len() => drop(frames.remove(at)),
                1 => frames.insert(at, vec![0xff; rng.index(10)]),
                _ => frames.get_mut(at).into_iter().for_each(|frame| rng.change(frame, &TELLING)),
            }
        }
        let checked = catch_unwind(|| {
            let payloads = [live(&frames).ok().map(|(_, payload)| payload), replayed_payload(&frames)];
            let came = |payload: &&[u8]| frames.iter().any(|frame| frame == payload);
            assert!(payloads.iter().flatten().all(came));
            payloads.iter().flatten().for_each(|payload| check(payload));
            payloads.iter().flatten().count()
        });
        understood += checked.unwrap_or_else(|_| panic!("seed {seed}: {frames:?}"));
    }
    assert!(understood > ROUNDS as usize / 2, "most are nearly right: {understood}");
}

fn replayed_payload(frames: &[Vec<u8>]) -> Option<&[u8]> {
    match answer(frames) {
        Ok(Answer::Message { payload, .. }) => Some(payload),
        Ok(Answer::End) | Err(_) => None,
    }
}
