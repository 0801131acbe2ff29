use std::sync::Arc;

use super::*;
use crate::scheduler::Rng;

fn demand(uncached_tokens: u32, answer: Answer) -> Demand {
    Demand { uncached_tokens, answer, speed: 1_000.0, max_in_flight: 1_000 }
}

fn reserve(live: &Arc<Live>, tokens: u32, answer: Answer, now_ms: u64) -> Reservation {
    Reservation::try_new(live, demand(tokens, answer), now_ms).unwrap()
}

#[test]
fn live_numbers_fit_their_cache_lines() {
    assert_eq!((size_of::<Live>(), std::mem::offset_of!(Live, recent)), (256, 128));
}

#[test]
fn a_stream_queues_until_its_first_event() {
    let live = Arc::new(Live::new());
    let mut stream = reserve(&live, 700, Answer::Stream, 0);
    assert_eq!((live.in_flight(), live.queued_tokens(1_000.0, 0)), (1, 700));
    stream.first_event(500);
    stream.first_event(600);
    assert_eq!((live.in_flight(), live.queued_tokens(1_000.0, 600)), (1, 0));
    stream.finish(1_000);
    assert_eq!((live.in_flight(), live.mean_service_ms(), live.mean_ttft_ms()), (0, 1_000, 500));
}

#[test]
fn a_unary_request_queues_until_its_predicted_end() {
    let live = Arc::new(Live::new());
    let first = reserve(&live, 1_000, Answer::Unary, 0);
    let second = reserve(&live, 1_000, Answer::Unary, 0);
    let check = |now_ms, expected| assert_eq!(live.queued_tokens(1_000.0, now_ms), expected, "at {now_ms}");
    check(0, 2_000);
    check(500, 1_500);
    first.finish(500);
    check(500, 1_000);
    check(1_500, 0);
    drop(second);
    assert_eq!(live.in_flight(), 0);
}

#[test]
fn what_is_reserved_is_released_in_any_order() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let live = Arc::new(Live::new());
        let mut parking = Parking::new();
        let mut held = Vec::new();
        for now_ms in 0..2_000 {
            let at = rng.below(held.len().max(1) as u32) as usize;
            match rng.below(5) {
                0 | 1 => {
                    let answer = if rng.below(2) == 0 { Answer::Stream } else { Answer::Unary };
                    held.push(reserve(&live, rng.below(9_000), answer, now_ms));
                }
                2 if !held.is_empty() => held[at].first_event(now_ms),
                3 if !held.is_empty() => held.swap_remove(at).finish(now_ms),
                4 if !held.is_empty() => parking.abandon_until(held.swap_remove(at), now_ms + 50),
                _ => {}
            }
            parking.sweep(now_ms);
            assert_eq!(live.in_flight() as usize, held.len() + parking.len(), "seed {seed} at {now_ms}");
        }
        drop(held);
        parking.sweep(u64::MAX);
        assert_eq!((live.in_flight(), live.queued_tokens(1_000.0, u64::MAX / 1_000)), (0, 0), "seed {seed}");
        assert_eq!(live.prefilling.load(Relaxed), 0, "seed {seed}");
    }
}

#[test]
fn a_full_endpoint_takes_no_more() {
    let live = Arc::new(Live::new());
    let full = Demand { max_in_flight: 2, ..demand(1, Answer::Stream) };
    let held = [0, 1].map(|now_ms| Reservation::try_new(&live, full, now_ms).unwrap());
    assert!(Reservation::try_new(&live, full, 2).is_none());
    drop(held);
    assert_eq!(live.in_flight(), 0);
}

#[test]
fn parking_is_bounded() {
    let live = Arc::new(Live::new());
    let mut parking = Parking::new();
    for _ in 0..MAX_PARKED + 10 {
        let demand = Demand { max_in_flight: u32::MAX, ..demand(1, Answer::Unary) };
        parking.abandon_until(Reservation::try_new(&live, demand, 0).unwrap(), 10);
    }
    assert_eq!((parking.len(), live.in_flight() as usize), (MAX_PARKED, MAX_PARKED));
    parking.sweep(10);
    assert!(parking.is_empty());
}

#[test]
fn speed_is_tokens_over_busy_time() {
    let live = Arc::new(Live::new());
    assert_eq!(live.speed(500.0), 500.0, "the median stands in");
    // Two at once: 4,000 tokens in 2 s; the idle time after them does not count.
    let mut both = [0, 0].map(|now_ms| reserve(&live, 2_000, Answer::Stream, now_ms));
    both[0].first_event(1_000);
    both[1].first_event(2_000);
    let mut later = reserve(&live, 2_000, Answer::Stream, 60_000);
    later.first_event(61_000);
    assert_eq!(live.measured_speed(), Some(2_000.0));
    assert_eq!((live.speed(2_000.0), live.speed(100.0), live.speed(80_000.0)), (2_000.0, 400.0, 20_000.0));
}

#[test]
fn engine_reports_enter_as_the_greater_and_only_while_fresh() {
    let live = Arc::new(Live::new());
    let _held = reserve(&live, 10, Answer::Stream, 0);
    live.set_peers(90, 2);
    assert_eq!((live.running(0), live.queued_tokens(1.0, 0), live.own_queued_tokens(1.0, 0)), (3, 100, 10));
    live.set_report(Report { waiting: 4, running: 5, ..Report::default() }, 1_000);
    assert_eq!(live.running(1_000), 9);
    assert_eq!(live.running(1_000 + REPORT_FRESH_MS), 9);
    assert_eq!(live.running(1_001 + REPORT_FRESH_MS), 3);
    live.set_report(Report { running: 1, ..Report::default() }, 20_000);
    assert_eq!(live.running(20_000), 3);
}

#[test]
fn echo_is_the_others_share_and_bounded_by_their_rate() {
    let check = |rates, unreported, age_ms, expected| {
        assert_eq!(Echo::new(rates, unreported, age_ms).of(unreported), expected, "{rates:?} {unreported} {age_ms}");
    };
    check(Rates { own: 100.0, others: 300.0 }, 50, 1_000, 150);
    check(Rates { own: 100.0, others: 300.0 }, 500, 1_000, 300);
    check(Rates { own: 100.0, others: 300.0 }, 50, 0, 0);
    check(Rates { own: 100.0, others: 0.0 }, 50, 1_000, 0);
    check(Rates { own: 0.0, others: 300.0 }, 50, 1_000, 0);
    check(Rates { own: 1.0, others: 1.0 }, 0, 1_000, 0);
}

#[test]
fn bytes_per_token_follow_usage() {
    let backend = BackendLive::new();
    backend.learn_bytes_per_token(100, 1);
    backend.learn_bytes_per_token(10_000, 0);
    assert_eq!(backend.bytes_per_token(), DEFAULT_BYTES_PER_TOKEN);
    (0..200).for_each(|_| backend.learn_bytes_per_token(3_000, 1_000));
    assert!((backend.bytes_per_token() - 3.0).abs() < 0.01);
}

#[test]
fn a_mean_follows_small_changes_and_a_refusal_is_no_first_event() {
    let live = Arc::new(Live::new());
    let ttft = |ms: u64| reserve(&live, 10, Answer::Stream, 0).first_event(ms);
    ttft(10);
    (0..40).for_each(|_| ttft(17));
    assert_eq!(live.mean_ttft_ms(), 17);
    reserve(&live, 10, Answer::Stream, 0).answered(2);
    reserve(&live, 10, Answer::Stream, 0).finish(2);
    assert_eq!((live.mean_ttft_ms(), live.queued_tokens(1.0, 2)), (17, 0));
}

#[test]
fn what_waits_are_streams_without_a_first_event_and_unary_requests_by_their_predicted_prefill() {
    let live = Arc::new(Live::new());
    let reserve = |answer| {
        let demand = Demand { uncached_tokens: 100, answer, speed: 1_000.0, max_in_flight: 10 };
        Reservation::try_new(&live, demand, 0).unwrap()
    };
    let mut streams = [(); 2].map(|()| reserve(Answer::Stream));
    // Of 100 ms each, one after the other.
    let mut unary = [(); 3].map(|()| reserve(Answer::Unary));
    let depths = |times: [u64; 4]| times.map(|now_ms| live.queue_depth(now_ms));
    assert_eq!(depths([0, 100, 101, 300]), [5, 4, 4, 2]);
    streams[0].first_event(50);
    unary[0].answered(50);
    assert_eq!(depths([50, 150, 249, 250]), [3, 2, 2, 1]);
    drop((streams, unary));
    assert_eq!(live.queue_depth(50), 0, "who left waits for nothing");
    assert_eq!((live.unary.load(Relaxed), live.unary_work_ms.load(Relaxed)), (0, 0));
}
