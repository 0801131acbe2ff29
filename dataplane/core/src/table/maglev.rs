//! A Maglev table: which endpoint a session belongs to, the same on every proxy and without state. When an endpoint comes
//! or goes, few sessions besides its own move.

use std::hash::Hasher;

use api::id::EndpointKey;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Entries per endpoint at least: then the fullest endpoint has a few percent more than its share.
const ENTRIES_EACH: usize = 16;
/// The primes that a table's size is taken from.
const SIZES: [usize; 5] = [2_039, 16_381, 65_537, 262_147, 1_048_573];
/// Places that are asked for until an endpoint can take the session.
const PLACES: u64 = 4;

const NOBODY: u32 = u32::MAX;

/// Slots by hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maglev(Box<[u32]>);

impl Maglev {
    /// A table over these endpoints: (slot, key) in any order.
    pub fn new<'k>(members: impl Iterator<Item = (u32, &'k EndpointKey)>) -> Self {
        let mut members: Vec<_> = members.collect();
        // A slot means nothing to another proxy, a key does.
        members.sort_unstable_by_key(|(_, key)| *key);
        let wanted = members.len() * ENTRIES_EACH;
        let size = SIZES.into_iter().find(|size| *size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        let mut walks: Vec<Walk> = members.iter().map(|(slot, key)| Walk::new(*slot, key, size)).collect();
        let mut table = vec![NOBODY; if walks.is_empty() { 0 } else { size }];
        let mut left = table.len();
        while left > 0 {
            for walk in walks.iter_mut().take(left) {
                let at = walk.next_free(&table);
                table[at] = walk.slot;
                left -= 1;
            }
        }
        Self(table.into())
    }

    /// The slots of a session, in the order in which they are asked: mostly the first. None where there is no endpoint.
    pub fn places(&self, session: u64) -> impl Iterator<Item = u32> {
        let slot = move |place: u64| {
            let hash = if place == 0 { session } else { xxh3_64_with_seed(&session.to_le_bytes(), place) };
            self.0.get((hash % (self.0.len() as u64).max(1)) as usize).copied()
        };
        (0..PLACES).filter_map(slot)
    }
}

/// One endpoint's way through the table.
struct Walk {
    slot: u32,
    at: usize,
    step: usize,
}

impl Walk {
    fn new(slot: u32, key: &EndpointKey, size: usize) -> Self {
        let EndpointKey { uid, port, rank } = key;
        let hash = |seed| {
            let mut hasher = Xxh3::with_seed(seed);
            hasher.write(uid.as_bytes());
            hasher.write(&port.to_le_bytes());
            hasher.write(&rank.to_le_bytes());
            hasher.finish()
        };
        let (at, step) = (hash(1) % size as u64, hash(2) % (size as u64 - 1) + 1);
        Self { slot, at: at as usize, step: step as usize }
    }

    /// The size is a prime, so that every place is visited.
    fn next_free(&mut self, table: &[u32]) -> usize {
        loop {
            let at = self.at;
            self.at = (at + self.step) % table.len();
            if table[at] == NOBODY {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> EndpointKey {
        EndpointKey { uid: format!("uid-{number}").into(), port: 8_000, rank: 0 }
    }

    fn table(numbers: &[u32]) -> Maglev {
        let keys: Vec<_> = numbers.iter().map(|number| (*number, key(*number))).collect();
        Maglev::new(keys.iter().map(|(slot, key)| (*slot, key)))
    }

    fn first(table: &Maglev, session: u64) -> u32 {
        table.places(xxh3_64_with_seed(&session.to_le_bytes(), 9)).next().unwrap()
    }

    #[test]
    fn sessions_are_shared_equally_in_any_order_of_endpoints() {
        let numbers: Vec<u32> = (0..20).collect();
        let reversed: Vec<u32> = (0..20).rev().collect();
        let one = table(&numbers);
        assert_eq!(one, table(&reversed));
        let mut counts = [0u32; 20];
        (0..20_000).for_each(|session| counts[first(&one, session) as usize] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn few_sessions_move_when_an_endpoint_goes() {
        let (all, fewer) = (table(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), table(&[0, 1, 2, 3, 4, 5, 6, 7, 8]));
        let stays = |session: &u64| first(&all, *session) != 9;
        let moved = (0..10_000).filter(stays).filter(|s| first(&all, *s) != first(&fewer, *s)).count();
        assert!(moved < 900, "{moved} of 9,000 moved");
    }

    #[test]
    fn nobody_has_no_sessions() {
        assert_eq!(table(&[]).places(7).count(), 0);
        assert_eq!(table(&[3]).places(7).collect::<Vec<_>>(), [3; PLACES as usize]);
    }
}
