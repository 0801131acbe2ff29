//! Rows 1, 3, 4, 7, 8, 11 and 13: fields and framing of requests.

use super::*;

fn check(lines: &str, expected: Result<RequestFraming, Fault>) {
    let input = with_fields(lines);
    let got = parse_request(input.as_bytes(), &HeadLimits::default());
    let got = got.map(|head| head.expect("a whole head").framing).map_err(|bad| bad.reason);
    assert_eq!(got, expected, "{lines:?}");
}

#[test]
fn a_usual_head_is_understood() {
    let input = b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: gw:8080\r\nContent-Type:application/json \r\n\
        authorization: Bearer k\r\nX-Request-Id: \t r-1\t\r\nAccept-Encoding: gzip\r\nContent-Length: 12\r\nX-Empty:\r\n\r\nrest";
    let head = request(input);
    assert_eq!(&input[head.len as usize..], b"rest");
    assert_eq!((head.method, head.version, head.framing), (Method::Post, Version::Http11, RequestFraming::Length(12)));
    assert_eq!((head.keep_alive, head.expect_continue, head.fields.len()), (true, false, 7));
    assert_eq!(head.known(input, Known::ContentType), Some(&b"application/json"[..]));
    assert_eq!(head.known(input, Known::Authorization), Some(&b"Bearer k"[..]));
    assert_eq!(head.known(input, Known::RequestId), Some(&b"r-1"[..]));
    assert_eq!(head.known(input, Known::AcceptEncoding), Some(&b"gzip"[..]));
    assert_eq!(head.known(input, Known::Traceparent), None);
    assert_eq!(head.host(input), Some(&b"gw:8080"[..]));
    assert_eq!(head.header(input, "x-empty"), Some(&b""[..]));
    assert_eq!(head.header(input, "x-none"), None);
    assert_eq!(head.query.map(|q| q.of(input)), Some(&b"x=1"[..]));
}

#[test]
fn framing_does_not_depend_on_the_method() {
    for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "PURGE"] {
        let input = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(request(input.as_bytes()).framing, RequestFraming::Length(3), "{method}");
    }
    check("", Ok(RequestFraming::None));
}

#[test]
fn content_length_is_one_number() {
    let check_length = |value: &str, expected| check(&format!("Content-Length: {value}\r\n"), expected);
    for (value, n) in [("0", 0), ("5", 5), ("\t5 ", 5), ("007", 7), ("9223372036854775807", i64::MAX as u64)] {
        check_length(value, Ok(RequestFraming::Length(n)));
    }
    for value in [
        "",
        "+5",
        "-0",
        "-1",
        "0x5",
        "5.0",
        "5e0",
        "1_0",
        "5,5",
        "5, 5",
        "5 5",
        "five",
        "\u{ff15}",
        "\u{0665}",
        "5;",
        "\"5\"",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999",
        "00000000000000000005",
        "5\u{a0}",
    ] {
        check_length(value, Err(Fault::BadContentLength));
    }
    check_length("5\0", Err(Fault::BadValue));
    check_length("4294967301", Ok(RequestFraming::Length(4_294_967_301)));
    check("Content-Length: 5\r\nContent-Length: 5\r\n", Err(Fault::DuplicateField));
    check("Content-Length: 5\r\ncontent-length: 6\r\n", Err(Fault::DuplicateField));
    check("Content-Length: 5\r\n 6\r\n", Err(Fault::FoldedLine));
    check("Content_Length: 5\r\n", Err(Fault::ConfusingName));
    check("Content-Length : 5\r\n", Err(Fault::BadName));
}

#[test]
fn length_and_chunks_exclude_each_other() {
    check("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", Err(Fault::LengthAndCoding));
    check("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Fault::LengthAndCoding));
    check(
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        Err(Fault::LengthAndCoding),
    );
}

#[test]
fn names_and_values_keep_to_the_grammar() {
    check("X-A: \u{e9}\u{1f600}\tb c\r\nx!#$%&'*+.^_`|~1: y\r\n", Ok(RequestFraming::None));
    for line in [
        ": x",
        "X Y: z",
        "X : y",
        "X\t: y",
        "X",
        "X(: y",
        "X\u{e9}: y",
        "\0: y",
        "X\0: y",
        "X\r: y",
        "{}: y",
        "\"x\": y",
        "x@y: z",
    ] {
        check(&format!("{line}\r\n"), Err(Fault::BadName));
    }
    for value in
        ["\0", "a\0b", "\u{1}", "a\u{8}", "\u{b}", "\u{c}", "\u{1b}[0m", "\u{7f}", "a\rb", "\r", "12345678\u{1f}"]
    {
        check(&format!("X: {value}\r\n"), Err(Fault::BadValue));
    }
    check("X: a\r\n b\r\n", Err(Fault::FoldedLine));
    check("X: a\r\n\tb\r\n", Err(Fault::FoldedLine));
    check("X: a\nY: b\r\n", Err(Fault::BareLf));
    check("X: a\n\r\n", Err(Fault::BareLf));
}

#[test]
fn every_control_byte_is_found_at_every_place() {
    for place in 0..24 {
        for control in (0..32).chain([127]) {
            let mut value = vec![b'v'; 24];
            value[place] = control;
            let found = grammar::find_control(&value, 0);
            assert_eq!(found, if control == b'\t' { 24 } else { place }, "{control} at {place}");
        }
    }
    assert_eq!(grammar::find_control(&[0x80; 40], 3), 40);
}

#[test]
fn underscores_may_not_imitate_trusted_names() {
    for name in [
        "content_length",
        "Transfer_Encoding",
        "X_Forwarded_For",
        "x-forwarded_for",
        "X_FORWARDED_HOST",
        "x_request_id",
        "x_api_key",
        "x_real_ip",
        "keep_alive",
        "proxy_authorization",
        "content_type",
        "accept_encoding",
        "x_data_parallel_rank",
        "x_kthena_endpoint",
    ] {
        check(&format!("{name}: 1\r\n"), Err(Fault::ConfusingName));
    }
    check("my_field: 1\r\n_: 2\r\nx_stainless_lang: 3\r\n", Ok(RequestFraming::None));
}

#[test]
fn connection_decides_what_is_kept_alive() {
    let check = |version: &str, connection: &str, expected: bool| {
        let input = format!("GET / {version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(request(input.as_bytes()).keep_alive, expected, "{version} {connection:?}");
    };
    check("HTTP/1.1", "", true);
    check("HTTP/1.1", "Connection: close\r\n", false);
    check("HTTP/1.1", "Connection: x, CLOSE ,,\r\n", false);
    check("HTTP/1.1", "Connection: keep-alive\r\nConnection: close\r\n", false);
    check("HTTP/1.0", "", false);
    check("HTTP/1.0", "Connection: Keep-Alive\r\n", true);
    check("HTTP/1.0", "Connection: keep-alive, close\r\n", false);
    for bad in ["a b", "\"close\"", "a;b", &["x"; 33].join(",")] {
        assert_eq!(
            request_fault(with_fields(&format!("Connection: {bad}\r\n")).as_bytes()),
            Some(Fault::BadConnection),
            "{bad}"
        );
    }
}

#[test]
fn expectations() {
    let expects = |input: &[u8]| request(input).expect_continue;
    assert!(expects(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n"));
    assert!(expects(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"));
    assert!(!expects(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n"));
    assert!(!expects(b"POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"));
    for value in ["", "200-ok", "100-continue, x", "100 continue", "100-continued"] {
        check(&format!("Content-Length: 5\r\nExpect: {value}\r\n"), Err(Fault::BadExpect));
    }
    check("Expect: 100-continue\r\n x\r\n", Err(Fault::FoldedLine));
    check("Expect: 100-continue\r\nExpect: 100-continue\r\n", Err(Fault::DuplicateField));
}

#[test]
fn two_readings_of_one_fact_are_refused() {
    check("Content-Type: a/b\r\ncontent-type: c/d\r\n", Err(Fault::DuplicateField));
    check("Authorization: a\r\nAuthorization: b\r\n", Err(Fault::DuplicateField));
    check("Accept: a\r\nAccept: b\r\n", Ok(RequestFraming::None));
}

#[test]
fn limits_are_exact() {
    let limits = HeadLimits { head_bytes: 200, fields: 3, uri_bytes: 50 };
    let check = |input: String, expected: Result<bool, u16>| {
        let got = parse_request(input.as_bytes(), &limits).map(|head| head.is_some()).map_err(|bad| bad.status);
        assert_eq!(got, expected, "{input:?}");
    };
    let padded = |total: usize| {
        let fixed = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(total - fixed))
    };
    check(padded(200), Ok(true));
    check(padded(201), Err(431));
    check(padded(5_000), Err(431));
    check(padded(200)[..199].to_owned(), Ok(false));
    check(padded(5_000)[..200].to_owned(), Err(431));
    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
    check(target(50), Ok(true));
    check(target(51), Err(414));
    check(target(150), Err(414));
    check(target(100)[..100].to_owned(), Err(414));
    let fields = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(n - 1));
    check(fields(3), Ok(true));
    check(fields(4), Err(431));
    let name = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "n".repeat(65_536));
    assert_eq!(request_fault(name.as_bytes()), Some(Fault::HeadTooLarge));
    let name = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: x\r\n\r\n", "n".repeat(257));
    assert_eq!(request_fault(name.as_bytes()), Some(Fault::NameTooLong));
    let many = HeadLimits { fields: 60_000, head_bytes: 1 << 20, ..limits };
    let flood = fields(300);
    assert_eq!(parse_request(flood.as_bytes(), &many).map_err(|bad| bad.status).err(), Some(431));
}

#[test]
fn heads_stay_small() {
    assert_eq!(size_of::<Field>(), 16);
    assert!(size_of::<RequestHead>() <= 640, "{}", size_of::<RequestHead>());
    assert!(size_of::<BodyReader>() <= 32, "{}", size_of::<BodyReader>());
}

#[test]
fn errors_say_what_and_where() {
    let bad = parse_request(with_fields("X: a\0\r\n").as_bytes(), &HeadLimits::default()).expect_err("a NUL");
    assert_eq!(bad.to_string(), "a field value holds a control character (byte 44 of the request head)");
    let labels: std::collections::HashSet<_> = Fault::ALL.iter().map(|fault| fault.label()).collect();
    assert_eq!(labels.len(), Fault::ALL.len());
    assert!(Fault::ALL.iter().all(|fault| (400..600).contains(&fault.status())));
}
