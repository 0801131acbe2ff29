//! Data planes that answer, come, leave and refuse.

use super::*;

fn of(acknowledged: usize, connected: usize) -> Option<Counts> {
    Some(Counts::of(acknowledged, connected))
}

#[test]
fn an_edit_that_is_quickly_everywhere_is_one_write() {
    let mut site = Site::with_routes(1);
    site.build();
    site.data_planes(4, 0, Some(0));
    site.run(millis(60));
    assert_eq!(site.condition(&route("r0"), "Accepted"), "none");
    site.all_have_it(4);
    site.run(seconds(600));
    assert_eq!(site.programmed(&route("r0")), ("True".into(), of(4, 4)));
    site.route("r0", "nowhere");
    site.build();
    site.run(millis(60));
    site.all_have_it(4);
    site.run(millis(10));
    assert_eq!(site.condition(&route("r0"), "ResolvedRefs"), "BackendNotFound");
    site.run(seconds(600));
    let writes = site.writes();
    assert_eq!(writes.iter().filter(|(_, key)| *key == route("r0")).count(), 2, "{writes:?}");
}

#[test]
fn a_slow_one_shows_after_half_a_second_then_once_a_minute_and_when_it_is_everywhere() {
    let mut site = Site::with_routes(1);
    site.build();
    for applied in 0..100 {
        site.data_planes(100, applied, Some(0));
        site.run(seconds(1));
    }
    assert_eq!(site.programmed(&route("r0")).0, "Pending");
    site.all_have_it(100);
    site.run(millis(100));
    assert_eq!(site.programmed(&route("r0")), ("True".into(), of(100, 100)));
    let writes: Vec<_> = site.writes().into_iter().filter(|(_, key)| *key == route("r0")).map(|(at, _)| at).collect();
    assert_eq!(writes.len(), 3, "{writes:?}");
    assert!(writes[0] >= millis(500) && writes[1] >= writes[0] + seconds(60), "{writes:?}");
}

#[test]
fn five_hundred_that_restart_over_two_thousand_routes_write_nothing_and_neither_does_a_new_leader() {
    let mut site = Site::with_routes(2000);
    site.build();
    site.all_have_it(500);
    site.run(seconds(150));
    let first = site.writes();
    assert_eq!(first.len(), 2001);
    assert!(most_in_a_second(first.into_iter().map(|(at, _)| at)) <= 20);
    let restart = |site: &mut Site| {
        for left in (0..500).step_by(5).rev() {
            site.all_have_it(left);
            site.run(millis(10));
        }
        for came in (5..=500).step_by(5) {
            site.data_planes(came, came - 1, None);
            site.run(millis(50));
            site.all_have_it(came);
            site.run(millis(50));
        }
        site.run(seconds(300));
    };
    restart(&mut site);
    assert_eq!(site.writes(), []);
    site.progress = Arc::default();
    site.another_leads();
    restart(&mut site);
    assert_eq!(site.writes(), []);
    assert_eq!(site.programmed(&route("r7")), ("True".into(), of(500, 500)));
}

#[test]
fn a_fleet_that_refuses_a_route_and_restarts_stays_within_a_hundred_writes() {
    let mut site = Site::with_routes(2000);
    site.build();
    site.all_have_it(500);
    site.refuse(&[(Object::Route("ns/r7".into()), 500)]);
    site.run(seconds(150));
    assert_eq!(site.programmed(&route("r7")), ("Refused".into(), of(0, 500)));
    site.writes();
    for came in 1..=500 {
        site.refuse(&[]);
        site.data_planes(came, came - 1, None);
        site.refuse(&[(Object::Route("ns/r7".into()), came - 1)]);
        site.run(millis(10));
        site.all_have_it(came);
        site.refuse(&[(Object::Route("ns/r7".into()), came)]);
        site.run(millis(10));
    }
    site.run(seconds(120));
    let writes = site.writes();
    assert!(writes.len() <= 100, "{}", writes.len());
    assert_eq!(site.programmed(&route("r7")), ("Refused".into(), of(0, 500)));
}

#[test]
fn c13_a_refusal_goes_before_counts_and_ends_when_nobody_refuses_any_more() {
    let mut site = Site::with_routes(200);
    site.build();
    site.data_planes(3, 1, Some(0));
    site.run(seconds(20));
    // The counts of all of them are due in the same moment.
    site.data_planes(3, 2, Some(0));
    site.run(seconds(45));
    site.writes();
    site.all_have_it(3);
    site.refuse(&[(Object::Route("ns/r150".into()), 1)]);
    site.run(millis(60));
    assert_eq!(site.programmed(&route("r150")), ("Refused".into(), of(2, 3)));
    site.run(seconds(30));
    assert_eq!(site.programmed(&route("r149")), ("True".into(), of(3, 3)));
    site.refuse(&[]);
    site.run(seconds(2));
    assert_eq!(site.programmed(&route("r150")), ("True".into(), of(3, 3)));
}

#[test]
fn news_go_before_counts() {
    let mut site = Site::with_routes(200);
    site.build();
    site.data_planes(3, 1, Some(0));
    site.run(seconds(20));
    site.data_planes(3, 2, Some(0));
    site.run(seconds(41));
    site.writes();
    site.route("r150", "nowhere");
    site.build();
    site.data_planes(3, 0, Some(0));
    site.run(seconds(2));
    let writes = site.writes();
    let place = writes.iter().position(|(_, key)| *key == route("r150"));
    // Half a second of grace is ten writes of counts.
    assert!(place.is_some_and(|place| place <= 12) && writes.len() > 20, "{place:?} of {}", writes.len());
}

#[test]
fn without_data_planes_nothing_is_programmed_until_the_first_has_it() {
    let mut site = Site::with_routes(1);
    site.build();
    site.run(seconds(5));
    assert_eq!(site.programmed(&route("r0")), ("Pending".into(), of(0, 0)));
    site.data_planes(1, 0, None);
    site.run(seconds(5));
    assert_eq!(site.programmed(&route("r0")), ("Pending".into(), of(0, 0)), "a join is no news");
    site.all_have_it(1);
    site.run(seconds(1));
    assert_eq!(site.programmed(&route("r0")), ("True".into(), of(1, 1)));
}

#[test]
fn an_edit_is_not_programmed_by_who_has_the_form_before() {
    let mut site = Site::with_routes(1);
    site.build();
    site.all_have_it(2);
    site.run(seconds(5));
    site.route("r0", "nowhere");
    site.build();
    // The stream still has the round before.
    site.run(seconds(5));
    assert_eq!(site.programmed(&route("r0")), ("Pending".into(), of(0, 2)));
    assert_eq!(site.statuses[&route("r0")].generation, 2);
}

#[test]
fn a_version_that_is_refused_as_a_whole_says_why() {
    let mut site = Site::with_routes(1);
    site.build();
    site.data_planes(2, 1, Some(0));
    site.progress = Arc::new(Progress { stuck: vec!["too big".into()], ..(*site.progress).clone() });
    site.run(seconds(5));
    assert_eq!(site.programmed(&route("r0")), ("Refused".into(), of(1, 2)));
    let says = &site.statuses[&route("r0")].condition("Programmed").unwrap().message;
    assert_eq!(says, "1 of 2 data planes do not run it: too big");
}
