//! The numbers by which the load and KV lanes name endpoints.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::id::EndpointKey;
use api::limits::HELD_HANDLES;

/// Gives each endpoint a number that no other has or will have within this value's life, which is an epoch.
#[derive(Debug)]
pub(super) struct Handles {
    given: HashMap<EndpointKey, u32>,
    last: u32,
    /// The first that it does not give.
    end: u32,
}

impl Default for Handles {
    /// Those of endpoints that are published.
    fn default() -> Self {
        Self { given: HashMap::new(), last: 0, end: HELD_HANDLES }
    }
}

impl Handles {
    /// Those of endpoints that only a held form knows.
    pub(super) fn held() -> Self {
        Self { given: HashMap::new(), last: HELD_HANDLES - 1, end: u32::MAX }
    }

    /// The endpoint's number; none when all have been used up, of which there are about 2³¹.
    pub(super) fn of(&mut self, key: &EndpointKey) -> Option<u32> {
        if let Some(handle) = self.given.get(key) {
            return Some(*handle);
        }
        self.last = Some(self.last + 1).filter(|next| *next < self.end)?;
        self.given.insert(key.clone(), self.last);
        Some(self.last)
    }

    /// Forgets endpoints of pods that are gone, once they are as many as the rest: a UID does not come back, and if it
    /// did, it would get a number that is still its own alone.
    pub(super) fn forget_gone<'a>(&mut self, live: impl ExactSizeIterator<Item = &'a Arc<str>>) {
        if self.given.len() > 2 * live.len() + 1_024 {
            let live: HashSet<&Arc<str>> = live.collect();
            self.given.retain(|key, _| live.contains(&key.uid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uid: &str) -> EndpointKey {
        EndpointKey { uid: uid.into(), port: 8000, rank: 0 }
    }

    #[test]
    fn a_number_stays_with_its_endpoint_and_never_goes_to_another() {
        let mut handles = Handles::default();
        assert_eq!(handles.of(&key("a")), Some(1));
        assert_eq!(handles.of(&key("b")), Some(2));
        assert_eq!(handles.of(&key("a")), Some(1));
    }

    #[test]
    fn a_forgotten_endpoint_leaves_its_number_unused() {
        let mut handles = Handles::default();
        for i in 0..3_000 {
            handles.of(&key(&i.to_string()));
        }
        let live: Vec<Arc<str>> = vec!["7".into()];
        handles.forget_gone(live.iter());
        assert_eq!(handles.given.len(), 1);
        assert_eq!(handles.of(&key("7")), Some(8));
        assert_eq!(handles.of(&key("new")), Some(3_001));
    }

    #[test]
    fn the_last_number_is_the_end_and_not_the_beginning_again() {
        let mut handles = Handles { last: HELD_HANDLES - 2, ..Handles::default() };
        assert_eq!(handles.of(&key("a")), Some(HELD_HANDLES - 1));
        assert_eq!(handles.of(&key("b")), None);
        assert_eq!(handles.of(&key("a")), Some(HELD_HANDLES - 1));
    }
}
