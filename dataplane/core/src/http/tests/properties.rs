//! What holds for all inputs: no panic, no dependence on how bytes were cut, and agreement with a second parser.
//! A failure prints its seed and the smallest input (proptest).

use super::*;
use proptest::prelude::*;

/// Pieces that meet each other in real and in hostile heads; joined at random they are near the grammar, often inside.
const PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /v1/x?y HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 204 \r\n",
    "Host: a\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close, x\r\n",
    "X: y\r\n",
    "x-long-name-of-a-field: and its value\r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "\r",
    "\n",
    " ",
    "\t",
    ":",
    "\0",
    "5",
    "\u{e9}",
    "Expect: 100-continue\r\n",
    "Content_Length: 5\r\n",
    "HTTP/1.",
    "GET",
    "http://h/",
];
const CHUNK_PIECES: &[&str] = &[
    "5\r\nhello\r\n",
    "5\r\nhello\r\n",
    "1\r\n",
    "a",
    "\r\n",
    "\r\n",
    "0",
    "00",
    "0\r\n",
    "0\r\n\r\n",
    "5",
    ";a",
    ";a=b",
    "=\"q\\\"\"",
    " ",
    "X: y\r\n",
    "\r",
    "\n",
    "5;x\r\nhello\r\n",
    "005\r\nhello\r\n",
    "hello",
    "f",
    "\0",
];

fn joined(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(pieces), 0..14).prop_map(|all| all.concat().into_bytes())
}

/// A head that is good but for chance, so that most of them are read to their end.
fn likely_heads(first: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let field = ("[A-Za-z][A-Za-z0-9-]{0,12}", "[ -~\t]{0,30}").prop_map(|(name, value)| format!("{name}:{value}\r\n"));
    prop::collection::vec(field, 0..10).prop_map(move |fields| format!("{first}{}\r\n", fields.concat()).into_bytes())
}

fn hostile(pieces: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => joined(pieces), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn heads() -> impl Strategy<Value = Vec<u8>> {
    let request = likely_heads("POST /v1/x?y=z HTTP/1.1\r\nHost: a\r\n");
    prop_oneof![2 => hostile(PIECES), 2 => request, 1 => likely_heads("HTTP/1.1 200 OK\r\n")]
}

/// Feeds a growing buffer in pieces of the given lengths, then the rest; the first answer that is not "more".
fn in_pieces<T, E>(
    input: &[u8],
    cuts: &[usize],
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let mut shown = 0;
    for cut in cuts.iter().copied().chain([input.len()]) {
        shown = input.len().min(shown + cut);
        match parse(&input[..shown]) {
            Ok(None) => {}
            answer => return answer,
        }
    }
    Ok(None)
}

/// Everything a scan of a body says, with its data.
#[derive(Debug, PartialEq)]
struct Seen {
    data: Vec<u8>,
    clean: Vec<u8>,
    consumed: usize,
    end: Result<bool, ChunkFault>,
}

/// Scans in pieces, forwarding verbatim where that is allowed and rewriting where not, as a relay does.
fn relayed(input: &[u8], cuts: &[usize]) -> Seen {
    let mut chunks = ChunkScanner::new(50);
    let mut seen = Seen { data: Vec::new(), clean: Vec::new(), consumed: 0, end: Ok(false) };
    for cut in cuts.iter().copied().chain([input.len()]) {
        let piece = &input[seen.consumed..input.len().min(seen.consumed + cut)];
        let mut before = chunks.clone();
        match chunks.scan(piece, |data| seen.data.extend_from_slice(data)) {
            Err(bad) => {
                seen.end = Err(bad.reason);
                seen.consumed += bad.at;
                // How much was forwarded before the fault depends on the cuts; nothing more is.
                seen.clean.clear();
                return seen;
            }
            Ok(scan) => {
                if scan.verbatim {
                    seen.clean.extend_from_slice(&piece[..scan.consumed]);
                } else {
                    assert_eq!(before.rewrite(piece, &mut seen.clean), Ok(scan));
                }
                seen.consumed += scan.consumed;
                seen.end = Ok(scan.done);
                if scan.done {
                    return seen;
                }
            }
        }
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn request_heads_do_not_depend_on_the_cuts(input in heads(), cuts in prop::collection::vec(0usize..9, 0..300)) {
        let limits = HeadLimits { head_bytes: 150, fields: 6, uri_bytes: 40 };
        let mut scanner = HeadScanner::default();
        let whole = parse_request(&input, &limits);
        let pieces = in_pieces(&input, &cuts, |buf| scanner.request(buf, &limits));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }

    #[test]
    fn response_heads_do_not_depend_on_the_cuts(input in heads(), cuts in prop::collection::vec(0usize..9, 0..300), to_head: bool) {
        let limits = HeadLimits { head_bytes: 150, fields: 6, uri_bytes: 40 };
        let mut scanner = HeadScanner::default();
        let whole = parse_response(&input, &limits, to_head);
        let pieces = in_pieces(&input, &cuts, |buf| scanner.response(buf, &limits, to_head));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }

    #[test]
    fn what_we_accept_httparse_reads_alike(input in heads()) {
        let Ok(Some(head)) = parse_request(&input, &HeadLimits::default()) else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut other = httparse::Request::new(&mut fields);
        let len = other.parse(&input).expect("we are the stricter one").unwrap();
        prop_assert_eq!(len, head.len as usize);
        prop_assert_eq!(other.method.map(str::as_bytes), Some(head.method_span.of(&input)));
        same_fields(&head.fields, &input, other.headers)?;
    }

    #[test]
    fn what_we_write_upstream_reads_back(input in heads(), id in "[a-z0-9]{1,20}", peer in "[0-9.]{1,15}") {
        let Ok(Some(head)) = parse_request(&input, &HeadLimits::default()) else { return Ok(()) };
        let edits = RequestEdits {
            framing: head.framing,
            // An HTTP/1.0 client may not have said one.
            host: if head.host(&input).is_none() { Some(b"engine") } else { None },
            request_id: Some(id.as_bytes()),
            forwarded_for: Some(peer.as_bytes()),
            ..RequestEdits::default()
        };
        let mut out = Vec::new();
        write_request_head(&mut out, &head, &input, &edits);
        let again = request(&out);
        prop_assert_eq!(again.len as usize, out.len());
        let framing = if head.framing == RequestFraming::None { RequestFraming::Length(0) } else { head.framing };
        prop_assert!(again.framing == framing || again.framing == head.framing);
        prop_assert_eq!(again.path.of(&out), head.path.of(&input));
        prop_assert_eq!(again.query.map(|q| q.of(&out)), head.query.map(|q| q.of(&input)));
        prop_assert_eq!(again.known(&out, Known::RequestId), Some(id.as_bytes()));
        prop_assert!(again.keep_alive && !again.expect_continue && again.fields.first(Known::HopByHop).is_none());
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut other = httparse::Request::new(&mut fields);
        prop_assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(out.len())));
        same_fields(&again.fields, &out, other.headers)?;
    }

    #[test]
    fn what_we_write_downstream_reads_back(input in heads(), length in 0u64..1_000_000) {
        let Ok(Some(head)) = parse_response(&input, &HeadLimits::default(), false) else { return Ok(()) };
        let framing = match head.framing {
            ResponseFraming::None => DownstreamFraming::Bodiless,
            ResponseFraming::Length(_) => DownstreamFraming::Length(length),
            ResponseFraming::Chunked | ResponseFraming::UntilClose => DownstreamFraming::Chunked,
        };
        let edits = ResponseEdits { framing, connection: Downstream::Keep, request_id: Some(b"r"), extra: &[] };
        let mut out = Vec::new();
        write_response_head(&mut out, &head, &input, &edits);
        let again = response(&out);
        let expected = match head.framing {
            ResponseFraming::Length(_) => ResponseFraming::Length(length),
            ResponseFraming::UntilClose => ResponseFraming::Chunked,
            other => other,
        };
        prop_assert_eq!((again.framing, again.status, again.keep_alive), (expected, head.status, true));
        prop_assert_eq!(again.reason.of(&out), head.reason.of(&input));
        let mut fields = [httparse::EMPTY_HEADER; 128];
        let mut other = httparse::Response::new(&mut fields);
        prop_assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(out.len())));
        same_fields(&again.fields, &out, other.headers)?;
    }

    #[test]
    fn chunks_do_not_depend_on_the_cuts(input in hostile(CHUNK_PIECES), cuts in prop::collection::vec(1usize..9, 0..250)) {
        let whole = relayed(&input, &[]);
        prop_assert_eq!(&whole, &relayed(&input, &cuts));
        prop_assert_eq!(&whole, &relayed(&input, &vec![1; input.len()]));
    }

    #[test]
    fn our_own_chunks_pass_as_they_are(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 0..6), cuts in prop::collection::vec(1usize..300, 0..20)) {
        let mut wire = Vec::new();
        for body in &bodies {
            write_chunk_header(&mut wire, body.len());
            wire.extend_from_slice(body);
            write_chunk_end(&mut wire);
        }
        wire.extend_from_slice(LAST_CHUNK);
        let seen = relayed(&wire, &cuts);
        prop_assert_eq!(seen, Seen { data: bodies.concat(), clean: wire.clone(), consumed: wire.len(), end: Ok(true) });
    }
}

fn same_fields(ours: &Fields, buf: &[u8], others: &[httparse::Header<'_>]) -> Result<(), TestCaseError> {
    let ours: Vec<_> = ours.iter().map(|f| (f.name(buf), f.value(buf))).collect();
    let others: Vec<_> = others.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
    prop_assert_eq!(ours, others);
    Ok(())
}

#[test]
fn a_head_that_comes_byte_by_byte_is_looked_at_once() {
    let limits = HeadLimits::default();
    let mut input = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    while input.len() < 32_000 {
        input.extend_from_slice(b"X: a value of some length, as cookies have it\r\n");
        if input.len() > 31_000 {
            break;
        }
    }
    let limits = HeadLimits { fields: 250, ..limits };
    let mut scanner = HeadScanner::default();
    let mut looked_at = 0;
    for len in 1..=input.len() {
        let before = scanner.looked_at();
        assert!(matches!(scanner.request(&input[..len], &limits), Ok(None)), "{len}");
        looked_at += len - before;
    }
    assert_eq!(looked_at, input.len());
}
