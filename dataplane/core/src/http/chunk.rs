//! The chunk machine: resumable at every byte.

use super::body::Scan;
use super::error::{BadChunk, ChunkFault};
use super::grammar;

/// Bytes of all chunk extensions of one body.
const EXTENSION_BYTES: u16 = 4 << 10;
/// Digits of one chunk size, leading zeros included.
const SIZE_DIGITS: u8 = 16;

/// Follows one chunked body. A copy taken before [`scan`](Self::scan) can [`rewrite`](Self::rewrite) the same bytes when
/// they turn out not to be forwardable as they are.
#[derive(Clone, Debug)]
pub struct ChunkScanner {
    state: State,
    digits: u8,
    extension_bytes: u16,
    trailer_bytes: u32,
    trailer_limit: u32,
    /// While digits are read: the size so far. In data: the bytes still to come.
    left: u64,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    Size,
    /// After zeros only: one zero is kept back until it is known not to be superfluous.
    Zeros,
    /// After a digit other than zero.
    Digits,
    Extension(Extension),
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer field or of the empty line.
    Line,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`: what came last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    /// Blanks after a whole extension: only `;` may follow.
    Blank,
    Semicolon,
    Name,
    BlankAfterName,
    Equals,
    Value,
    Quoted,
    Backslash,
    QuoteEnd,
}

/// What the machine does with what it sees.
trait Sink {
    fn data(&mut self, data: &[u8]);
    /// Bytes of framing that pass.
    fn framing(&mut self, bytes: &[u8]);
}

struct Watch<F>(F);

impl<F: FnMut(&[u8])> Sink for Watch<F> {
    #[inline]
    fn data(&mut self, data: &[u8]) {
        self.0(data);
    }
    #[inline]
    fn framing(&mut self, _: &[u8]) {}
}

struct Copy<'a>(&'a mut Vec<u8>);

impl Sink for Copy<'_> {
    fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }
    fn framing(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl ChunkScanner {
    /// `trailer_limit`: bytes that the trailers may take (the head limit).
    pub fn new(trailer_limit: u32) -> Self {
        Self { state: State::Size, digits: 0, extension_bytes: 0, trailer_bytes: 0, trailer_limit, left: 0 }
    }

    /// Looks at the next bytes of the body; `on_data` gets the data in them, in order, possibly in several pieces. After
    /// an error the scanner is of no more use; data before the fault was already given to `on_data`.
    pub fn scan(&mut self, bytes: &[u8], on_data: impl FnMut(&[u8])) -> Result<Scan, BadChunk> {
        self.run(bytes, &mut Watch(on_data))
    }

    /// As `scan`, appending to `out` the same chunks without extensions, trailers and superfluous zeros. What `scan`
    /// calls verbatim is what this would write unchanged, so that calls of both kinds may alternate on one body.
    pub fn rewrite(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Scan, BadChunk> {
        self.run(bytes, &mut Copy(out))
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the last byte ended a chunk, or none has come.
    pub fn is_between_chunks(&self) -> bool {
        self.state == State::Size
    }

    fn run(&mut self, bytes: &[u8], sink: &mut impl Sink) -> Result<Scan, BadChunk> {
        let mut verbatim = self.state != State::Zeros;
        let mut at = 0;
        while at < bytes.len() && self.state != State::Done {
            if self.state == State::Data {
                let end = at + self.left.min((bytes.len() - at) as u64) as usize;
                sink.data(&bytes[at..end]);
                self.take_data(end - at);
                at = end;
                continue;
            }
            if self.state == State::Size
                && let Some((start, end)) = whole_chunk(&bytes[at..])
            {
                sink.framing(&bytes[at..at + start]);
                sink.data(&bytes[at + start..at + end]);
                sink.framing(b"\r\n");
                at += end + 2;
                continue;
            }
            let passes = self.step(bytes[at], sink).map_err(|reason| BadChunk { reason, at })?;
            verbatim &= passes;
            at += 1;
        }
        // A zero that is kept back was consumed but would not be written yet.
        Ok(Scan { consumed: at, done: self.is_done(), verbatim: verbatim && self.state != State::Zeros })
    }

    fn take_data(&mut self, len: usize) {
        self.left -= len as u64;
        if self.left == 0 {
            self.state = State::DataCr;
        }
    }

    /// One byte that is not data; says whether it may be forwarded (now, or as the zero that is kept back).
    fn step(&mut self, b: u8, sink: &mut impl Sink) -> Result<bool, ChunkFault> {
        match self.state {
            State::Size | State::Zeros | State::Digits => return self.size(b, sink),
            State::Extension(last) => return self.extension(last, b, sink),
            State::Line | State::TrailerName | State::TrailerValue | State::TrailerLf => return self.trailer(b, sink),
            State::SizeLf if b == b'\n' => {
                self.state = if self.left == 0 { State::Line } else { State::Data };
                self.digits = 0;
            }
            State::SizeLf => return Err(ChunkFault::BadLineEnd),
            State::DataCr if b == b'\r' => self.state = State::DataLf,
            State::DataLf if b == b'\n' => self.state = State::Size,
            State::DataCr | State::DataLf => return Err(ChunkFault::DataOverrun),
            State::EndLf if b == b'\n' => self.state = State::Done,
            State::EndLf => return Err(ChunkFault::BadLineEnd),
            // `run` never comes here with data to take or nothing to do.
            State::Data | State::Done => return Ok(true),
        }
        sink.framing(&[b]);
        Ok(true)
    }

    fn size(&mut self, b: u8, sink: &mut impl Sink) -> Result<bool, ChunkFault> {
        let Some(digit) = grammar::hex(b) else { return self.size_end(b, sink) };
        if self.digits == SIZE_DIGITS || self.left >> 59 != 0 {
            return Err(ChunkFault::BadSize);
        }
        self.digits += 1;
        self.left = self.left << 4 | u64::from(digit);
        let after_zeros = self.state == State::Zeros;
        if self.left == 0 {
            self.state = State::Zeros;
            return Ok(!after_zeros);
        }
        self.state = State::Digits;
        sink.framing(&[b]);
        Ok(!after_zeros)
    }

    fn size_end(&mut self, b: u8, sink: &mut impl Sink) -> Result<bool, ChunkFault> {
        if self.digits == 0 {
            return Err(ChunkFault::BadSize);
        }
        if self.state == State::Zeros {
            sink.framing(b"0");
        }
        match b {
            b'\r' => {
                self.state = State::SizeLf;
                sink.framing(b"\r");
                Ok(true)
            }
            b'\n' => Err(ChunkFault::BadLineEnd),
            b';' => self.extend(Extension::Semicolon),
            b' ' | b'\t' => self.extend(Extension::Blank),
            _ => Err(ChunkFault::BadSize),
        }
    }

    /// Takes one byte of an extension: it is counted and does not pass.
    fn extend(&mut self, last: Extension) -> Result<bool, ChunkFault> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES {
            return Err(ChunkFault::ExtensionsTooLarge);
        }
        self.state = State::Extension(last);
        Ok(false)
    }

    fn extension(&mut self, last: Extension, b: u8, sink: &mut impl Sink) -> Result<bool, ChunkFault> {
        let may_end = matches!(last, Extension::Name | Extension::Value | Extension::QuoteEnd);
        if b == b'\r' && may_end {
            self.state = State::SizeLf;
            sink.framing(b"\r");
            return Ok(true);
        }
        match after_extension(last, b) {
            Some(next) => self.extend(next),
            None => Err(ChunkFault::BadExtension),
        }
    }

    fn trailer(&mut self, b: u8, sink: &mut impl Sink) -> Result<bool, ChunkFault> {
        if self.state == State::Line && b == b'\r' {
            self.state = State::EndLf;
            sink.framing(b"\r");
            return Ok(true);
        }
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.trailer_limit {
            return Err(ChunkFault::TrailersTooLarge);
        }
        self.state = match (self.state, b) {
            (State::TrailerName, b':') => State::TrailerValue,
            (State::Line | State::TrailerName, b) if grammar::is_token(b) => State::TrailerName,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, b) if grammar::is_value(b) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::Line,
            _ => return Err(ChunkFault::BadTrailer),
        };
        Ok(false)
    }
}

fn after_extension(last: Extension, b: u8) -> Option<Extension> {
    use Extension::*;
    Some(match (last, b) {
        (Quoted, b'"') => QuoteEnd,
        (Quoted, b'\\') => Backslash,
        (Quoted | Backslash, b) if grammar::is_value(b) => Quoted,
        (Blank | Name | BlankAfterName | Value | QuoteEnd, b';') => Semicolon,
        (Name | BlankAfterName, b'=') => Equals,
        (Equals, b'"') => Quoted,
        (Semicolon | Name, b) if grammar::is_token(b) => Name,
        (Equals | Value, b) if grammar::is_token(b) => Value,
        (Blank | Value | QuoteEnd, b' ' | b'\t') => Blank,
        (Name | BlankAfterName, b' ' | b'\t') => BlankAfterName,
        (Semicolon | Equals, b' ' | b'\t') => last,
        _ => return None,
    })
}

/// Where the data of a chunk that lies whole and canonical at the start of `bytes` begins and ends: the common case,
/// taken without the machine.
#[inline]
fn whole_chunk(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut size = usize::from(grammar::hex(*bytes.first()?)?);
    let mut at = 1;
    while let Some(digit) = grammar::hex(*bytes.get(at)?) {
        size = size << 4 | usize::from(digit);
        at += 1;
        if at > 7 {
            return None;
        }
    }
    if bytes[0] == b'0' || bytes.get(at..at + 2)? != b"\r\n" {
        return None;
    }
    let (start, end) = (at + 2, at + 2 + size);
    if bytes.get(end..end + 2)? == b"\r\n" { Some((start, end)) } else { None }
}
