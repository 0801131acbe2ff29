//! What engines report, and the two tables together.

use std::collections::BTreeMap;

use super::super::types::marks_in;
use super::super::{Config, Inserted, OwnerId, Reader, Seat, Writer};
use super::Random;
use super::lookup::{SMALL, chain, found, key, place};

struct Setup {
    writer: Writer,
    reader: Reader,
    seats: Vec<Seat>,
    owners: Vec<OwnerId>,
}

fn setup(seats: usize, levels: (u8, u8)) -> Setup {
    let mut writer = Writer::new(Config { ring: 1 << 16, ..SMALL });
    let seat = |at| writer.seat(&key(&format!("pod-{at}"))).expect("there is room");
    let seats: Vec<Seat> = (0..seats).map(seat).collect();
    let reader = writer.reader();
    let owners =
        seats.iter().map(|seat| writer.reported().begin(Some(*seat)).expect("there is room for owners")).collect();
    writer.reported().set_levels(Some(levels));
    Setup { writer, reader, seats, owners }
}

impl Setup {
    /// The endpoint reports the first blocks of a chain, sampled.
    fn report(&mut self, at: usize, chain: &[u64], level: u8) {
        for key in chain.iter().step_by(1 << level) {
            self.writer.reported().insert(self.owners[at], *key);
        }
    }
}

#[test]
fn reported_blocks_are_found_to_the_block() {
    let mut s = setup(3, (0, 0));
    let prompt = chain(1, 200);
    for blocks in [1, 2, 15, 16, 17, 100, 200] {
        s.report(1, &prompt[..blocks], 0);
        assert_eq!(found(&mut s.reader, &prompt), [(1, blocks as u32)]);
        assert_eq!(found(&mut s.reader, &prompt[..1]), [(1, 1)]);
    }
    assert_eq!(found(&mut s.reader, &chain(2, 50)), []);
    for key in prompt[40..].iter().rev() {
        assert!(s.writer.reported().remove(s.owners[1], *key));
    }
    assert_eq!(found(&mut s.reader, &prompt), [(1, 40)]);
}

#[test]
fn of_an_endpoint_the_longer_of_predicted_and_reported_counts() {
    let mut s = setup(3, (0, 0));
    let prompt = chain(1, 200);
    place(&mut s.reader, &prompt[..64], s.seats[0]);
    s.report(0, &prompt[..20], 0);
    place(&mut s.reader, &prompt[..32], s.seats[1]);
    s.report(1, &prompt[..90], 0);
    s.report(2, &prompt[..7], 0);
    for _ in 0..2 {
        assert_eq!(found(&mut s.reader, &prompt), [(1, 90), (0, 64), (2, 7)]);
        s.writer.drain(0);
    }
}

/// What one endpoint holds of one chain.
#[derive(Clone, Copy)]
struct Holding {
    chain: u64,
    level: u8,
    reported: usize,
    predicted: usize,
}

impl Holding {
    /// Leading blocks of the first `asked`, by looking at every one.
    fn found_of(&self, asked: usize) -> u32 {
        let sampled = (0..asked.min(self.reported)).rev().find(|at| at % (1 << self.level) == 0);
        let marks = marks_in(asked.min(self.predicted)) * 16;
        sampled.map_or(0, |at| at + 1).max(marks) as u32
    }
}

/// Look-ups at random depths, the chains sampled at these levels.
fn check_model(seed: u64, levels: &[u8]) {
    let mut random = Random::new(seed);
    let span = (*levels.iter().min().expect("a level"), *levels.iter().max().expect("a level"));
    let chains: Vec<Vec<u64>> = (0..levels.len() as u64).map(|name| chain(name, 300)).collect();
    for _ in 0..60 {
        let mut s = setup(10, span);
        let mut holdings = BTreeMap::new();
        for seat in 0..10 {
            let chain = random.below(levels.len() as u64);
            let [reported, predicted] = [300, 600].map(|most| random.below(most) as usize % 300);
            let holding = Holding { chain, level: levels[chain as usize], reported, predicted };
            s.report(seat, &chains[chain as usize][..reported], holding.level);
            place(&mut s.reader, &chains[chain as usize][..predicted], s.seats[seat]);
            s.writer.drain(0);
            holdings.insert(seat as u32, holding);
        }
        for (name, chain) in (0..).zip(&chains) {
            let asked = 1 + random.below(300) as usize;
            let best = found(&mut s.reader, &chain[..asked]);
            for (seat, blocks) in &best {
                let holding = holdings[seat];
                assert_eq!((holding.chain, holding.found_of(asked)), (name, *blocks), "seat {seat}, asked {asked}");
            }
            let mut expected: Vec<u32> =
                holdings.values().filter(|h| h.chain == name).map(|h| h.found_of(asked)).filter(|b| *b > 0).collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            expected.truncate(8);
            let mut blocks: Vec<u32> = best.iter().map(|found| found.1).collect();
            blocks.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(blocks, expected, "chain {name}, asked {asked}");
        }
    }
}

#[test]
fn look_ups_do_as_a_search_through_everything() {
    check_model(21, &[0]);
    check_model(22, &[0, 0, 0]);
    check_model(23, &[3]);
    check_model(24, &[4, 4]);
    check_model(25, &[0, 2, 5]);
}

#[test]
fn what_waits_for_its_seat_is_found_from_then_on() {
    let mut s = setup(2, (0, 0));
    let waiting = s.writer.reported().begin(None).unwrap();
    let prompt = chain(1, 64);
    for key in &prompt {
        assert_eq!(s.writer.reported().insert(waiting, *key), Inserted::New);
    }
    assert_eq!(found(&mut s.reader, &prompt), []);
    while s.writer.retire_slice(1_000, 0) {}
    s.writer.reported().bind(waiting, s.seats[1]);
    assert_eq!(found(&mut s.reader, &prompt), [(1, 64)]);
    s.writer.reported().end(waiting);
    assert_eq!(found(&mut s.reader, &prompt), []);
}

#[test]
fn nothing_is_found_where_nothing_is_told() {
    let mut s = setup(1, (0, 0));
    s.report(0, &chain(1, 64), 0);
    s.writer.reported().set_levels(None);
    assert_eq!(found(&mut s.reader, &chain(1, 64)), []);
}

#[test]
fn uses_are_counted_of_what_is_reported_too() {
    let mut s = setup(1, (0, 0));
    let prompt = chain(1, 64);
    s.report(0, &prompt, 0);
    for _ in 0..3 {
        // As a decision does, which goes by what was found.
        let matched = found(&mut s.reader, &prompt)[0].1;
        let placement = super::super::Placement { chain: &prompt, seat: s.seats[0], matched, tokens_per_block: 16.0 };
        s.reader.place(&placement);
        s.writer.drain(16_000);
    }
    let uses = super::lookup::ask(&mut s.reader, &prompt);
    assert_eq!((uses.uses()[0].uses, uses.uses().last().unwrap().uses), (3.0, 3.0));
}

#[test]
fn a_prediction_lives_5_s_under_events_and_else_by_the_size_of_the_cache() {
    let mut s = setup(2, (0, 0));
    let prompt = chain(1, 64);
    for seat in s.seats.clone() {
        place(&mut s.reader, &prompt, seat);
    }
    s.writer.tell(s.seats[0], None, true);
    s.writer.drain(10_000);
    s.writer.expire(1_000, 15_000);
    assert_eq!(found(&mut s.reader, &prompt).len(), 2);
    // A use renews it.
    place(&mut s.reader, &prompt[..32], s.seats[0]);
    s.writer.drain(12_000);
    s.writer.expire(1_000, 15_100);
    assert_eq!(found(&mut s.reader, &prompt), [(1, 64), (0, 32)]);
    s.writer.expire(1_000, 17_100);
    assert_eq!(found(&mut s.reader, &prompt), [(1, 64)]);
    assert_eq!((s.writer.stats().expired, s.writer.stats().marks), (4, 4));
    s.writer.tell(s.seats[1], Some(512), false);
    assert_eq!(found(&mut s.reader, &prompt), [(1, 32)], "by its engine's word the cache is smaller");
    s.writer.tell(s.seats[1], None, false);
    s.writer.expire(1_000, 1_000_000);
    assert_eq!(found(&mut s.reader, &prompt), [(1, 32)]);
}
