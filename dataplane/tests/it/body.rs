//! Request bodies in all their framings, and what the engine sees of them.

use crate::support::client::End;
use crate::support::engine::{Engine, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::serving;
use crate::support::wire::{CHAT, EVENTS, LAST, answer, chat, chunk, post, stream};

on_every_driver!(
    a_chunked_body_leaves_with_a_length,
    a_client_that_expects_100_gets_it_before_its_body,
    large_bodies_arrive_as_they_were,
    pipelined_requests_are_answered_in_order,
    http_1_0_clients_are_served,
    an_early_answer_reaches_a_client_that_is_still_believed,
    trailers_of_a_request_go_nowhere,
);

fn a_chunked_body_leaves_with_a_length(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let body = r#"{"model":"m","messages":[]}"#;
    for size in [1, 5, 100] {
        client.send(&head);
        for piece in body.as_bytes().chunks(size) {
            client.send(chunk(std::str::from_utf8(piece).unwrap()));
        }
        assert_eq!(client.ask(LAST).status(), 200);
        let seen = engine.last();
        assert_eq!(seen.text(), body);
        assert_eq!(seen.head.all("content-length"), [body.len().to_string()]);
        assert!(seen.head.field("transfer-encoding").is_none());
    }
}

fn trailers_of_a_request_go_nowhere(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n");
    let reply = proxy.ask(head + &chunk(r#"{"model":"m"}"#) + "0\r\nX-T: 1\r\n\r\n");
    assert_eq!(reply.status(), 200);
    let seen = engine.last();
    assert!(seen.head.field("x-t").is_none() && seen.head.field("trailer").is_none());
    assert_eq!(seen.text(), r#"{"model":"m"}"#);
}

fn a_client_that_expects_100_gets_it_before_its_body(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for framing in ["Content-Length: 13", "Transfer-Encoding: chunked"] {
        let head = format!("POST {CHAT} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{framing}\r\n\r\n");
        assert_eq!(client.send(head).head().status(), 100);
        let body = r#"{"model":"m"}"#;
        let body = if framing.contains("chunked") { chunk(body) + LAST } else { body.into() };
        assert_eq!(client.ask(body).status(), 200);
        assert!(engine.last().head.field("expect").is_none());
    }
    let refused = "POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(client.send(refused).reply().status(), 413, "no 100 for a body that is refused");
}

fn large_bodies_arrive_as_they_were(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    for size in [64 << 10, 300 << 10, 2 << 20] {
        let text: String = (0..size).map(|n| char::from(b'a' + (n * 7 % 26) as u8)).collect();
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"model":"m"}}"#);
        assert_eq!(client.ask(post(CHAT, &body)).status(), 200);
        assert!(engine.last().body == body.as_bytes(), "{size} bytes differ upstream");
        // The same behind its usage splice.
        let streamed = body.replacen('{', r#"{"stream":true,"#, 1);
        assert_eq!(client.ask(post(CHAT, &streamed)).status(), 200);
        let sent: serde_json::Value = serde_json::from_slice(&engine.last().body).unwrap();
        assert!(sent["messages"][0]["content"] == text.as_str(), "{size} bytes differ upstream");
    }
    proxy.settled();
    assert_eq!(proxy.metric("kthena_router_buffered_bytes", &[]), 0.0);
}

fn pipelined_requests_are_answered_in_order(leg: Leg) {
    let engine = Engine::start(|conn, seen| {
        conn.write(answer("200 OK", &seen.text()));
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let request = |n: u32| post(CHAT, format!(r#"{{"model":"m","n":{n}}}"#));
    let all: Vec<u8> = (0..20).flat_map(request).collect();
    for piece in [all.len(), 37] {
        let mut client = proxy.client();
        for part in all.chunks(piece) {
            client.send(part);
        }
        for n in 0..20 {
            assert_eq!(client.reply().json()["n"], n);
        }
    }
    proxy.settled();
}

fn http_1_0_clients_are_served(leg: Leg) {
    let engine = Engine::start(|conn, seen| {
        let streams = seen.text().contains("stream");
        let events = format!("{EVENTS}{}{}{LAST}", chunk("data: 1\n\n"), chunk("data: [DONE]\n\n"));
        conn.write(if streams { events } else { answer("200 OK", "{}") });
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let old = |bytes: Vec<u8>, field: &str| {
        let text = String::from_utf8(bytes).unwrap();
        text.replace("HTTP/1.1\r\nHost: proxy.test\r\n", &format!("HTTP/1.0\r\n{field}"))
    };
    let mut kept = proxy.client();
    for _ in 0..2 {
        let reply = kept.ask(old(chat("m"), "Connection: keep-alive\r\n"));
        assert_eq!((reply.status(), reply.head.field("connection")), (200, Some("keep-alive")));
    }
    let mut closed = proxy.client();
    assert_eq!(closed.ask(old(chat("m"), "")).status(), 200);
    assert_eq!(closed.rest(), (Vec::new(), End::Closed));
    let mut streamed = proxy.client();
    streamed.send(old(stream("m"), "Connection: keep-alive\r\n"));
    let head = streamed.head();
    assert!(head.field("transfer-encoding").is_none(), "{head:?}");
    assert_eq!(streamed.rest(), (b"data: 1\n\ndata: [DONE]\n\n".to_vec(), End::Closed));
    assert!(engine.last().head.0.contains("HTTP/1.1\r\n"));
}

/// The engine refuses after the head, while most of the body is still on its way to it.
fn an_early_answer_reaches_a_client_that_is_still_believed(leg: Leg) {
    let engine = Engine::greeting(
        |conn| {
            if conn.head().is_some_and(|head| head.field("x-early").is_some()) {
                conn.write(answer("413 Payload Too Large", "{}"));
                // It reads nothing more and stays open until the proxy closes.
                return true;
            }
            false
        },
        |_, _| Then::AwaitGone,
    );
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let body = format!(r#"{{"model":"m","x":"{}"}}"#, "y".repeat(8 << 20));
    for _ in 0..2 {
        let request = crate::support::wire::post_with(CHAT, "X-Early: 1\r\n", &body);
        assert_eq!(client.ask(request).status(), 413);
    }
    assert_eq!(engine.connections(), 2, "a connection with half a request in it is not used again");
    proxy.settled();
}
