//! The machine against engines that lose, restart and repeat: what it holds to be there is there.

mod random;

use std::time::{Duration, Instant};

use super::*;

/// A stream and what it asked for; a message says its own number.
struct Case {
    stream: Stream<u64>,
    now: Instant,
    life: u64,
}

impl Case {
    fn new(replayable: Replayable) -> Self {
        Self { stream: Stream::new(replayable), now: Instant::now(), life: 1 }
    }

    fn message(&self, sequence: u64) -> Message<u64> {
        Message { sequence, digest: self.life * 1_000 + sequence, size: 1, body: Some((sequence, Clears::No)) }
    }

    fn acts(&mut self, step: impl FnOnce(&mut Stream<u64>, Instant, &mut Vec<Act<u64>>)) -> Vec<Act<u64>> {
        let mut acts = Vec::new();
        step(&mut self.stream, self.now, &mut acts);
        acts
    }

    fn connect(&mut self) -> Vec<Act<u64>> {
        self.acts(|stream, now, acts| stream.connected(now, acts))
    }

    fn live(&mut self, sequence: u64) -> Vec<Act<u64>> {
        let message = self.message(sequence);
        self.acts(|stream, now, acts| stream.live(now, message, acts))
    }

    fn replayed(&mut self, sequence: u64) -> Vec<Act<u64>> {
        let message = self.message(sequence);
        self.acts(|stream, now, acts| stream.replayed(now, message, acts))
    }

    fn ended(&mut self) -> Vec<Act<u64>> {
        self.acts(|stream, now, acts| stream.replay_ended(now, acts))
    }

    fn later(&mut self, time: Duration) -> Vec<Act<u64>> {
        self.now += time;
        self.acts(|stream, now, acts| stream.tick(now, acts))
    }

    /// Connected, and messages 0, 1 and 2 applied.
    fn trusted() -> Self {
        let mut case = Self::new(Replayable::Yes);
        assert_eq!((case.stream.trust(), case.connect()), (Trust::Cold, vec![Act::Ask(0)]));
        assert_eq!(case.live(2), [], "it waits for those before");
        assert_eq!((case.replayed(0), case.replayed(1)), (vec![Act::Apply(0)], vec![Act::Apply(1)]));
        assert_eq!(case.stream.trust(), Trust::Replaying);
        assert_eq!((case.ended(), case.stream.trust()), (vec![Act::Apply(2)], Trust::Trusted));
        case
    }
}

use Act::{Apply, Ask, Forget};

#[test]
fn who_joins_asks_for_all_and_is_trusted_then() {
    let mut case = Case::trusted();
    assert_eq!((case.live(3), case.stream.trust()), (vec![Apply(3)], Trust::Trusted));
}

#[test]
fn an_engine_that_has_said_nothing_is_trusted_to_hold_nothing() {
    let mut case = Case::new(Replayable::Yes);
    case.connect();
    assert_eq!((case.ended(), case.stream.trust()), (vec![], Trust::Trusted));
    assert_eq!((case.live(0), case.stream.trust()), (vec![Apply(0)], Trust::Trusted));
}

#[test]
fn a_gap_is_asked_for_with_the_message_before_it() {
    let mut case = Case::trusted();
    assert_eq!((case.live(5), case.stream.trust()), (vec![Ask(2)], Trust::Replaying));
    assert_eq!((case.replayed(2), case.live(6)), (vec![], vec![]));
    assert_eq!(
        (case.replayed(3), case.replayed(4), case.replayed(5)),
        (vec![Apply(3)], vec![Apply(4)], vec![Apply(5)])
    );
    assert_eq!((case.ended(), case.stream.trust()), (vec![Apply(6)], Trust::Trusted));
    let Counts { gaps, repeated, forgotten, .. } = case.stream.counts();
    assert_eq!((gaps, repeated, forgotten), (1, 2, 0), "2 was proof, 5 was parked, too");
}

#[test]
fn a_gap_that_the_engine_no_longer_has_ends_trust() {
    let mut case = Case::trusted();
    case.live(9);
    assert_eq!(case.replayed(7), [Forget, Apply(7)]);
    assert_eq!((case.replayed(8), case.ended()), (vec![Apply(8)], vec![Apply(9)]));
    assert_eq!((case.stream.trust(), case.stream.counts().overruns), (Trust::Gapped, 1));
}

#[test]
fn a_replay_that_fails_is_tried_again_and_nothing_in_doubt_is_kept_meanwhile() {
    let mut case = Case::trusted();
    case.live(5);
    assert_eq!(case.later(GRACE), [Forget, Apply(5)], "it took too long");
    assert_eq!((case.live(6), case.stream.trust()), (vec![Apply(6)], Trust::Gapped));
    assert_eq!((case.later(RETRY.0), case.stream.trust()), (vec![Ask(0)], Trust::Replaying));
    assert_eq!(case.live(7), []);
    assert_eq!(case.acts(|stream, now, acts| stream.replay_failed(now, acts)), [Apply(7)], "nothing was in doubt");
    assert_eq!((case.later(RETRY.0), case.later(RETRY.0)), (vec![], vec![Ask(0)]), "the pause is doubled");
    assert_eq!(case.replayed(0), [Forget, Apply(0)]);
    let rest: Vec<_> = (1..8).flat_map(|sequence| case.replayed(sequence)).collect();
    assert_eq!((rest, case.ended(), case.stream.trust()), ((1..8).map(Apply).collect(), vec![], Trust::Trusted));
}

#[test]
fn a_number_that_goes_back_is_a_new_life() {
    let mut case = Case::trusted();
    case.life = 2;
    assert_eq!((case.live(0), case.stream.trust()), (vec![Forget, Apply(0)], Trust::Trusted));
    case.live(1);
    case.life = 3;
    assert_eq!(case.live(1), [Forget, Ask(0)], "its 0 was not heard");
    assert_eq!((case.replayed(0), case.replayed(1), case.ended()), (vec![Apply(0)], vec![Apply(1)], vec![]));
    assert_eq!((case.stream.trust(), case.stream.counts().restarts), (Trust::Trusted, 2));
}

#[test]
fn a_short_cut_forgets_nothing_and_a_long_one_all() {
    let mut case = Case::trusted();
    case.stream.disconnected(case.now);
    assert_eq!((case.later(GRACE / 2), case.connect()), (vec![], vec![Ask(2)]));
    assert_eq!((case.replayed(2), case.replayed(3), case.ended()), (vec![], vec![Apply(3)], vec![]));
    assert_eq!(case.stream.trust(), Trust::Trusted);
    case.stream.disconnected(case.now);
    assert_eq!((case.later(GRACE), case.stream.trust()), (vec![Forget], Trust::Cold));
    assert_eq!(case.connect(), [Ask(0)]);
}

#[test]
fn connections_that_come_and_go_do_not_prolong_doubt() {
    let mut case = Case::trusted();
    case.stream.disconnected(case.now);
    case.later(GRACE / 2);
    case.connect();
    case.stream.disconnected(case.now);
    assert_eq!(case.stream.deadline(), Some(case.now + GRACE), "the question's own limit");
}

#[test]
fn another_engine_behind_the_same_address_is_found_out() {
    let mut case = Case::trusted();
    case.stream.disconnected(case.now);
    case.life = 2;
    assert_eq!((case.connect(), case.live(4)), (vec![Ask(2)], vec![]));
    assert_eq!(case.replayed(2), [Forget, Ask(0)], "same number, other bytes");
    let all: Vec<_> = (0..5).flat_map(|sequence| case.replayed(sequence)).collect();
    assert_eq!((all, case.ended(), case.stream.trust()), ((0..5).map(Apply).collect(), vec![], Trust::Trusted));
    case.stream.disconnected(case.now);
    assert_eq!((case.connect(), case.ended()), (vec![Ask(4)], vec![Forget, Ask(0)]), "it never said a 4");
    assert_eq!((case.ended(), case.stream.trust()), (vec![], Trust::Trusted));
}

#[test]
fn without_replays_a_gap_is_forgetting_and_a_clear_is_trust() {
    let mut case = Case::new(Replayable::No);
    assert_eq!((case.connect(), case.live(7), case.stream.trust()), (vec![], vec![Apply(7)], Trust::Gapped));
    assert_eq!((case.live(8), case.stream.counts().gaps), (vec![Apply(8)], 0));
    assert_eq!((case.live(10), case.stream.trust()), (vec![Forget, Apply(10)], Trust::Gapped));
    let clear = Message { body: Some((11, Clears::Yes)), ..case.message(11) };
    assert_eq!(case.acts(|stream, now, acts| stream.live(now, clear, acts)), [Apply(11)]);
    assert_eq!(case.stream.trust(), Trust::Trusted);
    case.stream.disconnected(case.now);
    assert_eq!((case.connect(), case.stream.trust()), (vec![Forget], Trust::Cold), "nobody can tell who that is");
    assert_eq!((case.live(0), case.stream.trust()), (vec![Apply(0)], Trust::Trusted));
}

#[test]
fn what_cannot_be_read_may_have_been_a_removal() {
    let mut case = Case::trusted();
    let noise = Message { body: None, ..case.message(3) };
    assert_eq!(case.acts(|stream, now, acts| stream.live(now, noise, acts)), [Forget]);
    assert_eq!((case.live(4), case.stream.trust()), (vec![Apply(4)], Trust::Gapped));
    assert_eq!(case.stream.counts().unreadable, 1);
}

#[test]
fn an_engine_that_never_fills_its_gaps_is_not_asked_for_ever() {
    let mut case = Case::trusted();
    let mut asked = 0;
    for sequence in (10..1_000).step_by(10) {
        asked += case.live(sequence).iter().filter(|act| matches!(act, Ask(_))).count();
        while case.stream.trust() == Trust::Replaying {
            asked += case.replayed(2).iter().chain(&case.ended()).filter(|act| matches!(act, Ask(_))).count();
            assert!(asked < 10_000, "it goes round in circles");
        }
    }
    assert!(asked <= 99 * MOST_REPLAYS as usize, "{asked}");
}

#[test]
fn what_finds_no_room_is_asked_for_again() {
    let mut case = Case::trusted();
    case.live(4);
    (5..5_000).for_each(|sequence| drop(case.live(sequence)));
    assert_eq!(case.stream.counts().unparked, 4_097);
    (2..4_101).for_each(|sequence| drop(case.replayed(sequence)));
    let acts = case.ended();
    let rest: Vec<_> = (4_101..5_000).map(Apply).collect();
    assert_eq!(acts, rest, "no gap: the replay reached what was parked last");
    assert_eq!(case.stream.trust(), Trust::Trusted);
}

#[test]
fn what_was_lost_last_is_found_by_asking_and_trust_does_not_waver() {
    let mut case = Case::trusted();
    assert_eq!((case.later(CHECK_SOON), case.stream.trust()), (vec![Ask(2)], Trust::Trusted));
    assert_eq!((case.replayed(2), case.replayed(3), case.ended()), (vec![], vec![Apply(3)], vec![]));
    assert_eq!((case.later(CHECK_IDLE / 2), case.live(4)), (vec![], vec![Apply(4)]));
    assert_eq!(
        (case.later(CHECK_IDLE / 2), case.later(CHECK_IDLE / 2)),
        (vec![], vec![Ask(4)]),
        "since the last message"
    );
    assert_eq!((case.later(GRACE), case.stream.trust()), (vec![], Trust::Trusted), "no answer: no harm");
    case.life = 2;
    assert_eq!((case.later(CHECK_IDLE), case.replayed(4)), (vec![Ask(4)], vec![Forget, Ask(0)]), "a new life");
    assert_eq!(case.stream.trust(), Trust::Replaying);
}

/// From the first message that nobody heard, with none after it, and whatever came before: some was heard so many ms before that.
#[test]
fn what_was_lost_last_is_asked_for_in_time_to_be_known_within_5_s() {
    let (pace, answer) = (Duration::from_millis(100), Duration::from_secs(1));
    for heard_before_ms in [0, 900, 1_100, 3_900, 7_300, 60_000] {
        let mut case = Case::trusted();
        for _ in 0..heard_before_ms / 100 {
            let asked = case.later(pace);
            if asked.iter().any(|act| matches!(act, Ask(_))) {
                // Nothing is new yet.
                assert_eq!((case.replayed(2), case.ended()), (vec![], vec![]));
            }
        }
        let lost = case.now;
        while !case.later(pace).contains(&Ask(2)) {
            assert!(case.now - lost < Duration::from_secs(5) - answer, "heard {heard_before_ms} ms before");
        }
        assert_eq!((case.replayed(2), case.replayed(3), case.ended()), (vec![], vec![Apply(3)], vec![]));
        assert_eq!(case.stream.trust(), Trust::Trusted);
    }
}
