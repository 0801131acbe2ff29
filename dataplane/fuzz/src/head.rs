//! Heads: what is found does not depend on how the bytes came, `httparse` finds the same, and what we write reads back.

use dataplane_core::http::{
    BadRequest, BadResponse, Downstream, DownstreamFraming, Fields, HeadLimits, HeadScanner, Known, RequestEdits,
    RequestFraming, RequestHead, ResponseEdits, ResponseFraming, ResponseHead, Span, parse_request, parse_response,
    write_request_head, write_response_head,
};

use super::cuts;

const SMALL: HeadLimits = HeadLimits { head_bytes: 150, fields: 6, uri_bytes: 40 };

/// Everything that must hold for these bytes as a head.
pub fn check(data: &[u8]) {
    for limits in [SMALL, HeadLimits::default()] {
        if let Ok(Some(head)) = request(data, &limits) {
            same_as_httparse(data, &head);
            rewritten_request(data, &head);
        }
        for to_head in [false, true] {
            if let Ok(Some(head)) = response(data, &limits, to_head) {
                response_as_httparse(data, &head);
                rewritten_response(data, &head);
            }
        }
    }
}

/// A field as (name, value, kind).
type Line<'a> = (&'a [u8], &'a [u8], Known);

fn lines<'a>(fields: &Fields, buf: &'a [u8]) -> Vec<Line<'a>> {
    fields.iter().map(|f| (f.name(buf), f.value(buf), f.known)).collect()
}

fn request(data: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, BadRequest> {
    let whole = parse_request(data, limits);
    let facts = |parsed: &Result<Option<RequestHead>, BadRequest>| {
        let all = |h: &RequestHead| {
            let spans = [Some(h.method_span), Some(h.path), h.query, h.authority];
            let flags = [h.keep_alive, h.expect_continue, h.encoded_slash];
            (h.len, h.method, h.version, h.framing, spans, flags, lines(&h.fields, data))
        };
        parsed.as_ref().map(|head| head.as_ref().map(all)).map_err(|bad| *bad)
    };
    for ends in cuts::ways(data) {
        let mut scanner = HeadScanner::default();
        let pieces =
            ends.iter().map(|end| scanner.request(&data[..*end], limits)).find(|answer| !matches!(answer, Ok(None)));
        assert_eq!(facts(&pieces.unwrap_or(Ok(None))), facts(&whole), "the cuts {ends:?} change what is found");
    }
    whole
}

fn response(data: &[u8], limits: &HeadLimits, to_head: bool) -> Result<Option<ResponseHead>, BadResponse> {
    let whole = parse_response(data, limits, to_head);
    let facts = |parsed: &Result<Option<ResponseHead>, BadResponse>| {
        let all = |h: &ResponseHead| {
            let flags = [h.keep_alive, h.interim];
            (h.len, h.status, h.version, h.framing, h.content_length, h.reason, flags, lines(&h.fields, data))
        };
        parsed.as_ref().map(|head| head.as_ref().map(all)).map_err(|bad| *bad)
    };
    for ends in cuts::ways(data) {
        let mut scanner = HeadScanner::default();
        let answers = ends.iter().map(|end| scanner.response(&data[..*end], limits, to_head));
        let pieces = answers.into_iter().find(|answer| !matches!(answer, Ok(None)));
        assert_eq!(facts(&pieces.unwrap_or(Ok(None))), facts(&whole), "the cuts {ends:?} change what is found");
    }
    whole
}

fn same_fields(fields: &Fields, buf: &[u8], others: &[httparse::Header<'_>]) {
    let ours: Vec<_> = fields.iter().map(|f| (f.name(buf), f.value(buf))).collect();
    let others: Vec<_> = others.iter().map(|h| (h.name.as_bytes(), h.value)).collect();
    assert_eq!(ours, others, "httparse reads other fields");
}

fn same_as_httparse(data: &[u8], head: &RequestHead) {
    let mut room = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Request::new(&mut room);
    let len = other.parse(data).expect("we are the stricter reader");
    assert_eq!(len, httparse::Status::Complete(head.len as usize));
    assert_eq!(other.method.map(str::as_bytes), Some(head.method_span.of(data)));
    same_fields(&head.fields, data, other.headers);
}

fn response_as_httparse(data: &[u8], head: &ResponseHead) {
    let mut room = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Response::new(&mut room);
    let len = other.parse(data).expect("we are the stricter reader");
    assert_eq!(len, httparse::Status::Complete(head.len as usize));
    assert_eq!(other.code, Some(head.status));
    same_fields(&head.fields, data, other.headers);
}

/// Names that `Connection` lists.
fn listed(fields: &Fields, buf: &[u8]) -> Vec<Vec<u8>> {
    let connections = fields.iter().filter(|f| f.known == Known::Connection);
    connections
        .flat_map(|f| f.value(buf).split(|b| *b == b','))
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect()
}

const OF_ONE_HOP: [Known; 5] =
    [Known::HopByHop, Known::Connection, Known::TransferEncoding, Known::ContentLength, Known::Expect];

/// What comes out is what went in, in order, without what must go; only what may go is gone.
fn fields_passed(before: (&Fields, &[u8]), after: (&Fields, &[u8]), ours: &[&[u8]]) {
    let named = listed(before.0, before.1);
    let mut out = lines(after.0, after.1).into_iter().filter(|line| !is_ours(line, ours)).peekable();
    for line in lines(before.0, before.1).into_iter().filter(|line| !is_ours(line, ours)) {
        let name = line.0.to_ascii_lowercase();
        let of_one_hop = OF_ONE_HOP.contains(&line.2);
        if out.next_if_eq(&line).is_some() {
            assert!(!of_one_hop, "{:?} must not pass", String::from_utf8_lossy(&name));
            continue;
        }
        assert!(
            of_one_hop || named.contains(&name) && line.2 == Known::Other,
            "{:?} is lost",
            String::from_utf8_lossy(&name)
        );
    }
    assert_eq!(out.next(), None, "a field from nowhere");
}

fn is_ours(line: &Line<'_>, ours: &[&[u8]]) -> bool {
    ours.iter().any(|name| name.eq_ignore_ascii_case(line.0))
}

fn rewritten_request(data: &[u8], head: &RequestHead) {
    let edits = RequestEdits {
        framing: head.framing,
        host: if head.host(data).is_none() { Some(b"engine") } else { None },
        request_id: Some(b"id"),
        ..RequestEdits::default()
    };
    let mut out = Vec::new();
    write_request_head(&mut out, head, data, &edits);
    // Our own lines may be longer and one more than the client's.
    let limits = HeadLimits { head_bytes: 64 << 10, fields: 250, uri_bytes: 32 << 10 };
    let again = parse_request(&out, &limits).expect("what we write we read").expect("it is whole");
    assert_eq!(again.len as usize, out.len());
    assert_eq!(again.method_span.of(&out), head.method_span.of(data));
    assert_eq!(again.path.of(&out), head.path.of(data));
    let query = |q: Option<Span>, buf: &[u8]| q.map(|q| q.of(buf).to_vec());
    assert_eq!(query(again.query, &out), query(head.query, data));
    assert_eq!(again.host(&out), head.host(data).or(Some(b"engine")));
    assert_eq!(again.known(&out, Known::RequestId), Some(&b"id"[..]));
    assert!(
        again.framing == head.framing
            || (head.framing, again.framing) == (RequestFraming::None, RequestFraming::Length(0))
    );
    assert!(again.keep_alive && !again.expect_continue);
    let ours: &[&[u8]] = &[b"host", b"x-request-id", b"content-length", b"transfer-encoding"];
    fields_passed((&head.fields, data), (&again.fields, &out), ours);
    let (mut twice, edits) = (Vec::new(), RequestEdits { framing: again.framing, host: None, ..edits });
    write_request_head(&mut twice, &again, &out, &edits);
    assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&out), "writing twice is writing once");
}

fn rewritten_response(data: &[u8], head: &ResponseHead) {
    let framing = match head.framing {
        ResponseFraming::None => DownstreamFraming::Bodiless,
        ResponseFraming::Length(n) => DownstreamFraming::Length(n),
        ResponseFraming::Chunked | ResponseFraming::UntilClose => DownstreamFraming::Chunked,
    };
    let edits = ResponseEdits { framing, connection: Downstream::Keep, request_id: Some(b"id"), extra: &[] };
    let mut out = Vec::new();
    write_response_head(&mut out, head, data, &edits);
    let limits = HeadLimits { head_bytes: 64 << 10, fields: 250, uri_bytes: 0 };
    let to_head = head.framing == ResponseFraming::None;
    let again = parse_response(&out, &limits, to_head).expect("what we write we read").expect("it is whole");
    let expected = if head.framing == ResponseFraming::UntilClose { ResponseFraming::Chunked } else { head.framing };
    assert_eq!((again.framing, again.status, again.keep_alive), (expected, head.status, true));
    assert_eq!(again.reason.of(&out), head.reason.of(data));
    let ours: &[&[u8]] = &[b"x-request-id", b"content-length", b"transfer-encoding"];
    fields_passed((&head.fields, data), (&again.fields, &out), ours);
}
