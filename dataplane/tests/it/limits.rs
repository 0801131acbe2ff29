//! Every bound on clients: the right answer, a closed connection, and the metric.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::{Client, End};
use crate::support::engine::{Engine, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{serving, serving_with};
use crate::support::until;
use crate::support::wire::{CHAT, LAST, chat, chunk, get, post, post_with};

on_every_driver!(
    sizes_are_bounded,
    times_are_bounded,
    a_body_has_a_pace_however_it_is_framed,
    a_body_has_a_time_for_all_of_it,
    connections_are_bounded,
    bodies_held_at_once_are_bounded,
    requests_in_flight_are_bounded,
    the_time_to_connect_is_bounded,
    jobs_of_the_helper_threads_are_bounded,
    framing_in_doubt_is_refused_and_closed,
);

/// One answer with this status that ends the connection.
fn check_refused(mut client: Client, request: impl AsRef<[u8]>, status: u16) {
    let reply = client.try_send(request).reply();
    assert_eq!(reply.status(), status, "{}", reply.text());
    assert_eq!(reply.head.field("connection"), Some("close"));
    assert_eq!(client.rest(), (Vec::new(), End::Closed));
}

fn sizes_are_bounded(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| {
        config.limits.head.head_bytes = 4096;
        config.limits.head.fields = 20;
        config.limits.head.uri_bytes = 1024;
        config.limits.body_bytes = 10_000;
    });
    let many: String = (0..30).map(|n| format!("x-{n}: 1\r\n")).collect();
    let hits = |limit, n: f64| until(limit, || proxy.hits(limit) == n);
    check_refused(proxy.client(), post_with(CHAT, &format!("X-Big: {}\r\n", "x".repeat(5000)), "{}"), 431);
    check_refused(proxy.client(), post_with(CHAT, &many, "{}"), 431);
    hits("head", 2.0);
    check_refused(proxy.client(), post(&format!("/{}", "u".repeat(2000)), "{}"), 414);
    hits("uri", 1.0);
    check_refused(proxy.client(), post(CHAT, "x".repeat(10_001)), 413);
    let chunked = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    check_refused(proxy.client(), chunked + &chunk(&"x".repeat(10_001)) + LAST, 413);
    hits("body", 2.0);
    assert_eq!(proxy.ask(post(CHAT, padded(10_000))).status(), 200, "just within");
    assert_eq!(engine.count(), 1);
    proxy.settled();
}

fn times_are_bounded(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| {
        let limits = &mut config.limits;
        (limits.header_time, limits.body_idle) = (Duration::from_millis(300), Duration::from_millis(300));
        limits.keep_alive_idle = Duration::from_millis(300);
    });
    let (mut head, mut body, mut idle) = (proxy.client(), proxy.client(), proxy.client());
    head.send("POST / HTTP/1.1\r\nHost: x\r\n");
    body.send(format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{{"));
    assert_eq!(idle.ask(chat("m")).status(), 200);
    for client in [&mut head, &mut body] {
        let reply = client.reply();
        assert_eq!((reply.status(), reply.head.field("connection")), (408, Some("close")), "{}", reply.text());
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
    }
    idle.rest();
    for limit in ["header_time", "body_idle", "keep_alive_idle"] {
        until(limit, || proxy.hits(limit) == 1.0);
    }
    proxy.settled();
}

/// A byte now and then, each far within the limit, buys no time.
fn a_body_has_a_pace_however_it_is_framed(leg: Leg) {
    let (engine, idle) = (Engine::named("e"), Duration::from_secs(1));
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| config.limits.body_idle = idle);
    let lengths = [("Content-Length: 100000", " ".to_owned()), ("Transfer-Encoding: chunked", chunk(" "))];
    for (hits, (framing, byte)) in (1..).zip(lengths) {
        let mut client = proxy.client();
        client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n"));
        drips_until_refused(&mut client, byte.as_bytes(), idle / 10, idle * 10);
        assert_eq!(proxy.hits("body_idle"), f64::from(hits), "{framing}");
    }
    assert_eq!(engine.count(), 0);
    proxy.settled();
}

/// Nor does a pace that is just enough, for ever.
fn a_body_has_a_time_for_all_of_it(leg: Leg) {
    let (engine, idle) = (Engine::named("e"), Duration::from_millis(300));
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| config.limits.body_idle = idle);
    let mut client = proxy.client();
    client.send(format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n"));
    drips_until_refused(&mut client, &[b' '; 64 << 10], idle / 4, idle * 30);
    assert_eq!(proxy.hits("body_idle"), 1.0);
    proxy.settled();
}

/// Sends the piece each `pause` until the proxy answers, which is 408.
fn drips_until_refused(client: &mut Client, piece: &[u8], pause: Duration, patience: Duration) {
    let end = Instant::now() + patience;
    while !client.answers_within(pause) {
        assert!(Instant::now() < end, "it goes on after {patience:?}");
        client.send(piece);
    }
    let reply = client.reply();
    assert_eq!((reply.status(), reply.head.field("connection")), (408, Some("close")), "{}", reply.text());
}

fn connections_are_bounded(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| config.limits.connections = 3);
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/healthz")).status(), 200);
    }
    assert!(proxy.client().rest().0.is_empty(), "the fourth is closed");
    assert_eq!(proxy.hits("connections"), 1.0);
    clients.pop();
    until("its place is free", || proxy.metric("kthena_router_downstream_connections", &[]) == 2.0);
    assert_eq!(proxy.ask(chat("m")).status(), 200);
}

fn bodies_held_at_once_are_bounded(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| config.limits.buffered_bytes = 1 << 20);
    let request = post(CHAT, padded(700_000));
    let (most, last) = request.split_at(request.len() - 1);
    let mut first = proxy.client();
    first.send(most);
    until("most of a body is held", || proxy.metric("kthena_router_buffered_bytes", &[]) >= 600_000.0);
    let mut second = proxy.client();
    let reply = second.try_send(&request).reply();
    assert_eq!((reply.status(), reply.head.field("retry-after")), (503, Some("1")));
    assert_eq!(proxy.hits("buffered"), 1.0);
    assert_eq!(first.ask(last).status(), 200);
    assert_eq!(proxy.ask(post(CHAT, padded(700_000))).status(), 200);
    proxy.settled();
    assert_eq!(proxy.metric("kthena_router_buffered_bytes", &[]), 0.0);
}

fn requests_in_flight_are_bounded(leg: Leg) {
    let engine = Engine::start(|_, _| Then::AwaitGone);
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"maxInFlight": 2})));
    let mut waiting: Vec<_> = (0..2).map(|_| proxy.client()).collect();
    for client in &mut waiting {
        client.send(chat("m"));
    }
    engine.wait_requests(2);
    let reply = proxy.ask(chat("m"));
    assert_eq!((reply.status(), reply.head.field("retry-after")), (503, Some("1")), "{}", reply.text());
    assert_eq!(proxy.hits("in_flight"), 1.0);
    drop(waiting);
    engine.wait_gone(2);
    proxy.settled();
}

/// A listener whose queue is full: it answers no more connections, and refuses none. With it goes what fills the queue.
fn silent() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let fill = std::iter::from_fn(connect).take(64).collect();
    (address, listener, fill)
}

fn the_time_to_connect_is_bounded(leg: Leg) {
    let (address, _listener, _fill) = silent();
    let proxy = Proxy::start(leg, &serving_with(&[address], json!({"timeouts": {"connect": "0.2s"}})));
    let reply = proxy.ask(chat("m"));
    assert_eq!(reply.status(), 502, "{}", reply.text());
    assert!(proxy.hits("connect") >= 1.0);
    proxy.settled();
}

fn jobs_of_the_helper_threads_are_bounded(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| config.limits.offload_bytes = 4096);
    let large = || post(CHAT, padded(5000));
    assert_eq!(proxy.ask(large()).status(), 200);
    let gate = Arc::new(Mutex::new(()));
    let held = gate.lock().unwrap();
    let waits = || {
        let gate = gate.clone();
        proxy.shared().offload.run(move || drop(gate.lock().unwrap()))
    };
    while waits().is_ok() {}
    let reply = proxy.ask(large());
    assert_eq!((reply.status(), reply.head.field("retry-after")), (503, Some("1")), "{}", reply.text());
    assert_eq!(proxy.hits("offload"), 1.0);
    assert_eq!(proxy.ask(chat("m")).status(), 200, "what is small needs no helper");
    drop(held);
    until("the helpers are free", || proxy.ask(large()).status() == 200);
    proxy.settled();
}

fn framing_in_doubt_is_refused_and_closed(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let refused = |fields: &str, status| {
        let request = format!("POST {CHAT} HTTP/1.1\r\n{fields}\r\n{{\"model\":\"m\"}}");
        check_refused(proxy.client(), request, status);
    };
    refused("Host: x\r\nContent-Length: 13\r\nTransfer-Encoding: chunked\r\n", 400);
    refused("Host: x\r\nContent-Length: 13\r\nContent-Length: 13\r\n", 400);
    refused("Host: x\r\nContent-Length: +13\r\n", 400);
    refused("Host: x\r\nTransfer-Encoding: gzip, chunked\r\n", 501);
    refused("Content-Length: 13\r\n", 400);
    refused("Host: x\r\nHost: y\r\nContent-Length: 13\r\n", 400);
    refused("Host: x\nContent-Length: 13\r\n", 400);
    refused("Host: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400);
    check_refused(proxy.client(), "GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505);
    assert_eq!(engine.count(), 0);
    proxy.settled();
}

/// A body of this size.
fn padded(size: usize) -> Vec<u8> {
    let mut body = br#"{"model":"m"}"#.to_vec();
    body.resize(size, b' ');
    body
}
