//! Time, memory, logs and metrics under clients and engines that want too much of them.

use std::io::Read;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::case::{BODY, Case, ensure, post};
use crate::client::{Client, End, PATIENCE};
use crate::engine::Act;
use crate::lane::{Lane, World};

/// What a sweep once a second and a busy machine add to a limit of one second.
const CUT_BY: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::run("slow", "50 heads", |lane, world| {
            slow_clients(lane, world, b"POST /v1/completions HTTP/1.1\r\nhost: a\r\nx: ")
        }),
        Case::run("slow", "50 heads, a byte at a time", dripping_heads),
        Case::run("slow", "50 bodies", |lane, world| {
            slow_clients(lane, world, b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{")
        }),
        Case::run("slow", "50 chunked bodies", |lane, world| {
            slow_clients(
                lane,
                world,
                b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
            )
        }),
        Case::run("slow", "readers that read nothing hold the engine", unread),
        Case::run("slow", "a silent engine", |lane, world| {
            lane.engine.script(vec![Act::Pause(5_500)]);
            let mut client = Client::new(world.proxy);
            client.send(&lane.own(&post("", BODY)));
            let replies = client.replies(1)?;
            ensure(replies.len() == 1 && replies[0].status == 504, || format!("{replies:?}"))
        }),
        Case::run("floods", "a head without an end", |lane, world| {
            endless(lane, world, b"POST / HTTP/1.1\r\nx: ", b"v", 431)
        }),
        Case::run("floods", "fields without an end", |lane, world| {
            endless(lane, world, b"POST / HTTP/1.1\r\n", b"x: y\r\n", 431)
        }),
        Case::run("floods", "a target without an end", |lane, world| endless(lane, world, b"POST /", b"u", 414)),
        Case::run("floods", "a chunk extension without an end", |lane, world| {
            endless(lane, world, b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;", b"e", 400)
        }),
        Case::run("floods", "trailers without an end", |lane, world| {
            endless(
                lane,
                world,
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
                b"x: y\r\n",
                400,
            )
        }),
        Case::run("floods", "a chunked body over the limit", |lane, world| {
            endless(
                lane,
                world,
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n",
                &[b'x'; 4096],
                413,
            )
        }),
        Case::run("floods", "interim answers without an end", |lane, world| {
            let hundred = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
            lane.engine.script(std::iter::repeat_n(Act::Pieces(vec![hundred]), 8_000).collect());
            let mut client = Client::new(world.proxy);
            client.send(&lane.own(&post("", BODY)));
            let replies = client.replies(1)?;
            ensure(replies.len() == 1 && matches!(replies[0].status, 502 | 504), || format!("{replies:?}"))
        }),
        Case::run("labels", "300 models", many_models),
        Case::run("logs", "models with line ends", |lane, world| {
            log_injection(lane, world, "\\r\\nINJECTED x=y\\n\\u001b[31mINJECTED\\u0000\\u2028")
        }),
        Case::run("logs", "models with quotes", |lane, world| log_injection(lane, world, "\\\" INJECTED=\\\"x")),
    ];
    for (name, fields) in [
        ("request id with quotes", "x-request-id: a\"INJECTED=\"b\r\n"),
        ("request id with blanks", "x-request-id: a INJECTED b\r\n"),
        ("request id of 10,000", &format!("x-request-id: {}\r\n", "i".repeat(10_000))),
        ("request id with obs-text", "x-request-id: \u{e9}\u{1F600}\r\n"),
    ] {
        let fields = fields.to_owned();
        cases.push(Case::run("logs", name, move |lane, world| {
            let mut client = Client::new(world.proxy);
            client.send(&lane.own(&post(&fields, BODY)));
            let replies = client.replies(1)?;
            ensure(replies.len() == 1 && replies[0].status == 200, || format!("{replies:?}"))?;
            let head = replies[0].head.clone();
            ensure(!head.contains(' ') || !head.contains("INJECTED b") && head.len() < 1_000, || head)
        }));
    }
    cases
}

fn slow_clients(lane: &Lane, world: &World, begun: &[u8]) -> Result<(), String> {
    let begin = Instant::now();
    let mut clients: Vec<_> = (0..50).map(|_| Client::new(world.proxy)).collect();
    for client in &mut clients {
        client.send(begun);
    }
    for client in &mut clients {
        let (replies, end) = client.read_to_end()?;
        ensure(replies.len() == 1 && replies[0].status == 408 && end != End::Open, || format!("{replies:?} {end:?}"))?;
    }
    ensure(begin.elapsed() < CUT_BY, || format!("cut after {:?}", begin.elapsed()))?;
    ensure(lane.engine.received() == 0, || "something reached the engine".into())
}

/// The limit is on the whole head: a byte now and then buys no time.
fn dripping_heads(lane: &Lane, world: &World) -> Result<(), String> {
    let begin = Instant::now();
    let mut clients: Vec<_> = (0..50).map(|_| Client::new(world.proxy)).collect();
    for client in &mut clients {
        client.send(b"POST / HTTP/1.1\r\nx: ");
    }
    let mut left = clients;
    while !left.is_empty() {
        ensure(begin.elapsed() < CUT_BY, || format!("{} stay open after {:?}", left.len(), begin.elapsed()))?;
        left.retain_mut(|client| {
            client.read_until(Duration::from_millis(1), |_| false);
            client.send(b"v") == 1 && client.got().is_empty()
        });
    }
    ensure(lane.engine.received() == 0, || "something reached the engine".into())
}

/// The engine can write no more than what sockets hold while the client reads nothing: about 1 MiB, most of it in the
/// kernel's buffer between engine and proxy, which grows as it likes.
fn unread(lane: &Lane, world: &World) -> Result<(), String> {
    const MOST: usize = 3 << 19;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 67108864\r\n\r\n";
    lane.engine.script(vec![Act::Send(head.into()), Act::Flood(64 << 20)]);
    let mut client = Client::with_small_buffer(world.proxy);
    client.send(&lane.own(&post("", BODY)));
    let end = Instant::now() + PATIENCE;
    while lane.engine.flooded() == 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let flooded = lane.engine.flooded();
    if std::env::var_os("KTHENA_HOSTILE_SLOW").is_some() {
        println!("unread: the engine could write {flooded} bytes");
    }
    ensure((1..=MOST).contains(&flooded), || format!("the engine could write {flooded} bytes"))
}

/// The proxy refuses and stops taking, however much is sent.
fn endless(lane: &Lane, world: &World, begin: &[u8], piece: &[u8], status: u16) -> Result<(), String> {
    const MOST: usize = 64 << 20;
    let mut client = Client::new(world.proxy);
    client.send(begin);
    let pieces = piece.repeat((64 << 10) / piece.len());
    let mut sent = 0;
    while sent < MOST {
        let n = client.send(&pieces);
        sent += n;
        if n < pieces.len() {
            break;
        }
        // An answer before the end is what a real client would look for.
        client.read_until(Duration::from_millis(1), |_| true);
        if status != 413 && sent > 16 << 20 {
            return Err(format!("{sent} bytes were taken"));
        }
    }
    ensure(sent < MOST, || format!("{sent} bytes were taken"))?;
    let (replies, end) = client.read_to_end()?;
    // The reset that follows may overtake the answer; what came is ours.
    ensure(replies.iter().all(|r| r.status == status) && end != End::Open, || format!("{replies:?} {end:?}"))?;
    ensure(lane.engine.received() == 0, || "something reached the engine".into())
}

pub(crate) fn scrape(world: &World) -> Result<String, String> {
    use std::io::Write;
    let mut stream = TcpStream::connect(world.metrics).map_err(|e| e.to_string())?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

/// Names that clients made up are one label.
fn many_models(lane: &Lane, world: &World) -> Result<(), String> {
    let mut client = Client::new(world.proxy);
    for n in 0..300u64 {
        let name = format!("made-up-{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        client.send(&post("", format!("{{\"model\":\"{name}\"}}")));
    }
    let replies = client.replies(300)?;
    ensure(replies.len() == 300 && replies.iter().all(|r| r.status == 404), || format!("{} answers", replies.len()))?;
    // The same through the path, and made-up paths and methods.
    for n in 0..100 {
        let mut client = Client::new(world.proxy);
        client.send(
            format!("MADE{n} /made-up-{n} HTTP/1.1\r\nhost: made-up-{n}\r\ncontent-length: 0\r\n\r\n").as_bytes(),
        );
        client.replies(1)?;
    }
    let text = scrape(world)?;
    ensure(!text.contains("made-up") && !text.contains("MADE"), || "a made-up name is a label".into())?;
    ensure(text.contains("model=\"unknown\""), || "no label for unknown models".into())?;
    ensure(text.lines().count() < 4_000, || format!("{} lines of metrics", text.lines().count()))?;
    ensure(lane.engine.received() == 0, || "something reached the engine".into())
}

/// The whole log is looked at in the end; here only the answer is.
fn log_injection(lane: &Lane, world: &World, text: &str) -> Result<(), String> {
    let mut client = Client::new(world.proxy);
    client.send(&post("user-agent: \u{9b}INJECTED\r\n", format!("{{\"model\":\"{text}\"}}")));
    let replies = client.replies(1)?;
    ensure(replies.len() == 1 && replies[0].status == 404, || format!("{replies:?}"))?;
    let body: serde_json::Value = serde_json::from_slice(&replies[0].body).map_err(|e| e.to_string())?;
    ensure(body["error"]["message"].is_string(), || format!("{body}"))?;
    ensure(lane.engine.received() == 0, || "something reached the engine".into())
}
