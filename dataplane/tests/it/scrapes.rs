//! Many scrapes at once: all are answered, and requests go on meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use crate::support::client::Client;
use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::serving;
use crate::support::wire::{chat, get};
use crate::support::{PATIENCE, until};

on_every_driver!(as_many_as_there_is_room_for_are_all_answered_while_requests_go_on);

/// As many connections as the listener of metrics has at a time.
const AT_ONCE: usize = 64;
const TIMES: usize = 3;
/// Requests meanwhile.
const SOME: usize = 20;

fn as_many_as_there_is_room_for_are_all_answered_while_requests_go_on(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask = || {
        let (mut client, begun) = (proxy.client(), Instant::now());
        while !over.load(Relaxed) && begun.elapsed() < 2 * PATIENCE {
            assert_eq!(client.ask(chat("m")).status(), 200);
            answered.fetch_add(1, Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let asking = scope.spawn(ask);
        (0..TIMES).for_each(|_| scrape(&proxy, &answered));
        over.store(true, Relaxed);
        asking.join().expect("all requests are answered");
    });
}

/// All at once: each has sent all but its last byte before any is answered.
fn scrape(proxy: &Proxy, answered: &AtomicUsize) {
    let go_on = |when: &str| {
        let before = answered.load(Relaxed);
        until(when, || answered.load(Relaxed) >= before + SOME);
    };
    let request = get("/metrics");
    let (head, last) = request.split_at(request.len() - 1);
    let mut scrapes: Vec<_> = (0..AT_ONCE).map(|_| Client::connect(proxy.metrics_address())).collect();
    scrapes.iter_mut().for_each(|client| _ = client.send(head));
    go_on("requests while scrapes wait");
    scrapes.iter_mut().for_each(|client| _ = client.send(last));
    go_on("requests while scrapes are answered");
    for mut client in scrapes {
        let reply = client.reply();
        assert_eq!(reply.status(), 200);
        assert!(reply.text().contains("\nkthena_router_requests_total{"), "{}", reply.text());
        // Then there is room for the next ones.
        assert!(client.rest().0.is_empty());
    }
}
