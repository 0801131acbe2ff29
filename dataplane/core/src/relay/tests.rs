use super::*;
use crate::http::{HeadLimits, ResponseFraming};

fn body(framing: ResponseFraming) -> BodyReader {
    BodyReader::response(framing, &HeadLimits::default())
}

fn events(outlet: Outlet, filter: bool) -> Relay {
    let filter = filter.then(UsageFilter::new);
    Relay::new(body(ResponseFraming::Chunked), outlet, Some(Watch::Events), filter)
}

/// Pushes the wire in pieces of the given size and returns what the client gets.
fn run(mut relay: Relay, wire: &[u8], size: usize) -> (Vec<u8>, Relay, bool) {
    let (mut sent, mut done) = (Vec::new(), false);
    for read in wire.chunks(size) {
        let mut out = Vec::new();
        let step = relay.push(read, &mut out).unwrap();
        match step.forward {
            Forward::AsIs(n) => sent.extend_from_slice(&read[..n]),
            Forward::Out => sent.extend_from_slice(&out),
        }
        done = step.done;
    }
    (sent, relay, done)
}

fn unchunked(wire: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    let scan = body(ResponseFraming::Chunked).scan(wire, |d| data.extend_from_slice(d)).unwrap();
    assert!(scan.done, "the client sees an end");
    data
}

const ANSWER: &[&str] = &[
    "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\" you\"}}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n",
    "data: [DONE]\n\n",
];

fn wire(chunks: &[String]) -> Vec<u8> {
    let mut wire = Vec::new();
    for chunk in chunks {
        write_chunk_header(&mut wire, chunk.len());
        wire.extend_from_slice(chunk.as_bytes());
        write_chunk_end(&mut wire);
    }
    wire.extend_from_slice(LAST_CHUNK);
    wire
}

#[test]
fn whole_chunks_go_on_as_they_came() {
    let wire = wire(&ANSWER.map_strings());
    let (sent, relay, done) = run(events(Outlet::Chunks, false), &wire, wire.len());
    assert!(done);
    assert_eq!(sent, wire);
    assert_eq!(relay.usage().unwrap().completion, Some(2));
}

trait MapStrings {
    fn map_strings(&self) -> Vec<String>;
}

impl MapStrings for [&str] {
    fn map_strings(&self) -> Vec<String> {
        self.iter().map(|s| (*s).to_owned()).collect()
    }
}

#[test]
fn the_usage_event_is_taken_out_at_any_segmentation_and_chunking() {
    let expected = [ANSWER[0], ANSWER[1], ANSWER[3]].concat();
    // One event per chunk, all in one chunk, and a chunk border inside the usage event.
    let all = ANSWER.concat();
    let odd = vec![all[..120].to_owned(), all[120..].to_owned()];
    for chunks in [ANSWER.map_strings(), vec![all.clone()], odd] {
        let wire = wire(&chunks);
        for size in 1..=wire.len() {
            let (sent, relay, done) = run(events(Outlet::Chunks, true), &wire, size);
            assert!(done);
            assert_eq!(String::from_utf8(unchunked(&sent)).unwrap(), expected, "reads of {size}");
            assert_eq!(relay.usage().unwrap().prompt, Some(7), "reads of {size}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_gets_the_data_alone() {
    let wire = wire(&ANSWER.map_strings());
    for size in [1, 7, wire.len()] {
        let (sent, _, done) = run(events(Outlet::Close, false), &wire, size);
        assert!(done);
        assert_eq!(sent, ANSWER.concat().as_bytes());
    }
}

#[test]
fn an_answer_until_close_is_chunked_and_ended() {
    let watch = Some(Watch::Events);
    let mut relay = Relay::new(body(ResponseFraming::UntilClose), Outlet::Chunks, watch, Some(UsageFilter::new()));
    let mut out = Vec::new();
    let step = relay.push(ANSWER.concat().as_bytes(), &mut out).unwrap();
    assert_eq!((step.forward, step.done), (Forward::Out, false));
    assert!(relay.closed(&mut out));
    assert_eq!(unchunked(&out), [ANSWER[0], ANSWER[1], ANSWER[3]].concat().as_bytes());
}

#[test]
fn a_cut_at_any_byte_shows_as_an_error_event_without_an_end() {
    let error = CutError { message: "broke", kind: "upstream_error", code: "stream_cut" };
    let wire = wire(&ANSWER.map_strings());
    for cut in 0..wire.len() - LAST_CHUNK.len() {
        let (mut sent, mut relay, done) = run(events(Outlet::Chunks, true), &wire[..cut], 50);
        assert!(!done);
        assert!(!relay.closed(&mut Vec::new()), "cut at {cut} is no end");
        assert!(relay.cut(ApiKind::Chat, &error, &mut sent));
        let mut data = Vec::new();
        let scan = body(ResponseFraming::Chunked).scan(&sent, |d| data.extend_from_slice(d)).unwrap();
        assert!(!scan.done, "cut at {cut}");
        assert!(data.ends_with(b"\"code\":\"stream_cut\"}}\n\n"), "cut at {cut}: {:?}", String::from_utf8_lossy(&data));
    }
}

#[test]
fn other_chunks_are_forwarded_without_extensions_and_trailers() {
    let mut relay = Relay::new(body(ResponseFraming::Chunked), Outlet::Same, None, None);
    let mut out = Vec::new();
    let step = relay.push(b"5;x=1\r\nhello\r\n0\r\na: b\r\n\r\nX", &mut out).unwrap();
    assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
    assert_eq!((step.consumed, step.done), (26, true));
}

#[test]
fn a_json_answer_says_the_same_whole_and_in_pieces() {
    let ok = br#"{"id":"x","usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    let bad = br#" {"error":"the model failed"}"#;
    for (answer, completion, error) in [(&ok[..], Some(4), false), (&bad[..], None, true)] {
        for size in [1, 5, answer.len()] {
            let length = BodyReader::Length { left: answer.len() as u64 };
            let (sent, relay, done) = run(Relay::new(length, Outlet::Same, Some(Watch::Json), None), answer, size);
            assert_eq!((&sent[..], done, relay.events()), (answer, true, 1));
            assert_eq!(relay.usage().and_then(|u| u.completion), completion, "reads of {size}");
            assert_eq!(relay.has_error(), error, "reads of {size}");
        }
    }
}
