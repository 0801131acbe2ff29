//! How often one object is written.

use std::time::Duration;

use tokio::time::Instant;

use crate::chance::jittered;

/// Between two attempts on one object.
const LEAST: Duration = Duration::from_millis(250);
/// Between two turns of the conditions of one generation that turn again and again.
const MOST: Duration = Duration::from_secs(60);
/// After which turns are no longer "again and again".
const QUIET: Duration = Duration::from_secs(120);
/// Between two attempts that came too early or too late: of this, all is well again within 10 s of a storm's end.
const MOST_AGAIN: Duration = Duration::from_secs(5);
/// Between two attempts that failed.
const MOST_FAILED: Duration = Duration::from_secs(30);

/// One object's.
#[derive(Debug)]
pub(super) struct Pace {
    not_before: Instant,
    last_attempt: Option<Instant>,
    last_write: Option<Instant>,
    begun: Instant,
    /// Between the last turn and the next.
    turns: Duration,
    /// Attempts in a row that wrote nothing.
    vain: u32,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { not_before: now, last_attempt: None, last_write: None, begun: now, turns: LEAST, vain: 0 }
    }

    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }

    /// Where it is not known, because another process led, it may have been just before this one began.
    pub(super) fn last_write(&self) -> Instant {
        self.last_write.unwrap_or(self.begun)
    }

    /// The object has another form: what held the old one up does not hold up the new one.
    pub(super) fn anew(&mut self, now: Instant) {
        (self.turns, self.vain) = (LEAST, 0);
        self.not_before = self.last_attempt.map_or(now, |last| last + LEAST);
    }

    /// A status of the generation `before` now speaks of another, or of the same once more.
    pub(super) fn wrote(&mut self, before: Option<i64>, generation: i64, now: Instant) {
        let quiet = self.last_write.is_none_or(|last| now.duration_since(last) >= QUIET);
        self.turns = if before != Some(generation) || quiet { LEAST } else { (self.turns * 2).min(MOST) };
        (self.not_before, self.last_attempt, self.last_write, self.vain) = (now + self.turns, Some(now), Some(now), 0);
    }

    /// Once more, soon.
    pub(super) fn again(&mut self, now: Instant, random: f64) {
        self.vain(LEAST, MOST_AGAIN, now, random);
    }

    /// Once more, later, and not before the server says so.
    pub(super) fn failed(&mut self, not_before: Option<Duration>, now: Instant, random: f64) {
        self.vain(LEAST * 2, MOST_FAILED, now, random);
        self.not_before = self.not_before.max(now + not_before.unwrap_or_default());
    }

    fn vain(&mut self, first: Duration, most: Duration, now: Instant, random: f64) {
        let pause = (first * 2u32.saturating_pow(self.vain.min(16))).min(most);
        self.vain = self.vain.saturating_add(1);
        self.last_attempt = Some(now);
        self.not_before = now + jittered(pause, random);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_of_one_generation_come_ever_more_slowly_until_it_is_quiet_or_edited() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            pace.wrote(Some(1), 1, now);
            pauses.push(pace.not_before().duration_since(now).as_millis());
            now = pace.not_before();
        }
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        pace.wrote(Some(1), 2, now);
        assert_eq!(pace.not_before(), now + LEAST);
        pace.wrote(Some(2), 2, now);
        pace.wrote(Some(2), 2, now + QUIET);
        assert_eq!(pace.not_before(), now + QUIET + LEAST);
    }

    #[test]
    fn c06_conflicts_are_tried_at_most_five_times_a_second_and_at_least_every_six_seconds() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for n in 0..100 {
            pace.again(now, f64::from(n % 3) / 2.0);
            let pause = pace.not_before().duration_since(now);
            assert!((Duration::from_millis(200)..=Duration::from_secs(6)).contains(&pause), "{n}: {pause:?}");
            now = pace.not_before();
        }
    }

    #[test]
    fn failures_back_off_to_half_a_minute_and_heed_the_server() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        (0..100).for_each(|_| pace.failed(None, now, 0.5));
        assert_eq!(pace.not_before(), now + MOST_FAILED);
        pace.failed(Some(Duration::from_secs(90)), now, 0.5);
        assert_eq!(pace.not_before(), now + Duration::from_secs(90));
        pace.anew(now);
        assert_eq!(pace.not_before(), now + LEAST);
    }
}
