//! How far an answer of the API server reaches.

use std::time::Duration;

use tokio::time::Instant;

/// An older list is taken after so long all the same: the cluster's storage was restored from a copy, and counts from there.
const PATIENCE: Duration = Duration::from_secs(60);

/// The newest `resourceVersion` that was seen of a list. They are decimal numbers that only grow, as far as storage is not
/// restored; an answer with a lesser one is a look into the past, in which what is missing was not deleted but not made yet.
#[derive(Debug, Default)]
pub(super) struct Newest {
    version: u128,
    /// Since when only older ones are said.
    older: Option<Instant>,
}

impl Newest {
    /// A watch has come as far.
    pub(super) fn reached(&mut self, version: &str) {
        self.version = self.version.max(number(version));
    }

    /// Whether a list with this version may be taken; then the watch goes on from there.
    pub(super) fn admits(&mut self, version: &str, now: Instant) -> bool {
        let version = number(version);
        let patient = |older: Instant| now - older < PATIENCE;
        if version < self.version && self.older.is_none_or(patient) {
            self.older.get_or_insert(now);
            return false;
        }
        *self = Self { version, older: None };
        true
    }
}

/// What is no number is not compared: it counts as the start.
fn number(version: &str) -> u128 {
    version.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_list_is_refused_until_it_is_clear_that_time_went_back() {
        let (mut newest, start) = (Newest::default(), Instant::now());
        assert!(newest.admits("100", start));
        newest.reached("250");
        newest.reached("240");
        assert!(!newest.admits("249", start));
        assert!(!newest.admits("100", start + PATIENCE / 2));
        assert!(newest.admits("250", start + PATIENCE / 2), "what is as new is taken");
        assert!(!newest.admits("7", start + PATIENCE));
        assert!(!newest.admits("8", start + PATIENCE * 2 - Duration::from_millis(1)), "the patience is of this time");
        assert!(newest.admits("9", start + PATIENCE * 2));
        newest.reached("10");
        assert!(!newest.admits("9", start + PATIENCE * 2));
    }
}
