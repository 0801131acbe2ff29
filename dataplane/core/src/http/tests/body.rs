//! Rows 5, 6 and 18: chunks, and the other framings through the same reader.

use super::*;

/// Scans at once; the data, what is left over, whether all may pass as it is, or what is wrong.
fn check(input: &[u8], expected: Result<(&[u8], &[u8], bool), ChunkFault>) {
    let mut chunks = ChunkScanner::new(100);
    let mut data = Vec::new();
    let got = chunks.scan(input, |piece| data.extend_from_slice(piece)).map_err(|bad| bad.reason);
    let got = got.map(|scan| {
        assert!(scan.done, "{}", input.escape_ascii());
        (&data[..], &input[scan.consumed..], scan.verbatim)
    });
    assert_eq!(got, expected, "{}", input.escape_ascii());
}

#[test]
fn good_chunks() {
    check(b"0\r\n\r\n", Ok((b"", b"", true)));
    check(b"5\r\nhello\r\n0\r\n\r\nGET", Ok((b"hello", b"GET", true)));
    check(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Ok((b"01234567890123456789", b"", true)));
    check(b"2\r\n\r\n\r\n0\r\n\r\n", Ok((b"\r\n", b"", true)));
}

#[test]
fn what_is_legal_but_does_not_pass() {
    for input in [
        &b"05\r\nhello\r\n0\r\n\r\n"[..],
        b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n",
        b"5;a\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0;last\r\n\r\n",
        b"5 ; a = b ;c=\"d\\\"\t\xe9;\" ; e\r\nhello\r\n0\r\n\r\n",
        b"5;a=\"\"\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nX:\r\nContent-Length: 7\r\nHost:b\r\n\r\n",
    ] {
        check(input, Ok((b"hello", b"", false)));
        let mut out = Vec::new();
        ChunkScanner::new(100).rewrite(input, &mut out).expect("it was legal");
        assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n", "{}", input.escape_ascii());
    }
}

#[test]
fn sizes() {
    for input in [
        &b"\r\n"[..],
        b"\r\n\r\n",
        b"x\r\n",
        b"+5\r\n",
        b"-5\r\n",
        b" 5\r\n",
        b"\t5\r\n",
        b"0x5\r\n",
        b"5_0\r\n",
        b"5h\r\n",
        b"5,\r\n",
        b"5.\r\n",
        b"5\0\r\n",
        b"\n5\r\n",
        b";a\r\n",
        b"00000000000000005\r\n",
        b"00000000000000000\r\n",
        b"8000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"10000000000000005\r\n",
        b"\xef\xbc\x95\r\n",
        b"G\r\n",
    ] {
        check(input, Err(ChunkFault::BadSize));
    }
    let mut largest = ChunkScanner::new(100);
    assert_eq!(largest.scan(b"7fffffffffffffff\r\n", |_| ()).map(|scan| scan.consumed), Ok(18));
}

#[test]
fn line_ends() {
    for input in [
        &b"5\nhello\r\n"[..],
        b"5\r\rhello",
        b"5\rhello",
        b"0\r\n\r\r",
        b"0\r\n\rX",
        b"5;a\r\rhello",
        b"0\n\n",
        b"5\r\r\nhello",
    ] {
        check(input, Err(ChunkFault::BadLineEnd));
    }
    for input in [
        &b"5\r\nhelloX\r\n"[..],
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\rX",
        b"5\r\nhello0\r\n\r\n",
        b"4\r\nhello\r\n",
        b"5\r\nhello\r\r\n",
    ] {
        check(input, Err(ChunkFault::DataOverrun));
    }
}

#[test]
fn extensions() {
    for input in [
        &b"5;\r\n"[..],
        b"5;;a\r\n",
        b"5 \r\n",
        b"5\t\r\n",
        b"5 a\r\n",
        b"5;a \r\n",
        b"5;a=\r\n",
        b"5;a=;\r\n",
        b"5;=b\r\n",
        b"5;a\n",
        b"5;a=b c\r\n",
        b"5;a=\"b\r\n",
        b"5;a=\"b\"c\r\n",
        b"5;a=\"\n\"\r\n",
        b"5;a\0\r\n",
        b"5;a=\"\\\r\n",
        b"5;a=b\nxx\r\n",
        b"5;\xe9\r\n",
        b"5;a=b=c\r\n",
        b"5;a=\"b\" \r\n",
    ] {
        check(input, Err(ChunkFault::BadExtension));
    }
    let sized = |n: usize| [b"5;".to_vec(), vec![b'a'; n - 1], b"\r\nhello\r\n0\r\n\r\n".to_vec()].concat();
    check(&sized(4096), Ok((b"hello", b"", false)));
    check(&sized(4097), Err(ChunkFault::ExtensionsTooLarge));
    check(&sized(1 << 20), Err(ChunkFault::ExtensionsTooLarge));
    check(&[&b"1;aa\r\nx\r\n".repeat(1_366)[..], b"0\r\n\r\n"].concat(), Err(ChunkFault::ExtensionsTooLarge));
}

#[test]
fn trailers() {
    for line in [" x", "x", "x y: z", ": z", "x: \0", "x: a\rb", "x: a\n", "x\u{e9}: y", "x: y\r\n z"] {
        check(format!("0\r\n{line}\r\n\r\n").as_bytes(), Err(ChunkFault::BadTrailer));
    }
    let sized = |n: usize| format!("0\r\nX: {}\r\n\r\n", "y".repeat(n - 5));
    check(sized(100).as_bytes(), Ok((b"", b"", false)));
    check(sized(101).as_bytes(), Err(ChunkFault::TrailersTooLarge));
    check(format!("0\r\n{}\r\n", "X:\r\n".repeat(26)).as_bytes(), Err(ChunkFault::TrailersTooLarge));
    check(b"0\r\n\n", Err(ChunkFault::BadTrailer));
}

#[test]
fn a_cut_body_is_not_done() {
    let whole = b"5\r\nhello\r\n0\r\n\r\n";
    for len in 0..whole.len() {
        let mut body = BodyReader::Chunked(ChunkScanner::new(100));
        let scan = body.scan(&whole[..len], |_| ()).expect("a prefix of a good body");
        assert_eq!((scan.consumed, scan.done, body.ends_at_close()), (len, false, false), "{len}");
    }
}

#[test]
fn other_framings_count_the_same_way() {
    let check = |mut body: BodyReader, input: &[u8], expected: (usize, bool, bool)| {
        let mut copy = body.clone();
        let mut data = Vec::new();
        let mut out = Vec::new();
        let scan = body.scan(input, |piece| data.extend_from_slice(piece)).expect("nothing to break");
        assert_eq!((scan.consumed, scan.done, body.ends_at_close()), expected);
        assert_eq!(copy.rewrite(input, &mut out), Ok(scan));
        assert_eq!((&data[..], &out[..]), (&input[..scan.consumed], &input[..scan.consumed]));
    };
    let limits = HeadLimits::default();
    check(BodyReader::request(RequestFraming::None, &limits), b"GET", (0, true, true));
    check(BodyReader::request(RequestFraming::Length(0), &limits), b"GET", (0, true, true));
    check(BodyReader::request(RequestFraming::Length(5), &limits), b"helloGET", (5, true, true));
    check(BodyReader::response(ResponseFraming::Length(5), &limits), b"hell", (4, false, false));
    check(BodyReader::response(ResponseFraming::UntilClose, &limits), b"anything", (8, false, true));
    check(BodyReader::response(ResponseFraming::None, &limits), b"HTTP", (0, true, true));
}
