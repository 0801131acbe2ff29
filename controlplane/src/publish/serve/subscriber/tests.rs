//! What data planes hold of what had been seen, and what it costs to tell them.

use api::delta;
use api::proto::to_data_plane::Message;
use api::proto::{Applied, ConfigDelta, Resync, ToDataPlane};
use api::snapshot::Snapshot;
use proptest::prelude::*;
use prost::Message as _;

use super::super::tests::snapshot;
use super::*;

/// A data plane that does as it is told, by one stream after the other.
struct Plane {
    held: Snapshot,
    stream: Subscriber,
}

impl Plane {
    fn new(archive: &Archive) -> Self {
        let mut plane = Self { held: Snapshot::default(), stream: Subscriber::new(&Subscribe::default(), archive) };
        plane.stream_again(archive);
        plane
    }

    fn stream_again(&mut self, archive: &Archive) {
        let Snapshot { version, seen, .. } = &self.held;
        let held = (*version != Version::default())
            .then_some(api::proto::Version { epoch: version.epoch, version: version.version });
        let content_hash = api::hash::content_hash(&self.held);
        let subscribe = Subscribe { held, content_hash, resource_versions: seen.wire(), ..Subscribe::default() };
        self.stream = Subscriber::new(&subscribe, archive);
    }

    /// Takes the next change; how many bytes it had.
    fn follow(&mut self, current: &Published, archive: &Archive, answer: Took) -> usize {
        let Some(update) = self.stream.next(current, archive) else { return 0 };
        let mut incoming = delta::Incoming::default();
        update.frames.iter().for_each(|frame| assert!(incoming.add(change(frame))));
        let result = match answer {
            Took::Applied => {
                self.held = incoming.apply(&self.held).expect("it is to what is held");
                Answer::Applied(Applied::default())
            }
            Took::Resync if update.base.is_some() => Answer::Resync(Resync::default()),
            Took::Refused | Took::Resync => Answer::Refused(Refused::default()),
        };
        self.stream.hear(ConfigAck { nonce: update.nonce, result: Some(result) }, archive);
        update.frames.iter().map(|frame| frame.len()).sum()
    }
}

#[derive(Debug, Clone, Copy)]
enum Took {
    Applied,
    Refused,
    Resync,
}

fn change(frame: &[u8]) -> ConfigDelta {
    let Some(Message::Config(update)) = ToDataPlane::decode(frame).unwrap().message else { panic!("no change") };
    update.delta.unwrap()
}

/// What was seen of as many lists, where each was read up to this.
fn seen(versions: impl IntoIterator<Item = u64>) -> Seen {
    versions.into_iter().enumerate().map(|(n, version)| (format!("Pod/n-{n}"), version.to_string())).collect()
}

#[test]
fn a_change_costs_as_much_with_two_hundred_namespaces_as_with_one() {
    let archive = Archive::new(1, 1 << 20, Arc::default());
    // Five lists for each, as long as they are in a cluster.
    let lists = |changed: u64| {
        let lists = ["Pod", "ModelRoute", "ModelServer", "ModelServing", "RouterProfile"];
        let of = |n: u64| lists.map(|list| (format!("{list}/namespace-of-a-team-{n}"), (1_000_000 + n).to_string()));
        let mut all: std::collections::BTreeMap<_, _> = (0..200).flat_map(of).collect();
        all.insert("Pod/namespace-of-a-team-7".into(), (2_000_000 + changed).to_string());
        all.into_iter().collect()
    };
    let publish = |n| archive.publish(&Snapshot { seen: lists(n), ..snapshot(&format!("a=m{n} b c d")) });
    let mut plane = Plane::new(&archive);
    let first = plane.follow(&publish(0), &archive, Took::Applied);
    assert!(first > 1_000 * 30, "a full state has them all: {first}");
    for n in 1..5 {
        let bytes = plane.follow(&publish(n), &archive, Took::Applied);
        assert!((50..=1_000).contains(&bytes), "change {n}: {bytes} bytes");
        assert_eq!(plane.held.seen, lists(n));
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// This content, of lists that were read so far.
    Publish(u64, Vec<u64>),
    Follow(usize, Took),
    StreamAgain(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let plane = 0_usize..3;
    let took = prop_oneof![8 => Just(Took::Applied), 1 => Just(Took::Refused), 1 => Just(Took::Resync)];
    prop_oneof![
        3 => (0_u64..4, proptest::collection::vec(0_u64..1_000, 0..4)).prop_map(|(n, lists)| Step::Publish(n, lists)),
        5 => (plane.clone(), took).prop_map(|(plane, took)| Step::Follow(plane, took)),
        1 => plane.prop_map(Step::StreamAgain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// However late it is, and whatever was published again meanwhile.
    #[test]
    fn a_data_plane_holds_of_what_was_seen_what_a_full_state_would_have_told_it(
        steps in proptest::collection::vec(step(), 1..60),
        many in any::<bool>(),
    ) {
        let archive = Archive::new(1, 1 << 20, Arc::default());
        let state = |content: u64, lists: Vec<u64>| Snapshot { fleet_seed: content, seen: seen(lists), ..Snapshot::default() };
        let mut planes: Vec<_> = (0..3).map(|_| Plane::new(&archive)).collect();
        let mut all = vec![state(0, vec![1])];
        let mut current = archive.publish(&all[0]);
        for step in steps {
            match step {
                Step::Publish(content, lists) => {
                    // More states than are kept, in between.
                    (0..if many { 70 } else { 0 }).for_each(|n| _ = archive.publish(&state(100 + n, Vec::new())));
                    all.push(state(content, lists));
                    current = archive.publish(&all[all.len() - 1]);
                }
                Step::Follow(plane, took) => _ = planes[plane].follow(&current, &archive, took),
                Step::StreamAgain(plane) => planes[plane].stream_again(&archive),
            }
            for Plane { held, .. } in planes.iter().filter(|plane| plane.held.version != Version::default()) {
                let told = |state: &Snapshot| state.fleet_seed == held.fleet_seed && state.seen == held.seen;
                prop_assert!(all.iter().any(told), "{:?} was never published with {}", held.seen, held.fleet_seed);
            }
        }
    }
}
