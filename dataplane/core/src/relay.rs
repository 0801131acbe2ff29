//! What of an engine's answer goes to the client, read by read: bytes in, bytes out. Framing is checked, the answer is
//! watched, the usage event that only we asked for is taken out; whatever can go on as it is, does.

use smallvec::SmallVec;

use crate::http::{BadChunk, BodyReader, LAST_CHUNK, write_chunk_end, write_chunk_header};
use crate::inspect::ApiKind;
use crate::sse::{
    CutError, Place, Seen, TAIL_BYTES, Tap, Usage, UsageFilter, Watch, begins_as_error, last_usage, write_cut_event,
};

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
    watched: Watched,
    filter: Option<UsageFilter>,
    filtered: Vec<u8>,
    /// Where in the stream of events the client stands once it has what was pushed.
    place: Place,
}

/// How the answer is watched. A tap keeps the end of what passes; an answer that comes in one read needs none.
#[derive(Debug)]
enum Watched {
    Not,
    /// Nothing has come yet.
    Fresh(Watch),
    By(Tap),
    /// It came whole.
    Whole {
        usage: Option<Usage>,
        error: bool,
    },
}

/// Room for a chunk's header and end, and for the last chunk.
const CHUNK_FRAME: usize = 32;
/// What the filter's buffer may keep between two reads.
const SPARE: usize = 16 << 10;

/// Data that passes: a range of the read, or of what the filter made.
enum Piece {
    Read(usize, usize),
    Made(usize, usize),
}

impl Relay {
    /// Before the first byte of the body. The filter works only where the outlet is not [`Outlet::Same`].
    pub fn new(body: BodyReader, outlet: Outlet, watch: Option<Watch>, filter: Option<UsageFilter>) -> Self {
        let watched = watch.map_or(Watched::Not, Watched::Fresh);
        Self { body, outlet, watched, filter, filtered: Vec::new(), place: Place::Boundary }
    }

    /// Takes what was read and says what goes on. The first call is for what came with the head, perhaps nothing: a body
    /// that is empty ends there.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, BadChunk> {
        if self.outlet == Outlet::Same {
            return self.same(bytes, out);
        }
        if self.filtered.capacity() > SPARE {
            self.filtered = Vec::new();
        }
        let step = self.reframed(bytes, out)?;
        self.place = self.watched.tap().map_or(Place::Boundary, Tap::place);
        Ok(step)
    }

    fn same(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step, BadChunk> {
        let Self { body, watched, .. } = self;
        if let (BodyReader::Length { left }, Watched::Fresh(Watch::Json)) = (&body, &watched)
            && *left > 0
            && *left <= bytes.len() as u64
        {
            let length = *left as usize;
            *watched = whole(&bytes[..length]);
            *body = BodyReader::None;
            let seen = Seen { events: 1, first_event: true, done: false, error: false };
            return Ok(Step { forward: Forward::AsIs(length), consumed: length, data: length, done: true, seen });
        }
        let mut before = body.clone();
        let (mut data, mut seen) = (0, Seen::default());
        let scan = body.scan(bytes, |piece| {
            data += piece.len();
            watch(watched, piece, &mut seen);
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
        let Self { body, watched, filter, filtered, outlet, .. } = self;
        filtered.clear();
        let aligned = body.is_between_chunks();
        let (mut data, mut seen, mut edited) = (0, Seen::default(), false);
        let mut pieces: SmallVec<[Piece; 16]> = SmallVec::new();
        let scan = body.scan(bytes, |piece| {
            data += piece.len();
            watch(watched, piece, &mut seen);
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
        if self.outlet == Outlet::Same || matches!(self.watched, Watched::Not) {
            return false;
        }
        let mut event = Vec::new();
        if let Some(filter) = &mut self.filter {
            filter.finish(&mut event);
        }
        write_cut_event(api, self.place, error, &mut event);
        write(self.outlet, std::iter::once(&event[..]), out);
        true
    }

    /// Events so far; 1 for an answer that is no stream, once it has begun.
    pub fn events(&self) -> u64 {
        match &self.watched {
            Watched::Not | Watched::Fresh(_) => 0,
            Watched::By(tap) => tap.events(),
            Watched::Whole { .. } => 1,
        }
    }

    /// Whether the engine reported an error inside the answer.
    pub fn has_error(&self) -> bool {
        match &self.watched {
            Watched::Not | Watched::Fresh(_) => false,
            Watched::By(tap) => tap.has_error(),
            Watched::Whole { error, .. } => *error,
        }
    }

    /// The usage that the answer reported.
    pub fn usage(&self) -> Option<Usage> {
        let removed = self.filter.as_ref().and_then(UsageFilter::usage);
        removed.or_else(|| match &self.watched {
            Watched::Not | Watched::Fresh(_) => None,
            Watched::By(tap) => tap.usage(),
            Watched::Whole { usage, .. } => *usage,
        })
    }
}

impl Watched {
    fn tap(&self) -> Option<&Tap> {
        if let Self::By(tap) = self { Some(tap) } else { None }
    }
}

/// Looks at a JSON answer that is here from its first to its last byte.
fn whole(body: &[u8]) -> Watched {
    let tail = &body[body.len().saturating_sub(TAIL_BYTES)..];
    Watched::Whole { usage: last_usage(tail), error: begins_as_error(body) }
}

impl Piece {
    fn of<'a>(&self, bytes: &'a [u8], filtered: &'a [u8]) -> &'a [u8] {
        match *self {
            Self::Read(start, end) => &bytes[start..end],
            Self::Made(start, end) => &filtered[start..end],
        }
    }
}

fn watch(watched: &mut Watched, piece: &[u8], seen: &mut Seen) {
    if let Watched::Fresh(watch) = watched {
        *watched = Watched::By(Tap::new(*watch));
    }
    let Watched::By(tap) = watched else { return };
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
    // Grown by doubling, a buffer that a slow reader holds would be twice as large.
    out.reserve_exact(total + CHUNK_FRAME);
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
