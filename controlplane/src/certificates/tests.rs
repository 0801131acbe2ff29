//! The plan over a virtual clock, with real certificates.

mod fleet;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::held::Held;
use super::issue::IssueError;
use super::plan::{Step, Stood, Wanted};
use super::*;
use fleet::{Event, Fleet};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const MINUTE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Times::DEFAULT.settle;

fn due(held: &Held, stood: Stood, hosts: &BTreeSet<String>, now: Timestamp) -> Option<Step> {
    super::plan::due(held, stood, Wanted { hosts, times: Times::DEFAULT }, now)
}

fn issue(
    step: Step,
    contents: &Contents,
    held: &Held,
    hosts: &BTreeSet<String>,
    now: Timestamp,
) -> Result<Contents, IssueError> {
    super::issue::issue(step, contents, held, Wanted { hosts, times: Times::DEFAULT }, now)
}

fn start() -> Timestamp {
    "2026-11-26T12:00:00Z".parse().unwrap()
}

fn hosts() -> BTreeSet<String> {
    &service_names("webhook", "kthena-system") | &BTreeSet::from(["127.0.0.1".to_owned()])
}

/// What a Secret holds after these steps, all done at once.
fn after(steps: &[Step], now: Timestamp) -> Contents {
    steps.iter().fold(Contents::default(), |contents, step| {
        issue(*step, &contents, &Held::read(&contents), &hosts(), now).unwrap()
    })
}

#[track_caller]
fn check(contents: &Contents, stood: Stood, now: Timestamp, expected: Option<Step>) {
    assert_eq!(due(&Held::read(contents), stood, &hosts(), now), expected);
}

/// All has been as it is for so long.
fn stood(time: Duration) -> Stood {
    Stood { bundle: Some(time), leaf: time }
}

#[test]
fn an_empty_secret_is_filled_once() {
    check(&Contents::default(), Stood::default(), start(), Some(Step::BeginAnew));
    let made = after(&[Step::BeginAnew], start());
    check(&made, Stood::default(), start(), None);
    let held = Held::read(&made);
    assert_eq!((held.cas.len(), held.signer), (1, Some(0)));
    let leaf = held.leaf.unwrap();
    assert_eq!((leaf.issuer, leaf.hosts), (0, hosts()));
}

#[test]
fn a_leaf_is_renewed_after_two_thirds_of_its_90_days() {
    let made = after(&[Step::BeginAnew], start());
    check(&made, Stood::default(), start() + DAY * 59, None);
    check(&made, Stood::default(), start() + DAY * 60, Some(Step::MakeLeaf));
    let renewed = issue(Step::MakeLeaf, &made, &Held::read(&made), &hosts(), start() + DAY * 60).unwrap();
    check(&renewed, Stood::default(), start() + DAY * 61, None);
    assert_eq!(renewed.bundle, made.bundle, "clients have nothing to learn");
}

#[test]
fn a_ca_is_replaced_in_three_steps_and_each_gives_others_time() {
    let now = start() + DAY * 2434;
    let old = after(&[Step::BeginAnew], start());
    let old = issue(Step::MakeLeaf, &old, &Held::read(&old), &hosts(), now).unwrap();
    check(&old, Stood::default(), now - DAY * 2, None);
    check(&old, Stood::default(), now, Some(Step::AddCa));

    let both = issue(Step::AddCa, &old, &Held::read(&old), &hosts(), now).unwrap();
    assert_eq!((Held::read(&both).cas.len(), &both.chain), (2, &old.chain));
    check(&both, Stood::default(), now + DAY, None);
    check(&both, stood(SETTLE - MINUTE), now, None);
    check(&both, stood(SETTLE), now, Some(Step::MakeLeaf));

    let switched = issue(Step::MakeLeaf, &both, &Held::read(&both), &hosts(), now).unwrap();
    assert_eq!((Held::read(&switched).leaf.unwrap().issuer, &switched.bundle), (1, &both.bundle));
    check(&switched, stood(SETTLE - MINUTE), now, None);
    check(&switched, stood(SETTLE), now, Some(Step::DropOldCa));

    let done = issue(Step::DropOldCa, &switched, &Held::read(&switched), &hosts(), now).unwrap();
    assert_eq!((Held::read(&done).cas.len(), &done.chain), (1, &switched.chain));
    check(&done, stood(SETTLE * 10), now + DAY, None);
}

/// A wall clock that is set an hour forward in the midst of a rotation makes nobody wait less.
#[test]
fn c20_a_wall_clock_that_jumps_hurries_no_rotation() {
    let (old, now) = (after(&[Step::BeginAnew], start()), start() + DAY * 2434);
    let both = issue(Step::AddCa, &old, &Held::read(&old), &hosts(), now).unwrap();
    let switched = issue(Step::MakeLeaf, &both, &Held::read(&both), &hosts(), now).unwrap();
    for jumped in [now + SignedDuration::from_hours(1), now - SignedDuration::from_hours(1)] {
        check(&switched, stood(SETTLE - MINUTE), jumped, None);
        check(&switched, stood(SETTLE), jumped, Some(Step::DropOldCa));
    }
}

#[test]
fn what_is_lost_or_broken_is_made_again_and_keeps_what_still_serves() {
    let now = start();
    let whole = after(&[Step::BeginAnew], now);
    let check = |contents: Contents, expected| check(&contents, Stood::default(), now, Some(expected));
    // The CA's key is gone: the leaf serves on until its successor is trusted.
    check(Contents { ca_key: String::new(), ..whole.clone() }, Step::AddCa);
    check(Contents { key: "no key".to_owned(), ..whole.clone() }, Step::MakeLeaf);
    check(Contents { key: whole.ca_key.clone(), ..whole.clone() }, Step::MakeLeaf);
    check(Contents { bundle: whole.bundle.replace("MII", "MIJ"), ..whole.clone() }, Step::BeginAnew);
    // A leaf that no CA of the bundle signed is of no use to anybody.
    let other = after(&[Step::BeginAnew], now);
    check(Contents { chain: other.chain, key: other.key, ..whole }, Step::MakeLeaf);
}

#[test]
fn a_bundle_never_grows_beyond_two() {
    let mut contents = after(&[Step::BeginAnew], start());
    for _ in 0..4 {
        contents.ca_key.clear();
        contents = issue(Step::AddCa, &contents, &Held::read(&contents), &hosts(), start()).unwrap();
        let held = Held::read(&contents);
        assert_eq!((held.cas.len(), held.signer, held.leaf.map(|leaf| leaf.issuer)), (2, Some(1), Some(0)));
    }
}

#[test]
fn lives_and_the_time_to_settle_are_whatever_they_are_set_to() {
    let seconds = Duration::from_secs;
    let times = Times { ca_life: seconds(300), leaf_life: seconds(60), settle: seconds(5) };
    let (names, now) = (hosts(), start());
    let wanted = Wanted { hosts: &names, times };
    let next = |step, contents: &Contents, now| {
        super::issue::issue(step, contents, &Held::read(contents), wanted, now).unwrap()
    };
    let due = |contents: &Contents, stood, now| super::plan::due(&Held::read(contents), stood, wanted, now);
    let made = next(Step::BeginAnew, &Contents::default(), now);
    let life = Held::read(&made).leaf.unwrap().life;
    assert_eq!((life.from, life.until), (now - seconds(6), now + seconds(60)));
    // Two thirds of 66 s from 6 s before, and of 330 s from 30 s before.
    assert_eq!(due(&made, Stood::default(), now + seconds(37)), None);
    assert_eq!(due(&made, Stood::default(), now + seconds(38)), Some(Step::MakeLeaf));
    let later = now + seconds(190);
    let renewed = next(Step::MakeLeaf, &made, later - seconds(1));
    assert_eq!(due(&renewed, Stood::default(), later - seconds(1)), None);
    assert_eq!(due(&renewed, Stood::default(), later), Some(Step::AddCa));
    let both = next(Step::AddCa, &renewed, later);
    assert_eq!(due(&both, stood(seconds(4)), later), None);
    assert_eq!(due(&both, stood(seconds(5)), later), Some(Step::MakeLeaf));
    let switched = next(Step::MakeLeaf, &both, later);
    assert_eq!(due(&switched, stood(seconds(4)), later), None);
    assert_eq!(due(&switched, stood(seconds(5)), later), Some(Step::DropOldCa));
}

#[test]
fn replicas_that_differ_about_the_names_do_not_take_turns() {
    let (now, contents) = (start(), after(&[Step::BeginAnew], start()));
    let others = service_names("kthena-webhook", "kthena-system");
    assert_eq!(due(&Held::read(&contents), Stood::default(), &others, now), Some(Step::MakeLeaf));
    let both = issue(Step::MakeLeaf, &contents, &Held::read(&contents), &others, now).unwrap();
    assert_eq!(due(&Held::read(&both), Stood::default(), &others, now), None);
    assert_eq!(due(&Held::read(&both), Stood::default(), &hosts(), now), None);
}

#[test]
fn keys_are_not_printed() {
    let text = format!("{:?}", after(&[Step::BeginAnew], start()));
    assert!(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE"), "{text}");
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (1..60i64).prop_map(|s| Event::Wait(SignedDuration::from_secs(s))),
        3 => (1..30i64).prop_map(|m| Event::Wait(SignedDuration::from_mins(m))),
        1 => (1..120i64).prop_map(|d| Event::Wait(DAY * d as i32)),
        8 => (0..3usize).prop_map(Event::Read),
        8 => (0..3usize).prop_map(Event::Act),
        2 => (0..3usize).prop_map(Event::Kill),
        1 => Just(Event::ForgetCaKey),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Replicas stop anywhere, between reading and writing too, and go on at any time; clients learn of a bundle late.
    #[test]
    fn no_client_meets_a_certificate_that_it_cannot_verify(
        years in prop_oneof![Just(0i64), 6..8i64],
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut fleet = Fleet::new(start());
        fleet.settle();
        fleet.wait(DAY * (365 * years) as i32);
        for event in events {
            fleet.play(event);
        }
        // Whatever happened, left alone it comes to rest with one CA.
        fleet.settle();
        let held = Held::read(fleet.secret());
        prop_assert_eq!((held.cas.len(), held.signer), (1, Some(0)));
        prop_assert_eq!(due(&held, stood(SETTLE), &hosts(), fleet.now()), None);
    }
}
