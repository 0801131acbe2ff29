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

#[test]
fn the_fleets_count_raises_ours_and_is_no_news() {
    let (mut writer, mut reader, seats) = setup(1);
    let prompt = chain(1, 32);
    writer.note_news();
    place(&mut reader, &prompt, seats[0]);
    writer.drain(16_000);
    let keys = [prompt[15], prompt[31]];
    let mut news = writer.take_uses(10);
    news.sort_unstable_by_key(|(key, _)| *key != keys[0]);
    assert_eq!(news, [(keys[0], 1.0), (keys[1], 1.0)]);
    writer.raise_use(keys[0], 10.0, 16_000);
    writer.raise_use(keys[0], 4.0, 16_000);
    writer.raise_use(keys[1], f32::NAN, 16_000);
    assert_eq!(ask(&mut reader, &prompt).uses().iter().map(|u| u.uses).collect::<Vec<_>>(), [10.0, 1.0]);
    assert_eq!(writer.take_uses(10), []);
    // Half a minute later the same count is more than is left.
    writer.raise_use(keys[1], 3.0, 46_000);
    place(&mut reader, &prompt, seats[0]);
    writer.drain(46_000);
    let query = Query { chain: &prompt, now_ms: 46_000, tie: 99 };
    let matches = reader.lookup(&query, |_| true);
    assert_eq!(matches.uses().iter().map(|u| u.uses).collect::<Vec<_>>(), [6.0, 4.0]);
}

#[test]
fn the_most_used_are_news_first_and_the_rest_comes_later() {
    let (mut writer, mut reader, seats) = setup(1);
    writer.note_news();
    place(&mut reader, &chain(1, 160), seats[0]);
    (0..3).for_each(|_| place(&mut reader, &chain(2, 16), seats[0]));
    writer.drain(0);
    assert_eq!(writer.take_uses(1), [(chain(2, 16)[15], 3.0)]);
    assert_eq!((writer.take_uses(4).len(), writer.take_uses(100).len(), writer.take_uses(100).len()), (4, 6, 0));
}

fn told(writer: &mut Writer) -> Vec<(u32, u64, u16)> {
    writer.take_predicted().iter().map(|mark| (mark.seat.0, mark.key, mark.position)).collect()
}

#[test]
fn a_decision_is_told_as_a_run_that_begins_where_what_was_held_ends() {
    let (mut writer, mut reader, seats) = setup(2);
    writer.note_news();
    let prompt = chain(1, 64);
    let mark = |at: usize| prompt[16 * at - 1];
    place(&mut reader, &prompt[..32], seats[0]);
    writer.drain(0);
    assert_eq!(told(&mut writer), [(0, mark(1), 0), (0, mark(2), 1)]);
    place(&mut reader, &prompt, seats[0]);
    writer.drain(0);
    assert_eq!(told(&mut writer), [(0, mark(2), 0), (0, mark(3), 1), (0, mark(4), 2)]);
    for _ in 0..3 {
        place(&mut reader, &prompt[..48], seats[0]);
    }
    place(&mut reader, &chain(2, 15), seats[1]);
    writer.drain(0);
    assert_eq!(told(&mut writer), [(0, mark(3), 0)], "what is asked for again is told by its end, once");
    assert_eq!(told(&mut writer), []);
}

#[test]
fn what_others_decided_is_held_and_neither_told_on_nor_counted_as_used() {
    let (mut one, mut core, seats) = setup(1);
    one.note_news();
    let prompt = chain(1, 64);
    place(&mut core, &prompt, seats[0]);
    one.drain(0);
    let marks = one.take_predicted();
    let (mut two, mut reader, _) = setup(1);
    two.note_news();
    two.hear(&marks, 0);
    assert_eq!(found(&mut reader, &prompt), [(0, 64)]);
    assert_eq!((two.take_predicted().len(), two.take_uses(10).len(), two.stats().uses), (0, 0, 0));
    two.hear(&marks, 0);
    assert_eq!(two.stats().marks, 4, "again is nothing new");
}

#[test]
fn what_others_decided_leaves_in_the_order_of_its_use() {
    let (mut writer, mut reader, _) = setup(1);
    let run = |name, from: u64, to: u64| -> Vec<super::super::Predicted> {
        let mark = |at| super::super::Predicted {
            seat: Seat(0),
            key: chain(name, 16 * at as usize + 16)[16 * at as usize + 15],
            position: (at - from) as u16,
        };
        (from..to).map(mark).collect()
    };
    // Room for six marks of 256 tokens.
    writer.set_cache_tokens(&key("pod-0"), 6 * 256);
    writer.hear(&run(1, 0, 3), 0);
    writer.hear(&run(2, 0, 2), 0);
    // It goes on from a mark that is held, which makes all of its chain the newest.
    writer.hear(&run(1, 2, 4), 0);
    writer.hear(&run(3, 0, 2), 0);
    let held = |reader: &mut Reader, name| reader.depth(&chain(name, 64), Seat(0));
    assert_eq!([1, 2, 3].map(|name| held(&mut reader, name)), [64, 0, 32]);
}

#[test]
fn what_nobody_takes_is_bounded_and_counted() {
    let (mut writer, mut reader, seats) = setup(1);
    writer.note_news();
    for name in 0..5_000 {
        place(&mut reader, &chain(name, 64), seats[0]);
        writer.drain(0);
    }
    let taken = writer.take_predicted().len();
    assert!((16 << 10..17 << 10).contains(&taken), "{taken}");
    assert!(writer.stats().untold > 0);
}
