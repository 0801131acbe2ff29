//! Rows 9, 15, 16 and 18, and the engines as they are.

use super::*;

fn check(input: &str, expected: Result<(ResponseFraming, bool), Fault>) {
    let got = parse_response(input.as_bytes(), &HeadLimits::default(), false);
    let got = got.map(|head| head.expect("a whole head")).map_err(|bad| bad.reason);
    assert_eq!(got.map(|head| (head.framing, head.keep_alive)), expected, "{input:?}");
}

#[test]
fn a_usual_head_is_understood() {
    let input = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n5\r\n";
    let head = response(input);
    assert_eq!(&input[head.len as usize..], b"5\r\n");
    assert_eq!((head.status, head.reason.of(input), head.interim), (200, &b"OK"[..], false));
    assert_eq!((head.framing, head.keep_alive), (ResponseFraming::Chunked, true));
    assert_eq!(head.known(input, Known::ContentType), Some(&b"text/event-stream; charset=utf-8"[..]));
    assert_eq!(head.header(input, "server"), Some(&b"uvicorn"[..]));
}

#[test]
fn framing_and_reuse() {
    use ResponseFraming::*;
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((Length(5), true)));
    check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", Ok((Length(5), false)));
    check("HTTP/1.1 200 OK\r\nConnection: Keep-Alive\r\n\r\n", Ok((UntilClose, false)));
    check("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Ok((Length(5), false)));
    check("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", Ok((Length(5), true)));
    check("HTTP/1.0 200 OK\r\n\r\n", Ok((UntilClose, false)));
    // Triton answers an HTTP/1.0 client so.
    check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", Ok((Chunked, false)));
    check("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", Ok((None, false)));
    check("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", Ok((None, true)));
    check("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", Ok((None, false)));
    check("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Ok((None, true)));
    check("HTTP/1.1 304 Not Modified\r\n\r\n", Ok((None, true)));
    check("HTTP/1.1 100 Continue\r\n\r\n", Ok((None, true)));
}

#[test]
fn answers_to_head_have_no_body() {
    for fields in ["Content-Length: 30\r\n", "Transfer-Encoding: chunked\r\n", ""] {
        let input = format!("HTTP/1.1 405 Not Allowed\r\n{fields}\r\n");
        let head = parse_response(input.as_bytes(), &HeadLimits::default(), true).expect("valid").expect("whole");
        assert_eq!((head.framing, head.keep_alive), (ResponseFraming::None, true), "{fields:?}");
        assert_eq!(head.content_length, fields.contains("30").then_some(30));
    }
}

#[test]
fn status_lines() {
    let reason = |input: &str| response(input.as_bytes()).reason.of(input.as_bytes()).to_vec();
    assert_eq!(reason("HTTP/1.1 200 OK then\t\u{e9}\r\n\r\n"), "OK then\t\u{e9}".as_bytes());
    assert_eq!(reason("HTTP/1.1 200 \r\n\r\n"), b"");
    assert_eq!(reason("HTTP/1.1 200\r\n\r\n"), b"");
    for (line, fault) in [
        ("HTTP/1.1 099 X", Fault::BadStatus),
        ("HTTP/1.1 000 X", Fault::BadStatus),
        ("HTTP/1.1 600 X", Fault::BadStatus),
        ("HTTP/1.1 999 X", Fault::BadStatus),
        ("HTTP/1.1 101 Switching Protocols", Fault::UnaskedSwitch),
        ("HTTP/1.1 20 OK", Fault::BadStatusLine),
        ("HTTP/1.1 2000 OK", Fault::BadStatusLine),
        ("HTTP/1.1 2x0 OK", Fault::BadStatusLine),
        ("HTTP/1.1 +20 OK", Fault::BadStatusLine),
        ("HTTP/1.1  200 OK", Fault::BadStatusLine),
        ("HTTP/1.1\t200 OK", Fault::BadStatusLine),
        ("HTTP/1.1 200OK", Fault::BadStatusLine),
        ("HTTP/1.1 200\tOK", Fault::BadStatusLine),
        ("HTTP/1.1 200 O\0K", Fault::BadStatusLine),
        ("HTTP/1.1 200 O\rK", Fault::BadStatusLine),
        ("HTTP/1.1 200 O\nK", Fault::BareLf),
        ("HTTP/1.1", Fault::BadStatusLine),
        ("HTTP/1.2 200 OK", Fault::BadVersion),
        ("HTTP/2.0 200 OK", Fault::BadVersion),
        ("http/1.1 200 OK", Fault::BadStatusLine),
        ("ICY 200 OK", Fault::BadStatusLine),
        ("", Fault::BadStatusLine),
        (" HTTP/1.1 200 OK", Fault::BadStatusLine),
    ] {
        assert_eq!(response_fault(format!("{line}\r\n\r\n").as_bytes()), Some(fault), "{line:?}");
    }
    for banner in [&b"S"[..], b"\r\n", b"HTTP/2", b"\0", b"5\r\nhello"] {
        assert!(response_fault(banner).is_some(), "{}", banner.escape_ascii());
    }
    assert_eq!(parse_response(b"HTTP/1", &HeadLimits::default(), false).map(|head| head.is_some()), Ok(false));
}

#[test]
fn doubtful_heads_are_refused() {
    let check = |fields: &str, fault| check(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), Err(fault));
    check("Content-Length: 5\r\nContent-Length: 6\r\n", Fault::DuplicateField);
    check("Content-Length: 5\r\nContent-Length: 5\r\n", Fault::DuplicateField);
    check("Content-Length: 5, 6\r\n", Fault::BadContentLength);
    check("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Fault::LengthAndCoding);
    check("Content-Length: -1\r\n", Fault::BadContentLength);
    check("Content-Length: 18446744073709551621\r\n", Fault::BadContentLength);
    check("Transfer-Encoding: gzip, chunked\r\n", Fault::UnknownCoding);
    check("X: a\0\r\n", Fault::BadValue);
    check("X: a\rSet-Cookie: b\r\n", Fault::BadValue);
    check("X: a\nSet-Cookie: b\r\n", Fault::BareLf);
    check("X: a\r\n b\r\n", Fault::FoldedLine);
    check("X : a\r\n", Fault::BadName);
    check(": a\r\n", Fault::BadName);
    check(&"X: y\r\n".repeat(101), Fault::TooManyFields);
    check(&format!("X: {}\r\n", "y".repeat(40_000)), Fault::HeadTooLarge);
    assert_eq!(
        response_fault(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Some(Fault::LengthAndCoding)
    );
}

#[test]
fn underscores_mean_nothing_in_responses() {
    check(
        "HTTP/1.1 200 OK\r\nts_stream_next: true\r\nContent_Length: 9\r\nContent-Length: 0\r\n\r\n",
        Ok((ResponseFraming::Length(0), true)),
    );
}

#[test]
fn interim_heads_come_before_the_final_one() {
    let input = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut seen = Vec::new();
    let mut at = 0;
    while at < input.len() {
        let head = response(&input[at..]);
        at += head.len as usize;
        seen.push((head.status, head.interim));
    }
    assert_eq!(seen, [(100, true), (103, true), (200, false)]);
}
