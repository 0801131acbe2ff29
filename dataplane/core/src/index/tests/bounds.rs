//! Memory stays within 32 bytes for a live entry, beyond a fixed floor.

use super::super::holders::Holders;
use super::super::map::{Map, SEGMENT_BITS};
use super::super::types::OwnerId;
use super::super::uses::Uses;
use super::{Random, hash};

/// What 256 segments take when they are empty, and what the smallest of them take more than their share.
const FLOOR: usize = 64 << 10;

fn check_bytes(map: &mut Map) {
    let (bytes, live) = (map.bytes(), map.live());
    assert!(bytes <= 32 * live + FLOOR, "{bytes} bytes for {live} entries: {}", bytes as f64 / live as f64);
}

#[test]
fn the_map_takes_32_bytes_for_an_entry_at_any_fill() {
    let mut map = Map::new(SEGMENT_BITS);
    let mut reader = map.reader();
    for number in 0..200_000 {
        map.set(hash(number), 1);
        // Rebuilds are included: what a core's cached pointers pin until its next sweep counts.
        if number % 50 == 0 {
            check_bytes(&mut map);
        }
        if number % 2_000 == 0 {
            reader.refresh();
        }
    }
    for number in 0..200_000 {
        map.set(hash(number), 0);
        if number % 2_000 == 0 {
            reader.refresh();
            check_bytes(&mut map);
        }
    }
    assert_eq!(map.live(), 0);
    reader.refresh();
    check_bytes(&mut map);
}

#[test]
fn tombstones_do_not_add_up() {
    let mut map = Map::new(SEGMENT_BITS);
    for number in 0..300_000_u64 {
        map.set(hash(number), 1);
        if let Some(old) = number.checked_sub(20_000) {
            map.set(hash(old), 0);
        }
        if number % 1_000 == 0 {
            check_bytes(&mut map);
        }
    }
    assert_eq!(map.live(), 20_000);
}

#[test]
fn many_holders_of_a_key_take_less_than_as_many_keys() {
    let mut holders = Holders::new(SEGMENT_BITS);
    let mut random = Random::new(7);
    let mut pairs = 0;
    for number in 0..5_000 {
        let count = 1 + random.below(40) as u32;
        for owner in 0..count {
            holders.insert(hash(number), OwnerId(owner));
        }
        pairs += count as usize;
    }
    let bytes = holders.bytes();
    assert!(bytes <= 32 * pairs + FLOOR, "{bytes} bytes for {pairs} pairs");
}

#[test]
fn use_counts_are_bounded_and_decay() {
    let mut uses = Uses::new(SEGMENT_BITS, 1_000);
    let mut reader = uses.reader();
    (0..1_100).for_each(|number| uses.add(hash(number), 16_000));
    assert_eq!((uses.len(), uses.refused()), (1_000, 100));
    uses.add(hash(0), 16_000);
    assert_eq!(reader.count(hash(0), 16_000), 2.0);
    assert!((reader.count(hash(0), 46_000) - 1.0).abs() < 0.01);
    // Over three quarters full, what was used once, half a minute ago, makes room; the other stays.
    uses.sweep(usize::MAX, 47_000);
    assert_eq!(uses.len(), 1);
    uses.sweep(usize::MAX, 400_000);
    assert_eq!(uses.len(), 0);
}
