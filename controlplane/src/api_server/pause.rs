//! How long to wait before the API server is asked again.

use std::time::Duration;

use crate::chance::random;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// Doubles with each failure in a row.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
}

impl Pause {
    /// It has answered.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// For this long: a half of it by chance, so that many do not come back at once, but never less than the server asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let longest = (FIRST * 2_u32.saturating_pow(self.failures.min(16))).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest / 2 + longest.mul_f64(random() / 2.0) + asked.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds_and_begin_anew() {
        let mut pause = Pause::default();
        let mut longest = FIRST;
        for _ in 0..20 {
            let next = pause.next(None);
            assert!(next >= longest / 2 && next <= longest, "{next:?} of {longest:?}");
            longest = (longest * 2).min(LONGEST);
        }
        let asked = Duration::from_secs(30);
        assert!(pause.next(Some(asked)) >= asked);
        pause.reset();
        assert!(pause.next(None) <= FIRST);
    }
}
