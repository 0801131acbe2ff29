//! Both planes over their stream, in one process: what is published takes effect while requests run on, and neither
//! plane's death costs the other anything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod directory;
mod fleet;
mod http;
mod reports;
mod stage;
mod tls;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::decode::Object;
use api::snapshot::{Snapshot, StringMatch};
use bench::show::client::End;
use controlplane::publish::serve::Options;
use prost::Message as _;

use http::Connection;
use stage::{Control, Plane, Stage, until};

#[test]
fn edits_take_effect_while_streams_run_on() {
    let stage = Stage::start(1);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m"]));
    let plane = Plane::start(&control, None);
    until("it is ready", || plane.ready());
    // 8 s of tokens.
    let stream = stage.stream(&plane, "m", 400);
    let mut connection = Connection::open(plane.listen());
    for n in 0..20 {
        let name = format!("n{n}");
        assert_eq!(connection.get(&format!("/v1/models/{name}")).0, 404);
        control.publish(stage.snapshot(&["m", &name]));
        until("the edit is in force", || connection.get(&format!("/v1/models/{name}")).0 == 200);
    }
    assert_eq!(connection.opened, 1, "no connection was cut");
    assert!(!stream.is_finished(), "the stream outlasts the edits");
    assert_eq!(stage.runtime.block_on(stream).unwrap(), End::Whole);
    assert_eq!(plane.metric("kthena_router_config_rejected_total"), 0.0);
}

#[test]
fn c01_nothing_flaps_when_the_control_plane_dies_and_comes_back() {
    let stage = Stage::start(1);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m"]));
    let plane = Plane::start(&control, None);
    until("it is ready", || plane.ready());
    let mut connection = Connection::open(plane.listen());
    let stream = stage.stream(&plane, "m", 100);
    let address = control.address;
    control.kill();
    until("it knows", || plane.readyz()["control_plane"]["connected"] == false);
    for _ in 0..50 {
        assert_eq!(connection.chat("m"), 200);
    }
    let aged = || plane.metric("kthena_router_config_age_seconds") > 1.5;
    until("the config grows old", aged);
    assert!(plane.ready(), "and is good all the same");
    let version = plane.readyz()["table"]["epoch"].clone();
    let control = Control::start(Some(address));
    control.publish(stage.snapshot(&["m"]));
    until("it is back", || plane.readyz()["control_plane"]["connected"] == true);
    control.complete(1);
    assert_ne!(plane.readyz()["table"]["epoch"], version);
    assert_eq!(control.counts.encoded.load(Relaxed), 1);
    let bytes = control.counts.encoded_bytes.load(Relaxed);
    assert!(bytes < 100, "equal content is not sent again, but {bytes} bytes were");
    assert_eq!(connection.chat("m"), 200);
    assert_eq!(connection.opened, 1, "no connection was cut");
    assert_eq!(stage.runtime.block_on(stream).unwrap(), End::Whole);
    control.publish(stage.snapshot(&["m", "n"]));
    until("edits flow again", || connection.get("/v1/models/n").0 == 200);
}

#[test]
fn c14_a_data_plane_starts_from_disk_while_the_control_plane_is_away() {
    let stage = Stage::start(1);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m"]));
    let folder = stage.folder("state");
    let plane = Plane::start(&control, Some(&folder));
    until("it is ready", || plane.ready());
    control.publish(stage.snapshot(&["m", "n"]));
    control.complete(1);
    let address = control.address;
    control.kill();
    plane.stop();
    let begin = Instant::now();
    let plane = Plane::at(address, Some(&folder));
    until("it is ready", || plane.ready());
    let took = begin.elapsed();
    println!("ready from disk after {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let mut connection = Connection::open(plane.listen());
    assert_eq!((connection.chat("m"), connection.chat("n")), (200, 200));
    let ready = plane.readyz();
    assert_eq!(
        (&ready["control_plane"]["table_from_disk"], &ready["control_plane"]["connected"]),
        (&true.into(), &false.into())
    );
    // Back again, and with something new.
    let control = Control::start(Some(address));
    control.publish(stage.snapshot(&["m", "o"]));
    until("the news is in force", || connection.get("/v1/models/o").0 == 200);
    assert_eq!((connection.chat("n"), connection.opened), (404, 1));
    assert_eq!(plane.readyz()["control_plane"]["table_from_disk"], false);
}

#[test]
fn c14_a_damaged_snapshot_on_disk_is_no_reason_to_fall() {
    let stage = Stage::start(1);
    let folder = stage.folder("state");
    std::fs::write(folder.join("snapshot.bin"), b"kthena-snapshot\x01 but not a whole one").unwrap();
    let control = Control::start(None);
    let plane = Plane::start(&control, Some(&folder));
    let mut connection = Connection::open(plane.listen());
    assert!(!plane.ready(), "there is nothing to serve by");
    let (status, body) = connection.ask_chat("m");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("waits for its control plane"), "{body}");
    control.publish(stage.snapshot(&["m"]));
    until("it is ready", || plane.ready());
    assert_eq!((connection.chat("m"), connection.chat("x")), (200, 404));
    plane.stop();
    control.kill();
    // What is on disk now is good again.
    let plane = Plane::at(([127, 0, 0, 1], 9).into(), Some(&folder));
    until("it is ready", || plane.ready());
    assert_eq!(Connection::open(plane.listen()).chat("m"), 200);
}

/// As a later control plane might send it to an older data plane.
fn poisoned(mut snapshot: Snapshot, route: usize) -> Snapshot {
    Arc::make_mut(&mut snapshot.routes[route].rules)[0].uri = Some(StringMatch::Regex("(".into()));
    snapshot
}

#[test]
fn c13_a_poison_route_leaves_the_rest_flowing() {
    let stage = Stage::start(2);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m", "old"]));
    let plane = Plane::start(&control, None);
    until("it is ready", || plane.ready());
    let mut connection = Connection::open(plane.listen());
    let begin = Instant::now();
    control.publish(poisoned(stage.snapshot(&["m", "old", "n"]), 1));
    until("the rest is in force", || connection.get("/v1/models/n").0 == 200);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(connection.chat("old"), 200, "the refused one serves in its last form");
    let progress = control.complete(1);
    let route = Object::Route("t/old".into());
    assert_eq!(progress.refused[&route].by, 1);
    assert!(progress.refused[&route].reason.contains("regex"), "{progress:?}");
    assert_eq!(plane.metric("kthena_router_config_rejected_total"), 1.0);
    // Endpoints still change.
    let moved = poisoned(stage.snapshot_on(&["m", "old", "n"], 1), 1);
    let begin = Instant::now();
    control.publish(moved);
    until("the endpoint has changed", || {
        connection.chat("m");
        stage.engines[1].stats().requests > 0
    });
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    // Mended, it is taken.
    control.publish(stage.snapshot(&["m", "old", "n"]));
    until("nothing is refused", || control.complete(1).refused.is_empty());
}

#[test]
fn c15_an_endpoint_that_flaps_ends_what_it_began_and_is_asked_nothing_a_second_after_it_went() {
    let stage = Stage::start(2);
    let control = Control::start(None);
    control.publish(stage.snapshot_on(&["m"], 1));
    let plane = Plane::start(&control, None);
    until("it is ready", || plane.ready());
    // 20 s of tokens, of the one that flaps, and thrice as many of the other, so that whoever still knows the one that is gone asks it.
    let stream = stage.stream(&plane, "m", 1_000);
    control.publish(stage.snapshot_of(&["m"], &[0]));
    control.complete(1);
    let _busy = [(); 3].map(|()| stage.stream(&plane, "m", 1_000));
    assert_eq!(stage.engines.iter().map(|engine| engine.stats().in_flight).collect::<Vec<_>>(), [3, 1]);
    let mut connection = Connection::open(plane.listen());
    for n in 0..30 {
        let next = Instant::now() + Duration::from_millis(100);
        control.publish(stage.snapshot_of(&["m"], if n % 2 == 0 { &[0, 1] } else { &[0] }));
        while Instant::now() < next {
            assert_eq!(connection.chat("m"), 200);
        }
    }
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_secs(1) {
        assert_eq!(connection.chat("m"), 200);
    }
    let before = stage.engines[1].stats().requests;
    assert!(before > 3, "it was asked while it was there, {before} times");
    for _ in 0..50 {
        assert_eq!(connection.chat("m"), 200);
    }
    assert_eq!(stage.engines[1].stats().requests, before);
    assert!(!stream.is_finished(), "the stream outlasts the flapping");
    assert_eq!(stage.runtime.block_on(stream).unwrap(), End::Whole);
}

#[test]
fn the_next_stream_is_there_before_the_old_one_ends() {
    let stage = Stage::start(1);
    let control = Control::with(None, Options { stream_life: Duration::from_secs(5), ..Options::default() });
    control.publish(stage.snapshot(&["m"]));
    let plane = Plane::start(&control, None);
    until("it is ready", || plane.ready());
    let mut since = 0.0;
    until("two streams have taken over", || {
        let at = plane.readyz()["control_plane"].clone();
        assert_eq!((&at["connected"], control.progress().connected), (&true.into(), 1), "{at}");
        let now = at["since_seconds"].as_f64().unwrap();
        assert!(now >= since, "it was connected all the time: {at}");
        since = now;
        at["streams"].as_u64().unwrap() >= 3
    });
    let encoded = control.counts.encoded.load(Relaxed);
    assert_eq!(encoded, 2, "the state, and once for all later streams that it is still the newest");
    control.publish(stage.snapshot(&["m", "n"]));
    control.complete(1);
}

#[test]
fn proxies_see_each_others_load() {
    let stage = Stage::start(1);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m"]));
    let (one, two) = (Plane::start(&control, None), Plane::start(&control, None));
    until("both are ready", || one.ready() && two.ready());
    let stream = stage.stream(&one, "m", 150);
    until("the other knows", || two.endpoint()["running"] == 1);
    assert_eq!((&one.endpoint()["running"], &two.endpoint()["inFlight"]), (&1.into(), &0.into()));
    assert_eq!(stage.runtime.block_on(stream).unwrap(), End::Whole);
    until("and that it has ended", || two.endpoint()["running"] == 0);
    let _stream = stage.stream(&one, "m", 1_000);
    until("the other knows", || two.endpoint()["running"] == 1);
    // A stream that is gone takes its load with it after a moment.
    control.kill();
    until("stale load is forgotten", || two.endpoint()["running"] == 0);
    assert_eq!(one.endpoint()["running"], 1);
}

#[test]
fn proxies_hear_each_others_token_rate_and_forget_it_with_the_stream() {
    let stage = Stage::start(1);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m"]));
    let (one, two) = (Plane::start(&control, None), Plane::start(&control, None));
    until("both are ready", || one.ready() && two.ready());
    let heard = |plane: &Plane| {
        let backend = plane.backend();
        (backend["proxies"].as_u64().unwrap(), backend["othersTokensPerSecond"].as_f64().unwrap())
    };
    assert_eq!((heard(&one), heard(&two)), ((1, 0.0), (1, 0.0)), "nobody decides anything");
    assert_eq!(Connection::open(one.listen()).chat("m"), 200);
    until("the other hears it", || heard(&two).0 == 2 && heard(&two).1 > 0.0);
    assert_eq!(heard(&one), (1, 0.0), "its own rate is not told to it");
    // A rate falls every second, and what is told is not more than a 16th off.
    until("as much as it is", || {
        let own = one.backend()["decidedTokensPerSecond"].as_f64().unwrap();
        (heard(&two).1 - own).abs() <= own / 16.0
    });
    assert_eq!(Connection::open(two.listen()).chat("m"), 200);
    until("each hears the other", || heard(&one).0 == 2 && heard(&two).0 == 2);
    one.stop();
    until("the rate of a stream that is gone is forgotten", || heard(&two) == (1, 0.0));
    let three = Plane::start(&control, None);
    until("a new one hears it", || three.ready() && heard(&three).0 == 2);
    control.kill();
    until("without a stream nobody is heard of", || heard(&three) == (1, 0.0));
}

#[test]
fn from_the_edit_to_all_cores_of_four_data_planes() {
    const EDITS: usize = 100;
    let stage = Stage::start(1);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m"]));
    let planes: Vec<Plane> = (0..4).map(|_| Plane::start(&control, None)).collect();
    until("all are ready", || planes.iter().all(Plane::ready));
    // Enough connections that each core has some.
    let mut connections: Vec<Connection> =
        planes.iter().flat_map(|plane| (0..8).map(|_| Connection::open(plane.listen()))).collect();
    let mut times = Vec::new();
    for n in 0..EDITS {
        let path = format!("/v1/models/n{n}");
        let snapshot = stage.snapshot(&["m", &format!("n{n}")]);
        // Edits of people come one by one, at any time of the publisher's interval.
        std::thread::sleep(Duration::from_millis(60 + 7 * (n as u64 % 11)));
        let begin = Instant::now();
        control.publish(snapshot);
        for connection in &mut connections {
            while connection.get(&path).0 != 200 {
                assert!(begin.elapsed() < Duration::from_secs(5), "edit {n} is not in force");
            }
        }
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let (p50, p99) = (times[EDITS / 2], times[EDITS * 99 / 100]);
    println!(
        "edit to all cores of 4 data planes, {EDITS} edits: p50 {p50:?}, p99 {p99:?}, most {:?}",
        times[EDITS - 1]
    );
    assert!(p99 < Duration::from_millis(500), "p99 {p99:?}");
}

#[test]
fn c12_a_storm_of_edits_is_coalesced_and_costs_no_request() {
    const TIME: Duration = Duration::from_secs(2);
    let stage = Stage::start(1);
    let control = Control::start(None);
    control.publish(stage.snapshot(&["m"]));
    let plane = Plane::start(&control, None);
    until("it is ready", || plane.ready());
    let mut connection = Connection::open(plane.listen());
    let (begin, mut edits) = (Instant::now(), 0);
    while begin.elapsed() < TIME {
        edits += 1;
        control.publish(stage.snapshot(&["m", &format!("n{edits}")]));
        if edits % 20 == 0 {
            assert_eq!(connection.chat("m"), 200);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let (last, time) = (Instant::now(), begin.elapsed());
    until("the last edit is in force", || connection.get(&format!("/v1/models/n{edits}")).0 == 200);
    let (late, published) = (last.elapsed(), control.counts.published.load(Relaxed));
    println!("{edits} edits in {time:?}: {published} published, the last in force after {late:?}");
    assert!(published as f64 <= 2.0 + 20.0 * time.as_secs_f64(), "{published} in {time:?}");
    assert!(late < Duration::from_millis(500), "{late:?}");
    assert_eq!(connection.opened, 1);
}

#[test]
fn ten_thousand_endpoints_are_synced_and_one_change_is_small() {
    let stage = Stage::start(1);
    let control = Control::start(None);
    let large = stage.large(2_000, 5);
    let wire = api::encode::snapshot(&large).encoded_len();
    control.publish(large.clone());
    until("it is published", || control.counts.published.load(Relaxed) == 1);
    let begin = Instant::now();
    let plane = Plane::start(&control, None);
    until("it is ready", || plane.ready());
    let took = begin.elapsed();
    println!("{wire} bytes of 10,000 endpoints and 2,000 routes in force after {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let before = control.counts.encoded_bytes.load(Relaxed);
    let mut edited = large;
    std::sync::Arc::make_mut(&mut edited.backends[777].endpoints[3]).zone = Some("elsewhere".into());
    let begin = Instant::now();
    control.publish(edited);
    control.complete(1);
    let (took, bytes) = (begin.elapsed(), control.counts.encoded_bytes.load(Relaxed) - before);
    println!("one endpoint's change: {bytes} bytes, acknowledged after {took:?}");
    assert!(bytes < 500, "{bytes}");
}
