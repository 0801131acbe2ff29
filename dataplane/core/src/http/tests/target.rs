//! Rows 10, 12 and 14: request lines, hosts and paths.

use super::*;

fn check_line(line: &str, expected: Result<&str, u16>) {
    let head = format!("{line}\r\nHost: a\r\n\r\n");
    let got = parse_request(head.as_bytes(), &HeadLimits::default());
    let got = got.map(|head| head.expect("a whole head")).map_err(|bad| bad.status);
    let got = got.map(|parsed| String::from_utf8_lossy(parsed.path.of(head.as_bytes())).into_owned());
    assert_eq!(got.as_deref().map_err(|status| *status), expected, "{line:?}");
}

#[test]
fn request_lines() {
    check_line("GET / HTTP/1.1", Ok("/"));
    check_line("GET / HTTP/1.0", Ok("/"));
    check_line("OPTIONS * HTTP/1.1", Ok("*"));
    check_line("QUERY /x?y HTTP/1.1", Ok("/x"));
    check_line("GET * HTTP/1.1", Err(400));
    check_line("CONNECT a:443 HTTP/1.1", Err(405));
    check_line("TRACE / HTTP/1.1", Err(405));
    for version in
        ["HTTP/1.10", "HTTP/1.2", "HTTP/2.0", "HTTP/2", "HTTP/0.9", "HTTP/9.9", "HTTP/1", "HTTP/", "HTTP/1.1x"]
    {
        check_line(&format!("GET / {version}"), Err(505));
    }
    check_line("PRI * HTTP/2.0", Err(505));
    check_line("GET /", Err(505));
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / x HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTPS/1.1",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        " GET / HTTP/1.1",
        "GE(T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GETGETGETGETGETGETGETGETGET / HTTP/1.1",
        "GET",
        "",
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        let bad = parse_request(head.as_bytes(), &HeadLimits::default()).expect_err(line);
        assert!(matches!(bad.status, 400 | 505), "{line:?}: {bad}");
    }
}

#[test]
fn one_empty_line_may_come_first() {
    let head = request(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.len, head.path), (29, Span { start: 6, end: 7 }));
    for bad in [&b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], b"\r\n\r", b"\nGET /", b"\r\n\n", b"\rG"] {
        assert!(request_fault(bad).is_some(), "{}", bad.escape_ascii());
    }
}

#[test]
fn a_hopeless_head_is_not_waited_for() {
    let check = |input: &[u8], fault| assert_eq!(request_fault(input), Some(fault), "{}", input.escape_ascii());
    check(b"GET /\r\n", Fault::BadVersion);
    check(b"PRI * HTTP/2.0\r\n", Fault::BadVersion);
    check(b"GET /a HTTP/1.1\n", Fault::BareLf);
    check(b"GET /a HTTP/1.1\r\nHost: a\n", Fault::BareLf);
    check(b"GET /a HTTP/1.1\nHost: a\n\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n", Fault::BareLf);
    check(b"GET / HTTP/1.1\r\nHost: a\r\n\nGET /admin HTTP/1.1\r\n\r\n", Fault::BareLf);
    check(&[&b"GET /"[..], &[b'x'; 20_000]].concat(), Fault::UriTooLong);
    check(&[&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 40_000]].concat(), Fault::HeadTooLarge);
    assert_eq!(request_fault(b"GET / HTTP/1.1\r\nHost: a\r\n"), None);
    assert_eq!(request_fault(b""), None);
}

#[test]
fn other_protocols_are_refused_at_their_first_byte() {
    for bad in
        [&b"\x16\x03\x01\x02\x00"[..], b"\0", b"{\"model\":1}", b"\x80\x9e\x01", b"SSH-2.0-OpenSSH_9\r\n", b"\xff"]
    {
        assert!(request_fault(bad).is_some(), "{}", bad.escape_ascii());
    }
}

#[test]
fn paths_are_read_one_way_or_refused() {
    let check = |path: &str, expected| check_line(&format!("GET {path} HTTP/1.1"), expected);
    for path in [
        "/v1/chat/completions",
        "/a/",
        "/a.b/..c/...",
        "/.well-known/x",
        "/a;v=1",
        "/m:predict",
        "/a@b,c",
        "/%20",
        "/%E6%97%A5",
        "/v1/models/meta-llama%2FLlama-3",
        "/a%3Fb",
        "/a%25b",
    ] {
        check(path, Ok(path));
    }
    for path in [
        "/..",
        "/.",
        "/a/..",
        "/a/.",
        "/a/../b",
        "/./a",
        "/a/./b",
        "/../../etc/passwd",
        "//",
        "//a",
        "/a//b",
        "/a//",
        "/a/../",
        "/%2e%2e/a",
        "/%2E/a",
        "/a/%2e%2e",
        "/.%2e/a",
        "/a\\b",
        "/a%5cb",
        "/a%5Cb",
        "/a%00",
        "/%0d%0aX:y",
        "/%1f",
        "/%7f",
        "/%61",
        "/%7E",
        "/%",
        "/%2",
        "/%zz",
        "/%c0%af",
        "/%c0%ae%c0%ae/",
        "/%ff",
        "/%e6%97",
        "/%ed%a0%80",
        "/a#b",
        "/#",
        "/a|b",
        "/{a}",
        "/a\"b",
        "/<a>",
        "/a^b",
        "/`",
        "/[",
        "/\u{e9}",
        "/a\u{0}",
        "/a\u{7f}",
        "/a\u{1}",
    ] {
        check(path, Err(400));
    }
}

#[test]
fn an_encoded_slash_is_reported() {
    assert!(request(b"GET /v1/models/a%2fb HTTP/1.1\r\nHost: a\r\n\r\n").encoded_slash);
    assert!(!request(b"GET /v1/models/a?b=%2f HTTP/1.1\r\nHost: a\r\n\r\n").encoded_slash);
}

#[test]
fn queries() {
    let input = b"GET /a?x=/../%00[]{}|\\^`?y HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = request(input);
    assert_eq!(head.query.map(|q| q.of(input)), Some(&b"x=/../%00[]{}|\\^`?y"[..]));
    assert_eq!(request(b"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n").query.map(|q| q.is_empty()), Some(true));
    assert_eq!(request(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").query, None);
    for query in ["b#c", "\"", "<", ">", "a\u{7f}", "\u{1}"] {
        check_line(&format!("GET /a?{query} HTTP/1.1"), Err(400));
    }
    check_line("GET /a?\u{e9} HTTP/1.1", Err(400));
}

#[test]
fn absolute_targets_replace_host() {
    let check = |target: &str, expected: Result<(&str, &str), u16>| {
        let input = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
        let got = parse_request(input.as_bytes(), &HeadLimits::default()).map_err(|bad| bad.status);
        let got = got.map(|head| {
            let head = head.expect("a whole head");
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            (text(head.host(input.as_bytes()).expect("a host")), text(head.path.of(input.as_bytes())))
        });
        assert_eq!(got.as_ref().map(|(h, p)| (h.as_str(), p.as_str())).map_err(|s| *s), expected, "{target}");
    };
    check("http://h:81/x?y", Ok(("h:81", "/x")));
    check("HTTPS://h/", Ok(("h", "/")));
    check("http://h", Ok(("h", "/")));
    check("http://h?q", Ok(("h", "/")));
    check("http://[::1]:80/x", Ok(("[::1]:80", "/x")));
    for target in [
        "http:///x",
        "http://",
        "http://u@h/",
        "http://h:x/",
        "ftp://h/",
        "h:80",
        "x",
        "http:/h",
        "http://h/../x",
        "http://h//x",
    ] {
        check(target, Err(400));
    }
}

#[test]
fn hosts() {
    let check = |fields: &str, fault: Option<Fault>| {
        let input = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(request_fault(input.as_bytes()), fault, "{fields:?}");
    };
    for host in ["a", "a.b-c_d:80", "127.0.0.1:65535", "[::1]", "[2001:db8::1]:8080", "[::ffff:1.2.3.4]"] {
        check(&format!("Host: {host}\r\n"), None);
    }
    for host in [
        "",
        " ",
        "a b",
        "a,b",
        "u@a",
        "a:",
        "a:x",
        "a:65536",
        "a:99999999",
        "a:-1",
        "a:1:2",
        ":80",
        "[::1",
        "::1",
        "[a]",
        "[]",
        "a/b",
        "a?b",
        "a#b",
        "a%41",
        "a\\b",
        "\u{e9}",
        "[::1]x",
        "<a>",
    ] {
        check(&format!("Host: {host}\r\n"), Some(Fault::BadHost));
    }
    check("X: y\r\n", Some(Fault::MissingHost));
    check("Host: a\r\nHost: a\r\n", Some(Fault::DuplicateField));
    check("Host: a\r\nhOST: b\r\n", Some(Fault::DuplicateField));
    assert_eq!(request(b"GET / HTTP/1.0\r\n\r\n").host(b""), None);
    assert_eq!(request_fault(b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n"), Some(Fault::BadHost));
}
