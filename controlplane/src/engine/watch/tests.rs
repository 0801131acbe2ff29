use api::id::EndpointKey;

use super::*;
use crate::engine::targets::Member;
use crate::world::Unready;

#[test]
fn a_silent_place_is_asked_less_and_less_often() {
    let pauses: Vec<u64> = (0..6).map(|failures| pause(failures).as_secs()).collect();
    assert_eq!((pauses, pause(u32::MAX)), (vec![0, 1, 3, 7, 8, 8], LONGEST_PAUSE));
}

#[test]
fn facts_outlive_failures_for_a_while_and_no_longer() {
    let place =
        Place { address: ([127, 0, 0, 1], 8000).into(), topic: Topic::Models, engine: Engine::Triton, path: "".into() };
    let key = EndpointKey { uid: "u".into(), port: 8000, rank: 0 };
    let members = vec![Member { key: key.clone(), handle: None }];
    let mut watch = Watch::new(Target { members, ..Target::default() });
    let (begun, loads) = (watch.due, Loads::new(1));
    let unready = Facts { adapters: None, unready: Unready::All };
    watch.hear(Answer { facts: Some(unready.clone()), ..Answer::default() }, &place, &loads, begun);
    watch.fail(&AskError::Late, &place, begun + PERIOD);
    let watched = Watched::from([(place, watch)]);
    let said = |after: Duration| facts(&watched, begun + after).of(&key).map(|facts| Facts::clone(facts));
    assert_eq!(said(FACTS_KEPT - PERIOD), Some(unready));
    assert_eq!(said(FACTS_KEPT), None);
}
