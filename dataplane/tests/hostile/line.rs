//! The request line: methods, targets, versions, paths; and bytes that are no HTTP at all.

use crate::case::{BODY, Case, Expect};

const REFUSED: [(&str, &[u16]); 58] = [
    ("POST  /v1/completions HTTP/1.1", &[400]),
    ("POST /v1/completions  HTTP/1.1", &[400]),
    (" POST /v1/completions HTTP/1.1", &[400]),
    ("POST /v1/completions HTTP/1.1 ", &[400]),
    ("POST\t/v1/completions HTTP/1.1", &[400]),
    ("POST /v1/completions\tHTTP/1.1", &[400, 505]),
    ("POST /v1/completions", &[400, 505]),
    ("POST", &[400]),
    ("GET /", &[400, 505]),
    ("POST /v1/completions HTTP/1.10", &[505]),
    ("POST /v1/completions HTTP/1.2", &[505]),
    ("POST /v1/completions HTTP/2.0", &[505]),
    ("POST /v1/completions HTTP/2", &[505]),
    ("POST /v1/completions HTTP/0.9", &[505]),
    ("POST /v1/completions HTTP/1,1", &[505]),
    ("POST /v1/completions HTTP/01.1", &[505]),
    ("POST /v1/completions HTTP/1.1x", &[505]),
    ("POST /v1/completions http/1.1", &[400, 505]),
    ("POST /v1/completions HTTPS/1.1", &[400, 505]),
    ("POST /v1/completions HTTP 1.1", &[400, 505]),
    ("POST /v1/completions HTTP/", &[505]),
    ("POST /v1/completions ICY/1.1", &[400]),
    ("POST v1/completions HTTP/1.1", &[400]),
    ("POST * HTTP/1.1", &[400]),
    ("GET * HTTP/1.1", &[400]),
    ("POST a:80 HTTP/1.1", &[400]),
    ("POST ftp://a/ HTTP/1.1", &[400]),
    ("POST //a/v1/completions HTTP/1.1", &[400]),
    ("POST http:///v1/completions HTTP/1.1", &[400]),
    ("POST http://u@a/v1/completions HTTP/1.1", &[400]),
    ("POST http://a:99999/v1/completions HTTP/1.1", &[400]),
    ("POST http:/v1/completions HTTP/1.1", &[400]),
    ("POST /v1/completions#x HTTP/1.1", &[400]),
    ("POST /v1/completions?a#x HTTP/1.1", &[400]),
    ("POST /v1/com pletions HTTP/1.1", &[400]),
    ("POST /v1/completions?a b HTTP/1.1", &[400]),
    ("POST /v1/comp\x00letions HTTP/1.1", &[400]),
    ("POST /v1/comp\x01letions HTTP/1.1", &[400]),
    ("POST /v1/comp\x7fletions HTTP/1.1", &[400]),
    ("POST /v1/comp\u{e9}letions HTTP/1.1", &[400]),
    ("POST /v1/completions?\x01 HTTP/1.1", &[400]),
    ("POST /v1/\"completions HTTP/1.1", &[400]),
    ("POST /v1/<completions HTTP/1.1", &[400]),
    ("CONNECT a:443 HTTP/1.1", &[400, 405]),
    ("CONNECT /v1/completions HTTP/1.1", &[400, 405]),
    ("TRACE /v1/completions HTTP/1.1", &[405]),
    ("TRACE * HTTP/1.1", &[400, 405]),
    ("PO(ST /v1/completions HTTP/1.1", &[400]),
    ("PO\x00ST /v1/completions HTTP/1.1", &[400]),
    ("POST: /v1/completions HTTP/1.1", &[400]),
    ("P\u{d6}ST /v1/completions HTTP/1.1", &[400]),
    ("POST /v1/completions HTTP/1.1\r", &[400, 505]),
    ("POST /v1/completions\rHTTP/1.1", &[400, 505]),
    ("POST /v1/completions HTTP/1.1\nx: y", &[400]),
    ("\nPOST /v1/completions HTTP/1.1", &[400]),
    ("\r\n\r\nPOST /v1/completions HTTP/1.1", &[400]),
    ("\rPOST /v1/completions HTTP/1.1", &[400]),
    ("\0POST /v1/completions HTTP/1.1", &[400]),
];

/// Paths that servers read differently.
const PATHS: [&str; 36] = [
    "/v1/../admin",
    "/../v1/completions",
    "/v1/./completions",
    "/v1/..",
    "/.",
    "/..",
    "/v1/%2e%2e/admin",
    "/v1/%2E./admin",
    "/v1/.%2e/admin",
    "/%2e/v1",
    "/v1//completions",
    "//v1/completions",
    "/v1/completions//",
    "/v1\\completions",
    "/v1/%5ccompletions",
    "/v1/..%5cadmin",
    "/v1/%00",
    "/v1/completions%00.json",
    "/v1/%0d%0aX:y",
    "/v1/%0a",
    "/v1/%7f",
    "/v1/%09",
    "/v1/%c0%ae%c0%ae/admin",
    "/v1/%c0%af",
    "/v1/%e0%80%af",
    "/v1/%ff",
    "/v1/%ed%a0%80",
    "/v1/%",
    "/v1/%2",
    "/v1/%zz",
    "/v1/%u002e",
    "/v1/^",
    "/v1/`",
    "/v1/{x}",
    "/v1/|",
    "/v1/%61dmin",
];

fn request(line: &str) -> Vec<u8> {
    format!("{line}\r\nhost: a\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len()).into_bytes()
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (line, statuses) in REFUSED {
        cases.push(Case::refused("request line", line.escape_debug().to_string(), statuses, request(line)));
    }
    for path in PATHS {
        cases.push(Case::refused("paths", path, &[400], request(&format!("POST {path} HTTP/1.1"))));
    }
    cases.push(Case::refused("paths", "%2f where no name is", &[400], request("POST /v1%2fcompletions HTTP/1.1")));
    for (sent, got) in [
        ("POST /v1/completions?a=b&c HTTP/1.1", "POST /v1/completions?a=b&c HTTP/1.1"),
        ("POST /v1/completions? HTTP/1.1", "POST /v1/completions? HTTP/1.1"),
        ("POST /v1/completions?a=[x]{y}|^ HTTP/1.1", "POST /v1/completions?a=[x]{y}|^ HTTP/1.1"),
        ("POST /v1/completions?a=%zz/../ HTTP/1.1", "POST /v1/completions?a=%zz/../ HTTP/1.1"),
        ("POST /v1/completions;x=y HTTP/1.1", "POST /v1/completions;x=y HTTP/1.1"),
        ("POST /v1/comp%20letions HTTP/1.1", "POST /v1/comp%20letions HTTP/1.1"),
        ("POST /v1/comp%C3%A9 HTTP/1.1", "POST /v1/comp%C3%A9 HTTP/1.1"),
        ("POST /v1/...x HTTP/1.1", "POST /v1/...x HTTP/1.1"),
        ("POST /v1/completions/ HTTP/1.1", "POST /v1/completions/ HTTP/1.1"),
        ("POST http://a/v1/completions HTTP/1.1", "POST /v1/completions HTTP/1.1"),
        ("POST HTTP://a/v1/completions?q HTTP/1.1", "POST /v1/completions?q HTTP/1.1"),
        ("\r\nPOST /v1/completions HTTP/1.1", "POST /v1/completions HTTP/1.1"),
    ] {
        let expect = Expect::Served { line: got, fields: vec!["host: a"], body: BODY.into() };
        cases.push(Case::request("request line", format!("served: {}", sent.escape_debug()), request(sent), expect));
    }
    let absolute =
        format!("POST http://b:81/v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let expect =
        Expect::Served { line: "POST /v1/completions HTTP/1.1", fields: vec!["host: b:81"], body: BODY.into() };
    cases.push(Case::request("host", "absolute-form replaces it", absolute, expect));
    let old = format!("POST /v1/completions HTTP/1.0\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len());
    let expect = Expect::Served { line: "POST /v1/completions HTTP/1.1", fields: vec!["host: "], body: BODY.into() };
    cases.push(Case::request("host", "HTTP/1.0 without one", old, expect));
    for (name, bytes) in [
        ("TLS hello", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("PROXY v1", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"),
        ("PROXY v2", b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c"),
        ("zeros", &[0; 64]),
        ("ones", &[0xff; 64]),
        ("SOCKS", b"\x05\x01\x00"),
        ("a JSON object", b"{\"model\":\"mdl0\"}\r\n"),
        ("an answer", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        cases.push(Case::refused("no http", name, &[400, 505], bytes));
    }
    for (line, status) in [
        ("GET /healthz", 200),
        ("GET /readyz", 200),
        ("GET /v1/models", 200),
        ("GET /v1/models/none", 404),
        ("GET /v1/models/%2e%2e%2fx", 400),
        ("GET /v1/models/..%2f..%2fx", 404),
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n");
        let expect = if status == 400 { Expect::Refused(&[400]) } else { Expect::Local(status) };
        cases.push(Case::request("local", line, bytes, expect));
    }
    let kept = |line: &str| format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n");
    cases.push(Case::request("local", "GET /metrics on the data port", kept("GET /metrics"), Expect::RefusedKept(404)));
    cases.push(Case::request(
        "local",
        "GET /debug/table on the data port",
        kept("GET /debug/table"),
        Expect::RefusedKept(404),
    ));
    cases
}
