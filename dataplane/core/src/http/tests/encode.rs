//! What leaves: our framing, nothing of one hop, everything else byte for byte and in order.

use super::*;

fn upstream(input: &str, edits: &RequestEdits<'_>) -> String {
    let mut out = Vec::new();
    write_request_head(&mut out, &request(input.as_bytes()), input.as_bytes(), edits);
    String::from_utf8(out).expect("the test's input is text")
}

fn check_upstream(input: &str, edits: &RequestEdits<'_>, expected: &str) {
    assert_eq!(upstream(input, edits), expected, "{input:?}");
}

#[test]
fn hop_by_hop_fields_stop_here() {
    let input = "POST /a?b HTTP/1.1\r\nhOST: h\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nA:  1 \r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
        Proxy-Authorization: y\r\nTE: trailers\r\nTrailer: T\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\nExpect: 100-continue\r\n\
        Content-Length: 5\r\nB: 2\r\nB: 3\r\n\r\n";
    let edits = RequestEdits { framing: RequestFraming::Length(5), ..RequestEdits::default() };
    check_upstream(
        input,
        &edits,
        "POST /a?b HTTP/1.1\r\nhOST: h\r\nA:  1 \r\nB: 2\r\nB: 3\r\ncontent-length: 5\r\n\r\n",
    );
}

#[test]
fn connection_cannot_strip_what_is_trusted() {
    let names = "Host, Content-Length, Transfer-Encoding, Authorization, X-Forwarded-For, X-Forwarded-Host, Content-Type, X-Request-Id, X-Custom";
    let input = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: {names}\r\nAuthorization: k\r\nX-Forwarded-For: 1\r\nX-Forwarded-Host: f\r\n\
        Content-Type: t\r\nX-Request-Id: r\r\nX-Custom: c\r\nx-custom: d\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    assert_eq!(request(input.as_bytes()).framing, RequestFraming::Chunked);
    let edits = RequestEdits { framing: RequestFraming::Chunked, ..RequestEdits::default() };
    let expected = "POST / HTTP/1.1\r\nHost: h\r\nAuthorization: k\r\nX-Forwarded-For: 1\r\nX-Forwarded-Host: f\r\nContent-Type: t\r\n\
        X-Request-Id: r\r\ntransfer-encoding: chunked\r\n\r\n";
    check_upstream(&input, &edits, expected);
}

#[test]
fn connection_strips_custom_fields_in_any_spelling() {
    let input = "GET / HTTP/1.1\r\nHost: h\r\nmy_field: 1\r\nX-A: 1\r\nConnection: MY_FIELD\r\nConnection: ,x-a,\r\nB: 2\r\n\r\n";
    check_upstream(input, &RequestEdits::default(), "GET / HTTP/1.1\r\nHost: h\r\nB: 2\r\n\r\n");
    let confusing = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: content_length\r\nContent_Length: 1\r\n\r\n";
    assert_eq!(request_fault(confusing), Some(Fault::ConfusingName));
}

#[test]
fn edits_replace_what_the_client_said() {
    let input = "GET /old?q HTTP/1.1\r\nHost: h\r\nX-Request-Id: 1\r\nx-request-id: 2\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: evil\r\n\
        X-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-For:\r\nAuthorization: k\r\nCookie: c\r\nX-API-Key: k\r\napi-key: k\r\n\
        Accept-Encoding: gzip\r\nX-Data-Parallel-Rank: 9\r\nX-Own: client\r\nZ: z\r\n\r\n";
    let edits = RequestEdits {
        framing: RequestFraming::None,
        target: Some(b"/new"),
        host: Some(b"engine:8000"),
        request_id: Some(b"ours"),
        forwarded_for: Some(b"10.0.0.9"),
        forwarded_proto: Some(b"http"),
        data_parallel_rank: Some(3),
        strip_credentials: true,
        strip_accept_encoding: true,
        extra: &[("x-own", b"ours"), ("x-more", b"")],
    };
    let expected = "GET /new HTTP/1.1\r\nhost: engine:8000\r\nZ: z\r\nx-request-id: ours\r\n\
        x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.9\r\nx-forwarded-proto: http\r\nx-data-parallel-rank: 3\r\n\
        x-own: ours\r\nx-more: \r\n\r\n";
    check_upstream(input, &edits, expected);
}

#[test]
fn without_edits_credentials_and_lists_pass() {
    let input = "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: k\r\nX-Forwarded-For: 1\r\nAccept-Encoding: gzip\r\n\r\n";
    check_upstream(input, &RequestEdits::default(), input);
}

#[test]
fn requests_leave_as_1_1_with_a_host() {
    let edits = RequestEdits::default();
    check_upstream("GET /x HTTP/1.0\r\n\r\n", &edits, "GET /x HTTP/1.1\r\nhost: \r\n\r\n");
    check_upstream(
        "GET http://real:1/x?y HTTP/1.1\r\nHost: other\r\n\r\n",
        &edits,
        "GET /x?y HTTP/1.1\r\nhost: real:1\r\n\r\n",
    );
    check_upstream(
        "GET http://real?y HTTP/1.1\r\nHost: other\r\n\r\n",
        &edits,
        "GET /?y HTTP/1.1\r\nhost: real\r\n\r\n",
    );
    check_upstream("\r\nGET /? HTTP/1.1\r\nHost: h\r\n\r\n", &edits, "GET /? HTTP/1.1\r\nHost: h\r\n\r\n");
    check_upstream("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", &edits, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    check_upstream(
        "POST / HTTP/1.1\r\nHost: h\r\n\r\n",
        &edits,
        "POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n",
    );
}

fn check_downstream(input: &str, to_head: bool, edits: &ResponseEdits<'_>, expected: &str) {
    let head = parse_response(input.as_bytes(), &HeadLimits::default(), to_head).expect("valid").expect("whole");
    let mut out = Vec::new();
    write_response_head(&mut out, &head, input.as_bytes(), edits);
    assert_eq!(String::from_utf8_lossy(&out), expected, "{input:?}");
}

fn downstream(framing: DownstreamFraming, connection: Downstream) -> ResponseEdits<'static> {
    ResponseEdits { framing, connection, request_id: None, extra: &[] }
}

#[test]
fn responses_leave_with_our_framing() {
    use Downstream::{Close, Keep, KeepHttp10};
    let input = "HTTP/1.0 200 \r\nSet-Cookie: a\r\nConnection: X-Gone, Content-Type\r\nX-Gone: 1\r\nset-cookie: b\r\nTransfer-Encoding: chunked\r\n\
        Keep-Alive: timeout=5\r\nTrailer: X\r\nContent-Type: t\r\nX-Request-Id: engine\r\n\r\n";
    let kept = "Set-Cookie: a\r\nset-cookie: b\r\nContent-Type: t\r\n";
    let engine = "X-Request-Id: engine\r\n";
    let check = |framing, connection, ours: &str| {
        let expected = format!("HTTP/1.1 200 \r\n{kept}{engine}{ours}\r\n");
        check_downstream(input, false, &downstream(framing, connection), &expected);
    };
    check(DownstreamFraming::Chunked, Keep, "transfer-encoding: chunked\r\n");
    check(DownstreamFraming::Chunked, Close, "transfer-encoding: chunked\r\nconnection: close\r\n");
    check(DownstreamFraming::Length(0), KeepHttp10, "content-length: 0\r\nconnection: keep-alive\r\n");
    check(DownstreamFraming::Close, Keep, "connection: close\r\n");
    let edits = ResponseEdits {
        request_id: Some(b"ours"),
        extra: &[("x-kthena-endpoint", b"e"), ("Content-Type", b"u")],
        ..downstream(DownstreamFraming::Length(7), Keep)
    };
    let expected = "HTTP/1.1 200 \r\nSet-Cookie: a\r\nset-cookie: b\r\nx-request-id: ours\r\nx-kthena-endpoint: e\r\nContent-Type: u\r\n\
        content-length: 7\r\n\r\n";
    check_downstream(input, false, &edits, expected);
}

#[test]
fn bodiless_responses_tell_the_length_only_where_it_may_be_told() {
    let keep = downstream(DownstreamFraming::Bodiless, Downstream::Keep);
    let check = |status: &str, to_head, kept: &str| {
        let input = format!("HTTP/1.1 {status}\r\nContent-Length: 30\r\nA: b\r\n\r\n");
        check_downstream(&input, to_head, &keep, &format!("HTTP/1.1 {status}\r\nA: b\r\n{kept}\r\n"));
    };
    check("200 OK", true, "content-length: 30\r\n");
    check("304 Not Modified", false, "content-length: 30\r\n");
    check("204 No Content", false, "");
    check("103 Early Hints", false, "");
    check_downstream("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, &keep, "HTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn local_answers() {
    let answer = LocalResponse {
        status: 503,
        content_type: "application/json",
        body: b"{}",
        to_head: false,
        request_id: Some(b"r"),
        connection: Downstream::Close,
        extra: &[("retry-after", b"1")],
    };
    let check = |answer: LocalResponse<'_>, expected: &str| {
        let mut out = Vec::new();
        write_local_response(&mut out, &answer);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    };
    let head = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 2\r\nx-request-id: r\r\n\
        retry-after: 1\r\nconnection: close\r\n\r\n";
    check(answer, &format!("{head}{{}}"));
    check(LocalResponse { to_head: true, ..answer }, head);
    let plain = LocalResponse { request_id: None, extra: &[], connection: Downstream::Keep, ..answer };
    check(LocalResponse { status: 204, ..plain }, "HTTP/1.1 204 No Content\r\n\r\n");
    for status in Fault::ALL.iter().map(|fault| fault.status()).chain([200, 404, 408, 413, 429, 502, 504]) {
        assert_ne!(reason_phrase(status), "", "{status}");
    }
    assert!(response(CONTINUE).interim);
}

#[test]
fn chunk_headers() {
    for (size, expected) in
        [(1, "1\r\n"), (15, "f\r\n"), (16, "10\r\n"), (200, "c8\r\n"), (0x1234_5678, "12345678\r\n")]
    {
        let mut out = Vec::new();
        write_chunk_header(&mut out, size);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
