//! What engines have cached, from the engine to where a request goes: its KV events, the control plane, the data plane, the decision.
//! Then what happens to that on the way: from a fault on nothing is sent for blocks that are gone for longer than 5 s.

mod bed;

use std::time::{Duration, Instant};

use bed::{ADAPTER, BASE, Bed, MODEL, Ride, Seen, TOKENS, Whose, texts};

/// So long a false hit may go on after a fault.
const FALSELY: Duration = Duration::from_secs(5);
/// More than are looked at in [`FALSELY`].
const MANY: usize = 500;

#[test]
fn requests_go_to_the_engine_that_has_their_prefix_cached() {
    let mut bed = Bed::start(7);
    let texts = texts("once", 10);
    bed.warm(BASE, &texts);
    bed.known();
    let there = Seen { engine: bed.holder(), believed: TOKENS, cached: Some(TOKENS) };
    for text in &texts {
        assert_eq!(bed.ask(BASE, text), there, "the first time that a request has this prefix");
    }
    for n in 0..10 {
        assert_eq!(bed.ask(BASE, &format!("{}, but of another kind, {n}", texts[0])), there);
    }
}

#[test]
fn blocks_of_an_adapter_or_a_salt_attract_nobody_elses_requests() {
    let mut bed = Bed::start(8);
    let adapter = Whose { model: ADAPTER, salt: None };
    let [salted, other] = ["a tenant", "another"].map(|salt| Whose { model: MODEL, salt: Some(salt) });
    let both = Whose { model: ADAPTER, salt: salted.salt };
    let pairs = [(adapter, BASE), (BASE, adapter), (salted, BASE), (BASE, salted), (salted, other), (both, salted)];
    for (n, (own, others)) in pairs.into_iter().enumerate() {
        let texts = texts(&format!("pair {n}"), 10);
        bed.warm(own, &texts);
        bed.known();
        for text in &texts {
            let Seen { believed, cached, .. } = bed.ask(others, text);
            assert_eq!((believed, cached), (0, Some(0)), "{others:?} finds nothing of {own:?}");
            let there = Seen { engine: bed.holder(), believed: TOKENS, cached: Some(TOKENS) };
            assert_eq!(bed.ask(own, text), there, "{own:?}");
        }
    }
}

/// An engine that has cached a lot, and a data plane that knows it and has predicted some more.
struct Case {
    bed: Bed,
    lost: Vec<String>,
    predicted: Vec<String>,
}

impl Case {
    fn start(test: u8) -> Self {
        let mut bed = Bed::start(test);
        let mut lost = texts("lost", MANY);
        bed.warm(BASE, &lost);
        bed.known();
        let looked_at = lost.split_off(MANY - 10);
        bed.all_go_there(&looked_at);
        let predicted = bed.predicted(texts("predicted", 40));
        bed.known();
        Self { bed, lost, predicted }
    }

    /// Everything is lost since then. Afterwards what is cached anew is known.
    fn end(mut self, what: &str, since: Instant) -> Ride {
        let ride = self.bed.ride(since, &self.lost, &self.predicted);
        println!("{what}: {ride:?}");
        assert!(ride.falsely < FALSELY, "{what}: {ride:?}");
        let anew = texts("anew", 10);
        self.bed.warm(BASE, &anew);
        self.bed.known();
        self.bed.all_go_there(&anew);
        ride
    }
}

#[test]
fn a_lost_message_is_found_by_the_one_after_it() {
    let case = Case::start(9);
    case.bed.lose_messages(1);
    let since = Instant::now();
    case.bed.lose_cache();
    case.bed.warm(BASE, &texts("next", 1));
    case.end("a gap", since);
}

#[test]
fn a_lost_message_is_found_without_one_after_it() {
    let case = Case::start(10);
    case.bed.lose_messages(1);
    let since = Instant::now();
    case.bed.lose_cache();
    case.end("a lost last message", since);
}

#[test]
fn an_engine_that_is_killed_and_started_anew_is_asked_for_nothing_that_it_had() {
    let mut case = Case::start(11);
    let since = Instant::now();
    case.bed.restart_engine();
    case.end("an engine's restart", since);
}

#[test]
fn what_is_lost_while_the_control_plane_restarts_is_known_soon_after() {
    let mut case = Case::start(12);
    let since = Instant::now();
    case.bed.restart_control(Bed::lose_cache);
    case.end("a control plane's restart", since);
}

#[test]
fn a_data_plane_that_restarts_believes_nothing_that_is_gone_and_soon_all_that_is_there() {
    let mut case = Case::start(13);
    let since = Instant::now();
    case.bed.restart_plane(Bed::lose_cache);
    let ride = case.end("a data plane's restart", since);
    assert_eq!(ride.false_hits.0, 0, "what was held died with it");
}
