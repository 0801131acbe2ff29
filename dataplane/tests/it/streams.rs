//! Event streams: every byte as it came, at once, and never a clean end for a broken one.

use api::snapshot::UsageInjection;
use serde_json::json;

use crate::support::client::{Client, End};
use crate::support::engine::{Conn, Engine, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{backend, route, serving, serving_with, snapshot, with};
use crate::support::until;
use crate::support::wire::{CHAT, EVENTS, LAST, chat, chunk, dechunk, post, stream};

on_every_driver!(
    usage_is_asked_for_and_its_event_removed,
    usage_that_the_client_asked_for_stays,
    usage_by_policy_is_asked_for_where_the_route_has_a_limit,
    usage_never_asks_for_nothing,
    events_come_byte_for_byte_however_they_are_cut,
    an_event_is_delivered_while_the_engine_is_silent,
    a_stream_cut_within_an_event_ends_with_an_error,
    a_stream_cut_within_a_chunk_ends_with_an_error,
    a_stream_that_is_reset_ends_with_an_error,
    a_cut_in_anthropics_form,
    a_plain_answer_that_is_cut_is_cut,
    an_error_within_a_stream_is_passed_and_counted,
    a_stream_until_close_is_chunked_for_the_client,
    a_stream_that_goes_silent_too_long_is_cut,
);

const FIRST: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hé\"}}]}\n\n";
const USAGE: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// An engine that sends this after the head of an event stream, in one write.
fn events(after: impl Into<String>, then: Then) -> Engine {
    let bytes = format!("{EVENTS}{}", after.into());
    Engine::start(move |conn, _| {
        conn.write(&bytes);
        then
    })
}

fn body(client: &mut Client) -> String {
    let reply = client.reply();
    assert_eq!((reply.status(), reply.head.field("transfer-encoding")), (200, Some("chunked")));
    reply.text()
}

fn usage_is_asked_for_and_its_event_removed(leg: Leg) {
    let engine = events(chunk(FIRST) + &chunk(USAGE) + &chunk(DONE) + LAST, Then::Keep);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(body(client.send(stream("m"))), format!("{FIRST}{DONE}"));
    }
    let sent: serde_json::Value = serde_json::from_slice(&engine.last().body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true);
    assert_eq!(engine.connections(), 1);
    proxy.settled();
    assert_eq!(proxy.metric("kthena_router_tokens_total", &["token_type=\"output\""]), 9.0);
    assert_eq!(proxy.streams("ok"), 3.0);
}

fn usage_that_the_client_asked_for_stays(leg: Leg) {
    let engine = events(chunk(FIRST) + &chunk(USAGE) + &chunk(DONE) + LAST, Then::Keep);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let request = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#;
    assert_eq!(body(proxy.client().send(post(CHAT, request))), format!("{FIRST}{USAGE}{DONE}"));
    assert_eq!(engine.last().text(), request);
    proxy.settled();
    assert_eq!(proxy.metric("kthena_router_tokens_total", &["token_type=\"output\""]), 3.0);
}

fn usage_by_policy_is_asked_for_where_the_route_has_a_limit(leg: Leg) {
    let engine = events(chunk(FIRST) + &chunk(USAGE) + &chunk(DONE) + LAST, Then::Keep);
    let limited = |model, limit| with(route(model, "t/b"), json!({"rateLimit": limit}));
    let routes = || {
        let input = limited("in", json!({"inputTokens": 1000, "unit": "MINUTE"}));
        let output = limited("out", json!({"outputTokens": 1000, "redis": {"address": "redis.test:6379"}}));
        vec![route("m", "t/b"), input, output]
    };
    // The process's setting, the backend's, and for which models usage is asked for.
    for (process, of_backend, asked) in [
        (UsageInjection::Always, "ALWAYS", ["m", "in", "out"].as_slice()),
        (UsageInjection::Policy, "ALWAYS", &["in", "out"]),
        (UsageInjection::Always, "POLICY", &["in", "out"]),
        (UsageInjection::Policy, "NEVER", &[]),
        (UsageInjection::Never, "POLICY", &[]),
    ] {
        let backend = with(backend("t/b", &[engine.address]), json!({"usage": of_backend}));
        let proxy = Proxy::with(leg, &snapshot(routes(), vec![backend]), |config, _| config.usage_inject = process);
        for model in ["m", "in", "out"] {
            // What the proxy asked for it also takes out again.
            let injected = asked.contains(&model);
            let expected = if injected { format!("{FIRST}{DONE}") } else { format!("{FIRST}{USAGE}{DONE}") };
            assert_eq!(body(proxy.client().send(stream(model))), expected, "{process:?} {of_backend} {model}");
            assert_eq!(engine.last().text().contains("include_usage"), injected, "{process:?} {of_backend} {model}");
        }
    }
}

fn usage_never_asks_for_nothing(leg: Leg) {
    let engine = events(chunk(FIRST) + &chunk(DONE) + LAST, Then::Keep);
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"usage": "NEVER"})));
    let request = r#"{"model":"m","stream":true}"#;
    assert_eq!(body(proxy.client().send(post(CHAT, request))), format!("{FIRST}{DONE}"));
    assert_eq!(engine.last().text(), request);
}

fn events_come_byte_for_byte_however_they_are_cut(leg: Leg) {
    let text = format!(": comment\r\n\r\nid: 1\r\n{}event: x\ndata: a\ndata: b\n\n{DONE}", FIRST.replace('\n', "\r\n"));
    let shown = text.clone();
    let engine = Engine::start(move |conn, seen| {
        let size: usize = seen.head.field("x-size").unwrap().parse().unwrap();
        conn.write(EVENTS);
        for piece in text.as_bytes().chunks(size) {
            // One write for each chunk: some arrive alone, some together.
            conn.write([format!("{:X}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        conn.write(LAST);
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for size in [1, 2, 3, 7, 16, 1000] {
        let fields = format!("X-Size: {size}\r\n");
        let request = crate::support::wire::post_with(CHAT, &fields, r#"{"model":"m","stream":true}"#);
        assert_eq!(body(client.send(request)), shown, "in pieces of {size}");
    }
    assert_eq!(proxy.streams("ok"), 6.0);
}

fn an_event_is_delivered_while_the_engine_is_silent(leg: Leg) {
    let engine = events(chunk(FIRST), Then::AwaitGone);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    client.send(stream("m"));
    assert_eq!(client.head().status(), 200);
    assert!(client.through("\n\n").contains("Hé"), "the event came though the engine says nothing more");
    drop(client);
    engine.wait_gone(1);
    proxy.settled();
    assert_eq!(proxy.streams("client_gone"), 1.0);
}

/// The stream ends with this error event and without its last chunk, and the engine's connection is not used again.
fn check_cut(leg: Leg, engine: &Engine, (path, before, error): (&str, &str, &str)) {
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    client.send(post(path, r#"{"model":"m","stream":true}"#));
    assert_eq!(client.head().status(), 200);
    let (raw, end) = client.rest();
    let (data, _, whole) = dechunk(&raw);
    let data = String::from_utf8(data).unwrap();
    assert!(!whole, "a cut stream must not end cleanly: {data}");
    assert_eq!(end, End::Closed, "a reset could destroy the error event");
    assert!(data.starts_with(before), "{data}");
    assert!(data[before.len()..].contains(error) && data.ends_with("\n\n"), "{data}");
    until("the stream is counted", || proxy.streams("upstream_error") == 1.0);
    proxy.settled();
}

const CUT: &str = "\"code\":\"stream_cut\"";

fn a_stream_cut_within_an_event_ends_with_an_error(leg: Leg) {
    let engine = events(chunk(FIRST) + &chunk("data: {\"choi"), Then::Close);
    check_cut(leg, &engine, (CHAT, &format!("{FIRST}data: {{\"choi\n\n"), CUT));
}

fn a_stream_cut_within_a_chunk_ends_with_an_error(leg: Leg) {
    let engine = events(chunk(FIRST) + "40\r\ndata: {", Then::Close);
    check_cut(leg, &engine, (CHAT, &format!("{FIRST}data: {{\n\n"), CUT));
}

fn a_stream_that_is_reset_ends_with_an_error(leg: Leg) {
    // The reset follows once the client has the first event: it could destroy bytes on their way.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let engine = Engine::start(move |conn: &mut Conn, _| {
        conn.write(format!("{EVENTS}{}", chunk(FIRST)));
        wait.lock().unwrap().recv().unwrap();
        Then::Reset
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    client.send(stream("m"));
    client.through("\n\n\r\n");
    go.send(()).unwrap();
    let (raw, end) = client.rest();
    let (data, _, whole) = dechunk(&raw);
    assert!(String::from_utf8(data).unwrap().contains(CUT) && !whole && end == End::Closed);
    proxy.settled();
}

fn a_cut_in_anthropics_form(leg: Leg) {
    let first = "event: message_start\ndata: {\"type\":\"message_start\"}\n\n";
    let engine = events(chunk(first), Then::Close);
    check_cut(leg, &engine, ("/v1/messages", first, "event: error\ndata: {\"type\":\"error\""));
}

fn a_plain_answer_that_is_cut_is_cut(leg: Leg) {
    for head in ["Content-Length: 100\r\n\r\n{\"a\":", "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n"] {
        let engine = Engine::start(move |conn, _| {
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}"));
            Then::Close
        });
        let proxy = Proxy::start(leg, &serving(&[engine.address]));
        let mut client = proxy.client();
        client.send(chat("m"));
        let (bytes, _) = client.rest();
        assert!(!bytes.ends_with(LAST.as_bytes()) && bytes.len() < 300, "{}", String::from_utf8_lossy(&bytes));
        proxy.settled();
    }
}

fn an_error_within_a_stream_is_passed_and_counted(leg: Leg) {
    let error = "data: {\"error\":{\"message\":\"CUDA out of memory\",\"code\":500}}\n\n";
    let engine = events(chunk(FIRST) + &chunk(error) + &chunk(DONE) + LAST, Then::Keep);
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    assert_eq!(body(proxy.client().send(stream("m"))), format!("{FIRST}{error}{DONE}"));
    until("the stream is counted", || proxy.streams("in_band_error") == 1.0);
    proxy.settled();
}

fn a_stream_until_close_is_chunked_for_the_client(leg: Leg) {
    let text = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{FIRST}{USAGE}{DONE}");
    let engine = Engine::start(move |conn, _| {
        conn.write(&text);
        Then::Close
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(body(client.send(stream("m"))), format!("{FIRST}{DONE}"));
    }
    proxy.settled();
}

fn a_stream_that_goes_silent_too_long_is_cut(leg: Leg) {
    let engine = events(chunk(FIRST), Then::AwaitGone);
    let timeouts = json!({"timeouts": {"idle": "0.2s"}});
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], timeouts));
    let mut client = proxy.client();
    client.send(stream("m"));
    let (bytes, end) = client.rest();
    assert_eq!(end, End::Closed);
    assert!(String::from_utf8(bytes).unwrap().contains("silent for too long"));
    engine.wait_gone(1);
    assert_eq!(proxy.hits("stream_idle"), 1.0);
    proxy.settled();
}
