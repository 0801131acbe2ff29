//! What is counted beside the reference's metrics: errors by side, requests by endpoint, and what the process itself costs.

use std::time::Duration;

use dataplane::metrics::InForce;
use dataplane::probe::ask;
use serde_json::json;

use crate::support::PATIENCE;
use crate::support::engine::{Engine, Refusing, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::process::Process;
use crate::support::proxy::{Folder, Proxy};
use crate::support::snapshot::{backend, route, serving, snapshot};
use crate::support::until;
use crate::support::wire::{CHAT, EVENTS, answer, chat, chunk, post, stream};

on_every_driver!(
    errors_are_told_by_side,
    requests_are_told_by_endpoint,
    what_left_the_table_is_forgotten,
    stalls_of_a_core_are_seen,
    the_process_tells_its_cost,
);

fn errors_are_told_by_side(leg: Leg) {
    let engine = Engine::start(|conn, seen| {
        let status = ["400 Bad Request", "429 Too Many Requests", "500 Internal Server Error"];
        let status = status.into_iter().find(|status| seen.text().contains(&status[..3])).unwrap_or("200 OK");
        conn.write(answer(status, "{}"));
        Then::Keep
    });
    let dead = Refusing::new();
    let routes = vec![route("m", "t/b"), route("dead", "t/dead")];
    let backends = vec![backend("t/b", &[engine.address]), backend("t/dead", &[dead.address])];
    let proxy = Proxy::with(leg, &snapshot(routes, backends), |config, _| config.limits.buffered_bytes = 1 << 20);
    let ask = |model: &str, word: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": word}]});
        proxy.ask(post(CHAT, body.to_string())).status()
    };
    let check = |expected: [f64; 3]| {
        let of = |side| proxy.metric("kthena_router_errors_total", &[&format!("side=\"{side}\"")]);
        let told = || ["downstream", "upstream", "internal"].map(of);
        until(&format!("{expected:?} errors of clients, engines and ours"), || told() == expected);
        proxy.settled();
        assert_eq!(told(), expected);
    };
    assert_eq!(ask("m", "hi"), 200);
    check([0.0, 0.0, 0.0]);
    assert_eq!((ask("nobody", "hi"), ask("m", "400")), (404, 400));
    check([2.0, 0.0, 0.0]);
    assert_eq!((ask("dead", "hi"), ask("m", "429"), ask("m", "500")), (502, 429, 500));
    check([2.0, 3.0, 0.0]);
    let large = post(CHAT, format!(r#"{{"model":"m","pad":"{}"}}"#, "x".repeat(700_000)));
    let mut holds = proxy.client();
    holds.send(&large[..large.len() - 1]);
    until("most of a body is held", || proxy.metric("kthena_router_buffered_bytes", &[]) >= 600_000.0);
    assert_eq!(proxy.client().try_send(&large).reply().status(), 503);
    assert_eq!(holds.ask(&large[large.len() - 1..]).status(), 200);
    check([2.0, 3.0, 1.0]);
}

fn requests_are_told_by_endpoint(leg: Leg) {
    const NAME: &str = "kthena_router_endpoint_attempts_total";
    let engines = [Engine::named("a"), Engine::named("b")];
    let proxy = Proxy::start(leg, &serving(&engines.each_ref().map(|engine| engine.address)));
    let of = |endpoint| proxy.metric(NAME, &[&format!("endpoint_name=\"{endpoint}\"")]);
    assert!(!proxy.admin("/metrics").text().contains(NAME), "nothing was sent yet");
    let ask = || assert_eq!(proxy.ask(chat("m")).status(), 200);
    (0..20).for_each(|_| ask());
    let counted = engines.each_ref().map(|engine| engine.count() as f64);
    assert_eq!([of("t/b-0"), of("t/b-1")], counted);
    assert_eq!(counted.iter().sum::<f64>(), 20.0);

    proxy.edit(&serving(&[engines[0].address]).to_string());
    until("the second is gone", || proxy.endpoints().len() == 1);
    (0..3).for_each(|_| ask());
    assert_eq!(of("t/b-0"), counted[0] + 3.0, "the count goes on");
    assert!(!proxy.admin("/metrics").text().contains("t/b-1"), "who is gone has no series");
}

fn what_left_the_table_is_forgotten(leg: Leg) {
    let engines = [(); 3].map(|()| {
        Engine::start(|conn, seen| {
            if seen.text().contains("stream") {
                conn.write(format!("{EVENTS}{}", chunk("data: {}\n\n")));
                return Then::AwaitGone;
            }
            conn.write(answer("200 OK", "{}"));
            Then::Keep
        })
    });
    let serving = |model: &str, of: usize| {
        let name = format!("t/{model}");
        let routes = vec![route("stays", "t/stays"), route(model, &name)];
        snapshot(routes, vec![backend("t/stays", &[engines[0].address]), backend(&name, &[engines[of].address])])
    };
    let proxy = Proxy::start(leg, &serving("old", 1));
    // As the tables thread does it, by a clock that runs faster.
    let mut now_ms = 1_000_000_u64;
    let mut forget = || {
        now_ms += 400_000;
        proxy.shared().metrics.forget(&InForce::of(&proxy.shared().table.load()), now_ms);
    };
    let requests = |model: &str| proxy.metric("kthena_router_requests_total", &[&format!("{{model=\"{model}\"")]);
    for model in ["stays", "old", "stays"] {
        assert_eq!(proxy.ask(chat(model)).status(), 200);
    }
    let mut runs = proxy.client();
    runs.send(stream("old"));
    runs.through("data: {}");
    until("all that ended are counted", || (requests("stays"), requests("old")) == (2.0, 1.0));
    (0..3).for_each(|_| forget());
    assert_eq!((requests("stays"), requests("old")), (2.0, 1.0), "what is there is told however old it is");

    proxy.edit(&serving("new", 2).to_string());
    until("the new model is there", || proxy.ask(chat("new")).status() == 200);
    until("the tables thread has seen what left", || proxy.shared().metrics.leaving() > 0);
    assert_eq!(requests("old"), 1.0, "for some minutes it is told");
    until("requests of the model that left are forgotten", || {
        forget();
        requests("old") == 0.0
    });
    let running = proxy.metric("kthena_router_active_upstream_requests", &["model_route=\"t/old\""]);
    assert_eq!(running, 1.0, "one of them runs on");
    drop(runs);
    until("nothing is told of the model that left", || {
        forget();
        let page = proxy.admin("/metrics").text();
        !page.contains("\"old\"") && !page.contains("t/old")
    });
    assert_eq!(requests("stays"), 2.0);
    proxy.settled();
}

fn stalls_of_a_core_are_seen(leg: Leg) {
    const STALL: Duration = Duration::from_millis(400);
    let (engine, folder) = (Engine::named("e"), Folder::new());
    let socket = folder.file("admin.sock");
    let config = format!("admin_socket: {}", socket.display());
    let process = Process::within(folder, leg, &serving(&[engine.address]), (&config, 0, 1, &[]));
    // More than a quarter of a second late, and looks at that at all.
    let seen = || {
        let page = ask(&socket, "/metrics", PATIENCE).unwrap().body;
        let page = String::from_utf8(page).unwrap();
        let up_to = |bound: &str| {
            let name = format!("kthena_router_core_loop_lag_seconds_bucket{{core=\"0\",le=\"{bound}\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok()).unwrap_or(0)
        };
        (up_to("+Inf") - up_to("0.25"), up_to("+Inf"))
    };
    until("the core is looked at", || seen().1 > 0);
    for stall in 0..5 {
        let before = seen();
        process.stop_for(STALL);
        until(&format!("stall {stall} is seen"), || seen().0 > before.0);
    }
}

fn the_process_tells_its_cost(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    for name in ["cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds", "start_time_seconds"] {
        assert!(proxy.metric(&format!("process_{name}"), &[]) > 0.0, "{name}");
    }
    let clients: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    // Other tests of this process come and go.
    until("a proxy's connections are files", || {
        let connections = proxy.metric("kthena_router_downstream_connections", &[]);
        connections == 50.0 && proxy.metric("process_open_fds", &[]) > connections
    });
    drop(clients);
}
