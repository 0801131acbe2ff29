//! Endpoints that may have a seat in the prefix tables: those of the table in force, and those of which a table is on its way.

use ahash::AHashMap;
use api::id::EndpointKey;
use api::limits::MAX_ENDPOINTS;

/// Each with the number of the last table that has it.
#[derive(Debug, Default)]
pub(super) struct Known {
    last: AHashMap<EndpointKey, u64>,
    /// Tables so far.
    number: u64,
}

impl Known {
    pub(super) fn len(&self) -> usize {
        self.last.len()
    }

    /// It is likely to be in the next table, for which it is then at hand; false where it is not known, and nobody would tell
    /// that it is gone.
    pub(super) fn expect(&mut self, key: &EndpointKey) -> bool {
        // Updates that are broken off one after the other would be known for ever.
        if self.last.len() >= 2 * MAX_ENDPOINTS {
            return self.last.contains_key(key);
        }
        self.last.entry(key.clone()).or_insert(self.number);
        true
    }

    /// The next table has these; tells which others were known, and forgets them.
    pub(super) fn follow<'k>(
        &mut self,
        keys: impl Iterator<Item = &'k EndpointKey>,
        mut gone: impl FnMut(&EndpointKey),
    ) {
        self.number += 1;
        for key in keys {
            match self.last.get_mut(key) {
                Some(last) => *last = self.number,
                None => drop(self.last.insert(key.clone(), self.number)),
            }
        }
        self.last.retain(|key, last| {
            let stays = *last == self.number;
            if !stays {
                gone(key);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(words: &str) -> Vec<EndpointKey> {
        words.split_whitespace().map(|uid| EndpointKey { uid: uid.into(), port: 1, rank: 0 }).collect()
    }

    #[test]
    fn what_the_next_table_does_not_have_is_gone_once() {
        let mut known = Known::default();
        let mut follow = |table: &str, expected: &str| {
            for key in keys(expected) {
                known.expect(&key);
            }
            let mut gone = Vec::new();
            known.follow(keys(table).iter(), |key| gone.push(key.uid.to_string()));
            gone.sort();
            (gone.join(" "), known.len())
        };
        assert_eq!(follow("a b c", ""), (String::new(), 3));
        assert_eq!(follow("b c d", "c d"), ("a".into(), 3));
        assert_eq!(follow("b", "e"), ("c d e".into(), 1), "what was expected in vain is gone too");
        assert_eq!(follow("a", ""), ("b".into(), 1));
        assert_eq!(follow("", ""), ("a".into(), 0));
    }
}
