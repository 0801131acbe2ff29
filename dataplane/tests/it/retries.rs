//! A request is tried elsewhere only while that is safe, and an endpoint that fails is left alone for a while.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use dataplane::config::Config;
use serde_json::json;

use crate::support::engine::{Engine, Refusing, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{serving, serving_with};
use crate::support::until;
use crate::support::wire::{answer, chat, post};

on_every_driver!(
    a_refused_connection_is_tried_elsewhere,
    a_refused_connection_ends_those_that_idle,
    a_reset_before_the_answer_is_tried_elsewhere,
    errors_of_the_request_are_never_tried_again,
    a_503_is_tried_by_what_the_engine_means,
    when_all_fail_the_client_gets_502,
    an_answer_that_does_not_begin_becomes_504,
    a_request_that_takes_too_long_becomes_504,
    the_retry_budget_holds,
    an_endpoint_that_fails_is_ejected_and_comes_back,
);

fn a_refused_connection_is_tried_elsewhere(leg: Leg) {
    let (refusing, engine) = (Refusing::new(), Engine::named("e"));
    let proxy = Proxy::start(leg, &serving(&[refusing.address, engine.address]));
    let mut client = proxy.client();
    for n in 0..30 {
        assert_eq!(client.ask(chat("m")).status(), 200, "request {n}");
    }
    let retries = proxy.metric("kthena_router_retries_total", &[]);
    assert!((1.0..=30.0).contains(&retries), "{retries}");
    proxy.settled();
}

fn a_refused_connection_ends_those_that_idle(leg: Leg) {
    // Two requests at once, so that two connections idle afterwards; the next request's is closed under it.
    let (both, ends) = (Barrier::new(2), AtomicUsize::new(0));
    let engine = Engine::start(move |conn, _| {
        if ends.fetch_add(1, SeqCst) >= 2 {
            return Then::Close;
        }
        both.wait();
        conn.write(answer("200 OK", "{}"));
        Then::Keep
    });
    // Nothing else ends them.
    let idle_long = |config: &mut Config, _: &Path| config.limits.pool_idle = Duration::from_secs(3_600);
    let proxy = Proxy::with(leg, &serving(&[engine.address]), idle_long);
    let (mut one, mut other) = (proxy.client(), proxy.client());
    one.send(chat("m"));
    assert_eq!((other.ask(chat("m")).status(), one.reply().status()), (200, 200));
    proxy.settled();
    assert_eq!((engine.connections(), engine.open_connections()), (2, 2));
    engine.refuse();
    assert_eq!(one.ask(chat("m")).status(), 502);
    until("the engine sees the connection end that was not used", || engine.open_connections() == 0);
    proxy.settled();
}

fn a_reset_before_the_answer_is_tried_elsewhere(leg: Leg) {
    for then in [Then::Reset, Then::Close] {
        let bad = Engine::start(move |_, _| then);
        let good = Engine::named("good");
        let proxy = Proxy::start(leg, &serving(&[bad.address, good.address]));
        let mut client = proxy.client();
        for n in 0..20 {
            assert_eq!(client.ask(chat("m")).status(), 200, "request {n}");
        }
        assert!(bad.count() >= 1);
        assert_eq!(good.count(), 20);
        proxy.settled();
    }
}

fn errors_of_the_request_are_never_tried_again(leg: Leg) {
    for status in ["400 Bad Request", "404 Not Found", "429 Too Many Requests", "500 Internal Server Error"] {
        let (a, b) = (Engine::fixed(answer(status, "{}")), Engine::fixed(answer(status, "{}")));
        let proxy = Proxy::start(leg, &serving(&[a.address, b.address]));
        let reply = proxy.ask(chat("m"));
        assert_eq!((reply.head.first_line().ends_with(status), reply.text().as_str()), (true, "{}"));
        assert_eq!(a.count() + b.count(), 1, "{status}");
    }
}

/// Two endpoints that both answer 503 with this body: how many attempts are made.
fn check_503(leg: Leg, (engine, path): (&str, &str), body: &str, attempts: usize) {
    let text = answer("503 Service Unavailable", body);
    let (a, b) = (Engine::fixed(text.clone()), Engine::fixed(text));
    let proxy = Proxy::start(leg, &serving_with(&[a.address, b.address], json!({"engine": engine})));
    let reply = proxy.ask(post(path, r#"{"model":"m"}"#));
    assert_eq!((reply.status(), reply.text().as_str()), (503, body), "the engine's own words are passed on");
    assert_eq!(a.count() + b.count(), attempts, "{engine}: {body}");
    proxy.settled();
}

fn a_503_is_tried_by_what_the_engine_means(leg: Leg) {
    let torchserve = ("TORCHSERVE", "/predictions/m");
    check_503(leg, torchserve, r#"{"code":503,"type":"ServiceUnavailableException","message":"has no worker"}"#, 2);
    check_503(leg, torchserve, r#"{"code":503,"type":"InternalServerException","message":"Prediction failed"}"#, 1);
    let triton = ("TRITON", "/v2/models/m/infer");
    check_503(leg, triton, r#"{"error":"Exceeds maximum queue size"}"#, 2);
    check_503(leg, triton, r#"{"error":"Request timeout expired"}"#, 2);
    check_503(leg, triton, r#"{"error":"the model's own"}"#, 1);
    check_503(leg, ("VLLM", "/v1/chat/completions"), r#"{"error":"busy"}"#, 2);
}

fn when_all_fail_the_client_gets_502(leg: Leg) {
    let (a, b) = (Refusing::new(), Refusing::new());
    let proxy = Proxy::start(leg, &serving(&[a.address, b.address]));
    let mut client = proxy.client();
    let reply = client.ask(chat("m"));
    let error = &reply.json()["error"];
    assert_eq!(
        (reply.status(), &error["code"], &error["type"]),
        (502, &json!("upstream_unreachable"), &json!("server_error"))
    );
    let labels = ["status_code=\"502\"", "error_type=\"upstream_transport\"", "model=\"m\""];
    until("it is counted", || proxy.metric("kthena_router_requests_total", &labels) == 1.0);
    assert_eq!(client.ask(crate::support::wire::get("/healthz")).status(), 200, "the connection is still good");
    proxy.settled();
}

fn an_answer_that_does_not_begin_becomes_504(leg: Leg) {
    let silent = || Engine::start(|_, _| Then::AwaitGone);
    let (a, b) = (silent(), silent());
    let timeouts = json!({"timeouts": {"firstByte": "0.2s"}});
    let proxy = Proxy::start(leg, &serving_with(&[a.address, b.address], timeouts));
    let reply = proxy.ask(chat("m"));
    assert_eq!((reply.status(), &reply.json()["error"]["code"]), (504, &json!("upstream_timeout")));
    assert_eq!(a.count() + b.count(), 1, "the engine may still be at work");
    until("it is counted", || proxy.hits("first_byte") >= 1.0);
    proxy.settled();
}

fn a_request_that_takes_too_long_becomes_504(leg: Leg) {
    let engine = Engine::start(|_, _| Then::AwaitGone);
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"timeouts": {"total": "0.2s"}})));
    assert_eq!(proxy.ask(chat("m")).status(), 504);
    engine.wait_gone(1);
    assert!(proxy.hits("total") >= 1.0);
    proxy.settled();
}

fn the_retry_budget_holds(leg: Leg) {
    let (a, b) = (Engine::start(|_, _| Then::Reset), Engine::start(|_, _| Then::Reset));
    let fields = json!({"retry": {"attempts": 1, "budgetPercent": 0}, "ejection": {"failures": 1000}});
    let proxy = Proxy::start(leg, &serving_with(&[a.address, b.address], fields));
    let mut client = proxy.client();
    for _ in 0..40 {
        assert_eq!(client.ask(chat("m")).status(), 502);
    }
    let attempts = a.count() + b.count();
    assert_eq!(attempts, 40, "attempts for 40 requests");
    assert!(proxy.hits("retry_budget") >= 1.0);
    proxy.settled();
}

fn an_endpoint_that_fails_is_ejected_and_comes_back(leg: Leg) {
    let sick = Arc::new(AtomicUsize::new(1));
    let state = sick.clone();
    let flaky = Engine::start(move |conn, _| {
        if state.load(SeqCst) == 1 {
            return Then::Reset;
        }
        conn.write(answer("200 OK", "{}"));
        Then::Keep
    });
    let steady = Engine::named("steady");
    let ejection = json!({"failures": 3, "base": "0.3s", "max": "0.3s", "slowStart": "0.1s"});
    let fields = json!({"ejection": ejection, "retry": {"attempts": 1, "budgetPercent": 100}});
    let proxy = Proxy::start(leg, &serving_with(&[flaky.address, steady.address], fields));
    let mut client = proxy.client();
    until("the endpoint is ejected", || {
        assert_eq!(client.ask(chat("m")).status(), 200);
        proxy.endpoints().iter().any(|e| e["ejected"] == true)
    });
    assert!(flaky.count() >= 3);
    sick.store(0, SeqCst);
    let before = flaky.count();
    until("the endpoint serves again", || {
        assert_eq!(client.ask(chat("m")).status(), 200);
        flaky.count() > before
    });
    proxy.settled();
}
