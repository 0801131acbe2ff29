//! Engines that answer wrongly, too much, too early or not to the end: the client sees no malformed byte, and the next
//! client gets its own answer.

use crate::case::{BODY, Case, Kind, Seen, Upstream, post};
use crate::engine::{Act, answer};

/// Marks what must reach nobody.
const POISON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"poison\"}";

/// Heads that are not HTTP as it is spoken here: 502.
const BAD: [(&str, &str); 62] = [
    ("LF for CRLF", "HTTP/1.1 200 OK\ncontent-length: 2\n\nhi"),
    ("LF in a value", "HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\ncontent-length: 2\r\n\r\nhi"),
    ("CR in a value", "HTTP/1.1 200 OK\r\nx: a\rset-cookie: b\r\ncontent-length: 2\r\n\r\nhi"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 2\r\n\r\nhi"),
    ("ESC in a value", "HTTP/1.1 200 OK\r\nx: a\x1bb\r\ncontent-length: 2\r\n\r\nhi"),
    ("DEL in a value", "HTTP/1.1 200 OK\r\nx: a\x7fb\r\ncontent-length: 2\r\n\r\nhi"),
    ("NUL in a name", "HTTP/1.1 200 OK\r\nx\0: a\r\ncontent-length: 2\r\n\r\nhi"),
    ("an empty name", "HTTP/1.1 200 OK\r\n: a\r\ncontent-length: 2\r\n\r\nhi"),
    ("a blank before the colon", "HTTP/1.1 200 OK\r\nx : a\r\ncontent-length: 2\r\n\r\nhi"),
    ("no colon", "HTTP/1.1 200 OK\r\nx\r\ncontent-length: 2\r\n\r\nhi"),
    ("a folded line", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nhi"),
    ("a blank first line of fields", "HTTP/1.1 200 OK\r\n x: a\r\ncontent-length: 2\r\n\r\nhi"),
    ("CR in the reason", "HTTP/1.1 200 O\rK\r\ncontent-length: 2\r\n\r\nhi"),
    ("NUL in the reason", "HTTP/1.1 200 O\0K\r\ncontent-length: 2\r\n\r\nhi"),
    ("ESC in the reason", "HTTP/1.1 200 \x1b[2J\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 20", "HTTP/1.1 20 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 2000", "HTTP/1.1 2000 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 099", "HTTP/1.1 099 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 000", "HTTP/1.1 000 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 600", "HTTP/1.1 600 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 999", "HTTP/1.1 999 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status +20", "HTTP/1.1 +20 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 2x0", "HTTP/1.1 2x0 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status -200", "HTTP/1.1 -200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("status 200x", "HTTP/1.1 200x OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("no status", "HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi"),
    ("two blanks before the status", "HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("a tab before the status", "HTTP/1.1\t200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("HTTP/2", "HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("HTTP/2.0", "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("HTTP/1.2", "HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("HTTP/0.9", "hi"),
    ("ICY", "ICY 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("lower case", "http/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("an empty line first", "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    ("101 unasked", "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n"),
    ("101 after 100", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nhi"),
    ("two equal lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi"),
    ("a list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nhi"),
    ("length +2", "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nhi"),
    ("length -1", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhi"),
    ("length 0x2", "HTTP/1.1 200 OK\r\ncontent-length: 0x2\r\n\r\nhi"),
    ("length 2x", "HTTP/1.1 200 OK\r\ncontent-length: 2x\r\n\r\nhi"),
    ("no length in it", "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\nhi"),
    ("length 2^64+2", "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551618\r\n\r\nhi"),
    ("length 2^63", "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775808\r\n\r\nhi"),
    (
        "length and coding",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    (
        "coding and length",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    ("coding gzip", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhi"),
    ("coding gzip, chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    ("coding identity", "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nhi"),
    ("coding chunked twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
    (
        "two codings",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ),
    ("an empty coding", "HTTP/1.1 200 OK\r\ntransfer-encoding:\r\n\r\nhi"),
    ("204 with two lengths", "HTTP/1.1 204 X\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n"),
    ("two content types", "HTTP/1.1 200 OK\r\ncontent-type: a/b\r\ncontent-type: c/d\r\ncontent-length: 2\r\n\r\nhi"),
    ("a TLS alert", "\x15\x03\x01\0\x02\x02\x16"),
    ("HTML", "<html>502</html>"),
    ("a GOAWAY", "\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ("a request", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
    (
        "an interim answer with a length",
        "HTTP/1.1 103 X\r\ncontent-length: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ),
];

/// Bodies in chunks that break after a good head: the answer is cut where the client can see it.
const BAD_CHUNKS: [(&str, &str); 18] = [
    ("no size", "\r\nhi\r\n0\r\n\r\n"),
    ("a word", "two\r\nhi\r\n0\r\n\r\n"),
    ("0x", "0x2\r\nhi\r\n0\r\n\r\n"),
    ("+", "+2\r\nhi\r\n0\r\n\r\n"),
    ("-", "-2\r\nhi\r\n0\r\n\r\n"),
    ("_", "0_2\r\nhi\r\n0\r\n\r\n"),
    ("17 digits", "00000000000000002\r\nhi\r\n0\r\n\r\n"),
    ("2^64+2", "10000000000000002\r\nhi\r\n0\r\n\r\n"),
    ("2^63", "8000000000000000\r\nhi\r\n0\r\n\r\n"),
    ("LF after the size", "2\nhi\r\n0\r\n\r\n"),
    ("LF after the data", "2\r\nhi\n0\r\n\r\n"),
    ("a byte after the data", "2\r\nhix\r\n0\r\n\r\n"),
    ("nothing after the data", "2\r\nhi0\r\n\r\n"),
    ("LF in an extension", "2;a\nb\r\nhi\r\n0\r\n\r\n"),
    ("NUL in an extension", "2;a\0\r\nhi\r\n0\r\n\r\n"),
    ("a bad trailer", "2\r\nhi\r\n0\r\nx y\r\n\r\n"),
    ("a trailer with LF", "2\r\nhi\r\n0\r\nx: y\n\r\n"),
    ("an answer as trailer", "2\r\nhi\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n"),
];

fn upstream(category: &'static str, name: impl Into<String>, acts: Vec<Act>, seen: Seen, reused: bool) -> Case {
    let case = Upstream { banner: Vec::new(), acts, request: post("x-token: first\r\n", BODY), seen, reused };
    Case { category, name: name.into(), kind: Kind::Upstream(case) }
}

fn text(bytes: &str) -> Act {
    Act::Send(bytes.as_bytes().to_vec())
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in BAD {
        cases.push(upstream("bad answers", name, vec![text(bytes)], Seen::BadGateway, false));
    }
    for (name, bytes) in BAD_CHUNKS {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        // As long as nothing has gone to the client there is a right answer.
        let together = vec![text(&format!("{head}{bytes}"))];
        cases.push(upstream("bad chunks", name, together, Seen::BadGateway, false));
        let apart = vec![text(head), Act::Pause(20), text(bytes)];
        let cut = Seen::Cut(200, b"hi".to_vec());
        cases.push(upstream("bad chunks", format!("{name}, apart from the head"), apart, cut, false));
    }
    let huge = |line: &str, n: usize| format!("HTTP/1.1 200 OK\r\n{}content-length: 2\r\n\r\nhi", line.repeat(n));
    for (name, bytes) in [
        ("1,000 fields", huge("x: y\r\n", 1_000)),
        ("a value of 64 KiB", huge(&format!("x: {}\r\n", "v".repeat(64 << 10)), 1)),
        ("a name of 300", huge(&format!("{}: v\r\n", "n".repeat(300)), 1)),
        ("a head of 4 MiB", huge(&format!("x: {}\r\n", "v".repeat(1_000)), 4_000)),
        ("1,000 interim answers without an end", "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000)),
    ] {
        cases.push(upstream("bad answers", name, vec![text(&bytes), Act::Shut], Seen::BadGateway, false));
    }
    early(&mut cases);
    good(&mut cases);
    poison(&mut cases);
    cut(&mut cases);
    cases
}

/// An answer before the request was read: relayed, and the connection with the rest of the request in it serves nobody.
fn early(cases: &mut Vec<Case>) {
    for (name, status) in [("a 403", 403), ("a 413", 413), ("a 200", 200)] {
        cases.push(Case::run("early answers", name, move |lane, world| {
            lane.engine.early(&answer(status, "{}"));
            let inside = String::from_utf8_lossy(&post("x-token: smuggled\r\n", BODY)).into_owned();
            let prompt = serde_json::Value::from(inside.repeat(40_000));
            let body = lane.own(format!("{{\"model\":\"mdl0\",\"prompt\":{prompt}}}").as_bytes());
            let mut client = crate::client::Client::new(world.proxy);
            client.send(&post("", body));
            let replies = client.replies(1)?;
            crate::case::ensure(replies.len() == 1 && replies[0].status == status && replies[0].body == b"{}", || {
                format!("{replies:?}")
            })?;
            crate::case::next_is_own(lane, world, Some(false))
        }));
    }
}

/// Odd, but clear: relayed.
fn good(cases: &mut Vec<Case>) {
    let hi = || Seen::Whole(200, b"hi".to_vec());
    for (name, bytes, reused) in [
        ("no reason", "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nhi", true),
        ("no blank after the status", "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nhi", true),
        ("obs-text", "HTTP/1.1 200 OK\r\nx: \u{e9}\r\ncontent-length: 2\r\n\r\nhi", true),
        ("zeros before the length", "HTTP/1.1 200 OK\r\ncontent-length: 002\r\n\r\nhi", true),
        (
            "interim answers",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
            true,
        ),
        ("Connection: close", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi", false),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nhi", false),
        ("HTTP/1.0 kept alive", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi", true),
        (
            "chunks with extensions and trailers",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\nh\r\n01;c\r\ni\r\n000;x\r\nx: y\r\ncontent-length: 9\r\n\r\n",
            true,
        ),
        (
            "hop-by-hop fields",
            "HTTP/1.1 200 OK\r\nconnection: x-a\r\nx-a: b\r\nkeep-alive: timeout=1\r\nupgrade: h2c\r\nproxy-authenticate: x\r\ncontent-length: 2\r\n\r\nhi",
            true,
        ),
        (
            "HTTP/1.0 in chunks",
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            false,
        ),
    ] {
        cases.push(upstream("odd answers", name, vec![text(bytes)], hi(), reused));
        let single = bytes.as_bytes().iter().map(|&b| vec![b]).collect();
        cases.push(upstream("odd answers", format!("{name}, byte by byte"), vec![Act::Pieces(single)], hi(), reused));
    }
    cases.push(upstream("odd answers", "until close", vec![text("HTTP/1.1 200 OK\r\n\r\nhi"), Act::Shut], hi(), false));
    cases.push(upstream(
        "odd answers",
        "a 204 with a length",
        vec![text("HTTP/1.1 204 X\r\ncontent-length: 5\r\n\r\n")],
        Seen::Whole(204, vec![]),
        // The five bytes may follow later, where the next answer is expected.
        false,
    ));
    cases.push(upstream(
        "odd answers",
        "a 304 with a length",
        vec![text("HTTP/1.1 304 X\r\ncontent-length: 5\r\n\r\n")],
        Seen::Whole(304, vec![]),
        true,
    ));
    cases.push(upstream(
        "odd answers",
        "a head of 30 KiB",
        vec![text(&format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 2\r\n\r\nhi", "v".repeat(30 << 10)))],
        hi(),
        true,
    ));
    let rst = vec![Act::Send(answer(400, "{\"code\":400}")), Act::Reset];
    cases.push(upstream(
        "odd answers",
        "a reset after a whole error",
        rst,
        Seen::Whole(400, b"{\"code\":400}".to_vec()),
        false,
    ));
}

/// Bytes beyond an answer must reach nobody.
fn poison(cases: &mut Vec<Case>) {
    let hi = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let events =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for (name, status, bytes, body) in [
        ("by length", 200, hi, "hi"),
        ("in chunks", 200, chunked, "hi"),
        ("events", 200, events, "hi"),
        ("a 204", 204, "HTTP/1.1 204 X\r\n\r\n", ""),
        ("a 304", 304, "HTTP/1.1 304 X\r\n\r\n", ""),
        ("an empty 200", 200, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        ("a 500", 500, "HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nhi", "hi"),
        ("a 404", 404, "HTTP/1.1 404 X\r\ncontent-length: 2\r\n\r\nhi", "hi"),
    ] {
        let seen = || Seen::Whole(status, body.as_bytes().to_vec());
        for (what, beyond) in [
            ("an answer", POISON),
            ("half a head", "HTTP/1.1 200 OK\r\nx: "),
            ("one byte", "x"),
            ("CRLF", "\r\n"),
            ("a body", "0123456789"),
            ("a last chunk", "0\r\n\r\n"),
        ] {
            cases.push(upstream(
                "poison",
                format!("{name}, then {what} in one write"),
                vec![text(&format!("{bytes}{beyond}"))],
                seen(),
                false,
            ));
        }
        cases.push(Case::run("poison", format!("{name}, then an answer right after"), move |lane, world| {
            lane.engine.script(vec![text(bytes), text(POISON)]);
            let mut client = crate::client::Client::new(world.proxy);
            client.send(&lane.own(&post("x-token: first\r\n", BODY)));
            client.replies(1)?;
            // What comes after the next request went out nobody can tell from its answer.
            lane.engine.wait_played()?;
            crate::case::next_is_own(lane, world, Some(false))
        }));
    }
    for (name, later, ms) in [
        ("an answer later", POISON, 30),
        ("half a head later", "HTTP/1.1 2", 30),
        ("a 408 later", "HTTP/1.1 408 X\r\ncontent-length: 0\r\n\r\n", 30),
    ] {
        cases.push(Case::run("poison", name, move |lane, world| {
            lane.engine.script(vec![text(hi), Act::Pause(ms), text(later), Act::Pause(1_000)]);
            let mut client = crate::client::Client::new(world.proxy);
            client.send(&lane.own(&post("", BODY)));
            client.replies(1)?;
            // Well after the bytes came.
            std::thread::sleep(std::time::Duration::from_millis(ms + 50));
            crate::case::next_is_own(lane, world, Some(false))
        }));
    }
    for (name, banner) in [
        ("an answer", POISON),
        ("half a head", "HTTP/1.1 200 OK\r\nx: "),
        ("SSH", "SSH-2.0-x\r\n"),
        ("an interim answer", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        cases.push(Case::run("poison", format!("on accept: {name}"), move |lane, world| {
            lane.engine.banner(banner.as_bytes());
            let mut client = crate::client::Client::new(world.proxy);
            client.send(&lane.own(&post("x-token: first\r\n", BODY)));
            client.read_until(std::time::Duration::from_millis(300), |_| false);
            // Whatever the first client got came over its own connection; that one must serve nobody else.
            lane.engine.banner(b"");
            drop(client);
            crate::case::next_is_own(lane, world, None)
        }));
    }
}

/// Answers that do not come to their end.
fn cut(cases: &mut Vec<Case>) {
    let json = |framing: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n\r\n");
    for (end, act) in [("closed", Act::Shut), ("reset", Act::Reset)] {
        for (name, bytes) in [
            ("before a byte", String::new()),
            ("in the status line", "HTTP/1.1 20".into()),
            ("in the fields", "HTTP/1.1 200 OK\r\ncontent-le".into()),
            ("before the empty line", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n".into()),
            ("after an interim answer", "HTTP/1.1 100 Continue\r\n\r\n".into()),
        ] {
            let acts = vec![text(&bytes), act.clone()];
            cases.push(upstream("cut answers", format!("{end} {name}"), acts, Seen::BadGateway, false));
        }
        for (name, framing, sent) in [
            ("before the body", "content-length: 10", ""),
            ("in a body by length", "content-length: 10", "01234"),
            ("before the last byte", "content-length: 10", "012345678"),
            ("before a chunk", "transfer-encoding: chunked", ""),
            ("in a chunk size", "transfer-encoding: chunked", "5"),
            ("in a chunk", "transfer-encoding: chunked", "5\r\n012"),
            ("after a chunk's data", "transfer-encoding: chunked", "5\r\n01234"),
            ("between chunks", "transfer-encoding: chunked", "5\r\n01234\r\n"),
            ("in the last chunk", "transfer-encoding: chunked", "5\r\n01234\r\n0\r\n"),
            ("before the last byte of all", "transfer-encoding: chunked", "5\r\n01234\r\n0\r\n\r"),
        ] {
            let acts = vec![text(&json(framing)), Act::Pause(5), text(sent), act.clone()];
            cases.push(upstream(
                "cut answers",
                format!("{end} {name}"),
                acts,
                Seen::Cut(200, b"0123456789".to_vec()),
                false,
            ));
        }
    }
    // An end by closing is an end only in order.
    let acts = vec![text("HTTP/1.1 200 OK\r\n\r\n01234"), Act::Pause(20), Act::Reset];
    cases.push(upstream("cut answers", "reset until close", acts, Seen::Cut(200, b"01234".to_vec()), false));
}
