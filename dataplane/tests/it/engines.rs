//! Engines as they are: each quirk that was seen on the wire.

use serde_json::json;

use crate::support::engine::{Conn, Engine, Seen, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{serving, serving_with};
use crate::support::until;
use crate::support::wire::{EVENTS, LAST, answer, chat, chunk, dechunk, post, post_with, stream};

on_every_driver!(
    head_is_never_sent,
    what_triton_would_close_on_is_refused,
    connections_that_close_silently_cost_no_request,
    torchserves_reset_after_an_error_is_normal,
    torchserves_chunks_that_are_cut_are_cut_for_the_client_too,
    tritons_first_error_of_a_stream_is_an_error,
    a_reason_phrase_may_be_empty,
    bytes_behind_an_answer_poison_no_pool,
    bytes_on_an_idle_connection_poison_no_pool,
    a_banner_on_connect_is_no_answer,
    interim_answers_are_skipped,
    answers_without_a_body_end_at_once,
    a_stream_without_done_is_whole,
    tritons_error_in_a_200_is_passed_and_counted,
    malformed_answers_become_502,
    connection_close_is_obeyed,
);

fn head_is_never_sent(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TRITON"})));
    let mut client = proxy.client();
    for path in ["/v2/models/m/infer", "/v1/chat/completions", "/"] {
        let head = client.send(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n")).head();
        assert_eq!((head.status(), head.field("allow")), (405, Some("GET, POST")));
    }
    assert_eq!(client.ask(post("/v2/models/m/infer", "{}")).status(), 200, "and the client is still in step");
    assert_eq!(engine.count(), 1);
}

fn what_triton_would_close_on_is_refused(leg: Leg) {
    // As it was recorded: a value or a target of 8192 bytes, and the connection is closed without an answer.
    let engine = Engine::start(|conn, seen| {
        let target = seen.head.first_line().split(' ').nth(1).unwrap_or_default().len();
        let value = |name: &str| seen.head.field(name).unwrap_or_default().len();
        if target.max(value("x-long")).max(value("x-forwarded-for")) >= 8192 {
            return Then::Close;
        }
        conn.write(answer("200 OK", "{}"));
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TRITON"})));
    let mut client = proxy.client();
    let long = |bytes| post_with("/v2/models/m/infer", &format!("X-Long: {}\r\n", "v".repeat(bytes)), "{}");
    let far = |bytes| {
        let start = "/v2/models/m/infer?q=";
        post(&format!("{start}{}", "v".repeat(bytes - start.len())), "{}")
    };
    for _ in 0..10 {
        let refused = client.ask(long(8192));
        assert_eq!((refused.status(), refused.text().contains("X-Long")), (431, true), "{}", refused.text());
        assert_eq!(client.ask(far(8192)).status(), 414);
    }
    // With the client's own address behind it, which the proxy adds, it is as long as the others.
    let through = |bytes| post_with("/v2/models/m/infer", &format!("X-Forwarded-For: {}\r\n", "1".repeat(bytes)), "{}");
    assert_eq!((client.ask(through(8191)).status(), client.ask(through(8000)).status()), (431, 200));
    assert_eq!((client.ask(long(8191)).status(), client.ask(far(8191)).status()), (200, 200));
    assert_eq!(engine.count(), 3);
    assert_eq!(proxy.metric("kthena_router_ejected_endpoints", &[]), 0.0);
    proxy.settled();
}

fn connections_that_close_silently_cost_no_request(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for n in 0..50 {
        assert_eq!(client.ask(chat("m")).status(), 200, "request {n}");
        // Sometimes the proxy sees it in time, sometimes it writes into the closed connection.
        engine.close_connections();
    }
    assert_eq!(engine.count(), 50);
    proxy.settled();
    assert_eq!(proxy.metric("kthena_router_retries_total", &[]), 0.0, "no attempt of the plan was spent");
}

fn torchserves_reset_after_an_error_is_normal(leg: Leg) {
    let engine = Engine::start(|conn, seen| {
        if seen.text() == "bad" {
            let body = r#"{"code":404,"type":"ModelNotFoundException","message":"no"}"#;
            conn.write(answer("404 ", body).replace("\r\n\r\n", "\r\nconnection: keep-alive\r\n\r\n"));
            return Then::Reset;
        }
        conn.write("HTTP/1.1 200 \r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}");
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TORCHSERVE"})));
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.ask(post("/predictions/m", "bad")).status(), 404);
        let good = client.ask(post("/predictions/m", "good"));
        assert_eq!((good.status(), good.head.first_line()), (200, "HTTP/1.1 200 "));
    }
    assert_eq!(proxy.metric("kthena_router_upstream_stale_total", &[]), 0.0, "no such connection was kept");
    proxy.settled();
}

fn torchserves_chunks_that_are_cut_are_cut_for_the_client_too(leg: Leg) {
    // As it was recorded: no content type, a header of its own, and a reset after the last good chunk.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let engine = Engine::start(move |conn: &mut Conn, _| {
        conn.write(format!(
            "HTTP/1.1 200 \r\nts_stream_next: true\r\ntransfer-encoding: chunked\r\n\r\n{}",
            chunk("one")
        ));
        // The reset could destroy what is on its way.
        wait.lock().unwrap().recv().unwrap();
        Then::Reset
    });
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TORCHSERVE"})));
    let mut client = proxy.client();
    client.send(post("/predictions/m", "x"));
    let head = client.head();
    assert_eq!((head.status(), head.field("ts_stream_next")), (200, Some("true")));
    let mut raw = client.through("one").into_bytes();
    go.send(()).unwrap();
    raw.extend(client.rest().0);
    let (data, _, whole) = dechunk(&raw);
    assert!(data == b"one" && !whole, "no event of ours, and no clean end: {}", String::from_utf8_lossy(&raw));
    proxy.settled();
}

fn tritons_first_error_of_a_stream_is_an_error(leg: Leg) {
    const ERROR: &str = "data: {\"error\":\"no\"}\n\n";
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let engine = Engine::fixed(format!("{head}{}{LAST}", chunk(ERROR)));
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TRITON"})));
    let mut client = proxy.client();
    for _ in 0..6 {
        let reply = client.ask(post("/v2/models/m/generate_stream", "{}"));
        assert_eq!((reply.status(), reply.text()), (400, ERROR.to_owned()));
    }
    assert_eq!(proxy.metric("kthena_router_ejected_endpoints", &[]), 0.0, "it is the request that is wrong");
    assert_eq!(proxy.metric("kthena_router_retries_total", &[]), 0.0);
    proxy.settled();
}

fn a_reason_phrase_may_be_empty(leg: Leg) {
    let engine = Engine::fixed("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    assert_eq!(proxy.ask(chat("m")).status(), 200);
}

/// Answers with the request's body, and then with what nobody asked for.
fn echo_and(extra: &'static str) -> impl Fn(&mut Conn, &Seen) -> Then + Send + Sync {
    move |conn, seen| {
        conn.write(answer("200 OK", &seen.text()) + extra);
        Then::Keep
    }
}

fn bytes_behind_an_answer_poison_no_pool(leg: Leg) {
    let engine = Engine::start(echo_and("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"));
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    for n in 0..10 {
        let reply = proxy.ask(post("/v1/embeddings", format!(r#"{{"model":"m","n":{n}}}"#)));
        assert_eq!(reply.json()["n"], n);
    }
    proxy.settled();
}

fn bytes_on_an_idle_connection_poison_no_pool(leg: Leg) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let (wait, tell) = (std::sync::Mutex::new(wait), std::sync::Mutex::new(tell));
    let engine = Engine::start(move |conn, seen| {
        conn.write(answer("200 OK", &seen.text()));
        if seen.connection == 1 {
            wait.lock().unwrap().recv().unwrap();
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen");
            tell.lock().unwrap().send(()).unwrap();
        }
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let ask = |n| proxy.ask(post("/v1/embeddings", format!(r#"{{"model":"m","n":{n}}}"#))).json()["n"].clone();
    assert_eq!(ask(1), 1);
    go.send(()).unwrap();
    told.recv().unwrap();
    assert_eq!(ask(2), 2);
    assert_eq!(engine.last().connection, 2, "a connection that spoke while idle is closed");
}

fn a_banner_on_connect_is_no_answer(leg: Leg) {
    let engine = Engine::greeting(
        |conn| {
            conn.write("220 ready\r\n");
            true
        },
        echo_and(""),
    );
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    for n in 0..5 {
        let reply = proxy.ask(post("/v1/embeddings", format!(r#"{{"model":"m","n":{n}}}"#)));
        assert_eq!(reply.status(), 502, "{}", reply.text());
    }
    assert_eq!(engine.connections(), 5, "none of them was used again");
    proxy.settled();
}

fn interim_answers_are_skipped(leg: Leg) {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let engine = Engine::start(move |conn, _| {
        conn.write(interim);
        conn.write(answer("200 OK", "{}"));
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for _ in 0..3 {
        let reply = client.ask(chat("m"));
        assert_eq!((reply.status(), reply.text().as_str()), (200, "{}"));
        assert!(reply.head.field("link").is_none());
    }
    assert_eq!(engine.connections(), 1);
}

fn answers_without_a_body_end_at_once(leg: Leg) {
    let engine = Engine::start(|conn, seen| {
        conn.write(format!("HTTP/1.1 {}\r\n\r\n", seen.head.field("x-status").unwrap()));
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for status in ["204 No Content", "304 Not Modified", "204 No Content"] {
        let fields = format!("X-Status: {status}\r\n");
        let reply = client.ask(crate::support::wire::post_with("/v1/score", &fields, r#"{"model":"m"}"#));
        assert!(status.starts_with(&reply.status().to_string()));
        assert!(reply.head.field("transfer-encoding").is_none());
    }
    assert_eq!(engine.connections(), 1);
    proxy.settled();
}

fn a_stream_without_done_is_whole(leg: Leg) {
    let event = "data: {\"model_name\":\"m\",\"text_output\":\"hi\"}\n\n";
    let bytes = format!("{EVENTS}{}{LAST}", chunk(event));
    let engine = Engine::fixed(bytes);
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TRITON"})));
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.ask(post("/v2/models/m/generate_stream", "{}")).text(), event);
    }
    until("both are counted", || proxy.streams("ok") == 2.0);
    assert_eq!(engine.last().text(), "{}", "nothing is injected into Triton's requests");
    proxy.settled();
}

fn tritons_error_in_a_200_is_passed_and_counted(leg: Leg) {
    let event = "data: {\"error\":\"out of memory\"}\n\n";
    let engine = Engine::start(move |conn, seen| {
        let streams = seen.target().ends_with("_stream");
        conn.write(if streams {
            format!("{EVENTS}{}{LAST}", chunk(event))
        } else {
            answer("200 OK", r#"{"error":"x"}"#)
        });
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({"engine": "TRITON"})));
    let mut client = proxy.client();
    assert_eq!(client.ask(post("/v2/models/m/generate_stream", "{}")).text(), event);
    assert_eq!(client.ask(post("/v2/models/m/generate", "{}")).text(), r#"{"error":"x"}"#);
    proxy.settled();
    assert_eq!(proxy.streams("in_band_error"), 1.0);
    assert_eq!(proxy.metric("kthena_router_requests_total", &["error_type=\"upstream_response\""]), 2.0);
}

fn malformed_answers_become_502(leg: Leg) {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ] {
        let engine = Engine::fixed(bytes);
        let proxy = Proxy::start(leg, &serving(&[engine.address]));
        let reply = proxy.ask(chat("m"));
        assert_eq!((reply.status(), &reply.json()["error"]["code"]), (502, &json!("upstream_malformed")), "{bytes:?}");
        assert_eq!(engine.count(), 1, "the request was read, so it is not sent again");
        proxy.settled();
    }
}

fn connection_close_is_obeyed(leg: Leg) {
    // TorchServe ignores the proxy's view of connections; uvicorn says close and means it.
    let engine = Engine::start(|conn, seen| {
        let last = seen.text().contains("stream");
        let text = answer("200 OK", "{}");
        conn.write(if last { text.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n") } else { text });
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let requests = [chat("m"), stream("m"), chat("m"), chat("m")];
    let on: Vec<_> = requests.iter().map(|r| (client.ask(r).status(), engine.last().connection)).collect();
    assert_eq!(on, [(200, 1), (200, 1), (200, 2), (200, 2)]);
}
