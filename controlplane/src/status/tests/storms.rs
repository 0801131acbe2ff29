//! Edits, flaps and faults without end.

use super::*;
use crate::chance::testing::seeds;

#[test]
fn under_edits_without_end_a_route_is_programmed_though_the_newest_round_never_is() {
    let mut site = Site::with_routes(2);
    site.build();
    site.all_have_it(3);
    site.run(seconds(2));
    site.route("r0", "nowhere");
    for _ in 0..100 {
        site.route("r1", "s");
        site.build();
        let reached = site.version.saturating_sub(3);
        site.data_planes(3, 0, Some(reached));
        site.run(millis(50));
    }
    assert_eq!(
        (site.statuses[&route("r0")].generation, site.condition(&route("r0"), "Programmed")),
        (2, "True".into())
    );
    let writes = site.writes();
    let of_storm = writes.iter().filter(|(at, key)| *key == route("r1") && *at > seconds(2)).map(|(at, _)| *at);
    assert!(most_in_a_second(of_storm.clone()) <= 5 && of_storm.count() >= 5, "{writes:?}");
}

#[test]
fn c15_a_server_whose_pod_flaps_ten_times_a_second_is_written_ever_more_seldom() {
    let mut site = Site::with_routes(1);
    for n in 0..6000 {
        site.pod("s", if n % 2 == 0 { Life::Ready } else { Life::NotReady });
        site.build();
        site.all_have_it(1);
        site.run(millis(100));
    }
    let writes = site.writes();
    let writes: Vec<_> = writes.into_iter().filter(|(_, key)| *key == server("s")).collect();
    assert!((5..=25).contains(&writes.len()), "{writes:?}");
    site.run(seconds(61));
    assert_eq!(site.condition(&server("s"), "Ready"), "NoReadyPods");
}

#[test]
fn c06_a_storm_of_conflicts_is_met_with_few_attempts_and_all_is_well_ten_seconds_after_it() {
    // Of many the pace of all together is the slower one, of two that of each.
    for routes in [2, 20] {
        let mut site = Site::with_routes(routes);
        let edit = |site: &mut Site, to: &str| {
            (0..routes).for_each(|route| site.route(&format!("r{route}"), to));
            site.build();
            site.all_have_it(1);
        };
        let mut state = 7_u64;
        site.fault = Box::new(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 63 == 0).then_some(Outcome::Conflict)
        });
        for n in 0..270 {
            edit(&mut site, if n % 2 == 0 { "s" } else { "nowhere" });
            site.run(seconds(1));
        }
        // Now all of them, and no edit that would begin anew.
        site.fault = Box::new(|_| Some(Outcome::Conflict));
        edit(&mut site, "s");
        site.run(seconds(330));
        for n in 0..routes {
            let of_one = site.attempts.iter().filter(|(_, key, _)| *key == route(&format!("r{n}"))).map(|(at, ..)| *at);
            let most = most_in_a_second(of_one);
            assert!(most <= 5, "{most} of {routes}");
        }
        assert!(site.attempts.iter().filter(|(.., outcome)| *outcome == Outcome::Conflict).count() > 100 * routes);
        site.fault = Box::new(|_| None);
        site.run(seconds(10));
        assert_eq!(site.planner.behind(), 0);
        assert!(site.statuses.values().filter(|says| says.generation == 272).count() == routes);
    }
}

#[test]
fn where_all_fails_it_is_tried_now_and_then_and_one_that_fails_alone_is_alone() {
    let mut site = Site::with_routes(100);
    site.build();
    site.all_have_it(1);
    site.fault = Box::new(|_| Some(Outcome::Failed(None)));
    site.run(seconds(60));
    assert!((20..=40).contains(&site.attempts.len()), "{}", site.attempts.len());
    site.attempts.clear();
    site.fault = Box::new(|key| (*key == route("r7")).then_some(Outcome::Failed(None)));
    site.run(seconds(10));
    assert_eq!(site.planner.behind(), 1);
    site.route("r8", "nowhere");
    site.build();
    site.all_have_it(1);
    site.run(millis(2500));
    assert_eq!(site.condition(&route("r8"), "ResolvedRefs"), "BackendNotFound");
}

#[test]
fn c17_the_server_s_word_on_when_to_come_again_is_kept() {
    let mut site = Site::with_routes(10);
    site.build();
    site.all_have_it(1);
    let mut first = true;
    site.fault = Box::new(move |_| std::mem::take(&mut first).then_some(Outcome::Failed(Some(seconds(7)))));
    site.run(seconds(20));
    let times: Vec<_> = site.attempts.iter().map(|(at, ..)| *at).collect();
    assert!(times.len() == 12 && times[1] - times[0] >= seconds(7), "{times:?}");
}

#[test]
fn what_others_did_to_a_status_is_seen_at_the_next_look_or_at_the_next_write() {
    let mut site = Site::with_routes(1);
    site.build();
    site.all_have_it(1);
    site.run(seconds(5));
    site.statuses.remove(&route("r0"));
    site.planner.found(site.statuses.clone());
    site.run(seconds(5));
    assert_eq!(site.condition(&route("r0"), "Programmed"), "True");
    site.statuses.remove(&route("r0"));
    site.route("r0", "nowhere");
    site.build();
    site.all_have_it(1);
    site.run(seconds(1));
    assert_eq!(site.condition(&route("r0"), "ResolvedRefs"), "BackendNotFound");
}

/// Deleted and made again within a second it has the same age and says the same: only its UID is another.
#[test]
fn c11_an_object_that_is_made_anew_under_its_name_is_another_one() {
    for anew in [("first", 2), ("second", 1)] {
        let mut site = Site::with_routes(1);
        site.build();
        site.all_have_it(1);
        site.run(seconds(5));
        site.statuses.remove(&route("r0"));
        let held = site.world.routes.get_mut(&name("r0")).unwrap();
        (held.uid, held.seniority) = (anew.0.into(), Seniority::Created(anew.1));
        site.build();
        site.all_have_it(1);
        site.run(seconds(5));
        assert_eq!(site.condition(&route("r0"), "Programmed"), "True", "{anew:?}");
    }
}

#[test]
fn objects_of_a_directory_and_objects_that_are_gone_are_not_written() {
    let mut site = Site::with_routes(2);
    let held = site.world.routes.get_mut(&name("r0")).unwrap();
    held.seniority = Seniority::Listed { file: std::path::Path::new("a.yaml").into(), position: 0 };
    site.build();
    site.all_have_it(1);
    site.run(seconds(5));
    assert!(site.writes().iter().all(|(_, key)| *key != route("r0")));
    site.route("r1", "nowhere");
    site.build();
    site.world.routes.remove(&name("r1"));
    site.build();
    site.all_have_it(1);
    site.run(seconds(5));
    assert_eq!(site.writes(), []);
}

#[test]
fn of_slow_writes_ten_are_under_way_at_most() {
    let mut site = Site::with_routes(50);
    site.build();
    site.all_have_it(1);
    let fleet = Fleet { own: site.progress.clone(), others: site.others.clone() };
    site.planner.observe(site.round.as_ref().unwrap(), &fleet, site.now);
    let mut under_way = Vec::new();
    for n in 1..100 {
        if let Next::Write(task) = site.planner.next(site.now + seconds(n)) {
            under_way.push(task);
        }
    }
    assert_eq!(under_way.len(), 10);
    site.planner.done(&under_way[0], &Outcome::Written, site.now + seconds(100), 0.5);
    assert!(matches!(site.planner.next(site.now + seconds(100)), Next::Write(_)));
}

/// Whatever happened, once it is quiet every status says what it ought to, and nothing is written any more.
#[test]
fn seeds_c04_all_comes_to_rest_and_says_what_is_so() {
    for seed in 0..60.max(seeds().end) {
        let mut state = seed;
        let mut draw = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut site = Site::with_routes(5);
        let mut faults = seed;
        site.fault = Box::new(move |_| {
            faults = faults.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(3_037_000_493);
            [None, None, None, Some(Outcome::Conflict), Some(Outcome::Failed(None)), Some(Outcome::Stale)]
                [usize::try_from(faults >> 61).unwrap() % 6]
                .clone()
        });
        for _ in 0..200 {
            match draw(8) {
                0 => site.route(&format!("r{}", draw(5)), ["s", "nowhere"][usize::from(draw(2) == 0)]),
                1 => site.pod("s", [Life::Ready, Life::NotReady][usize::from(draw(2) == 0)]),
                2 => site.all_have_it(usize::try_from(draw(4)).unwrap()),
                3 => site.data_planes(3, 1, [None, Some(0), Some(site.version)][usize::try_from(draw(3)).unwrap()]),
                4 => site.refuse(&[(Object::Route(format!("ns/r{}", draw(5)).into()), 1)]),
                5 => site.another_leads(),
                6 => drop(site.statuses.remove(&route(&format!("r{}", draw(5))))),
                _ => site.build(),
            }
            site.run(millis(draw(400)));
        }
        site.fault = Box::new(|_| None);
        site.build();
        site.refuse(&[]);
        site.all_have_it(3);
        site.planner.found(site.statuses.clone());
        site.run(seconds(120));
        site.writes();
        site.run(seconds(600));
        assert_eq!((site.writes(), site.planner.behind()), (vec![], 0), "seed {seed}");
        for n in 0..5 {
            let key = route(&format!("r{n}"));
            let held = &site.world.routes[&key.name];
            let resolved = site.condition(&key, "ResolvedRefs");
            let to = held.spec.as_ref().unwrap().rules[0].target_models[0].model_server_name.clone().unwrap();
            assert_eq!(resolved == "True", to == "s", "seed {seed}");
            let says = &site.statuses[&key];
            assert_eq!(
                (says.generation, site.condition(&key, "Programmed")),
                (held.generation, "True".into()),
                "seed {seed}"
            );
        }
    }
}
