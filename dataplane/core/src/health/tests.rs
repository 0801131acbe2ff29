use super::*;
use crate::table::tests::ejection;

fn pool(endpoints: u32, ejected: u32) -> Pool {
    Pool { ejection: ejection(), endpoints, ejected }
}

fn fail_times(health: &Health, times: u32, now_ms: u64) -> Effect {
    (0..times).map(|_| observe(health, Event::Failure, pool(4, 0), now_ms)).last().unwrap()
}

#[test]
fn failures_in_a_row_eject() {
    let health = Health::default();
    assert_eq!(fail_times(&health, 2, 100), Effect::None);
    observe(&health, Event::Success, pool(4, 0), 100);
    assert_eq!(fail_times(&health, 2, 100), Effect::None);
    assert_eq!(fail_times(&health, 1, 100), Effect::Ejected { until_ms: 1_100 });
    assert!(health.is_ejected(1_099) && !health.is_ejected(1_100));
    assert_eq!(fail_times(&health, 5, 1_000), Effect::None, "while ejected nothing counts");
}

#[test]
fn ejections_double_up_to_the_longest_and_health_forgives() {
    let health = Health::default();
    fail_times(&health, 2, 0);
    let mut now_ms = 0;
    for expected_ms in [1_000, 2_000, 4_000, 8_000, 8_000] {
        assert_eq!(fail_times(&health, 1, now_ms), Effect::Ejected { until_ms: now_ms + expected_ms });
        now_ms += expected_ms;
    }
    observe(&health, Event::Success, pool(4, 0), now_ms + 10_000);
    assert_eq!(fail_times(&health, 3, now_ms + 10_000), Effect::Ejected { until_ms: now_ms + 11_000 });
}

#[test]
fn only_a_share_of_the_backend_is_ejected() {
    let check = |endpoints, ejected, expected: bool| {
        let health = Health::default();
        let effect = (0..3).map(|_| observe(&health, Event::Failure, pool(endpoints, ejected), 0)).last().unwrap();
        assert_eq!(matches!(effect, Effect::Ejected { .. }), expected, "{ejected} of {endpoints}");
        assert_eq!(effect == Effect::Spared, !expected);
    };
    check(4, 1, true);
    check(4, 2, false);
    check(3, 0, true);
    check(3, 1, false);
    check(1, 0, false);
}

#[test]
fn the_share_grows_back() {
    let health = Health::default();
    fail_times(&health, 3, 0);
    let check = |now_ms, expected| assert_eq!(health.share(&ejection(), now_ms), expected, "at {now_ms}");
    check(999, 0.0);
    check(1_000, FIRST_SHARE);
    // Nothing has gone well yet.
    check(6_000, 1.0 / 16.0);
    observe(&health, Event::Success, pool(4, 0), 6_000);
    check(6_000, 0.5);
    check(11_000, 1.0);
}

#[test]
fn an_endpoint_that_cannot_be_ejected_draws_little_while_it_fails() {
    let health = Health::default();
    for expected in [1.0, 0.25, 1.0 / 9.0, 1.0 / 16.0, FIRST_SHARE, FIRST_SHARE] {
        assert_eq!(health.share(&ejection(), 0), expected);
        observe(&health, Event::Failure, pool(3, 1), 0);
    }
    observe(&health, Event::Success, pool(3, 1), 0);
    assert_eq!(health.share(&ejection(), 0), 1.0);
}
