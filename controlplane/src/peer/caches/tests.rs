//! Two replicas, engines that either hears, both or none, links between them that break, and a data plane of each: whatever
//! happens, in the end each data plane holds just what the engines hold that anybody hears.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::chance::testing::Rng;
use crate::kv::trust::Trust;

mod world;

use world::{ENGINES, MODEL, Site, World};

#[test]
fn whoever_hears_an_engine_each_data_plane_holds_what_that_holds() {
    for seed in 0..150 {
        let (mut rng, mut world) = (Rng::new(seed), World::new());
        for _ in 0..200 {
            world.step(&mut rng);
        }
        for site in &mut world.sites {
            (0..ENGINES).for_each(|engine| site.doubt(engine, Trust::Trusted));
            site.run();
        }
        world.later();
        for engine in 0..ENGINES {
            let heard = world.sites.iter().any(|site| site.hears.contains_key(&engine));
            let holds = |site: &Site| (heard && site.placed.contains(&engine)).then(|| world.engines[engine].holds());
            let expected = world.sites.each_ref().map(holds);
            assert_eq!(world.known(engine), expected, "seed {seed}, engine {engine}");
        }
        if world.sites.iter().all(|site| site.hears.is_empty()) {
            assert!(world.sites.iter().all(|site| site.plane.holds.values().all(BTreeSet::is_empty)), "seed {seed}");
        }
    }
}

#[test]
fn one_that_takes_over_tells_only_what_came_meanwhile() {
    let (mut rng, mut world) = (Rng::new(7), World::new());
    world.sites[0].hear(0, &world.engines[0]);
    (0..30).for_each(|_| world.act(0, &mut rng));
    world.rest();
    let told = world.sites[1].plane.entries;
    // It is heard by nobody for a moment, in which its cache changes.
    world.sites[0].leave(0);
    world.cut(0);
    world.rest();
    let before = world.known(0)[1].clone().unwrap();
    (0..2).for_each(|_| world.act(0, &mut rng));
    world.sites[1].hear(0, &world.engines[0]);
    world.rest();
    let after = world.known(0)[1].clone().unwrap();
    assert_eq!(after, world.engines[0].holds());
    assert!(before.len() > 5 && before != after);
    assert_eq!(world.sites[1].plane.entries - told, before.symmetric_difference(&after).count());
    assert_eq!(world.known(0)[0], Some(after), "which the first hears now");
}

#[test]
fn what_a_peer_told_once_counts_when_the_config_has_its_engine_again() {
    let (mut world, mut rng) = World::heard(&[0, 1]);
    for looks in [true, false] {
        world.sites[1].unplace(0);
        if looks {
            world.sites[1].run();
            world.rest();
        }
        (0..9).for_each(|_| world.act(0, &mut rng));
        world.carry(0);
        world.sites[1].place(0);
        world.sites[1].run();
        world.later();
        assert_eq!(world.known(0)[1], Some(world.engines[0].holds()), "looks in between: {looks}");
    }
}

#[test]
fn what_is_told_before_the_config_has_an_engine_counts_once_it_has() {
    let mut world = World::new();
    world.sites[1].unplace(0);
    world.sites[1].run();
    let mut rng = Rng::new(3);
    world.engines[0].clears = false;
    world.sites[0].hear(0, &world.engines[0]);
    (0..30).for_each(|_| world.act(0, &mut rng));
    world.rest();
    // However long that takes: of another engine something is heard meanwhile.
    let minutes = Instant::now() + Duration::from_secs(300);
    let news = PeerNews { stream: world.links[0].stream, model: MODEL.into(), ..PeerNews::default() };
    world.sites[1].ears.of_peer(news, minutes);
    (0..9).for_each(|_| world.act(0, &mut rng));
    world.sites[1].place(0);
    world.sites[1].run();
    world.later();
    assert_eq!(world.known(0)[1], Some(world.engines[0].holds()));
}

#[test]
fn an_engine_that_leaves_the_config_of_who_hears_it_is_known_to_nobody() {
    for others in [&[0][..], &[0, 1]] {
        let (mut world, _) = World::heard(others);
        assert!(world.known(0)[1].as_ref().is_some_and(|held| !held.is_empty()));
        world.sites[0].unplace(0);
        world.rest();
        world.sites[0].run();
        world.later();
        assert_eq!(world.known(0)[1], None, "{others:?}");
        assert!(!world.sites[1].plane.holds.contains_key(&world.sites[1].handle(0)), "{others:?}");
        let names = (world.links[0].told.named.len(), world.links[0].heard.keys.len());
        assert_eq!(names, (others.len() - 1, others.len() - 1), "what it is called is forgotten");
    }
}

#[test]
fn what_is_not_told_from_its_beginning_on_is_not_known() {
    let (mut world, mut rng) = World::heard(&[0]);
    let stream = world.links[0].stream;
    let news = PeerNews { stream, model: MODEL.into(), reset: true, ..PeerNews::default() };
    world.sites[1].ears.of_peer(news, Instant::now());
    (0..9).for_each(|_| world.act(0, &mut rng));
    world.sites[0].doubt(0, Trust::Gapped);
    world.sites[0].doubt(0, Trust::Trusted);
    world.later();
    assert_eq!(world.known(0)[1], None);
    world.cut(0);
    world.later();
    assert_eq!(world.known(0)[1], Some(world.engines[0].holds()));
}
