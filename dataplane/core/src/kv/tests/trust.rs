//! How far what is told is believed, and what becomes of predictions.

use super::*;

#[test]
fn an_emptied_endpoint_is_masked_at_once_in_both_tables() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 64));
    bed.hold(1, &prompt);
    bed.hold(2, &prompt[..20]);
    bed.predict(0, &prompt);
    bed.tell(vec![Rank { forget: true, emptied: true, ..rank(1, Trust::Cold) }], &said(1, &prompt[..3], Said::Held));
    assert_eq!(bed.found(&prompt), [(0, 3), (1, 20)]);
    assert_eq!(bed.lane.look().seated[&Seat(0)], Seated { trust: Trust::Cold, blocks: 3 });
}

#[test]
fn what_is_told_anew_is_no_reason_to_drop_what_is_predicted() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 64));
    bed.hold(1, &prompt[..20]);
    bed.predict(0, &prompt);
    bed.tell(vec![Rank { forget: true, ..rank(1, Trust::Replaying) }], &said(1, &prompt[..3], Said::Held));
    assert_eq!(bed.found(&prompt), [(0, 64)]);
    assert_eq!(bed.lane.look().seated[&Seat(0)], Seated { trust: Trust::Replaying, blocks: 3 });
}

#[test]
fn what_nobody_hears_any_more_is_predicted_only() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 64));
    bed.hold(1, &prompt);
    bed.predict(0, &prompt[..16]);
    bed.tell(vec![rank(1, Trust::Predicted)], &[]);
    assert_eq!(bed.found(&prompt), [(0, 16)]);
}

fn check(trust: Trust, lives_on: bool) {
    let (mut bed, prompt) = (Bed::new(), chain(1, 64));
    bed.tell(vec![rank(1, trust)], &said(1, &prompt[..5], Said::Held));
    bed.predict(0, &prompt);
    bed.tick(4_900);
    assert_eq!(bed.found(&prompt), [(0, 64)], "{trust:?}");
    bed.tick(200);
    assert_eq!(bed.found(&prompt), [(0, if lives_on { 64 } else { 5 })], "{trust:?}");
    assert_eq!(bed.lane.look().trust.iter().position(|count| *count == 1), Some(trust as usize));
}

#[test]
fn predictions_live_5_s_where_all_is_told_and_else_as_long_as_the_cache_has_room() {
    for trust in [Trust::Cold, Trust::Replaying, Trust::Gapped] {
        check(trust, true);
    }
    check(Trust::Trusted, false);
}

#[test]
fn the_engines_word_of_its_cache_bounds_predictions() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 64));
    bed.predict(0, &prompt);
    let told = Rank { capacity_tokens: Some(512), ..rank(1, Trust::Cold) };
    bed.tell(vec![told], &[]);
    assert_eq!(bed.found(&prompt), [(0, 32)]);
    // A later word of trust says nothing of the size.
    bed.tell(vec![rank(1, Trust::Gapped)], &[]);
    bed.predict(0, &chain(2, 64));
    assert_eq!(bed.writer.stats().marks, 2);
}

#[test]
fn without_a_stream_trust_fades_and_at_last_all_is_forgotten() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 64));
    bed.tell(vec![rank(1, Trust::Trusted)], &said(1, &prompt[..5], Said::Held));
    bed.lane.lost(bed.now_ms);
    bed.tick(FADES_AFTER_MS);
    bed.predict(0, &prompt);
    bed.tick(60_000);
    assert_eq!(bed.found(&prompt), [(0, 64)], "no event will come");
    assert_eq!(bed.lane.look().trust[Trust::Gapped as usize], 1);
    let update = bed.update(vec![], &said(1, &prompt[..9], Said::Held));
    bed.take(&update);
    assert_eq!(bed.lane.counts().stale, 1, "a message without a stream");
    // Back in time: it goes on as before.
    assert_eq!(bed.open(1)[0].endpoints, [digest(1, &prompt[..5])]);
    assert_eq!(bed.lane.look().trust[Trust::Trusted as usize], 1);
    bed.tick(100);
    assert_eq!(bed.found(&prompt), [(0, 5)]);
    bed.lane.lost(bed.now_ms);
    bed.tick(FADES_AFTER_MS);
    bed.tick(FORGOTTEN_AFTER_MS);
    assert_eq!((bed.found(&prompt), bed.lane.look().models), (vec![], 0));
    assert_eq!(bed.open(1), []);
}

#[test]
fn what_was_reported_is_believed_while_no_stream_is_heard_until_it_is_forgotten() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 64));
    bed.tell(vec![rank(1, Trust::Trusted)], &said(1, &prompt, Said::Held));
    bed.lane.lost(bed.now_ms);
    for later in [FADES_AFTER_MS, 5_000, FORGOTTEN_AFTER_MS - FADES_AFTER_MS - 5_001] {
        bed.tick(later);
        assert_eq!(bed.found(&prompt), [(0, 64)], "most of it is there still, and to drop it is to miss all of it");
    }
    bed.tick(1);
    assert_eq!(bed.found(&prompt), []);
}
