//! Streams of events: what is seen and what is taken out does not depend on the reads, and the filter takes out usage
//! events as serde_json knows them, whole, and nothing else.

use dataplane_core::http::{BodyReader, HeadLimits, LAST_CHUNK, ResponseFraming, write_chunk_end, write_chunk_header};
use dataplane_core::inspect::ApiKind;
use dataplane_core::relay::{Forward, Outlet, Relay};
use dataplane_core::sse::{
    CutError, MAX_HELD_BYTES, Passed, Place, Tap, Usage, UsageFilter, Watch, last_usage, write_cut_event,
};
use serde_json::Value;

use super::cuts;

/// Everything that must hold for these bytes as the body of an answer.
pub fn check(data: &[u8]) {
    for watch in [Watch::Events, Watch::AnthropicEvents, Watch::Json] {
        let whole = watched(watch, std::iter::once(data));
        for ends in cuts::ways(data) {
            assert_eq!(
                watched(watch, cuts::reads(data, &ends)),
                whole,
                "{watch:?}: the cuts {ends:?} change what is seen"
            );
        }
        cut_short(watch, data);
    }
    let _ = last_usage(data);
    let whole = filtered(std::iter::once(data));
    for ends in cuts::ways(data) {
        assert_eq!(filtered(cuts::reads(data, &ends)), whole, "the cuts {ends:?} change what is taken out");
        relayed(data, &ends, &whole);
    }
    taken_out(data, &whole);
}

/// What a tap knows at the end.
type Facts = (u64, u64, bool, bool, Place, Option<Usage>);

fn watched<'a>(watch: Watch, reads: impl Iterator<Item = &'a [u8]>) -> Facts {
    let mut tap = Tap::new(watch);
    let (mut events, mut firsts, mut done, mut error) = (0, 0, false, false);
    for read in reads {
        let seen = tap.push(read);
        events += u64::from(seen.events);
        firsts += u32::from(seen.first_event);
        done |= seen.done;
        error |= seen.error;
    }
    assert_eq!((events, firsts), (tap.events(), u32::from(events > 0)));
    assert_eq!((done, error), (tap.is_done(), tap.has_error()));
    (tap.events(), tap.bytes(), done, error, tap.place(), tap.usage())
}

/// A client that reads on after a cut finds the error as an event of its own.
fn cut_short(watch: Watch, data: &[u8]) {
    if watch == Watch::Json {
        return;
    }
    let mut tap = Tap::new(watch);
    tap.push(data);
    let error = CutError { message: "\"it\\\u{7}", kind: "upstream_error", code: "stream_cut" };
    for api in [ApiKind::Chat, ApiKind::Messages, ApiKind::Responses, ApiKind::GenerateStream] {
        let (mut event, mut fresh) = (Vec::new(), Tap::new(watch));
        write_cut_event(api, tap.place(), &error, &mut event);
        fresh.push(data);
        let seen = fresh.push(&event);
        assert!(seen.error && fresh.place() == Place::Boundary, "{api:?} after {:?}", tap.place());
    }
}

type Filtered = (Vec<u8>, u64, Option<Usage>);

fn filtered<'a>(reads: impl Iterator<Item = &'a [u8]>) -> Filtered {
    let (mut filter, mut all) = (UsageFilter::new(), Vec::new());
    for read in reads {
        let before = all.len();
        if filter.push(read, &mut all) == Passed::Whole {
            assert_eq!(all.len(), before);
            all.extend_from_slice(read);
        }
    }
    filter.finish(&mut all);
    (all, filter.removed(), filter.usage())
}

/// The same through the relay, with the engine's chunks and our reads at odds.
fn relayed(data: &[u8], ends: &[usize], expected: &Filtered) {
    let mut wire = Vec::new();
    for piece in cuts::reads(data, ends) {
        write_chunk_header(&mut wire, piece.len());
        wire.extend_from_slice(piece);
        write_chunk_end(&mut wire);
    }
    wire.extend_from_slice(LAST_CHUNK);
    let body = |framing| BodyReader::response(framing, &HeadLimits::default());
    let (watch, filter) = (Some(Watch::Events), Some(UsageFilter::new()));
    let mut relay = Relay::new(body(ResponseFraming::Chunked), Outlet::Chunks, watch, filter);
    let (mut sent, mut done) = (Vec::new(), false);
    for read in cuts::reads(&wire, &cuts::ways(&wire)[1]) {
        let mut out = Vec::new();
        let step = relay.push(read, &mut out).expect("our own chunks");
        match step.forward {
            Forward::AsIs(n) => sent.extend_from_slice(&read[..n]),
            Forward::Out => sent.append(&mut out),
        }
        done = step.done;
    }
    let (mut client, mut got) = (body(ResponseFraming::Chunked), Vec::new());
    let scan = client.scan(&sent, |piece| got.extend_from_slice(piece)).expect("the client reads what we send");
    assert!(done && scan.done && scan.consumed == sent.len() && scan.verbatim);
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(&expected.0));
}

/// The lines of a text, each with its line end.
fn lines(mut text: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut lines = Vec::new();
    while !text.is_empty() {
        let at = text.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(text.len());
        let ending = if text[at..].starts_with(b"\r\n") { 2 } else { 1.min(text.len() - at) };
        let (line, rest) = text.split_at(at + ending);
        lines.push((&line[..at], line));
        text = rest;
    }
    lines
}

/// Whether a line is a usage event; none where that hangs on rules that serde_json does not share: a key that occurs
/// twice or with escapes, text that is not UTF-8, numbers out of range, great depth.
fn is_usage(line: &[u8]) -> Option<bool> {
    let Some(payload) = line.strip_prefix(b"data:") else { return Some(false) };
    let count = |key: &[u8]| payload.windows(key.len()).filter(|w| *w == key).count();
    if count(b"\"choices\"") == 0 || count(b"\"usage\"") == 0 {
        return Some(false);
    }
    if payload.contains(&b'\\') || count(b"\"choices\"") > 1 || count(b"\"usage\"") > 1 || line.len() >= MAX_HELD_BYTES
    {
        return None;
    }
    match serde_json::from_slice::<Value>(payload) {
        Ok(value) => Some(value.is_object() && value["choices"] == serde_json::json!([]) && value["usage"].is_object()),
        Err(error) if error.to_string().contains("out of range") || error.to_string().contains("recursion") => None,
        Err(_) if std::str::from_utf8(payload).is_err() => None,
        Err(_) => Some(false),
    }
}

fn taken_out(data: &[u8], filtered: &Filtered) {
    let (mut expected, mut removed) = (Vec::new(), 0);
    let lines = lines(data);
    let mut at = 0;
    while at < lines.len() {
        let blank = |i: usize| lines.get(i).is_some_and(|(text, _)| text.is_empty());
        let first_of_event = at == 0 || blank(at - 1);
        if first_of_event && blank(at + 1) && !blank(at) {
            match is_usage(lines[at].0) {
                None => return,
                Some(true) => {
                    removed += 1;
                    at += 2;
                    continue;
                }
                Some(false) => {}
            }
        }
        expected.extend_from_slice(lines[at].1);
        at += 1;
    }
    assert_eq!(String::from_utf8_lossy(&filtered.0), String::from_utf8_lossy(&expected));
    assert_eq!((&filtered.0, filtered.1), (&expected, removed));
}
