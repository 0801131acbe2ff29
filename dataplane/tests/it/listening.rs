//! From when on clients can connect.

use std::io::Write;
use std::time::{Duration, Instant};

use dataplane::config::{ControlPlane, Cores, ListenWhen};
use serde_json::json;

use crate::support::control::Control;
use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{route, serving, snapshot};
use crate::support::until;
use crate::support::wire::chat;

on_every_driver!(
    who_shares_a_port_and_has_no_routes_yet_takes_no_connection_of_it,
    who_comes_before_the_routes_waits_for_them_and_probes_do_not,
    who_waited_for_routes_in_vain_is_told_so,
    a_core_that_has_more_connections_hands_new_ones_on,
);

const LONG: Duration = Duration::from_secs(60);

/// A route to this engine.
fn published(engine: &Engine) -> serde_json::Value {
    let endpoint = json!({"handle": 1, "name": "b", "address": engine.address.to_string()});
    snapshot(vec![route("m", "t/b")], vec![json!({"name": "t/b", "endpoints": [endpoint]})])
}

/// A proxy of a control plane that is not there, which holds who comes for so long.
fn unprogrammed(leg: Leg, published: &serde_json::Value, hold: Duration) -> (Proxy, std::net::SocketAddr) {
    let address = Control::start(7, published).address;
    let proxy = Proxy::with(leg, &json!({}), |config, _| {
        config.hold = hold;
        config.source = ControlPlane::at(address).into();
    });
    (proxy, address)
}

/// As at the port of a node, which the kernel gives to a pod before it is ready.
fn who_comes_before_the_routes_waits_for_them_and_probes_do_not(leg: Leg) {
    let engine = Engine::named("b");
    let published = published(&engine);
    let (proxy, address) = unprogrammed(leg, &published, LONG);
    let mut client = proxy.client();
    client.send(chat("m"));
    let begin = Instant::now();
    assert_eq!((proxy.admin("/healthz").status(), proxy.admin("/readyz").status()), (200, 503));
    assert!(begin.elapsed() < LONG / 2, "probes are answered at once");
    let _control = Control::at(address, 8, &published);
    let reply = client.reply();
    assert_eq!((reply.status(), reply.json()["from"].as_str()), (200, Some("b")));
    assert_eq!(proxy.ask(chat("m")).status(), 200);
    assert!(begin.elapsed() < LONG, "not because of the time");
}

fn who_waited_for_routes_in_vain_is_told_so(leg: Leg) {
    let published = published(&Engine::named("b"));
    for hold in [Duration::ZERO, Duration::from_millis(300)] {
        let begin = Instant::now();
        let (proxy, _) = unprogrammed(leg, &published, hold);
        assert_eq!(proxy.ask(chat("m")).status(), 503, "{hold:?}");
        assert!(begin.elapsed() >= hold, "{hold:?}");
        assert_eq!(proxy.ask(chat("m")).status(), 503, "{hold:?}");
    }
}

/// Of two listeners that share a port the kernel gives each a part of the connections.
fn who_shares_a_port_and_has_no_routes_yet_takes_no_connection_of_it(leg: Leg) {
    let (a, b) = (Engine::named("a"), Engine::named("b"));
    let old = Proxy::start(leg, &serving(&[a.address]));
    let published = published(&b);
    // Where a control plane was and will be.
    let address = Control::start(7, &published).address;
    let new = Proxy::with(leg, &json!({}), |config, _| {
        config.listen = old.address;
        config.listen_when = ListenWhen::Loaded;
        config.source = ControlPlane::at(address).into();
    });
    let from = || old.ask(chat("m")).json()["from"].as_str().unwrap_or_default().to_owned();
    assert!((0..40).all(|_| from() == "a"), "who has routes answers all");
    let _control = Control::at(address, 8, &published);
    until("the new one has routes", || !new.endpoints().is_empty());
    until("the new one has its part", || from() == "b");
}

fn a_core_that_has_more_connections_hands_new_ones_on(leg: Leg) {
    if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
        let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: this machine has one core");
        return;
    }
    let engine = Engine::named("e");
    let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, _| config.cores = Cores::First(2));
    let held = |core: usize| proxy.metric("kthena_router_downstream_connections", &[&format!("core=\"{core}\"")]);
    let handed = || proxy.metric("kthena_router_connections_handed_off_total", &[]);
    // Clients by the core that took them.
    let mut clients = [Vec::new(), Vec::new()];
    while clients.iter().any(|of_core| of_core.len() < 12) {
        let before = [held(0), held(1)];
        let mut client = proxy.client();
        assert_eq!(client.ask(chat("m")).status(), 200);
        let grown: Vec<_> = (0..2).filter(|core| held(*core) > before[*core]).collect();
        let [core] = grown[..] else { panic!("one connection more, on cores {grown:?}") };
        clients[core].push(client);
    }
    // Who dozes counts as who does not.
    let dozing = || proxy.metric("kthena_router_idle_downstream_connections", &[]) as usize;
    until("all doze", || dozing() == clients.iter().map(Vec::len).sum::<usize>());
    clients[1].clear();
    until("one core has none any more", || held(1) == 0.0);
    let before = handed();
    // The kernel gives either core its part of what is new. None stays: once the other core had seven by chance, nothing would be handed on.
    for _ in 0..24 {
        assert_eq!(proxy.ask(chat("m")).status(), 200);
    }
    assert!(handed() > before, "none of 24 was handed on where 12 beside 0 were open");
}
