//! What of an engine's answer goes to the client, read by read: bytes in, bytes out. Framing is checked, the answer is
//! watched, the usage event that only we asked for is taken out; whatever can go on as it is, does.

use smallvec::SmallVec;

use crate::http::{BadChunk, BodyReader, LAST_CHUNK, write_chunk_end, write_chunk_header};
use crate::inspect::ApiKind;
use crate::sse::{CutError, Place, Seen, Tap, Usage, UsageFilter, write_cut_event};

/// How the answer is delimited for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlet {
    /// As the engine delimits it.
    Same,
    /// In chunks: the engine's where they arrive whole, else ours. After each read the client stands between two
    /// chunks, so that an error can be told if the engine breaks off.
    Chunks,
    /// By the end of the connection.
    Close,
}

/// What goes to the client after a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// So many bytes of what was read.
    AsIs(usize),
    /// What was appended to `out`, perhaps nothing.
    Out,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What goes to the client.
    pub forward: Forward,
    /// Bytes of what was read that belong to the answer. The rest was sent unasked.
    pub consumed: usize,
    /// Bytes of the answer's body in it.
    pub data: usize,
    /// The answer is complete.
    pub done: bool,
    /// What the watching found in it.
    pub seen: Seen,
}

/// One answer on its way.
#[derive(Debug)]
pub struct Relay {
    body: BodyReader,
    outlet: Outlet,
    tap: Option<Tap>,
    filter: Option<UsageFilter>,
    filtered: Vec<u8>,
}

/// Data that passes: a range of the read, or of what the filter made.
enum Piece {
    Read(usize, usize),
    Made(usize, usize),
}

impl Relay {
    /// Before the first byte of the body. The filter works only where the outlet is not [`Outlet::Same`].
    pub fn new(body: BodyReader, outlet: Outlet, tap: Option<Tap>, filter: Option<UsageFilter>) -> Self {
        Self { body, outlet, tap, filter, filtered: Vec::new() }
    }

    /// Takes what was read and says what goes on.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, BadChunk> {
        if self.outlet == Outlet::Same { self.same(bytes, out) } else { self.reframed(bytes, out) }
    }

    fn same(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, BadChunk> {
        let Self { body, tap, .. } = self;
        let mut before = body.clone();
        let (mut data, mut seen) = (0, Seen::default());
        let scan = body.scan(bytes, |piece| {
            data += piece.len();
            watch(tap, piece, &mut seen);
        })?;
        let forward = if scan.verbatim {
            Forward::AsIs(scan.consumed)
        } else {
            before.rewrite(bytes, out)?;
            Forward::Out
        };
        Ok(Step { forward, consumed: scan.consumed, data, done: scan.done, seen })
    }

    fn reframed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, BadChunk> {
        let Self { body, tap, filter, filtered, outlet } = self;
        filtered.clear();
        let aligned = body.is_between_chunks();
        let (mut data, mut seen, mut edited) = (0, Seen::default(), false);
        let mut pieces: SmallVec<[Piece; 16]> = SmallVec::new();
        let scan = body.scan(bytes, |piece| {
            data += piece.len();
            watch(tap, piece, &mut seen);
            let at = piece.as_ptr() as usize - bytes.as_ptr() as usize;
            let made = filtered.len();
            let passed = filter.as_mut().map(|f| f.push(piece, filtered));
            if passed == Some(crate::sse::Passed::Edited) {
                edited = true;
                pieces.push(Piece::Made(made, filtered.len()));
            } else {
                pieces.push(Piece::Read(at, at + piece.len()));
            }
        })?;
        if scan.done {
            let made = filtered.len();
            if let Some(filter) = filter {
                filter.finish(filtered);
            }
            if filtered.len() > made {
                edited = true;
                pieces.push(Piece::Made(made, filtered.len()));
            }
        }
        let whole = aligned && scan.verbatim && (scan.done || body.is_between_chunks());
        let chunked = matches!(body, BodyReader::Chunked(_));
        let done = scan.done;
        let step = |forward| Step { forward, consumed: scan.consumed, data, done, seen };
        if *outlet == Outlet::Chunks && chunked && whole && !edited {
            return Ok(step(Forward::AsIs(scan.consumed)));
        }
        write(*outlet, pieces.iter().map(|piece| piece.of(bytes, filtered)), out);
        if done && *outlet == Outlet::Chunks {
            out.extend_from_slice(LAST_CHUNK);
        }
        Ok(step(Forward::Out))
    }

    /// The engine closed. True when that is the answer's end: then `out` got what is left of it.
    pub fn closed(&mut self, out: &mut Vec<u8>) -> bool {
        if !self.body.ends_at_close() {
            return false;
        }
        if !self.body.is_done() {
            let mut held = Vec::new();
            if let Some(filter) = &mut self.filter {
                filter.finish(&mut held);
            }
            write(self.outlet, std::iter::once(&held[..]), out);
            if self.outlet == Outlet::Chunks {
                out.extend_from_slice(LAST_CHUNK);
            }
        }
        true
    }

    /// The engine broke off inside a stream of events: appends the event that says so, where the client can be told.
    /// What was held back goes first. The connection must then be cut without an end.
    pub fn cut(&mut self, api: ApiKind, error: &CutError<'_>, out: &mut Vec<u8>) -> bool {
        let Some(tap) = &self.tap else { return false };
        if self.outlet == Outlet::Same {
            return false;
        }
        let mut event = Vec::new();
        if let Some(filter) = &mut self.filter {
            filter.finish(&mut event);
        }
        write_cut_event(api, tap.place(), error, &mut event);
        write(self.outlet, std::iter::once(&event[..]), out);
        true
    }

    /// Events so far; 1 for an answer that is no stream, once it has begun.
    pub fn events(&self) -> u64 {
        self.tap.as_ref().map_or(0, Tap::events)
    }

    /// Whether the engine reported an error inside the answer.
    pub fn has_error(&self) -> bool {
        self.tap.as_ref().is_some_and(Tap::has_error)
    }

    /// The usage that the answer reported.
    pub fn usage(&self) -> Option<Usage> {
        let removed = self.filter.as_ref().and_then(UsageFilter::usage);
        removed.or_else(|| self.tap.as_ref().and_then(Tap::usage))
    }

    /// Whether the stream ends between two events.
    pub fn is_between_events(&self) -> bool {
        self.tap.as_ref().is_none_or(|tap| tap.place() == Place::Boundary)
    }
}

impl Piece {
    fn of<'a>(&self, bytes: &'a [u8], filtered: &'a [u8]) -> &'a [u8] {
        match *self {
            Self::Read(start, end) => &bytes[start..end],
            Self::Made(start, end) => &filtered[start..end],
        }
    }
}

fn watch(tap: &mut Option<Tap>, piece: &[u8], seen: &mut Seen) {
    let Some(tap) = tap else { return };
    let more = tap.push(piece);
    seen.events += more.events;
    seen.first_event |= more.first_event;
    seen.done |= more.done;
    seen.error |= more.error;
}

/// Appends the pieces under the outlet's framing: one chunk for all of them.
fn write<'a>(outlet: Outlet, pieces: impl Iterator<Item = &'a [u8]> + Clone, out: &mut Vec<u8>) {
    let total: usize = pieces.clone().map(<[u8]>::len).sum();
    if total == 0 {
        return;
    }
    if outlet == Outlet::Chunks {
        write_chunk_header(out, total);
    }
    pieces.for_each(|piece| out.extend_from_slice(piece));
    if outlet == Outlet::Chunks {
        write_chunk_end(out);
    }
}

#[cfg(test)]
mod tests;
