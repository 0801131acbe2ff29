//! The endpoint of the client's session scores 100, all others 0; without a session nobody scores.

use super::Scores;

/// From the candidates' slots and the session's.
pub(super) fn scores(slots: impl Iterator<Item = u32>, session: Option<u32>) -> Scores {
    slots.map(|slot| if Some(slot) == session { 100 } else { 0 }).collect()
}

#[cfg(test)]
mod tests {
    fn check(session: Option<u32>, expected: &[u32]) {
        assert_eq!(super::scores([4, 7, 9].into_iter(), session).as_slice(), expected, "{session:?}");
    }

    #[test]
    fn only_the_sessions_endpoint_scores() {
        check(Some(7), &[0, 100, 0]);
        check(Some(5), &[0, 0, 0]);
        check(None, &[0, 0, 0]);
    }
}
