//! One token, and an API server that comes and goes. Times are seconds from the last look that was answered before it first went.

use super::*;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

struct Bed {
    start: Moment,
}

impl Bed {
    fn new() -> Self {
        Self { start: Moment { at: Instant::now(), clock: Timestamp::from_second(1_800_000_000).unwrap() } }
    }

    fn at(&self, seconds: u64) -> Moment {
        let passed = Duration::from_secs(seconds);
        Moment { at: self.start.at + passed, clock: self.start.clock + passed }
    }

    /// What is known after these looks: when, and whether it was answered.
    fn after(&self, looks: &[(u64, bool)]) -> Contact {
        let there = Contact::There { heard: self.start };
        looks.iter().fold(
            there,
            |contact, &(at, answered)| {
                if answered { contact.answered(self.at(at)) } else { contact.missed(self.at(at)) }
            },
        )
    }

    /// For how many seconds after the start a token counts that ends so many after it.
    fn counts(&self, looks: &[(u64, bool)], ends: i64) -> Option<u64> {
        let ends = self.start.clock + jiff::SignedDuration::from_secs(ends);
        Some((self.after(looks).excused_until(ends)? - self.start.at).as_secs())
    }
}

#[test]
fn while_the_api_server_is_there_nothing_counts_past_its_end() {
    let bed = Bed::new();
    assert_eq!(bed.counts(&[], 600), None);
    assert_eq!(bed.counts(&[(60, true), (120, true)], 90), None, "however long ago the last look was");
}

#[test]
fn while_it_is_away_a_token_counts_for_a_day_past_its_end_if_it_was_good_when_it_went() {
    let bed = Bed::new();
    let away = [(60, false), (70, false)];
    assert_eq!(bed.counts(&away, 600), Some(600 + DAY));
    assert_eq!(bed.counts(&away, 1), Some(1 + DAY), "it ended before it was known that nobody is there");
    for ended in [0, -1, -600, -1_000_000] {
        assert_eq!(bed.counts(&away, ended), None, "ended {ended} s after the last answer");
    }
}

#[test]
fn once_it_is_back_tokens_count_until_all_are_renewed() {
    let bed = Bed::new();
    let (back, renewed) = (10 * HOUR, 10 * HOUR + RENEWAL.as_secs());
    let looks = [(60, false), (back, true)];
    assert_eq!(bed.counts(&looks, 600), Some(renewed));
    assert_eq!(bed.counts(&[(60, false), (back, true), (renewed - 1, true)], 600), Some(renewed), "not later");
    assert_eq!(bed.counts(&[(60, false), (back, true), (renewed, true)], 600), None);
    // Whose day is over does not have that time.
    assert_eq!(bed.counts(&[(60, false), (30 * HOUR, true)], 600), Some(600 + DAY));
}

#[test]
fn an_api_server_that_answers_for_a_moment_renews_nothing() {
    let bed = Bed::new();
    let looks = [(60, false), (HOUR, true), (HOUR + 60, true), (HOUR + 119, false)];
    assert_eq!(bed.counts(&looks, 600), Some(600 + DAY));
}

#[test]
fn what_counts_for_nothing_any_more_does_not_count_again_when_it_goes_again() {
    let bed = Bed::new();
    let back = HOUR + RENEWAL.as_secs();
    for last in [(back + 60, true), (HOUR + 60, true)] {
        let looks = [(60, false), (HOUR, true), last, (back + 120, false)];
        assert_eq!(bed.counts(&looks, 600), None, "ended before it was there");
        let ends = last.0 as i64 + 1;
        assert_eq!(bed.counts(&looks, ends), Some(last.0 + 1 + DAY), "good when it was heard last");
    }
}

#[test]
fn a_token_that_ends_with_all_time_counts_for_a_day_more() {
    let bed = Bed::new();
    let left = Timestamp::MAX.duration_since(bed.start.clock).as_secs();
    assert_eq!(bed.counts(&[(60, false)], left), Some(left as u64 + DAY));
}
