//! Bodies: any cut gives the same data, verbatim and rewritten bytes are worth the same, a naive reader agrees, and what
//! the relay sends holds the engine's data, whole, under every framing.

use dataplane_core::http::{
    BadChunk, BodyReader, ChunkFault, HeadLimits, LAST_CHUNK, ResponseFraming, Scan, write_chunk_end,
    write_chunk_header,
};
use dataplane_core::relay::{Forward, Outlet, Relay};

use super::cuts;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 60, fields: 10, uri_bytes: 0 };

/// Everything that must hold for these bytes, read as a chunked body and as a plain one.
pub fn check(data: &[u8]) {
    let whole = relayed_as_is(data, &[data.len()]);
    for ends in cuts::ways(data) {
        assert_eq!(relayed_as_is(data, &ends), whole, "the cuts {ends:?} change what is found");
    }
    if let Ok(done) = whole.end {
        naive_agrees(data, &whole, done);
        rewritten_again(&whole, done);
    }
    own_chunks(data);
    for framing in
        [ResponseFraming::Chunked, ResponseFraming::Length(data.len() as u64 / 2), ResponseFraming::UntilClose]
    {
        for outlet in [Outlet::Same, Outlet::Chunks, Outlet::Close] {
            relay_keeps_the_data(data, framing, outlet);
        }
    }
}

fn reader(framing: ResponseFraming) -> BodyReader {
    BodyReader::response(framing, &LIMITS)
}

/// What one way of reading a body found.
#[derive(Debug, PartialEq)]
struct Found {
    data: Vec<u8>,
    clean: Vec<u8>,
    consumed: usize,
    end: Result<bool, ChunkFault>,
}

/// Forwards verbatim where that is allowed and rewrites where not.
fn relayed_as_is(data: &[u8], ends: &[usize]) -> Found {
    let mut body = reader(ResponseFraming::Chunked);
    let mut found = Found { data: Vec::new(), clean: Vec::new(), consumed: 0, end: Ok(false) };
    for read in cuts::reads(data, ends) {
        let (mut before, mut always) = (body.clone(), Vec::new());
        let scanned = body.scan(read, |piece| found.data.extend_from_slice(piece));
        let rewritten = before.rewrite(read, &mut always);
        assert_eq!(rewritten, scanned, "two ways through one machine");
        match scanned {
            Err(BadChunk { reason, at }) => {
                found.consumed += at;
                found.end = Err(reason);
                // How much was sent before the fault showed depends on the cuts.
                found.clean.clear();
                return found;
            }
            Ok(Scan { consumed, done, verbatim }) => {
                if verbatim {
                    assert_eq!(always, &read[..consumed], "verbatim is what the rewrite writes");
                }
                found.clean.append(&mut always);
                found.consumed += consumed;
                found.end = Ok(done);
                if done {
                    return found;
                }
                assert_eq!(consumed, read.len(), "an open body takes what comes");
            }
        }
    }
    found
}

/// What is sent on reads as the same data, and needs no second rewrite.
fn rewritten_again(found: &Found, done: bool) {
    let (mut body, mut data) = (reader(ResponseFraming::Chunked), Vec::new());
    let scan = body.scan(&found.clean, |piece| data.extend_from_slice(piece)).expect("what we write we read");
    assert_eq!((scan.consumed, scan.done), (found.clean.len(), done));
    // The zero of a last chunk's size is kept back until its line ends.
    let kept_back = !done && (found.clean == b"0" || found.clean.ends_with(b"\r\n0"));
    assert!(scan.verbatim || kept_back, "what we write needs no second rewrite");
    assert_eq!(data, found.data);
}

/// A second reader, as simple as can be, of bodies that are known to be good.
fn naive(mut wire: &[u8]) -> (Vec<u8>, usize, bool) {
    let (all, mut data) = (wire.len(), Vec::new());
    let line = |wire: &[u8]| wire.windows(2).position(|pair| pair == b"\r\n");
    while let Some(end) = line(wire) {
        let digits = wire.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let size = u64::from_str_radix(std::str::from_utf8(&wire[..digits]).unwrap(), 16).expect("a size") as usize;
        wire = &wire[end + 2..];
        if size == 0 {
            while let Some(end) = line(wire) {
                wire = &wire[end + 2..];
                if end == 0 {
                    return (data, all - wire.len(), true);
                }
            }
            break;
        }
        let take = size.min(wire.len());
        data.extend_from_slice(&wire[..take]);
        let Some(rest) = wire.get(size.saturating_add(2)..) else { break };
        assert_eq!(&wire[size..size + 2], b"\r\n");
        wire = rest;
    }
    (data, all, false)
}

fn naive_agrees(data: &[u8], found: &Found, done: bool) {
    assert_eq!(naive(data), (found.data.clone(), found.consumed, done), "a naive reader differs");
}

/// The bytes as data: our own chunks pass as they are.
fn own_chunks(data: &[u8]) {
    for ends in cuts::ways(data) {
        let mut wire = Vec::new();
        for piece in cuts::reads(data, &ends) {
            write_chunk_header(&mut wire, piece.len());
            wire.extend_from_slice(piece);
            write_chunk_end(&mut wire);
        }
        wire.extend_from_slice(LAST_CHUNK);
        let found = relayed_as_is(&wire, &[wire.len()]);
        assert_eq!(found.end, Ok(true));
        assert!(found.data == data && found.clean == wire && found.consumed == wire.len());
    }
}

/// The data that the engine sent, how much of the bytes it took, and whether it is whole; none where it is faulty.
fn sent(data: &[u8], framing: ResponseFraming) -> Option<(Vec<u8>, usize, bool)> {
    let (mut body, mut all) = (reader(framing), Vec::new());
    let scan = body.scan(data, |piece| all.extend_from_slice(piece)).ok()?;
    Some((all, scan.consumed, body.ends_at_close()))
}

fn relay_keeps_the_data(data: &[u8], framing: ResponseFraming, outlet: Outlet) {
    let expected = sent(data, framing);
    for ends in cuts::ways(data) {
        let mut relay = Relay::new(reader(framing), outlet, None, None);
        let (mut wire, mut taken, mut done, mut bad) = (Vec::new(), 0, false, false);
        let mut client = reader(ResponseFraming::Chunked);
        // First comes what arrived with the head: here nothing, which ends an empty body.
        for read in std::iter::once(&data[..0]).chain(cuts::reads(data, &ends)) {
            let (before, mut out) = (wire.len(), Vec::new());
            let Ok(step) = relay.push(read, &mut out) else {
                bad = true;
                break;
            };
            match step.forward {
                Forward::AsIs(n) => {
                    assert!(out.is_empty() && n == step.consumed);
                    wire.extend_from_slice(&read[..n]);
                }
                Forward::Out => wire.append(&mut out),
            }
            taken += step.consumed;
            done = step.done;
            if outlet == Outlet::Chunks {
                let seen = client.scan(&wire[before..], |_| {}).expect("the client reads what we send");
                assert!(seen.done == done && (done || client.is_between_chunks()), "an error could not be told here");
            }
            if done {
                break;
            }
        }
        let Some((all, consumed, complete)) = &expected else {
            assert!(bad, "a fault that one read shows was missed");
            continue;
        };
        assert!(!bad, "a fault that one read does not show");
        let ended = relay.closed(&mut wire);
        assert_eq!((ended, taken), (*complete || done, *consumed));
        received(&wire, (framing, outlet), (all, ended));
    }
}

/// What the client makes of it.
fn received(wire: &[u8], how: (ResponseFraming, Outlet), expected: (&[u8], bool)) {
    let (framing, outlet) = how;
    let framing = match outlet {
        Outlet::Same => framing,
        Outlet::Chunks => ResponseFraming::Chunked,
        Outlet::Close => ResponseFraming::UntilClose,
    };
    let (mut client, mut data) = (reader(framing), Vec::new());
    let scan = client.scan(wire, |piece| data.extend_from_slice(piece)).expect("the client reads what we send");
    assert_eq!(scan.consumed, wire.len());
    assert!(data == expected.0, "the client got other data under {how:?}");
    assert!(
        client.ends_at_close() == expected.1 || framing == ResponseFraming::UntilClose,
        "the end is told as it was"
    );
}
