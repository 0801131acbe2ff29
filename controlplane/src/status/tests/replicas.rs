//! Data planes that are connected to other replicas.

use super::*;
use crate::peer::Part;
use crate::status::Standing;

fn of(acknowledged: usize, connected: usize) -> Option<Counts> {
    Some(Counts::of(acknowledged, connected))
}

/// Another replica with two data planes: it has `r0` of this generation since its round 50, and the server from the start.
fn part(generation: i64, reached: u64) -> Part {
    let standing = |generation, since| Standing { uid: "first".into(), generation, since };
    let (route, server) = (Object::Route("ns/r0".into()), Object::Backend("ns/s".into()));
    Part {
        connected: 2,
        applied: 2,
        newest: reached.max(50),
        reached: Some(reached),
        standings: Arc::new([(route, standing(generation, 50)), (server, standing(1, 1))].into()),
        ..Part::default()
    }
}

fn others(parts: &[Part], unsure: bool) -> Arc<Others> {
    Arc::new(Others { parts: parts.iter().cloned().map(Arc::new).collect(), unsure })
}

/// A route of generation 1 that three data planes of ours have.
fn site() -> Site {
    let mut site = Site::with_routes(1);
    site.build();
    site.all_have_it(3);
    site
}

#[track_caller]
fn check(parts: &[Part], expected: (&str, Option<Counts>)) {
    let mut site = site();
    site.others = others(parts, false);
    site.run(seconds(5));
    assert_eq!(site.programmed(&route("r0")), (expected.0.into(), expected.1));
}

#[test]
fn it_is_programmed_where_the_data_planes_of_all_replicas_have_it() {
    check(&[], ("True", of(3, 3)));
    check(&[part(1, 50)], ("True", of(5, 5)));
    check(&[part(1, 51), part(1, 50)], ("True", of(7, 7)));
}

#[test]
fn one_replica_that_is_behind_holds_it_back() {
    check(&[Part { applied: 0, ..part(1, 49) }], ("Pending", of(3, 5)));
    check(&[part(1, 50), Part { applied: 1, ..part(1, 49) }], ("Pending", of(6, 7)));
    check(&[Part { reached: None, applied: 0, ..part(1, 0) }], ("Pending", of(3, 5)));
    // It has not heard of the object, of this generation, or of the object that has this name now.
    check(&[Part { standings: Arc::default(), ..part(1, 50) }], ("Pending", of(3, 5)));
    check(&[part(2, 50)], ("Pending", of(3, 5)));
    let anew = Standing { uid: "second".into(), generation: 1, since: 50 };
    let anew = Arc::new([(Object::Route("ns/r0".into()), anew)].into());
    check(&[Part { standings: anew, ..part(1, 50) }], ("Pending", of(3, 5)));
}

#[test]
fn a_replica_without_data_planes_holds_nothing_back() {
    check(&[Part::default()], ("True", of(3, 3)));
    check(&[Part { connected: 0, applied: 0, ..part(1, 3) }, part(1, 50)], ("True", of(5, 5)));
}

#[test]
fn a_replica_without_data_planes_of_its_own_writes_for_the_others() {
    let mut site = site();
    site.all_have_it(0);
    site.others = others(&[part(1, 50)], false);
    site.run(seconds(5));
    assert_eq!(site.programmed(&route("r0")), ("True".into(), of(2, 2)));
}

#[test]
fn what_data_planes_elsewhere_refuse_is_refused_and_why_is_said() {
    let refused = |by| Arc::new([(Object::Route("ns/r0".into()), Refused { by, reason: "no".into() })].into());
    let mut site = site();
    site.others = others(&[Part { refused: refused(1), ..part(1, 50) }], false);
    site.run(seconds(5));
    assert_eq!(site.programmed(&route("r0")), ("Refused".into(), of(4, 5)));
    let says = |site: &Site| site.statuses[&route("r0")].condition("Programmed").unwrap().message.clone();
    assert_eq!(says(&site), "1 of 5 data planes do not run it: no");
    site.others = others(&[part(1, 50)], false);
    site.run(seconds(70));
    assert_eq!(site.programmed(&route("r0")), ("True".into(), of(5, 5)));
    let whole = Part { stuck: Some("too big".into()), applied: 1, ..part(1, 49) };
    check(&[Part { newest: 49, ..whole.clone() }], ("Pending", of(3, 5)));
    check(&[whole], ("Refused", of(4, 5)));
}

#[test]
fn a_replica_that_is_not_heard_holds_back_what_is_new_and_turns_nothing_that_is_there() {
    let mut site = site();
    site.others = others(&[part(1, 50)], false);
    site.run(seconds(5));
    site.writes();
    // It restarts: it is not heard, comes back with data planes that have nothing yet, and these have it again.
    for (parts, unsure) in [
        (vec![], true),
        (vec![Part::default()], false),
        (vec![Part { reached: None, applied: 0, ..part(1, 50) }], false),
        (vec![part(1, 50)], false),
        (vec![], true),
        (vec![], false),
    ] {
        site.others = others(&parts, unsure);
        site.run(seconds(10));
    }
    assert_eq!(site.writes(), []);
    site.route("r0", "nowhere");
    site.build();
    site.all_have_it(3);
    site.others = others(&[], true);
    site.run(seconds(2));
    assert_eq!(site.programmed(&route("r0")), ("Pending".into(), of(3, 3)));
    site.others = others(&[], false);
    site.run(seconds(1));
    assert_eq!(site.programmed(&route("r0")), ("True".into(), of(3, 3)));
}
