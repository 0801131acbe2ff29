//! What is mutated: the hostile cases, the fuzz targets' seeds, and messages of our own.

use std::path::Path;

use crate::case::{Case, Kind};
use crate::engine::Act;
use crate::{body, chunks, fields, framing, line, response};

/// Streams of a client.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let mut all = own_requests();
    let cases = [body::cases(), chunks::cases(), fields::cases(), framing::cases(), line::cases()];
    all.extend(cases.into_iter().flatten().filter_map(|case: Case| match case.kind {
        Kind::Request(bytes, _) => Some(bytes),
        Kind::Upstream(_) | Kind::Run(_) => None,
    }));
    all.extend(seeds("head").filter(|seed| !seed.starts_with(b"HTTP/")));
    all.extend(seeds("chunk").map(|body| [CHUNKED.as_bytes(), &body].concat()));
    all
}

/// Streams of an engine.
pub(crate) fn answers() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = ANSWERS.iter().map(|answer| answer.as_bytes().to_vec()).collect();
    all.extend(response::cases().into_iter().filter_map(|case| match case.kind {
        Kind::Upstream(case) => Some(case.acts.iter().flat_map(sent).collect()),
        Kind::Request(..) | Kind::Run(_) => None,
    }));
    all.extend(seeds("head").filter(|seed| seed.starts_with(b"HTTP/")));
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    all.extend(seeds("chunk").map(|body| [chunked, &body[..]].concat()));
    all
}

fn sent(act: &Act) -> Vec<u8> {
    match act {
        Act::Send(bytes) => bytes.clone(),
        Act::Pieces(pieces) => pieces.concat(),
        Act::Pause(_) | Act::Until(_) | Act::Shut | Act::Reset | Act::Flood(_) => Vec::new(),
    }
}

/// The seeds of a fuzz target, in the order of their names.
fn seeds(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    files.into_iter().map(|file| std::fs::read(file).unwrap())
}

const CHUNKED: &str = "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn own_requests() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = REQUESTS.iter().map(|request| request.as_bytes().to_vec()).collect();
    // The same one after another, as a client that does not wait sends them.
    for pair in REQUESTS.windows(3) {
        all.push(pair.concat().into_bytes());
    }
    for target in TARGETS {
        all.push(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes());
    }
    for line in LINES {
        all.push(format!("POST /v1/x HTTP/1.1\r\nHost: a\r\n{line}Content-Length: 2\r\n\r\nhi").into_bytes());
        all.push(format!("{line}Content-Length: 2\r\n\r\nhi").into_bytes());
        all.push(format!("POST /v1/x HTTP/1.0\r\n{line}\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes());
    }
    for (name, value) in [(1, 8_000), (1, 30_000), (255, 1), (257, 1), (1, 33_000)] {
        let (name, value) = ("n".repeat(name), "v".repeat(value));
        all.push(format!("GET / HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\n\r\n").into_bytes());
    }
    for fields in [98, 99, 100] {
        all.push(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(fields)).into_bytes());
    }
    for path in [1_000, 16_000, 16_383, 16_384] {
        all.push(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(path)).into_bytes());
    }
    for bytes in [4_000, 4_094, 4_096, 5_000] {
        all.push(format!("{CHUNKED}2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(bytes)).into_bytes());
    }
    all
}

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /v1/models?x=y&z HTTP/1.1\r\nhost: engine.example:8000\r\naccept: */*\r\nuser-agent: curl/8\r\n\r\n",
    "HEAD /v1/models/a%2Fb HTTP/1.1\r\nHost: [::1]:80\r\nX-Empty:\r\nX-Blank: \t \r\n\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"model\":\"m1\"}",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\n\r\nhello",
    "PUT /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "PATCH /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b;c=\"d;\\\"e\"\r\nhello\r\n00A ; x\r\n0123456789\r\n000;y\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n",
    "DELETE /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n0\r\nx: y\r\nz:\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "QUERY /v1/x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-a\r\nX-A: b\r\n\r\n",
    "\r\nGET /after-an-empty-line HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://b.example/v1?q HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET http://h?q HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    "POST /v1/x HTTP/1.0\r\nExpect: 100-continue\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    "GET / HTTP/1.0\r\n\r\n",
    "GET /v1/x HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n",
    "POST /v1/x HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    "POST /v1/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: caf\u{e9}\r\nCookie: a=b; c=d\r\nCookie: e\r\nx: again\r\nX: \"q\\\"\"\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: ,, Close ,\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\nhel",
    "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

const TARGETS: &[&str] = &[
    "/",
    "/?",
    "/??",
    "/?a?b/c",
    "/a;b=c",
    "/a:b@c",
    "/%E2%82%AC",
    "/a%20b",
    "/a%2Fb",
    "/~a-b._",
    "/!$&'()*+,;=:@",
    "/?[]{}|\\^`",
    "/?%zz",
    "/?\u{e9}",
    "/a/",
    "/a//b",
    "/a/../b",
    "/.",
    "/a#b",
    "/a?b#c",
    "*",
    "a",
    "a:1",
    "//a/b",
    "http://h",
    "http://h/",
    "http://h?q",
    "http://h/?q",
    "http://h:80/a",
    "http://h:/a",
    "http://h:65536/",
    "HTTP://H/a",
    "https://h/a?b",
    "http://[::1]:8000/a",
    "http://[::ffff:1.2.3.4]/",
    "http://[::1",
    "http://u@h/a",
    "http:///a",
    "http://a_b.c/",
    "http://-/",
    "http://h%41/",
    "ftp://h/a",
    "http:/a",
    "http://h/a?b?c",
    "http://h?a/b",
];

/// Field lines that say much about a message.
pub(crate) const LINES: &[&str] = &[
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length:  2 \r\n",
    "Content-Length: +2\r\n",
    "Content-Length: 2, 2\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tchunked \r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: a\r\n",
    "host: b:80\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: x, keep-alive , close\r\n",
    "Connection: \"close\"\r\n",
    "Keep-Alive: timeout=5\r\n",
    "Expect: 100-continue\r\n",
    "Expect: x\r\n",
    "Upgrade: websocket\r\n",
    "TE: trailers\r\n",
    "Trailer: x\r\n",
    "Proxy-Connection: close\r\n",
    "X: a\r\n b\r\n",
    "X : a\r\n",
    ": a\r\n",
    "X\r\n",
    "X: a\n",
    "X: a\rb\r\n",
    "X_Y: z\r\n",
    "Content_Length: 9\r\n",
    "!#$%&'*+-.^_`|~09aZ: token\r\n",
    "X: \u{e9}\u{ff}\r\n",
    "X: \x7f\r\n",
    "X: \0\r\n",
    "\r\n",
];

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n000\r\nx: y\r\n\r\nHTTP/1.1 200 \r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200\r\ncontent-length: 1\r\n\r\nx",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "HTTP/1.1 503 Caf\u{e9} is closed\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
    "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nX:\r\nContent-Length: 002\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "HTTP/1.1 599 \t odd\r\nContent-Length: 2\r\nConnection: keep-alive, close\r\n\r\nhi",
];
