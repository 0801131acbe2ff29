//! The server as data planes see it: over its socket, with clients that do as they are told.

mod behind;
mod engines;
mod fleet;
mod kv;
mod peers;
mod plane;
mod tls;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use api::decode::Object;
use api::proto::refusal::Kind;
use api::snapshot::{Route, Snapshot, Version};

use super::*;
use plane::{Plane, Site, until};

/// A snapshot with a route per word, as `name=model`.
pub(super) fn snapshot(words: &str) -> Snapshot {
    let route = |word: &str| {
        let (name, model) = word.split_once('=').unwrap_or((word, "m"));
        format!(r#"{{"name": "d/{name}", "model": "{model}", "rules": [{{"targets": [{{"backend": "d/b"}}]}}]}}"#)
    };
    let routes = words.split_whitespace().map(route).collect::<Vec<_>>().join(",");
    let text = format!(r#"{{"version": {}, "routes": [{routes}]}}"#, words.len());
    api::json::snapshot_from_json(text.as_bytes()).unwrap()
}

/// The names and models of a snapshot's routes, as [`snapshot`] takes them; with a bang where it answers 503 whatever is asked.
pub(super) fn words(snapshot: &Snapshot) -> String {
    let word = |route: &Route| {
        let (name, model) = (&route.name.as_str()[2..], route.model.as_ref().unwrap().as_str());
        let refusal = "d/not-served:unknown-to-the-data-plane";
        match (model, route.rules[0].targets[0].backend.as_str() == refusal) {
            (_, true) => {
                let backend = snapshot.backends.iter().find(|backend| backend.name.as_str() == refusal);
                assert!(backend.expect("it is told").endpoints.is_empty() && route.rules[0].uri.is_none());
                format!("{name}!")
            }
            ("m", false) => name.to_owned(),
            (model, false) => format!("{name}={model}"),
        }
    };
    snapshot.routes.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Waits until so many data planes refuse each of what is refused.
async fn until_refused(site: &Site, by: usize) -> Arc<Progress> {
    let all = |p: &Progress| !p.refused.is_empty() && p.refused.values().all(|refused| refused.by == by);
    until("all refuse it", || all(&site.progress.borrow())).await;
    site.progress.borrow().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_state_then_changes_each_encoded_once() {
    let site = Site::start(Options::default()).await;
    site.publish("a b c");
    let mut planes = Vec::new();
    for _ in 0..20 {
        planes.push(site.join().await);
    }
    for plane in &mut planes {
        plane.apply().await;
        assert_eq!(plane.words(), "a b c");
    }
    site.complete(20).await;
    assert_eq!(site.counts.encoded.load(Relaxed), 1);
    site.publish("a b=other c");
    for plane in &mut planes {
        let update = plane.apply().await;
        assert_eq!(update.base, Some(site.version(1)));
        assert_eq!((update.route_upserts.len(), plane.words()), (1, "a b=other c".into()));
    }
    let progress = site.complete(20).await;
    assert_eq!((progress.version.version, progress.source.version), (2, "a b=other c".len() as u64));
    assert_eq!(site.counts.encoded.load(Relaxed), 2);
    assert_eq!(site.counts.applied.load(Relaxed), 40);
}

#[tokio::test]
async fn nothing_is_published_before_there_is_a_snapshot() {
    let site = Site::start(Options::default()).await;
    let mut plane = site.join().await;
    assert!(plane.quiet().await);
    site.publish("");
    assert_eq!(plane.apply().await.version, Some(site.version(1)));
}

#[tokio::test]
async fn equal_content_is_not_sent_again() {
    let site = Site::start(Options::default()).await;
    site.publish("a b");
    let mut plane = site.join().await;
    plane.apply().await;
    // The same content from its source again, by another version.
    site.send(Snapshot { version: Version { epoch: 0, version: 77 }, ..snapshot("a b") });
    until("the source's version is known", || site.progress.borrow().source.version == 77).await;
    assert_eq!(site.progress.borrow().version.version, 1);
    assert!(plane.quiet().await);
    // Another process with another epoch: only the version is new.
    let other = Site::start(Options::default()).await;
    other.publish("a b");
    let mut again = other.rejoin(&plane).await;
    let update = again.apply().await;
    assert_eq!((update.base, update.version), (Some(site.version(1)), Some(other.version(1))));
    assert!(update.route_upserts.is_empty() && update.route_removals.is_empty());
    other.complete(1).await;
    // And the same one again: nothing is new, and that is said once for each stream.
    let mut again = other.rejoin(&again).await;
    let update = again.apply().await;
    assert_eq!((update.base, update.version), (Some(other.version(1)), Some(other.version(1))));
    assert!(update.route_upserts.is_empty() && update.route_removals.is_empty());
    assert!(again.quiet().await);
    until("it counts as in sync", || other.progress.borrow().applied == 1).await;
}

#[tokio::test]
async fn a_subscriber_that_holds_something_old_gets_the_full_state() {
    let site = Site::start(Options::default()).await;
    site.publish("a b");
    let mut plane = site.join().await;
    plane.apply().await;
    plane.held = snapshot("something else");
    let mut again = site.rejoin(&plane).await;
    assert_eq!(again.apply().await.base, None);
    // One that claims to hold what it does not is set right.
    again.held = snapshot("other");
    site.publish("a b c");
    again.resync().await;
    assert_eq!(again.apply().await.base, None);
    assert_eq!(again.words(), "a b c");
}

#[tokio::test]
async fn a_slow_subscriber_skips_versions() {
    let site = Site::start(Options { publish_interval: Duration::ZERO, ..Options::default() }).await;
    site.publish("a");
    let mut slow = site.join().await;
    let mut quick = site.join().await;
    let first = slow.receive().await;
    for n in 0..50 {
        site.publish(&format!("a b{n}"));
        until("it is in force elsewhere", || site.progress.borrow().version.version == n + 2).await;
    }
    while quick.words() != "a b49" {
        quick.apply().await;
    }
    slow.acknowledge(first).await;
    let update = slow.apply().await;
    assert_eq!((update.version, slow.words()), (Some(site.version(51)), "a b49".into()));
    assert!(slow.quiet().await);
    site.complete(2).await;
}

#[tokio::test]
async fn c13_what_is_refused_is_sent_in_its_last_form_and_the_rest_flows() {
    let site = Site::start(Options::default()).await;
    site.publish("a b c");
    let mut plane = site.join().await;
    plane.apply().await;
    site.publish("a=new b=poison c d=poison");
    plane.refuse(&[(Kind::Route, "d/b"), (Kind::Route, "d/d")]).await;
    plane.apply().await;
    assert_eq!(plane.words(), "a=new b c d!", "one has an older form, the other has none");
    let progress = site.complete(1).await;
    let (b, c) = (Object::Route("d/b".into()), Object::Route("d/c".into()));
    assert!(!progress.programmed(&b) && progress.programmed(&c));
    assert!(progress.refused[&b].reason.contains("poison"), "{progress:?}");
    // The others go on changing, the poison stays away.
    site.publish("a=newer b=poison d=poison");
    plane.apply().await;
    assert_eq!(plane.words(), "a=newer b d!");
    // A new form is tried; the old one is gone with its object.
    site.publish("a=newer b=mended");
    plane.apply().await;
    assert_eq!(plane.words(), "a=newer b=mended");
    until("nothing is refused any more", || site.progress.borrow().refused.is_empty()).await;
}

#[tokio::test]
async fn c13_what_was_refused_before_this_control_plane_began_stays_in_the_form_that_is_held() {
    let before = Site::start(Options::default()).await;
    before.publish("a b c");
    let mut planes = [before.join().await, before.join().await];
    for plane in &mut planes {
        plane.apply().await;
    }
    let site = Site::start(Options::default()).await;
    site.publish("a=new b=poison d=poison");
    let (mut again, mut old) = (site.rejoin(&planes[0]).await, site.rejoin(&planes[1]).await);
    old.tells = false;
    for plane in [&mut again, &mut old] {
        plane.refuse(&[(Kind::Route, "d/b"), (Kind::Route, "d/d")]).await;
        plane.apply().await;
    }
    assert_eq!(
        (again.words(), old.words()),
        ("a=new b d!".into(), "a=new b! d!".into()),
        "one does not say what it holds"
    );
    let progress = until_refused(&site, 2).await;
    assert!(progress.refused[&Object::Route("d/b".into())].reason.contains("poison"), "{progress:?}");
    // The others go on changing, by changes only.
    site.publish("a=newer b=poison d=poison");
    let delta = again.apply().await;
    assert_eq!((delta.base, delta.route_upserts.len()), (Some(site.version(1)), 1));
    assert_eq!(again.words(), "a=newer b d!");
    // Another control plane once more, by what the data plane has now, be it what answers 503.
    let after = Site::start(Options::default()).await;
    after.publish("a=newer b=poison d=poison");
    let mut again = after.rejoin(&again).await;
    again.refuse(&[(Kind::Route, "d/b"), (Kind::Route, "d/d")]).await;
    again.apply().await;
    assert_eq!(again.words(), "a=newer b d!");
    // A form that it can take heals it.
    after.publish("a=newer b=mended");
    again.apply().await;
    assert_eq!(again.words(), "a=newer b=mended");
}

#[tokio::test]
async fn who_refuses_the_older_form_too_answers_503_and_who_refuses_even_that_does_without() {
    let site = Site::start(Options::default()).await;
    site.publish("a b");
    let mut plane = site.join().await;
    plane.apply().await;
    site.publish("a=new b=poison");
    plane.refuse(&[(Kind::Route, "d/b")]).await;
    plane.refuse(&[(Kind::Route, "d/b")]).await;
    plane.apply().await;
    assert_eq!(plane.words(), "a=new b!");
    site.publish("a=newer b=poison");
    plane.refuse(&[(Kind::Route, "d/b")]).await;
    plane.apply().await;
    assert_eq!(plane.words(), "a=newer");
}

#[tokio::test]
async fn a_backend_that_is_refused_and_not_held_has_no_endpoints_and_a_profile_is_left_out() {
    let site = Site::start(Options::default()).await;
    let endpoint = r#"{"name": "d/p", "address": "10.0.0.1:80"}"#;
    let state = format!(
        r#"{{"routes": [{{"name": "d/a", "model": "m", "rules": [{{"targets": [{{"backend": "d/b"}}]}}]}}],
        "backends": [{{"name": "d/b", "endpoints": [{endpoint}], "profile": "p"}}], "profiles": [{{"name": "p"}}]}}"#
    );
    site.send(api::json::snapshot_from_json(state.as_bytes()).unwrap());
    let mut other = site.join().await;
    other.refuse(&[(Kind::Profile, "p")]).await;
    other.apply().await;
    let [backend] = &other.held.backends[..] else { panic!("{:?}", other.held) };
    assert_eq!((backend.endpoints.len(), &backend.profile, other.held.profiles.len()), (1, &None, 0));
    let mut plane = site.join().await;
    plane.refuse(&[(Kind::Profile, "p"), (Kind::Backend, "d/b")]).await;
    plane.apply().await;
    let [backend] = &plane.held.backends[..] else { panic!("{:?}", plane.held) };
    assert_eq!((backend.name.as_str(), backend.endpoints.len(), &backend.profile), ("d/b", 0, &None));
    assert!(plane.held.profiles.is_empty());
    assert_eq!(plane.words(), "a");
}

#[tokio::test]
async fn the_last_form_is_there_however_long_the_refusal_takes() {
    let site = Site::start(Options { publish_interval: Duration::ZERO, ..Options::default() }).await;
    site.publish("a b");
    let mut slow = site.join().await;
    slow.apply().await;
    site.publish("a=new b=poison");
    let refused = slow.receive().await;
    // More than are kept for nobody.
    for n in 0..30 {
        site.publish(&format!("a=new{n} b=poison"));
        until("it is published", || site.progress.borrow().version.version == n + 3).await;
    }
    slow.refuse_update(refused, &[(Kind::Route, "d/b")]).await;
    let delta = slow.apply().await;
    assert_eq!((delta.base, slow.words()), (Some(site.version(1)), "a=new29 b".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_refuse_alike_share_what_they_get_and_the_others_have_it_all() {
    let site = Site::start(Options::default()).await;
    site.publish("a b");
    let mut old = Vec::new();
    for _ in 0..10 {
        old.push(site.join().await);
        old.last_mut().unwrap().apply().await;
    }
    let mut new = site.join().await;
    new.apply().await;
    site.publish("a=new b=poison");
    for plane in &mut old {
        plane.refuse(&[(Kind::Route, "d/b")]).await;
    }
    new.apply().await;
    for plane in &mut old {
        plane.apply().await;
        assert_eq!(plane.words(), "a=new b");
    }
    assert_eq!(new.words(), "a=new b=poison");
    assert_eq!(site.counts.encoded.load(Relaxed), 3, "the first, the second, and the second without the poison");
    let progress = site.complete(11).await;
    assert_eq!(progress.refused[&Object::Route("d/b".into())].by, 10);
}

#[tokio::test]
async fn a_refusal_without_a_name_stops_that_state_and_no_other() {
    let site = Site::start(Options::default()).await;
    site.publish("a");
    let mut plane = site.join().await;
    plane.apply().await;
    site.publish("a b");
    plane.refuse(&[(Kind::Snapshot, "")]).await;
    assert!(plane.quiet().await);
    let stuck = site.progress.borrow().clone();
    assert!(!stuck.complete() && stuck.stuck.len() == 1, "{stuck:?}");
    site.publish("a c");
    plane.apply().await;
    assert_eq!(plane.words(), "a c");
    site.complete(1).await;
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_cut_off() {
    let site = Site::start(Options { answer_time: Duration::from_millis(200), ..Options::default() }).await;
    site.publish("a");
    let mut plane = site.join().await;
    plane.receive().await;
    assert!(plane.ended().await.unwrap_err().message().contains("not answered"));
    until("it is not counted any more", || site.progress.borrow().connected == 0).await;
    assert_eq!(site.counts.cut_off.load(Relaxed), 1);
}

#[tokio::test]
async fn a_stream_ends_by_age_and_its_load_stays_where_another_took_over() {
    let options =
        Options { stream_life: Duration::from_secs(3), load_kept: Duration::from_millis(100), ..Options::default() };
    let site = Site::start(options).await;
    site.publish("a");
    let (begin, mut old) = (tokio::time::Instant::now(), site.join().await);
    old.apply().await;
    assert!((2..=4).contains(&old.welcome.life_s), "{}", old.welcome.life_s);
    old.report(&[(7, 100, 1)]).await;
    until("the report is in", || site.loads.at(7).running == 1).await;
    // Shortly before the old one ends, as data planes do: one that came at once might end before it, by the chance in
    // its age.
    tokio::time::sleep_until(begin + Duration::from_millis(2_200)).await;
    let new = site.rejoin(&old).await;
    new.report(&[(7, 90, 2)]).await;
    until("the new stream speaks", || site.loads.at(7).queued_tokens == 90).await;
    old.ended().await.unwrap();
    until("one is left", || site.streams() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((site.loads.at(7).queued_tokens, site.loads.at(7).running), (90, 2));
    drop(new);
    until("its load is gone too", || site.loads.at(7).running == 0).await;
}

#[tokio::test]
async fn each_hears_what_the_others_have_within_its_budget() {
    let site = Site::start(Options { bytes_per_second: 20_000, ..Options::default() }).await;
    site.publish("a");
    let (mut one, mut two) = (site.join().await, site.join().await);
    one.apply().await;
    two.apply().await;
    one.report(&[(7, 100, 1)]).await;
    two.report(&[(7, 11, 2)]).await;
    assert_eq!(two.hear(7).await, (100, 1));
    assert_eq!(one.hear(7).await, (11, 2));
    // Who joins later hears what is there, once the handles mean something to it.
    let mut three = site.join().await;
    let update = three.receive().await;
    three.drain(Duration::from_millis(100)).await;
    assert!(three.loads.is_empty());
    three.acknowledge(update).await;
    assert_eq!(three.hear(7).await, (111, 3));
    drop(three);
    // A thousand endpoints change at once again and again; what is sent stays within the budget.
    let begin = tokio::time::Instant::now();
    two.load_bytes = 0;
    let mut round = 0;
    while begin.elapsed() < Duration::from_secs(2) {
        round += 1;
        one.report(&(0..1_000).map(|handle| (handle, round, 1)).collect::<Vec<_>>()).await;
        two.drain(Duration::from_millis(20)).await;
    }
    let most = 20_000.0 * (1.0 + begin.elapsed().as_secs_f64()) + 20_000.0;
    assert!(two.load_bytes as f64 <= most && two.load_bytes > 10_000, "{} of {most}", two.load_bytes);
    // And the last value comes.
    while two.loads.get(&999) != Some(&(round, 1)) {
        two.drain(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_welcome_says_where_the_node_is() {
    let site = Site::start(Options::default()).await;
    site.zones.send_replace(Arc::new(Zones::from([("n1".into(), "z1".into())])));
    let known = site.subscribe(|subscribe| subscribe.node = "n1".into()).await;
    assert_eq!((&*known.welcome.zone, known.welcome.epoch), ("z1", site.epoch));
    let unknown = site.subscribe(|subscribe| (subscribe.node, subscribe.zone) = ("n2".into(), "z2".into())).await;
    assert_eq!(unknown.welcome.zone, "z2");
}

#[tokio::test]
async fn nonsense_ends_the_stream_it_comes_by() {
    let site = Site::start(Options::default()).await;
    site.publish("a");
    let mut plane = site.join().await;
    let update = plane.receive().await;
    plane.acknowledge(plane::Update { nonce: update.nonce + 9, ..update }).await;
    assert!(plane.ended().await.unwrap_err().message().contains("nothing that was sent"));
    let long = api::proto::Subscribe { node: "n".repeat(1_000), ..Default::default() };
    assert!(Plane::open(site.address, Some(long)).await.unwrap_err().message().contains("longer than"));
    let versions = (0..=api::limits::MAX_LISTS).map(|n| (n.to_string(), "1".to_owned())).collect();
    let many = api::proto::Subscribe { resource_versions: versions, ..Default::default() };
    assert!(Plane::open(site.address, Some(many)).await.unwrap_err().message().contains("resource versions"));
    assert!(Plane::open(site.address, None).await.unwrap_err().message().contains("subscription"));
}

#[tokio::test]
async fn who_says_nothing_does_not_delay_the_servers_end() {
    let mut site = Site::start(Options::default()).await;
    let silent = tokio::spawn(Plane::say_nothing(site.address));
    // Long enough for it to be there; it has 10 s to speak.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!silent.is_finished());
    site.stop().await;
    let told = tokio::time::timeout(Duration::from_secs(5), silent).await.expect("the server ends").unwrap();
    assert!(told.message().contains("ends"), "{told}");
}

#[tokio::test]
async fn streams_are_bounded_and_end_with_the_server() {
    let mut site = Site::start(Options { streams: 2, ..Options::default() }).await;
    let (mut one, _two) = (site.join().await, site.join().await);
    let subscribe = api::proto::Subscribe { node: "x".into(), ..Default::default() };
    assert!(Plane::open(site.address, Some(subscribe)).await.unwrap_err().message().contains("too many"));
    site.stop().await;
    assert!(one.ended().await.unwrap_err().message().contains("shutting down"));
}
