//! Names and values of fields, Host, and what Connection may take away.

use crate::case::{BODY, Case, Expect, post};

/// Field lines that are refused in any request.
const REFUSED: [&str; 44] = [
    ": x",
    " : x",
    "x",
    "x y: z",
    "x : y",
    "x\t: y",
    "(x): y",
    "x@y: z",
    "x[0]: y",
    "x{y}: z",
    "x/y: z",
    "x\\y: z",
    "x\"y: z",
    "x<y: z",
    "x?y: z",
    "x=y: z",
    "x;y: z",
    "x,y: z",
    "x\x00: y",
    "x\x01: y",
    "x\x7f: y",
    "x\u{e9}: y",
    "\u{feff}x: y",
    "x: a\x00b",
    "x: a\x01b",
    "x: a\x08b",
    "x: a\x0bb",
    "x: a\x0cb",
    "x: a\x1bb",
    "x: a\x1fb",
    "x: a\x7fb",
    "x: a\rb",
    "x: a\nb: c",
    "x: a\n",
    "x: a\r",
    "x: a\r\r",
    "x: a\r\n b",
    "x: a\r\n\tb",
    "x:\r\n a",
    "x: a\r\n \r\ny: b",
    "content-type: application/json\r\ncontent-type: text/plain",
    "authorization: Bearer a\r\nauthorization: Bearer b",
    "expect: 100-continue\r\nexpect: 100-continue",
    "connection: a b",
];

/// Names that read as trusted ones where `_` is taken for `-`.
const CONFUSING: [&str; 15] = [
    "X_Forwarded_For",
    "X-Forwarded_For",
    "x_forwarded_proto",
    "x_forwarded_host",
    "X_Real_IP",
    "x_kthena_endpoint",
    "Content_Length",
    "Transfer_Encoding",
    "x_request_id",
    "Content_Type",
    "x_api_key",
    "Content_Encoding",
    "x_data_parallel_rank",
    "proxy_authorization",
    "Keep_Alive",
];

/// Fields as sent, and as the engine gets them (host goes first in both).
const PASSED: [(&str, &str, &[&str]); 22] = [
    ("an unknown name", "x-a: b\r\n", &["x-a: b"]),
    ("an unknown name with _", "x_a: b\r\n", &["x_a: b"]),
    ("obs-text", "x-a: b\u{e9}\r\n", &["x-a: b\u{e9}"]),
    ("a tab inside", "x-a: b\tc\r\n", &["x-a: b\tc"]),
    ("no value", "x-a:\r\n", &["x-a:"]),
    ("every token character", "!#$%&'*+-.^_`|~09azAZ: b\r\n", &["!#$%&'*+-.^_`|~09azAZ: b"]),
    ("repeated, in order", "x-a: 1\r\nx-b: 2\r\nX-A: 3\r\n", &["x-a: 1", "x-b: 2", "X-A: 3"]),
    ("Connection names a field", "connection: x-a\r\nx-a: b\r\nx-c: d\r\n", &["x-c: d"]),
    ("Connection names it before it comes", "x-a: b\r\nConnection: X-A, x-z\r\n", &[]),
    ("Connection cannot name Host", "connection: host\r\n", &[]),
    ("Connection cannot name Content-Length", "connection: content-length\r\n", &[]),
    (
        "Connection cannot name Authorization",
        "authorization: b\r\nconnection: authorization\r\n",
        &["authorization: b"],
    ),
    ("Connection cannot name Cookie", "cookie: b\r\nconnection: cookie\r\n", &["cookie: b"]),
    (
        "Connection cannot name Content-Type",
        "content-type: application/json\r\nconnection: content-type\r\n",
        &["content-type: application/json"],
    ),
    (
        "Connection cannot name X-Forwarded-Host",
        "x-forwarded-host: b\r\nconnection: x-forwarded-host\r\n",
        &["x-forwarded-host: b"],
    ),
    ("Connection cannot name X-Real-IP", "x-real-ip: b\r\nconnection: x-real-ip\r\n", &["x-real-ip: b"]),
    (
        "hop-by-hop fields",
        "te: trailers\r\nkeep-alive: timeout=5\r\ntrailer: x\r\nproxy-connection: keep-alive\r\nproxy-authorization: b\r\n",
        &[],
    ),
    (
        "Upgrade to websocket",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
        &["sec-websocket-version: 13"],
    ),
    (
        "Upgrade to h2c",
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n",
        &[],
    ),
    ("Upgrade without Connection", "upgrade: h2c\r\n", &[]),
    ("X-Forwarded-Proto of the client", "x-forwarded-proto: https\r\n", &[]),
    ("Accept-Encoding", "accept-encoding: gzip\r\n", &[]),
];

/// Host lines that are refused; the first is none.
const HOSTS: [&str; 25] = [
    "",
    "host:\r\n",
    "host: a\r\nhost: a\r\n",
    "host: a\r\nHost: b\r\n",
    "host: a,b\r\n",
    "host: a b\r\n",
    "host: user@a\r\n",
    "host: a:99999999\r\n",
    "host: a:65536\r\n",
    "host: a:-1\r\n",
    "host: a:x\r\n",
    "host: a:80:80\r\n",
    "host: a/b\r\n",
    "host: a?b\r\n",
    "host: a#b\r\n",
    "host: a\\b\r\n",
    "host: [::1\r\n",
    "host: [x]\r\n",
    "host: [::1]x\r\n",
    "host: ::1\r\n",
    "host: http://a\r\n",
    "host: a%00\r\n",
    "host: \u{e4}\r\n",
    "host: <script>\r\n",
    "host: :80\r\n",
];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in REFUSED {
        cases.push(Case::refused(
            "fields",
            line.escape_debug().to_string(),
            &[400],
            post(&format!("{line}\r\n"), BODY),
        ));
    }
    for name in CONFUSING {
        cases.push(Case::refused("fields", format!("confusing {name}"), &[400], post(&format!("{name}: x\r\n"), BODY)));
    }
    for (name, sent, got) in PASSED {
        let fields = [&["host: a"], got].concat();
        let expect = Expect::Served { line: "POST /v1/completions HTTP/1.1", fields, body: BODY.into() };
        cases.push(Case::request("fields passed", name, post(sent, BODY), expect));
    }
    for host in HOSTS {
        let bytes = format!("POST /v1/completions HTTP/1.1\r\n{host}content-length: {}\r\n\r\n{BODY}", BODY.len());
        cases.push(Case::refused("host", format!("{:?}", host.trim_end()), &[400], bytes));
    }
    for host in ["a", "a.b:80", "A-1.example", "127.0.0.1:8080", "[::1]", "[::1]:80", "a:0", "a:65535", "a_b", "a:"] {
        let bytes =
            format!("POST /v1/completions HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
        let expect = if host == "a:" { Expect::Refused(&[400]) } else { Expect::ServedAll(vec![BODY.into()]) };
        cases.push(Case::request("host", host, bytes, expect));
    }
    expectations(&mut cases);
    floods(&mut cases);
    cases
}

/// Expect, Connection and HTTP/1.0.
fn expectations(cases: &mut Vec<Case>) {
    for value in ["100-continue, x", "x", "100", "", "\"100-continue\"", "100-continue;q=1", "200-ok"] {
        cases.push(Case::refused("expect", format!("{value:?}"), &[417], post(&format!("expect: {value}\r\n"), BODY)));
    }
    cases.push(Case::refused(
        "expect",
        "folded, on OPTIONS",
        &[400],
        "OPTIONS /v1/completions HTTP/1.1\r\nhost: a\r\nexpect:\r\n 100-continue\r\ncontent-length: 5\r\n\r\nGET /",
    ));
    for value in ["100-continue", "100-Continue"] {
        let expect =
            Expect::Served { line: "POST /v1/completions HTTP/1.1", fields: vec!["host: a"], body: BODY.into() };
        cases.push(Case::request("expect", value, post(&format!("expect: {value}\r\n"), BODY), expect));
    }
    let many = (0..33).map(|n| format!("x{n}")).collect::<Vec<_>>().join(",");
    cases.push(Case::refused(
        "fields",
        "Connection with 33 names",
        &[400],
        post(&format!("connection: {many}\r\n"), BODY),
    ));
}

fn floods(cases: &mut Vec<Case>) {
    let lines = |n: usize| (0..n).map(|i| format!("x-{i}: y\r\n")).collect::<String>();
    cases.push(Case::request("floods", "98 more fields", post(&lines(98), BODY), Expect::ServedAll(vec![BODY.into()])));
    for n in [99, 1_000, 10_000, 100_000] {
        cases.push(Case::refused("floods", format!("{n} more fields"), &[431], post(&lines(n), BODY)));
    }
    let value = |n: usize| post(&format!("x: {}\r\n", "v".repeat(n)), BODY);
    cases.push(Case::request("floods", "a value of 32,000", value(32_000), Expect::ServedAll(vec![BODY.into()])));
    for n in [32 << 10, 1 << 20, 4 << 20] {
        cases.push(Case::refused("floods", format!("a value of {n}"), &[431], value(n)));
    }
    let name = |n: usize| post(&format!("{}: v\r\n", "n".repeat(n)), BODY);
    cases.push(Case::request("floods", "a name of 256", name(256), Expect::ServedAll(vec![BODY.into()])));
    for n in [257, 16 << 10, 64 << 10, 1 << 20] {
        cases.push(Case::refused("floods", format!("a name of {n}"), &[431], name(n)));
    }
    let uri = |n: usize| {
        format!("POST /{} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{BODY}", "u".repeat(n), BODY.len())
    };
    cases.push(Case::request("floods", "a target of 16,000", uri(16_000), Expect::ServedAll(vec![BODY.into()])));
    for n in [16 << 10, 64 << 10, 1 << 20] {
        cases.push(Case::refused("floods", format!("a target of {n}"), &[414, 431], uri(n)));
    }
    let method = |n: usize| format!("{} / HTTP/1.1\r\nhost: a\r\n\r\n", "M".repeat(n));
    for n in [25, 1 << 20] {
        cases.push(Case::refused("floods", format!("a method of {n}"), &[400], method(n)));
    }
    cases.push(Case::refused(
        "floods",
        "1,000 empty lines",
        &[400],
        [&b"\r\n".repeat(1_000)[..], &post("", BODY)].concat(),
    ));
}
