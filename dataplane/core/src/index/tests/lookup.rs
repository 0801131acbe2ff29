//! What a core finds.

use api::id::EndpointKey;

use super::super::{Config, Event, Matches, Placement, Query, Reader, Seat, Writer};
use super::hash;

pub(super) const SMALL: Config = Config {
    max_seats: 256,
    max_owners: 300,
    max_marks: 10_000,
    max_keys: 20_000,
    max_reported: 20_000,
    max_uses: 10_000,
    ring: 4_096,
};

pub(super) fn key(name: &str) -> EndpointKey {
    EndpointKey { uid: name.into(), port: 8000, rank: 0 }
}

/// Chains with the same name share their first blocks.
pub(super) fn chain(name: u64, blocks: usize) -> Vec<u64> {
    (0..blocks as u64).map(|at| hash(name << 32 | at)).collect()
}

pub(super) fn ask(reader: &mut Reader, chain: &[u64]) -> Matches {
    reader.lookup(&Query { chain, now_ms: 16_000, tie: 99 }, |_| true)
}

pub(super) fn found(reader: &mut Reader, chain: &[u64]) -> Vec<(u32, u32)> {
    ask(reader, chain).best().iter().map(|found| (found.seat.0, found.blocks)).collect()
}

pub(super) fn place(reader: &mut Reader, chain: &[u64], seat: Seat) {
    let matched = reader.depth(chain, seat);
    reader.place(&Placement { chain, seat, matched, tokens_per_block: 16.0 });
}

fn setup(seats: usize) -> (Writer, Reader, Vec<Seat>) {
    let mut writer = Writer::new(SMALL);
    let seat = |at| writer.seat(&key(&format!("pod-{at}"))).expect("there is room");
    let seats = (0..seats).map(seat).collect();
    let reader = writer.reader();
    (writer, reader, seats)
}

#[test]
fn a_core_sees_its_marks_at_once_and_others_after_a_drain() {
    let (mut writer, mut reader, seats) = setup(2);
    let mut other = writer.reader();
    let prompt = chain(1, 100);
    place(&mut reader, &prompt, seats[1]);
    assert_eq!(found(&mut reader, &prompt), [(1, 96)]);
    assert_eq!(found(&mut other, &prompt), []);
    assert_eq!(writer.drain(16_000), 7);
    assert_eq!(found(&mut other, &prompt), [(1, 96)]);
    assert_eq!(found(&mut reader, &prompt), [(1, 96)]);
    assert_eq!(reader.depth(&prompt, seats[1]), 96);
    assert_eq!(reader.depth(&prompt, seats[0]), 0);
}

#[test]
fn only_what_is_new_is_sent() {
    let (mut writer, mut reader, seats) = setup(1);
    place(&mut reader, &chain(1, 64), seats[0]);
    assert_eq!(writer.drain(0), 5);
    place(&mut reader, &chain(1, 96), seats[0]);
    assert_eq!(writer.drain(0), 3);
    place(&mut reader, &chain(1, 15), seats[0]);
    assert_eq!(writer.drain(0), 1);
    assert_eq!(writer.stats().marks, 6);
}

#[test]
fn the_deepest_come_first_and_no_seat_twice() {
    let (mut writer, mut reader, seats) = setup(12);
    for (at, &seat) in seats.iter().enumerate() {
        place(&mut reader, &chain(1, 16 * (at + 1)), seat);
        // The overlay keeps four marks on their way for a key.
        if at != seats.len() - 1 {
            writer.drain(0);
        }
    }
    for _ in 0..2 {
        let best: Vec<(u32, u32)> = (4..12).rev().map(|seat| (seat, 16 * (seat + 1))).collect();
        assert_eq!(found(&mut reader, &chain(1, 500)), best);
        let short = found(&mut reader, &chain(1, 32));
        assert!(short.len() == 8 && short.iter().all(|&(seat, blocks)| seat >= 1 && blocks == 32), "{short:?}");
        writer.drain(0);
    }
    let prompt = chain(1, 500);
    let query = Query { chain: &prompt, now_ms: 0, tie: 1 };
    let some = reader.lookup(&query, |seat| seat.0 == 3);
    assert_eq!(some.best().iter().map(|found| (found.seat.0, found.blocks)).collect::<Vec<_>>(), [(3, 64)]);
}

#[test]
fn a_prefix_that_all_hold_names_any_of_them() {
    let (mut writer, mut reader, seats) = setup(100);
    let prompt = chain(1, 64);
    for &seat in &seats {
        place(&mut reader, &prompt, seat);
    }
    writer.drain(0);
    let mut named = std::collections::BTreeSet::new();
    for tie in 0..400 {
        let matches = reader.lookup(&Query { chain: &prompt, now_ms: 0, tie: hash(tie) }, |_| true);
        assert_eq!(matches.best().len(), Matches::MAX_BEST);
        assert!(matches.best().iter().all(|found| found.blocks == 64));
        named.extend(matches.best().iter().map(|found| found.seat));
    }
    assert!(named.len() > 90, "{} of 100 named", named.len());
}

#[test]
fn uses_count_requests_and_fall_along_the_chain() {
    let (mut writer, mut reader, seats) = setup(2);
    for turn in 0..10 {
        place(&mut reader, &chain(1, if turn == 0 { 640 } else { 160 }), seats[turn % 2]);
        writer.drain(16_000);
    }
    let matches = ask(&mut reader, &chain(1, 640));
    assert_eq!((matches.uses()[0].uses, matches.uses().last().unwrap().uses), (10.0, 1.0));
    assert!(matches.uses().windows(2).all(|pair| pair[0].uses >= pair[1].uses && pair[0].end < pair[1].end));
    let exact = 160.0 * (1.0 + 15.0 / 11.0) + 480.0 * (1.0 + 15.0 / 2.0);
    assert!((matches.weighted_lack(0) - exact).abs() < exact * 0.001, "{}", matches.weighted_lack(0));
    assert_eq!(ask(&mut reader, &chain(2, 640)).weighted_lack(600), 640.0);
}

#[test]
fn the_oldest_leave_when_the_cache_is_full() {
    let (mut writer, mut reader, seats) = setup(1);
    // Ten prompts of 64 blocks at 16 tokens: 1,024 tokens each.
    writer.set_cache_tokens(&key("pod-0"), 4 * 1_024);
    for prompt in 0..10 {
        place(&mut reader, &chain(prompt, 64), seats[0]);
        place(&mut reader, &chain(0, 64), seats[0]);
        writer.drain(0);
    }
    let held: Vec<u64> = (0..10).filter(|&prompt| reader.depth(&chain(prompt, 64), seats[0]) == 64).collect();
    assert_eq!(held, [0, 7, 8, 9]);
    assert_eq!((writer.stats().marks, writer.stats().evictions), (16, 24));
    writer.set_cache_tokens(&key("pod-0"), 2 * 1_024 + 512);
    // The leaf goes first.
    assert_eq!(reader.depth(&chain(8, 64), seats[0]), 32);
}

#[test]
fn what_does_not_fit_is_counted() {
    let mut writer = Writer::new(Config { ring: 10, max_marks: 6, ..SMALL });
    let seat = writer.seat(&key("pod")).unwrap();
    let mut reader = writer.reader();
    let prompt = chain(1, 320);
    place(&mut reader, &prompt, seat);
    assert_eq!(found(&mut reader, &prompt), [(0, 160)]);
    assert_eq!(writer.drain(0), 10);
    let stats = writer.stats();
    assert_eq!((stats.overflow, stats.marks, stats.evictions), (11, 6, 4));
    assert_eq!(writer.drain(0), 0);
    writer.apply(Event::Seen { owner: reader.owners().owner(seat).unwrap(), key: 5, tokens: 7 }, 0);
    assert_eq!(writer.stats().marks, 6);
}
