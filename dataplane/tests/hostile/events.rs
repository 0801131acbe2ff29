//! Streams of events: byte-exact however the bytes are cut, and never a clean end where the engine broke off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Release};

use crate::case::{Case, ensure, lossy, post_to};
use crate::client::{Client, End, PATIENCE, Reply};
use crate::engine::Act;
use crate::lane::{Lane, World};

const RECORDED: &str = include_str!("../../core/src/sse/recorded/vllm_chat_stream.sse");
const TRITON: &str = include_str!("../../core/src/sse/recorded/triton_generate_stream.sse");
const HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
const CLOSE_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
/// A leg's lanes share the work on every byte.
const SHARES: usize = 12;

const PLAIN: &str = r#"{"model":"mdl0","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
const USAGE: &str = r#"{"model":"usg0","stream":true,"messages":[{"role":"user","content":"x"}]}"#;

fn chunked(events: &str) -> Vec<u8> {
    let pieces = events.split_inclusive("\n\n").map(|e| format!("{:x}\r\n{e}\r\n", e.len()));
    format!("{HEAD}{}0\r\n\r\n", pieces.collect::<String>()).into()
}

/// The recorded stream without the event that was only asked for by the proxy.
fn without_usage(events: &str) -> String {
    events.split_inclusive("\n\n").filter(|e| !e.contains("\"choices\":[],\"usage\"")).collect()
}

fn ask(lane: &Lane, world: &World, body: &str) -> Result<(Vec<Reply>, End), String> {
    let mut client = Client::new(world.proxy);
    client.send(&lane.own(&post_to("/v1/chat/completions", "", body)));
    let replies = client.replies(1)?;
    if replies.iter().any(|r| r.whole) {
        client.half_close();
    }
    client.read_to_end()
}

fn whole(lane: &Lane, world: &World, body: &str, expected: &[u8]) -> Result<(), String> {
    let (replies, _) = ask(lane, world, body)?;
    ensure(replies.len() == 1 && replies[0].whole && replies[0].body == expected, || {
        let got = replies.first().map_or(&b""[..], |r| &r.body);
        let at = got.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(got.len().min(expected.len()));
        let whole = replies.first().is_some_and(|r| r.whole);
        format!(
            "{} answers, whole {whole}: differs at {at} of {}/{}: {:?}",
            replies.len(),
            got.len(),
            expected.len(),
            lossy(&got[at.min(got.len())..])
        )
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    every_byte(&mut cases);
    let all: [(&str, Vec<u8>, String); 7] = [
        ("recorded", chunked(RECORDED), RECORDED.into()),
        ("recorded, until close", format!("{CLOSE_HEAD}{RECORDED}").into(), RECORDED.into()),
        ("recorded, CRLF", chunked_whole(&RECORDED.replace('\n', "\r\n")), RECORDED.replace('\n', "\r\n")),
        ("recorded, CR", chunked_whole(&RECORDED.replace('\n', "\r")), RECORDED.replace('\n', "\r")),
        ("Triton, without DONE", chunked(TRITON), TRITON.into()),
        ("comments and fields", chunked(ODD), ODD.into()),
        ("no events at all", chunked_whole("not: an event"), "not: an event".into()),
    ];
    for (name, wire, events) in all {
        let single: Vec<_> = wire.iter().map(|&b| vec![b]).collect();
        let one_byte_chunks = one_byte_chunks(&events);
        for (how, acts) in [
            ("at once", vec![Act::Send(wire.clone()), Act::Shut]),
            ("byte by byte", vec![Act::Pieces(single), Act::Shut]),
            ("in chunks of one byte", vec![Act::Send(one_byte_chunks), Act::Shut]),
        ] {
            let (events, acts_again) = (events.clone(), acts.clone());
            let filtered = without_usage(&events.replace("\r\n", "\n").replace('\r', "\n"));
            let filtered = if events.contains("\r\n") {
                filtered.replace('\n', "\r\n")
            } else if events.contains('\r') {
                filtered.replace('\n', "\r")
            } else {
                filtered
            };
            cases.push(Case::run("events", format!("{name}, {how}"), move |lane, world| {
                lane.engine.script(acts.clone());
                whole(lane, world, PLAIN, events.as_bytes())
            }));
            cases.push(Case::run("events", format!("{name}, {how}, usage taken out"), move |lane, world| {
                lane.engine.script(acts_again.clone());
                whole(lane, world, USAGE, filtered.as_bytes())
            }));
        }
    }
    large(&mut cases);
    cut_forms(&mut cases);
    cases
}

const ODD: &str = ": a comment\n\ndata:no blank\ndata: two lines\n\nid: 7\nevent: x\nretry: 10\ndata\n\n\n\ndata: {\"choices\" : [] }\n\ndata: {\"choices\":[]}\n\ndata: [DONE]\n\ndata: after\n\n: open";

fn chunked_whole(events: &str) -> Vec<u8> {
    format!("{HEAD}{:x}\r\n{events}\r\n0\r\n\r\n", events.len()).into()
}

fn one_byte_chunks(events: &str) -> Vec<u8> {
    let mut wire = HEAD.as_bytes().to_vec();
    for byte in events.bytes() {
        wire.extend_from_slice(b"1\r\n");
        wire.push(byte);
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// The recorded stream cut in two, and cut off, at each of its bytes.
fn every_byte(cases: &mut Vec<Case>) {
    for share in 0..SHARES {
        for (name, body, expected) in
            [("plain", PLAIN, RECORDED.to_owned()), ("usage taken out", USAGE, without_usage(RECORDED))]
        {
            let expected_again = expected.clone();
            cases.push(Case::run("events, every byte", format!("split, {name}, share {share}"), move |lane, world| {
                let wire = chunked(RECORDED);
                for at in (share..wire.len()).step_by(SHARES) {
                    lane.engine.script(vec![Act::Pieces(vec![wire[..at].to_vec(), wire[at..].to_vec()])]);
                    whole(lane, world, body, expected.as_bytes()).map_err(|why| format!("split at {at}: {why}"))?;
                }
                Ok(())
            }));
            cases.push(Case::run(
                "events, every byte",
                format!("broken off, {name}, share {share}"),
                move |lane, world| {
                    let wire = chunked(RECORDED);
                    for at in (share..wire.len()).step_by(SHARES) {
                        let end = if (at / SHARES).is_multiple_of(2) { Act::Shut } else { Act::Reset };
                        let reset = matches!(end, Act::Reset);
                        lane.engine.script(vec![Act::Send(wire[..at].to_vec()), end]);
                        broken(lane, world, (body, &expected_again), (at, reset))
                            .map_err(|why| format!("cut at {at}: {why}"))?;
                    }
                    Ok(())
                },
            ));
        }
    }
}

/// What the client must see of a stream that ends after `at` bytes of the wire.
fn broken(
    lane: &Lane,
    world: &World,
    (body, expected): (&str, &str),
    (at, reset): (usize, bool),
) -> Result<(), String> {
    let (replies, end) = ask(lane, world, body)?;
    let what =
        || format!("{end:?} {:?}", replies.iter().map(|r| (r.status, r.whole, lossy(&r.body))).collect::<Vec<_>>());
    ensure(replies.len() == 1, what)?;
    let reply = &replies[0];
    if at < HEAD.len() || (reset && reply.status == 502) {
        return ensure(reply.status == 502 && reply.whole, what);
    }
    ensure(reply.status == 200 && !reply.whole && end == End::Closed, what)?;
    let text = String::from_utf8_lossy(&reply.body);
    let told = text.rfind("data: {\"error\":{\"message\":").ok_or_else(what)?;
    ensure(text[told..].ends_with("\"code\":\"stream_cut\"}}\n\n"), what)?;
    let before = text[..told].as_bytes();
    // An event that was cut is ended first, so that the error stands alone. What the filter held back, which may be a
    // part of the usage event, goes on: the client sees that it is not whole.
    let before = (0..=2).find_map(|n| {
        let cut = before.len().checked_sub(n)?;
        let rest_is_ends = before[cut..].iter().all(|&b| b == b'\n');
        let of_it = [expected, RECORDED].iter().any(|all| all.as_bytes().starts_with(&before[..cut]));
        (rest_is_ends && of_it).then_some(&before[..cut])
    });
    let before = before.ok_or_else(what)?;
    if reset || expected.len() < RECORDED.len() {
        // A reset may overtake data, and the filter holds back what may be the usage event.
        return Ok(());
    }
    let data = data_before(at);
    ensure(before.len() >= data && before.len() <= data + 2, || {
        format!("{} bytes of {data} came: {}", before.len(), what())
    })
}

/// Bytes of data in so many bytes of the wire.
fn data_before(at: usize) -> usize {
    let (mut wire, mut data) = (HEAD.len(), 0);
    for event in RECORDED.split_inclusive("\n\n") {
        wire += format!("{:x}\r\n", event.len()).len();
        if at <= wire {
            return data;
        }
        let part = event.len().min(at - wire);
        data += part;
        wire += event.len() + 2;
    }
    data
}

fn large(cases: &mut Vec<Case>) {
    let event = |n: usize| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(n));
    for (name, events) in [
        ("an event of 4 MiB", event(4 << 20)),
        ("a comment of 1 MiB", format!(": {}\n\n", "c".repeat(1 << 20))),
        ("a line of 1 MiB without data:", format!("{}\n\n", "z".repeat(1 << 20))),
        (
            "an event of 1 MiB that begins like usage",
            format!("data: {{\"choices\":[],\"x\":\"{}\"}}\n\n", "x".repeat(1 << 20)),
        ),
        ("50,000 events", event(1).repeat(50_000)),
        ("100,000 line ends", "\n".repeat(100_000)),
        ("1,000 usage-like events", "data: {\"choices\":[],\"usage\":null}\n\n".repeat(1_000)),
    ] {
        for (how, body) in [("plain", PLAIN), ("usage asked for", USAGE)] {
            let events = format!("{events}data: [DONE]\n\n");
            cases.push(Case::run("events", format!("{name}, {how}"), move |lane, world| {
                lane.engine.script(vec![Act::Send(chunked_whole(&events))]);
                whole(lane, world, body, events.as_bytes())
            }));
        }
    }
}

/// The error event has the form of the API that was asked.
fn cut_forms(cases: &mut Vec<Case>) {
    for (path, body, expected) in [
        ("/v1/messages", PLAIN, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""),
        ("/v1/responses", PLAIN, "event: error\ndata: {\"type\":\"error\",\"code\":\"stream_cut\""),
        ("/v2/models/tri0/generate_stream", r#"{"text_input":"x"}"#, "data: {\"error\":\"the model server broke off"),
        ("/v1/completions", PLAIN, "data: {\"error\":{\"message\":\"the model server broke off"),
    ] {
        for (place, sent, ended) in [
            ("between events", "data: x\n\n", ""),
            ("after a line", "data: x\n", "\n"),
            ("within a line", "data: x", "\n\n"),
        ] {
            cases.push(Case::run("events", format!("broken off {place}: {path}"), move |lane, world| {
                let piece = format!("{HEAD}{:x}\r\n{sent}\r\n", sent.len());
                lane.engine.script(vec![Act::Send(piece.into()), Act::Shut]);
                let mut client = Client::new(world.proxy);
                client.send(&lane.own(&post_to(path, "", body)));
                let (replies, end) = client.read_to_end()?;
                let start = format!("{sent}{ended}{expected}");
                ensure(replies.len() == 1 && !replies[0].whole && replies[0].body.starts_with(start.as_bytes()), || {
                    format!("{end:?} {replies:?}")
                })
            }));
        }
    }
    for (end, act) in [
        ("closed", Act::Shut),
        ("reset", Act::Reset),
        ("malformed", Act::Send(b"zz\r\n".to_vec())),
        ("silent", Act::Pause(4_500)),
    ] {
        cases.push(Case::run("events", format!("a stream that is {end} is no clean end"), move |lane, world| {
            // What comes together is read together, and a stream that is malformed from the start is a 502.
            let seen = Arc::new(AtomicBool::new(false));
            let event = format!("{HEAD}9\r\ndata: x\n\n\r\n");
            lane.engine.script(vec![Act::Send(event.into()), Act::Until(seen.clone()), act.clone()]);
            let mut client = Client::new(world.proxy);
            client.send(&lane.own(&post_to("/v1/chat/completions", "", PLAIN)));
            client.read_until(PATIENCE, |got| got.windows(7).any(|window| window == b"data: x"));
            seen.store(true, Release);
            let (replies, end) = client.read_to_end()?;
            let body = replies.first().map_or(String::new(), |r| lossy(&r.body));
            ensure(
                replies.len() == 1
                    && !replies[0].whole
                    && body.starts_with("data: x\n\ndata: {\"error\"")
                    && end == End::Closed,
                || format!("{end:?} {replies:?}"),
            )
        }));
    }
}
