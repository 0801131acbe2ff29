//! Connections that have had nothing to do for a second: what is left of them is little, and nobody can tell.

use std::time::{Duration, Instant};

use crate::support::client::{Client, End};
use crate::support::engine::{Conn, Engine, Seen, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::serving;
use crate::support::until;
use crate::support::wire::{CHAT, answer, chat, get, post_with};

on_every_driver!(
    who_dozes_is_answered_as_ever,
    who_is_used_does_not_doze,
    the_head_that_wakes_has_its_time,
    who_leaves_is_let_go,
    who_dozes_too_long_is_closed_and_an_empty_line_gives_no_time,
    a_process_that_ends_closes_who_dozes,
    who_wakes_a_process_that_ends_is_answered_and_told_to_go,
    a_thousand_that_wake_at_once_are_all_answered,
    who_dozes_counts,
    no_place_or_descriptor_is_taken_for_that_of_another,
);

/// More than is looked at, taken or closed at once.
const CROWD: usize = 1_000;
const SECOND: Duration = Duration::from_secs(1);
/// Half of a head.
const HALF: &str = "GET /healthz HTTP/1.1\r\nHost: ";

fn dozing(proxy: &Proxy) -> usize {
    proxy.metric("kthena_router_idle_downstream_connections", &[]) as usize
}

fn open(proxy: &Proxy) -> usize {
    proxy.metric("kthena_router_downstream_connections", &[]) as usize
}

fn until_dozing(proxy: &Proxy, count: usize) {
    until(&format!("{count} doze"), || dozing(proxy) == count);
}

/// A client that has had an answer.
fn asked(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    assert_eq!(client.ask(get("/healthz")).status(), 200);
    client
}

/// A proxy, and so many clients whose connections doze.
fn asleep(leg: Leg, count: usize) -> (Proxy, Vec<Client>) {
    let proxy = Proxy::start(leg, &serving(&[Engine::named("e").address]));
    let clients = (0..count).map(|_| asked(&proxy)).collect();
    until_dozing(&proxy, count);
    (proxy, clients)
}

fn who_dozes_is_answered_as_ever(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let (mut silent, mut used, mut cut) = (proxy.client(), proxy.client(), proxy.client());
    assert_eq!(used.ask(chat("m")).status(), 200);
    assert_eq!(cut.ask(chat("m")).status(), 200);
    for _ in 0..2 {
        until_dozing(&proxy, 3);
        assert_eq!(open(&proxy), 3);
        // One in pieces, a whole one, and two at once.
        cut.send(HALF);
        until("half a head wakes", || dozing(&proxy) == 2);
        assert_eq!(silent.ask(chat("m")).status(), 200);
        used.send([chat("m"), chat("m")].concat());
        assert_eq!([used.reply().status(), used.reply().status()], [200, 200]);
        assert_eq!(cut.ask("x\r\n\r\n").status(), 200);
    }
    // An empty line is no request.
    until_dozing(&proxy, 3);
    silent.send("\r\n");
    until("it wakes", || dozing(&proxy) == 2);
    until_dozing(&proxy, 3);
    assert_eq!(silent.ask(chat("m")).status(), 200);
    proxy.settled();
}

fn who_is_used_does_not_doze(leg: Leg) {
    let proxy = Proxy::start(leg, &serving(&[Engine::named("e").address]));
    let mut client = proxy.client();
    let (begin, mut before) = (Instant::now(), Instant::now());
    while begin.elapsed() < 3 * SECOND {
        assert_eq!(client.ask(get("/healthz")).status(), 200);
        let dozes = dozing(&proxy) > 0;
        assert!(!dozes || before.elapsed() >= SECOND, "it was used a moment ago");
        before = Instant::now();
    }
}

fn the_head_that_wakes_has_its_time(leg: Leg) {
    let proxy = Proxy::with(leg, &serving(&[Engine::named("e").address]), |config, _| {
        config.limits.header_time = Duration::from_millis(300);
    });
    let mut client = asked(&proxy);
    until_dozing(&proxy, 1);
    client.send(HALF);
    let reply = client.reply();
    assert_eq!((reply.status(), reply.head.field("connection")), (408, Some("close")), "{}", reply.text());
    assert_eq!(client.rest(), (Vec::new(), End::Closed));
    assert_eq!(proxy.hits("header_time"), 1.0);
    proxy.settled();
}

fn who_leaves_is_let_go(leg: Leg) {
    let (proxy, mut clients) = asleep(leg, 8);
    clients.drain(..4);
    until("four are gone", || (open(&proxy), dozing(&proxy)) == (4, 4));
    for mut client in clients {
        client.half_close();
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
    }
    until("all are gone", || (open(&proxy), dozing(&proxy)) == (0, 0));
    proxy.settled();
}

fn who_dozes_too_long_is_closed_and_an_empty_line_gives_no_time(leg: Leg) {
    let time = 5 * SECOND;
    let proxy = Proxy::with(leg, &serving(&[Engine::named("e").address]), |config, _| {
        config.limits.keep_alive_idle = time;
    });
    let begin = Instant::now();
    let (mut client, mut woken) = (asked(&proxy), asked(&proxy));
    until_dozing(&proxy, 2);
    until("half of the time is over", || begin.elapsed() > 3 * SECOND);
    woken.send("\r\n");
    for client in [&mut client, &mut woken] {
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
        assert!(begin.elapsed() >= time, "not before its time");
    }
    assert!(begin.elapsed() < time + 3 * SECOND, "an empty line gave it another {time:?}");
    until("both are counted", || proxy.hits("keep_alive_idle") == 2.0);
    assert_eq!((open(&proxy), dozing(&proxy)), (0, 0));
    proxy.settled();
}

fn a_process_that_ends_closes_who_dozes(leg: Leg) {
    let proxy = Proxy::with(leg, &serving(&[Engine::named("e").address]), |config, _| {
        (config.drain.lead, config.drain.deadline) = (Duration::ZERO, 60 * SECOND);
    });
    let silent = proxy.client();
    let clients: Vec<_> = (0..CROWD / 4).map(|_| asked(&proxy)).chain([silent]).collect();
    until_dozing(&proxy, clients.len());
    let begin = Instant::now();
    assert_eq!(proxy.end(), 0, "nobody is cut");
    assert!(begin.elapsed() < 20 * SECOND, "nor waited for");
    for mut client in clients {
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
    }
}

fn who_wakes_a_process_that_ends_is_answered_and_told_to_go(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| {
        (config.drain.lead, config.drain.deadline) = (2 * SECOND, 60 * SECOND);
    });
    let mut client = asked(&proxy);
    until_dozing(&proxy, 1);
    std::thread::scope(|scope| {
        let shared = proxy.shared_by_all();
        let ended = scope.spawn(move || proxy.end());
        until("it drains", || shared.draining());
        let reply = client.ask(chat("m"));
        assert_eq!((reply.status(), reply.head.field("connection")), (200, Some("close")));
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
        assert_eq!(ended.join().unwrap(), 0);
    });
}

fn a_thousand_that_wake_at_once_are_all_answered(leg: Leg) {
    let (proxy, mut clients) = asleep(leg, CROWD);
    for client in &mut clients {
        client.send(get("/healthz"));
    }
    for client in &mut clients {
        assert_eq!(client.reply().status(), 200);
    }
    assert_eq!(open(&proxy), CROWD);
    until_dozing(&proxy, CROWD);
    drop(clients);
    until("all are gone", || (open(&proxy), dozing(&proxy)) == (0, 0));
    proxy.settled();
}

fn who_dozes_counts(leg: Leg) {
    let proxy = Proxy::with(leg, &serving(&[Engine::named("e").address]), |config, _| config.limits.connections = 2);
    let (first, mut second) = (asked(&proxy), asked(&proxy));
    until_dozing(&proxy, 2);
    assert!(proxy.client().rest().0.is_empty(), "the third is closed");
    assert_eq!(proxy.hits("connections"), 1.0);
    assert_eq!(second.ask(get("/healthz")).status(), 200);
    assert!(proxy.client().rest().0.is_empty(), "who wakes had its place all the time");
    drop(first);
    until("a place is free", || open(&proxy) == 1);
    let _third = asked(&proxy);
    assert_eq!(proxy.hits("connections"), 2.0);
}

/// Says who asked.
fn echo(conn: &mut Conn, seen: &Seen) -> Then {
    conn.write(answer("200 OK", seen.head.field("x-who").unwrap_or_default()));
    Then::Keep
}

fn no_place_or_descriptor_is_taken_for_that_of_another(leg: Leg) {
    let engine = Engine::start(echo);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut clients: Vec<(usize, Client)> = Vec::new();
    for round in 0..3 {
        while clients.len() < 40 {
            clients.push((round * 100 + clients.len(), asked(&proxy)));
        }
        until_dozing(&proxy, 40);
        // Half of them ask, which gives their places to others while they are open.
        for (who, client) in clients.iter_mut().step_by(2) {
            let reply = client.ask(post_with(CHAT, &format!("X-Who: {who}\r\n"), r#"{"model":"m"}"#));
            assert_eq!((reply.status(), reply.text()), (200, who.to_string()));
        }
        until_dozing(&proxy, 40);
        let mut at = 0;
        clients.retain(|_| {
            at += 1;
            at % 3 != 0
        });
        until("a third is gone", || open(&proxy) == clients.len());
    }
    proxy.settled();
}
