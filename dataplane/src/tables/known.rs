//! Endpoints that may have a seat in the prefix tables: those of the table in force, and those of which a table is on its way.

use ahash::AHashMap;
use api::id::EndpointKey;
use api::limits::MAX_ENDPOINTS;

/// Each with the number of backends that it is a member of: none where it is only expected.
#[derive(Debug, Default)]
pub(super) struct Known {
    members: AHashMap<EndpointKey, usize>,
    /// How many are only expected.
    expected: usize,
}

impl Known {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// It is likely to be in the next table, for which it is then at hand; false where it is not known, and nobody would tell
    /// that it is gone.
    pub(super) fn expect(&mut self, key: &EndpointKey) -> bool {
        // Updates that are broken off one after the other would be known for ever.
        if self.members.contains_key(key) || self.members.len() >= 2 * MAX_ENDPOINTS {
            return self.members.contains_key(key);
        }
        self.members.insert(key.clone(), 0);
        self.expected += 1;
        true
    }

    /// Some backends no longer have these endpoints, and some have others, each named once for each backend; tells which are known in
    /// vain now, and forgets them.
    pub(super) fn follow<'k>(
        &mut self,
        left: impl Iterator<Item = &'k EndpointKey>,
        came: impl Iterator<Item = &'k EndpointKey>,
        mut gone: impl FnMut(&EndpointKey),
    ) {
        for key in came {
            match self.members.get_mut(key) {
                Some(backends) => {
                    self.expected -= usize::from(*backends == 0);
                    *backends += 1;
                }
                None => drop(self.members.insert(key.clone(), 1)),
            }
        }
        for key in left {
            let Some(backends) = self.members.get_mut(key) else { continue };
            *backends = backends.saturating_sub(1);
            if *backends == 0 {
                self.members.remove(key);
                gone(key);
            }
        }
        // Mostly all that were expected came, and nobody has to look for them.
        if std::mem::take(&mut self.expected) > 0 {
            self.members.extract_if(|_, backends| *backends == 0).for_each(|(key, _)| gone(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(words: &str) -> Vec<EndpointKey> {
        words.split_whitespace().map(|uid| EndpointKey { uid: uid.into(), port: 1, rank: 0 }).collect()
    }

    #[test]
    fn what_no_backend_has_any_longer_is_gone_once() {
        let mut known = Known::default();
        let mut follow = |left: &str, came: &str, expected: &str| {
            for key in keys(expected) {
                known.expect(&key);
            }
            let mut gone = Vec::new();
            known.follow(keys(left).iter(), keys(came).iter(), |key| gone.push(key.uid.to_string()));
            gone.sort();
            (gone.join(" "), known.len())
        };
        assert_eq!(follow("", "a b c", ""), (String::new(), 3));
        assert_eq!(follow("a b", "b d", "c d"), ("a".into(), 3));
        assert_eq!(follow("c d", "", "e"), ("c d e".into(), 1), "what was expected in vain is gone too");
        assert_eq!(follow("", "b", ""), (String::new(), 1), "another backend has it, too");
        assert_eq!(follow("b", "a", ""), (String::new(), 2), "one of the two still has it");
        assert_eq!(follow("b", "", "a"), ("b".into(), 1), "what was expected and is there stays");
        assert_eq!(follow("a", "", ""), ("a".into(), 0));
    }
}
