//! Which source is in force, and what its successor has to tell.

use super::*;

fn place(own: Option<Trust>) -> Place {
    let key = EndpointKey { uid: "u".into(), port: 1, rank: 0 };
    let mut place = Place::new(key, "m".into());
    place.handle = Some(1);
    let speak = |trust| Own { rank: RankId(1), capacity_tokens: 0, ranks: 1, speakers: [(RankId(2), trust)].into() };
    place.own = own.map(speak);
    place
}

/// Of a place with peers, by stream: which is chosen.
#[track_caller]
fn check(own: Option<Trust>, peers: &[(u64, Trust)], lost: &[u64], expected: Option<Source>) {
    let (mut place, now) = (place(own), Instant::now());
    for (stream, trust) in peers {
        place.mirror_or_new(*stream).unwrap().trust = *trust;
    }
    lost.iter().for_each(|stream| place.orphan(*stream, now));
    assert_eq!(place.choose(now), expected, "{own:?} {peers:?} {lost:?}");
}

#[test]
fn the_one_that_knows_most_is_in_force_and_the_engine_itself_before_peers() {
    use Source::{Mirror, Own};
    use Trust::{Cold, Gapped, Replaying, Trusted};
    check(None, &[], &[], None);
    check(Some(Cold), &[], &[], Some(Own));
    check(Some(Trusted), &[(7, Trusted)], &[], Some(Own));
    check(Some(Gapped), &[(7, Trusted)], &[], Some(Mirror(1)));
    check(Some(Replaying), &[(7, Gapped)], &[], Some(Mirror(1)));
    check(Some(Replaying), &[(7, Replaying)], &[], Some(Own));
    check(None, &[(7, Gapped), (8, Trusted)], &[], Some(Mirror(2)));
    // What a lost one said is better than what is not known yet, and no better than what is.
    check(Some(Replaying), &[(7, Trusted)], &[7], Some(Mirror(1)));
    check(Some(Trusted), &[(7, Trusted)], &[7], Some(Own));
    check(None, &[(7, Trusted), (8, Trusted)], &[7], Some(Mirror(2)));
    check(None, &[(7, Replaying)], &[7], None);
}

#[test]
fn of_two_that_are_as_good_the_one_in_force_stays() {
    let (mut place, now) = (place(None), Instant::now());
    for stream in [7, 8, 9] {
        place.mirror_or_new(stream).unwrap().trust = Trust::Trusted;
    }
    for id in [1, 2, 3] {
        place.force = Some(Source::Mirror(id));
        assert_eq!(place.choose(now), Some(Source::Mirror(id)));
    }
}

#[test]
fn what_a_lost_peer_said_is_over_after_three_seconds_or_once_it_is_known_better() {
    let (mut place, now) = (place(None), Instant::now());
    place.mirror_or_new(7).unwrap().trust = Trust::Trusted;
    place.force = place.choose(now);
    place.orphan(7, now);
    assert_eq!(place.choose(now + ORPHAN - Duration::from_millis(1)), Some(Source::Mirror(1)));
    assert_eq!((place.choose(now + ORPHAN), place.over()), (None, Some(now + ORPHAN)));
    place.mirror_or_new(8).unwrap().trust = Trust::Trusted;
    place.force = place.choose(now);
    place.tidy(now);
    assert_eq!((place.force, place.mirrors.len(), place.over()), (Some(Source::Mirror(2)), 1, None));
}

#[test]
fn nothing_is_in_force_where_the_config_has_no_such_endpoint() {
    let mut place = place(Some(Trust::Trusted));
    place.handle = None;
    assert_eq!(place.choose(Instant::now()), None);
}

#[test]
fn an_engine_is_let_go_of_once_a_peer_that_is_heard_knows_as_much() {
    use Trust::{Cold, Gapped, Replaying, Trusted};
    for (own, peer, expected) in [
        (Trusted, Trusted, true),
        (Trusted, Gapped, false),
        (Gapped, Gapped, true),
        (Cold, Replaying, false),
        (Cold, Gapped, true),
    ] {
        let mut place = place(Some(own));
        place.mirror_or_new(7).unwrap().trust = peer;
        assert_eq!(place.may_be_let_go(), expected, "{own:?} {peer:?}");
        place.orphan(7, Instant::now());
        assert!(!place.may_be_let_go());
    }
    assert!(place(None).may_be_let_go(), "nothing was heard of it");
}

#[test]
fn only_what_two_sources_differ_in_is_told_and_no_block_before_its_parent() {
    let block = |n: u64| TextBlock { hash: n << 32 | n, position: n as u16, held: true };
    let mirror = |blocks: &[u64]| {
        let mut mirror = Mirror::new(1, 1);
        assert!(blocks.iter().all(|n| mirror.set(block(*n))));
        mirror
    };
    let (before, after) = (mirror(&[0, 1, 2, 3]), mirror(&[6, 1, 5, 0, 4]));
    let told = |level| {
        let told = difference(View::Mirror(&before), View::Mirror(&after), level);
        told.iter().map(|block| (block.position, block.held)).collect::<Vec<_>>()
    };
    assert_eq!(told(0), [(3, false), (2, false), (4, true), (5, true), (6, true)]);
    assert_eq!(told(1), [(2, false), (4, true), (6, true)]);
    assert_eq!(difference(View::Nothing, View::Mirror(&before), 0).len(), 4);
    assert_eq!(difference(View::Mirror(&before), View::Mirror(&before), 0), []);
}
