//! From when on clients can connect.

use dataplane::config::{ControlPlane, ListenWhen};
use serde_json::json;

use crate::support::control::Control;
use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{route, serving, snapshot};
use crate::support::until;
use crate::support::wire::chat;

on_every_driver!(who_shares_a_port_and_has_no_routes_yet_takes_no_connection_of_it);

/// Of two listeners that share a port the kernel gives each a part of the connections.
fn who_shares_a_port_and_has_no_routes_yet_takes_no_connection_of_it(leg: Leg) {
    let (a, b) = (Engine::named("a"), Engine::named("b"));
    let old = Proxy::start(leg, &serving(&[a.address]));
    let published = {
        let endpoint = json!({"handle": 1, "name": "b", "address": b.address.to_string()});
        snapshot(vec![route("m", "t/b")], vec![json!({"name": "t/b", "endpoints": [endpoint]})])
    };
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
