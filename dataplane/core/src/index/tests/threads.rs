//! One writer and readers at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::super::holders::{Holders, HoldersReader};
use super::super::map::Map;
use super::super::types::OwnerId;
use super::{Random, hash};

const KEYS: u64 = 3_000;
const FOR: Duration = Duration::from_millis(300);

/// Runs `write` for a while beside two readers, each of which must get to look at something.
fn check<R: Send + Clone>(reader: R, mut write: impl FnMut(), read: impl Fn(&mut R, &mut Random) -> bool + Sync) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = [11, 12]
            .map(|seed| {
                let (mut reader, read, done) = (reader.clone(), &read, &done);
                scope.spawn(move || {
                    let (mut random, mut hits) = (Random::new(seed), 0_u64);
                    while !done.load(Ordering::Relaxed) || hits == 0 {
                        hits += u64::from(read(&mut reader, &mut random));
                    }
                    hits
                })
            })
            .into();
        let end = Instant::now() + FOR;
        while Instant::now() < end {
            write();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().expect("no reader panics") > 0);
        }
    });
}

#[test]
fn a_value_is_never_another_keys() {
    let mut map = Map::new(2);
    let reader = map.reader();
    let mut random = Random::new(9);
    let value = |key: u64| key | 1;
    map.set(hash(1), value(hash(1)));
    check(
        reader,
        || {
            let key = hash(2 + random.below(KEYS));
            map.set(key, if random.below(2) == 0 { value(key) } else { 0 });
        },
        |reader, random| {
            let key = hash(1 + random.below(KEYS));
            let found = reader.value_of(key);
            assert!(found == 0 || found == value(key), "key {key:x}: {found:x}");
            assert_eq!(reader.value_of(hash(1)), value(hash(1)), "a key that stays is always found");
            found != 0
        },
    );
}

#[test]
fn a_holder_is_never_another_keys() {
    let mut holders = Holders::new(1);
    let reader = holders.reader();
    let mut random = Random::new(10);
    // Few keys and up to 30 owners each: chains of records are made, ended and given to other keys all the time.
    let owner = |number: u64, at: u64| OwnerId((number * 1_000 + at) as u32);
    for at in 0..30 {
        holders.insert(hash(0), owner(0, at));
    }
    check(
        reader,
        || {
            let (number, at) = (1 + random.below(40), random.below(30));
            if random.below(2) == 0 {
                holders.insert(hash(number), owner(number, at));
            } else {
                for at in 0..30 {
                    holders.remove(hash(number), owner(number, at));
                }
            }
        },
        |reader: &mut HoldersReader, random| {
            let number = random.below(41);
            let mut found = 0;
            reader.owners(hash(number), |owner| {
                assert_eq!(u64::from(owner.0) / 1_000, number);
                found += 1;
                true
            });
            assert!(number != 0 || found == 30, "{found} of the 30 that stay");
            found > 0
        },
    );
}
