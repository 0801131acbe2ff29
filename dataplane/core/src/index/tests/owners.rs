//! Ids of ended owners name nobody, and are given again only when nothing can name them.

use super::super::{Config, Event, Inserted, Writer};
use super::Random;
use super::lookup::{SMALL, ask, chain, found, key, place};

fn sweep(writer: &mut Writer) {
    for _ in 0..100 {
        writer.retire_slice(1_000, 0);
    }
}

#[test]
fn an_ended_owner_is_masked_at_once() {
    let mut writer = Writer::new(SMALL);
    let (one, two) = (writer.seat(&key("one")).unwrap(), writer.seat(&key("two")).unwrap());
    let mut reader = writer.reader();
    let prompt = chain(1, 64);
    place(&mut reader, &prompt, one);
    place(&mut reader, &prompt, two);
    writer.drain(0);
    place(&mut reader, &chain(2, 64), one);
    let before = reader.owners().owner(one);
    writer.clear(one);
    assert_eq!(found(&mut reader, &prompt), [(two.0, 64)]);
    // Also what is still in the overlay and in the ring.
    assert_eq!(found(&mut reader, &chain(2, 64)), []);
    writer.drain(0);
    assert_eq!(found(&mut reader, &chain(2, 64)), []);
    assert_eq!(writer.seat(&key("one")), Some(one));
    assert_ne!(reader.owners().owner(one), before);
    place(&mut reader, &prompt, one);
    assert_eq!(found(&mut reader, &prompt).len(), 2);
    writer.release(&key("one"));
    assert_eq!(found(&mut reader, &prompt), [(two.0, 64)]);
    assert_eq!((reader.owners().owner(one), writer.stats().marks), (None, 4));
}

#[test]
fn an_id_is_free_after_a_sweep_and_a_turn_of_every_core() {
    let mut writer = Writer::new(Config { max_owners: 1, ..SMALL });
    let seat = writer.seat(&key("one")).unwrap();
    let (mut first, mut second) = (writer.reader(), writer.reader());
    place(&mut first, &chain(1, 640), seat);
    writer.drain(0);
    let id = first.owners().owner(seat).unwrap();
    place(&mut second, &chain(2, 64), seat);
    writer.release(&key("one"));

    let has_id = |writer: &mut Writer| {
        let seat = writer.seat(&key("two")).expect("there is room");
        writer.owners().owner(seat).is_some()
    };
    assert!(!has_id(&mut writer));
    sweep(&mut writer);
    assert!(!has_id(&mut writer));
    first.turn();
    sweep(&mut writer);
    assert!(!has_id(&mut writer));
    second.refresh();
    sweep(&mut writer);
    assert_eq!(writer.stats().retiring, 0);
    assert!(has_id(&mut writer));
    let two = writer.seat(&key("two")).unwrap();
    assert_eq!(first.owners().owner(two), Some(id));
    // The same id, and nothing of what its last life held; the ring was emptied before.
    for prompt in [1, 2] {
        assert_eq!(found(&mut first, &chain(prompt, 64)), []);
        assert_eq!(found(&mut second, &chain(prompt, 64)), []);
    }
    assert_eq!(writer.drain(0), 0);
}

#[test]
fn a_core_that_is_gone_holds_nothing_back() {
    let mut writer = Writer::new(SMALL);
    let reader = writer.reader();
    writer.seat(&key("one"));
    writer.release(&key("one"));
    sweep(&mut writer);
    assert_eq!(writer.stats().retiring, 1);
    drop(reader);
    sweep(&mut writer);
    assert_eq!(writer.stats().retiring, 0);
}

#[test]
fn reported_blocks_need_a_living_owner_and_room() {
    use Inserted::{Known, New, Refused};
    let mut writer = Writer::new(Config { max_reported: 3, ..SMALL });
    let reported = writer.reported();
    let owner = reported.begin(None).unwrap();
    assert_eq!([7, 8, 9, 10, 9].map(|key| reported.insert(owner, key)), [New, New, New, Refused, Known]);
    assert!(reported.remove(owner, 8) && !reported.remove(owner, 8));
    reported.end(owner);
    assert_eq!(reported.insert(owner, 8), Refused);
    assert_eq!(writer.stats().reported_keys, 2);
    sweep(&mut writer);
    assert_eq!((writer.stats().reported_keys, writer.stats().retiring), (0, 0));
}

#[test]
fn the_id_of_what_was_reported_is_free_after_a_sweep_and_a_turn_of_every_core() {
    let mut writer = Writer::new(Config { max_owners: 1, ..SMALL });
    let mut reader = writer.reader();
    let (seat, prompt) = (writer.seat(&key("one")).unwrap(), chain(1, 64));
    writer.reported().set_levels(Some((0, 0)));
    let old = writer.reported().begin(Some(seat)).unwrap();
    for key in &prompt {
        writer.reported().insert(old, *key);
    }
    assert_eq!(found(&mut reader, &prompt), [(seat.0, 64)]);
    writer.reported().end(old);
    assert_eq!(found(&mut reader, &prompt), []);
    sweep(&mut writer);
    assert_eq!(writer.reported().begin(Some(seat)), None, "a core may still read a cell that named it");
    reader.turn();
    sweep(&mut writer);
    assert_eq!(writer.reported().begin(Some(seat)), Some(old));
    assert_eq!(found(&mut reader, &prompt), []);
}

#[test]
fn no_look_up_ever_names_an_ended_owner() {
    let mut random = Random::new(8);
    let mut writer = Writer::new(Config { max_owners: 40, ..SMALL });
    let mut reader = writer.reader();
    for step in 0..20_000_u64 {
        let name = key(&format!("pod-{}", random.below(30)));
        let prompt = chain(random.below(50), 16 + random.below(200) as usize);
        match random.below(20) {
            0 => writer.release(&name),
            1 => writer.seat(&name).into_iter().for_each(|seat| writer.clear(seat)),
            2 => assert!(writer.drain(step) <= SMALL.ring),
            3 => {
                writer.retire_slice(5_000, step);
            }
            4 => reader.turn(),
            5 => {
                let owner = writer.seat(&name).and_then(|seat| writer.owners().owner(seat));
                let mark = |owner| Event::Mark { owner, key: prompt[15], parent: 0, tokens: 5 };
                owner.into_iter().for_each(|owner| writer.apply(mark(owner), step));
            }
            _ => writer.seat(&name).into_iter().for_each(|seat| place(&mut reader, &prompt, seat)),
        }
        for found in ask(&mut reader, &prompt).best() {
            assert!(writer.owners().owner(found.seat).is_some(), "step {step}");
            assert!(found.blocks as usize <= prompt.len());
        }
    }
}
