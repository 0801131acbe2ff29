//! Generations, gaps, epochs, and what is told before or after it can be understood.

use super::*;

#[test]
fn after_a_gap_digests_are_asked_for_at_most_once_a_second() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    bed.hold(1, &prompt[..10]);
    bed.sequence += 1;
    let update = bed.update(vec![], &said(2, &prompt[..3], Said::Held));
    let digests = bed.take(&update).expect("a message is missing");
    // What came is taken all the same.
    let expected = [digest(1, &prompt[..10]), digest(2, &prompt[..3])];
    assert_eq!((digests.epoch, digests.generation, &digests.endpoints[..]), (1, 1, &expected[..]));
    bed.tell(vec![], &said(1, &prompt[10..12], Said::Held));
    bed.sequence += 1;
    let update = bed.update(vec![], &[]);
    assert_eq!(bed.take(&update), None, "it was asked just now");
    assert_eq!(bed.tick(500), []);
    let later = bed.tick(600);
    assert_eq!(later[0].endpoints, [digest(1, &prompt[..12]), digest(2, &prompt[..3])]);
    assert_eq!(bed.tick(2_000), [], "the question is asked once");
    assert_eq!((bed.lane.counts().gaps, bed.lane.counts().asked), (2, 2));
}

#[test]
fn what_was_known_already_is_not_applied_again() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    let first = bed.update(vec![], &said(1, &prompt, Said::Held));
    bed.take(&first);
    let second = bed.update(vec![], &said(1, &prompt[10..], Said::Gone));
    bed.take(&second);
    let again = bed.update(vec![], &said(1, &prompt[10..], Said::Held));
    assert_eq!(bed.take(&Update { sequence: 2, ..again.clone() }), None);
    assert_eq!(bed.found(&prompt), [(0, 10)]);
    assert_eq!(bed.take(&Update { epoch: 9, ..again }), None);
    assert_eq!((bed.found(&prompt), bed.lane.counts().stale), (vec![(0, 10)], 2));
}

#[test]
fn a_generation_that_begins_drops_what_was_held_of_its_model_alone() {
    let (mut bed, prompt, other) = (Bed::new(), chain(1, 20), chain(2, 20));
    bed.hold(1, &prompt);
    let update = bed.update(vec![], &said(1, &other, Said::Held));
    bed.take(&Update { model: "n".into(), sequence: 1, reset: true, ..update });
    bed.predict(1, &prompt[..16]);
    let update = bed.update(vec![], &said(3, &prompt[..5], Said::Held));
    bed.take(&Update { generation: 2, sequence: 77, reset: true, ..update });
    // Predictions are not the generation's.
    assert_eq!((bed.found(&prompt), bed.found(&other)), (vec![(1, 16), (2, 5)], vec![(0, 20)]));
    let update = bed.update(vec![], &said(3, &prompt[5..6], Said::Held));
    assert_eq!(bed.take(&Update { generation: 2, sequence: 78, ..update }), None);
    assert_eq!(bed.found(&prompt), [(1, 16), (2, 6)]);
}

#[test]
fn a_generation_without_its_beginning_is_a_gap() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    let update = bed.update(vec![], &said(1, &prompt, Said::Held));
    let digests = bed.take(&Update { reset: false, sequence: 5, ..update }).expect("nothing of it was heard before");
    assert_eq!(digests.endpoints, [digest(1, &prompt)]);
}

#[test]
fn a_new_stream_of_the_same_epoch_goes_on_with_what_is_held() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    bed.hold(1, &prompt);
    bed.lane.lost(bed.now_ms);
    let digests = bed.open(1);
    assert_eq!(digests[0].endpoints, [digest(1, &prompt)]);
    assert_eq!(bed.found(&prompt), [(0, 20)]);
    // Only what differs, by whatever number and generation.
    let update = bed.update(vec![], &said(1, &prompt[15..], Said::Gone));
    assert_eq!(bed.take(&Update { generation: 8, sequence: 40, reset: false, ..update }), None);
    assert_eq!(bed.found(&prompt), [(0, 15)]);
    bed.now_ms += ASK_EVERY_MS;
    let update = bed.update(vec![], &[]);
    assert!(bed.take(&Update { generation: 8, sequence: 42, reset: false, ..update }).is_some());
}

#[test]
fn handles_of_another_epoch_are_translated_when_its_table_is_in_force() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    bed.hold(1, &prompt);
    bed.hold(2, &prompt[..9]);
    assert_eq!(bed.open(5), [], "nobody knows the new handles yet");
    assert_eq!(bed.found(&prompt), [(0, 20), (1, 9)]);
    // The endpoint c is gone, b has a's old handle, d is new.
    let digests = bed.seat(&snapshot(5, &[(1, "b"), (9, "a"), (4, "d")]));
    assert_eq!(digests[0].endpoints, [digest(1, &prompt[..9]), digest(9, &prompt)]);
    bed.sequence = 1;
    let update = bed.update(vec![], &said(1, &prompt[9..12], Said::Held));
    assert_eq!(bed.take(&update), None);
    assert_eq!(bed.found(&prompt), [(0, 20), (1, 12)]);
}

#[test]
fn what_the_new_epoch_says_before_its_table_comes_counts_for_more_than_what_was_held() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    bed.hold(1, &prompt);
    bed.open(5);
    bed.sequence = 1;
    let update = bed.update(vec![], &said(7, &prompt[..4], Said::Held));
    bed.take(&update);
    assert_eq!(bed.found(&prompt), [(0, 20)], "nobody knows whose handle 7 is");
    bed.seat(&snapshot(5, &[(7, "a")]));
    assert_eq!(bed.found(&prompt), [(0, 4)]);
}

#[test]
fn an_endpoint_that_leaves_takes_its_blocks_along() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    bed.hold(1, &prompt);
    bed.hold(2, &prompt);
    // As the tables thread does it: seats first, then the lane.
    let gone = api::id::EndpointKey { uid: "a".into(), port: 1_097, rank: 0 };
    bed.writer.release(&gone);
    bed.seat(&snapshot(1, &[(2, "b"), (4, "d")]));
    assert_eq!(bed.found(&prompt), [(1, 20)], "d has the seat that a had");
    assert_eq!(bed.lane.look().blocks, 20);
    while bed.writer.retire_slice(1_000, 0) {
        bed.reader.turn();
    }
    bed.hold(4, &prompt[..2]);
    assert_eq!(bed.found(&prompt), [(0, 2), (1, 20)]);
}

#[test]
fn what_is_said_of_an_unknown_handle_waits_for_its_table() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    bed.tell(vec![rank(4, Trust::Trusted)], &said(4, &prompt, Said::Held));
    assert_eq!((bed.found(&prompt), bed.lane.look().waiting), (vec![], 1));
    bed.tick(WAITS_MS - 1);
    bed.seat(&snapshot(1, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]));
    assert_eq!((bed.found(&prompt), bed.lane.look().waiting), (vec![(3, 20)], 0));
}

#[test]
fn nothing_waits_for_ever_nor_without_bound() {
    let (mut bed, prompt) = (Bed::new(), chain(1, 20));
    bed.hold(4, &prompt);
    assert_eq!(bed.lane.counts().homeless, 0);
    bed.tick(WAITS_MS);
    assert_eq!((bed.lane.counts().homeless, bed.lane.look().waiting), (20, 0));
    let many: Vec<_> = (0..MAX_WAITING as u32 + 5).map(|at| (u64::from(at), 100 + at, Said::Held)).collect();
    bed.tell(vec![], &many);
    assert_eq!((bed.lane.counts().homeless, bed.lane.look().waiting), (25, MAX_WAITING));
    bed.seat(&snapshot(1, &[(1, "a"), (2, "b"), (3, "c"), (4, "d")]));
    assert_eq!(bed.found(&prompt), [], "it was given up");
}
