//! How far an answer of the API server reaches.

use std::time::Duration;

use tokio::time::Instant;

/// An older list is taken all the same once nothing else has been said for so long: the cluster's storage was restored from a copy,
/// and counts from there.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the time between two such answers, so much: in a longer one nobody was asked, or nobody answered.
const BETWEEN: Duration = Duration::from_secs(15);

/// A `resourceVersion` as it is compared. What is no number is not: it counts as the start.
pub(crate) fn number(version: &str) -> u128 {
    version.parse().unwrap_or_default()
}

/// The newest `resourceVersion` that was seen of a list. They are decimal numbers that only grow, as far as storage is not
/// restored; an answer with a lesser one is a look into the past, in which what is missing was not deleted but not made yet.
#[derive(Debug, Default)]
pub(super) struct Newest {
    version: u128,
    /// For how long only older ones have been said, and when the last one was.
    older: Option<(Duration, Instant)>,
}

impl Newest {
    /// A watch has come as far.
    pub(super) fn reached(&mut self, version: &str) {
        self.version = self.version.max(number(version));
    }

    /// Whether a list with this version may be taken; then the watch goes on from there.
    pub(super) fn admits(&mut self, version: &str, now: Instant) -> bool {
        let version = number(version);
        let said = self.older.map_or(Duration::ZERO, |(said, last)| said + (now - last).min(BETWEEN));
        if version < self.version && said < PATIENCE {
            self.older = Some((said, now));
            return false;
        }
        *self = Self { version, older: None };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether an older list is taken that is said so many times in all, so far apart.
    fn is_taken(times: u32, apart: Duration) -> bool {
        let (mut newest, start) = (Newest::default(), Instant::now());
        assert!(newest.admits("100", start));
        newest.reached("250");
        newest.reached("240");
        let mut taken = (0..times).map(|n| newest.admits("249", start + apart * n));
        taken.any(|taken| taken)
    }

    #[test]
    fn c03_an_older_list_is_refused_until_it_is_clear_that_time_went_back() {
        let seconds = Duration::from_secs;
        assert!(!is_taken(6, seconds(10)));
        assert!(is_taken(7, seconds(10)));
        assert!(!is_taken(4, seconds(3600)), "silence is not an answer");
        assert!(is_taken(5, seconds(3600)));
    }

    #[test]
    fn c03_the_patience_begins_anew_with_each_list_that_is_taken() {
        let (mut newest, start) = (Newest::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(newest.admits("250", start));
        (0..6).for_each(|n| assert!(!newest.admits("7", at(n * 10))));
        assert!(newest.admits("250", at(59)), "what is as new is taken");
        (6..12).for_each(|n| assert!(!newest.admits("7", at(n * 10))));
        assert!(newest.admits("8", at(120)));
        assert!(newest.admits("9", at(121)), "it counts from there");
        newest.reached("10");
        assert!(!newest.admits("9", at(122)));
    }
}
