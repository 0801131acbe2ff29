//! Row 2: spellings of Transfer-Encoding that some server, somewhere, takes for `chunked`.

use super::*;

/// Field lines (without the last CRLF) and the status that refuses them.
const SPELLINGS: &[(&str, u16)] = &[
    ("Transfer-Encoding: xchunked", 501),
    ("Transfer-Encoding: chunkedx", 501),
    ("Transfer-Encoding: identity", 501),
    ("Transfer-Encoding: gzip", 501),
    ("Transfer-Encoding: gzip, chunked", 501),
    ("Transfer-Encoding: identity, chunked", 501),
    ("Transfer-Encoding: cow", 501),
    ("Transfer-Encoding: chunk", 501),
    ("Transfer-Encoding: chunked-", 501),
    ("Transfer-Encoding: 'chunked'", 501),
    ("Transfer-Encoding: chunked, identity", 400),
    ("Transfer-Encoding: chunked, gzip", 400),
    ("Transfer-Encoding: chunked, chunked", 400),
    ("Transfer-Encoding: chunked,", 400),
    ("Transfer-Encoding: ,chunked", 400),
    ("Transfer-Encoding: , chunked ,", 400),
    ("Transfer-Encoding:", 400),
    ("Transfer-Encoding: \"chunked\"", 400),
    ("Transfer-Encoding: chunked;q=1", 400),
    ("Transfer-Encoding: chunked; foo", 400),
    ("Transfer-Encoding: chun ked", 400),
    ("Transfer-Encoding: chunked chunked", 400),
    ("Transfer-Encoding: chunked\u{a0}", 400),
    ("Transfer-Encoding: \u{a0}chunked", 400),
    ("Transfer-Encoding: \u{ff43}hunked", 400),
    ("Transfer-Encoding: chun\u{212a}ed", 400),
    ("Transfer-Encoding: \u{b}chunked", 400),
    ("Transfer-Encoding: chunked\u{c}", 400),
    ("Transfer-Encoding: \0chunked", 400),
    ("Transfer-Encoding: chunked\0", 400),
    ("Transfer-Encoding: chunked\u{7f}", 400),
    ("Transfer-Encoding: ch\runked", 400),
    ("Transfer-Encoding: \nchunked", 400),
    ("Transfer-Encoding: \r\n chunked", 400),
    ("Transfer-Encoding:\r\n\tchunked", 400),
    ("Transfer-Encoding : chunked", 400),
    ("Transfer-Encoding\t: chunked", 400),
    (" Transfer-Encoding: chunked", 400),
    ("X: y\r\n Transfer-Encoding: chunked", 400),
    ("X: y\rTransfer-Encoding: chunked", 400),
    ("X: y\nTransfer-Encoding: chunked", 400),
    ("X\nTransfer-Encoding: chunked", 400),
    ("Transfer_Encoding: chunked", 400),
    ("transfer_encoding: chunked", 400),
    ("Transfer\u{2010}Encoding: chunked", 400),
    ("Transfer Encoding: chunked", 400),
    ("Transfer-Encoding\0: chunked", 400),
    ("Transfer-Encoding= chunked", 400),
    ("Transfer-Encoding; chunked", 400),
    ("Transfer-Encoding chunked", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 400),
    ("Transfer-Encoding: chunked\r\ntRANSFER-eNCODING: gzip", 400),
    ("Transfer-Encoding:\r\nTransfer-Encoding: chunked", 400),
];

#[test]
fn only_one_spelling_is_chunked() {
    for value in ["chunked", "Chunked", "CHUNKED", "  \t chunked \t"] {
        let head = with_fields(&format!("Transfer-Encoding:{value}\r\n"));
        assert_eq!(request(head.as_bytes()).framing, RequestFraming::Chunked, "{value:?}");
    }
}

#[test]
fn every_other_spelling_is_refused() {
    assert!(SPELLINGS.len() >= 38);
    for (lines, status) in SPELLINGS {
        let alone = with_fields(&format!("{lines}\r\n"));
        let bad = parse_request(alone.as_bytes(), &HeadLimits::default()).expect_err(lines);
        assert_eq!(bad.status, *status, "{lines:?}: {bad}");
    }
}

#[test]
fn with_a_length_every_spelling_is_400() {
    let chunked = ("Transfer-Encoding: chunked", 400);
    for (lines, _) in SPELLINGS.iter().chain([&chunked]) {
        for length in ["0", "5", "12"] {
            for both in
                [format!("Content-Length: {length}\r\n{lines}\r\n"), format!("{lines}\r\nContent-Length: {length}\r\n")]
            {
                let head = with_fields(&both);
                let bad = parse_request(head.as_bytes(), &HeadLimits::default()).expect_err(lines);
                assert_eq!(bad.status, 400, "{both:?}: {bad}");
            }
        }
    }
}

#[test]
fn no_upstream_may_spell_it_either() {
    for (lines, _) in SPELLINGS.iter().filter(|(lines, _)| !lines.contains('_')) {
        let head = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        parse_response(head.as_bytes(), &HeadLimits::default(), false).expect_err(lines);
    }
}

#[test]
fn http_1_0_has_no_chunks_in_requests() {
    let head = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(request_fault(head), Some(Fault::OldTransferEncoding));
}
