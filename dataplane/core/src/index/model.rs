//! Every interleaving of the writer with a reader, on small tables: `RUSTFLAGS="--cfg loom" cargo test --lib index::model`.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use api::id::EndpointKey;
use loom::thread;

use super::holders::Holders;
use super::lives::{Lives, sweep};
use super::map::{Cursor, Map};
use super::owners::Owners;
use super::sync::{AtomicU64, Ordering};
use super::types::{Config, OwnerId, Placement, Query, Seat};
use super::writer::Writer;

fn explore(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

#[test]
fn a_key_has_its_own_value_or_none_while_the_map_grows() {
    explore(|| {
        let mut map = Map::new(0);
        map.set(1, 100);
        let mut reader = map.reader();
        let seen = thread::spawn(move || {
            let (two, three, one) = (reader.value_of(2), reader.value_of(3), reader.value_of(1));
            assert!([0, 200, 201].contains(&two) && [0, 300].contains(&three));
            assert_eq!(one, 100, "a key that stays is found in every generation");
        });
        map.set(2, 200);
        map.set(2, 0);
        map.set(3, 300);
        map.set(2, 201);
        assert!(map.rebuilds() > 0);
        seen.join().unwrap();
    });
}

#[test]
fn a_record_given_to_another_key_is_not_believed() {
    explore(|| {
        let mut holders = Holders::new(0);
        for owner in 0..4 {
            holders.insert(7, OwnerId(owner));
        }
        let mut reader = holders.reader();
        let seen = thread::spawn(move || {
            reader.owners(7, |owner| {
                assert!(owner.0 < 4, "owner {} of another key", owner.0);
                true
            });
        });
        for owner in 1..4 {
            holders.remove(7, OwnerId(owner));
        }
        for owner in 10..14 {
            holders.insert(9, OwnerId(owner));
        }
        seen.join().unwrap();
    });
}

#[test]
fn an_owner_id_is_not_given_again_while_a_cell_or_a_reader_names_it() {
    explore(|| {
        let [old, new] = ["old", "new"].map(|uid| EndpointKey { uid: uid.into(), port: 1, rank: 0 });
        let (mut owners, mut holders) = (Owners::new(2, 1), Holders::new(0));
        assert_eq!((owners.seat(&old), owners.seat(&new)), (Some(Seat(0)), Some(Seat(1))));
        holders.insert(7, OwnerId(0));
        let (turn, seen) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(1)));

        let (mut reader, view) = (holders.reader(), Arc::clone(owners.view()));
        let (its_turn, its_seen) = (Arc::clone(&turn), Arc::clone(&seen));
        let core = thread::spawn(move || {
            for _ in 0..2 {
                reader.owners(7, |owner| {
                    assert_ne!(view.seat(owner), Some(Seat(1)), "what the old endpoint held is the new one's");
                    true
                });
                its_seen.store(its_turn.load(Ordering::Acquire), Ordering::Release);
            }
        });

        owners.release(&old);
        let view = Arc::clone(owners.view());
        sweep(&mut owners.lives, (&mut holders, &mut Cursor::default()), usize::MAX, &turn);
        if seen.load(Ordering::Acquire) >= owners.lives.rests_since().unwrap() {
            owners.lives.free_rested();
            owners.seat(&new);
            assert_eq!(view.owner(Seat(1)), Some(OwnerId(0)));
        }
        core.join().unwrap();
    });
}

#[test]
fn what_a_model_forgets_is_never_found_at_another_seat() {
    explore(|| {
        let (mut lives, mut holders) = (Lives::new(1), Holders::new(0));
        let old = lives.begin(None).unwrap();
        holders.insert(7, old);
        let (turn, seen) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(1)));

        let (mut reader, view) = (holders.reader(), Arc::clone(lives.view()));
        let (its_turn, its_seen) = (Arc::clone(&turn), Arc::clone(&seen));
        let core = thread::spawn(move || {
            for _ in 0..2 {
                reader.owners(7, |owner| {
                    assert_ne!(view.seat(owner), Some(Seat(1)), "what was forgotten is another's");
                    true
                });
                its_seen.store(its_turn.load(Ordering::Acquire), Ordering::Release);
            }
        });

        lives.bind(old, Some(Seat(0)));
        lives.end(old);
        sweep(&mut lives, (&mut holders, &mut Cursor::default()), usize::MAX, &turn);
        assert_eq!(lives.begin(Some(Seat(1))), None);
        if seen.load(Ordering::Acquire) >= lives.rests_since().unwrap() {
            lives.free_rested();
            assert_eq!(lives.begin(Some(Seat(1))), Some(OwnerId(0)));
        }
        core.join().unwrap();
    });
}

/// The whole writer and a core: what that says of an endpoint may be on its way while the endpoint leaves and another gets its id.
#[test]
fn what_a_core_says_of_an_endpoint_that_leaves_is_never_the_next_one_s() {
    let reused = Arc::new(AtomicBool::new(false));
    let was_reused = Arc::clone(&reused);
    explore(move || {
        let [old, new] = ["old", "new"].map(|uid| EndpointKey { uid: uid.into(), port: 1, rank: 0 });
        let config =
            Config { max_seats: 2, max_owners: 1, max_marks: 4, max_keys: 4, max_reported: 1, max_uses: 1, ring: 4 };
        let mut writer = Writer::new(config);
        assert_eq!((writer.seat(&old), writer.seat(&new)), (Some(Seat(0)), Some(Seat(1))));
        let chain = [7; api::limits::MARK_EVERY_BLOCKS];
        let mut reader = writer.reader();
        let core = thread::spawn(move || {
            reader.place(&Placement { chain: &chain, seat: Seat(0), matched: 0, tokens_per_block: 1.0 });
            reader.turn();
            reader
        });

        writer.release(&old);
        (0..2).for_each(|_| _ = writer.retire_slice(usize::MAX, 0));
        writer.seat(&new);
        if writer.owners().owner(Seat(1)).is_some() {
            reused.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let mut reader = core.join().unwrap();
        let query = Query { chain: &chain, now_ms: 0, tie: 0 };
        assert_eq!(reader.lookup(&query, |_| true).best().len(), 0, "as the core has it in mind");
        writer.drain(0);
        assert_eq!(reader.lookup(&query, |_| true).best().len(), 0, "as it is taken down");
    });
    assert!(was_reused.load(std::sync::atomic::Ordering::Relaxed), "the id was given again in some of them");
}
