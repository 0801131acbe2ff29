//! The lexer: white space, strings, numbers, and values that nobody looks at. It checks everything that it passes.

use super::MAX_DEPTH;
use super::error::{ErrorKind, InspectError};
use super::text::{Span, Text, hex4};

/// A place in a JSON text that is known to be UTF-8.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) at: usize,
}

type Result<T> = std::result::Result<T, InspectError>;

/// What follows a member or an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    More,
    End,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// The error for the byte that we are at, or for its absence.
    pub(crate) fn fail(&self, kind: ErrorKind) -> InspectError {
        let kind = if self.at >= self.body.len() { ErrorKind::Truncated } else { kind };
        InspectError::new(kind, self.at)
    }

    pub(crate) fn blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.body.get(self.at) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space; it is not consumed.
    #[inline]
    pub(crate) fn peek(&mut self) -> Result<u8> {
        self.blanks();
        self.body.get(self.at).copied().ok_or_else(|| self.fail(ErrorKind::Truncated))
    }

    /// Enters `{` or `[`; tells whether it is empty, and then has left it.
    #[inline]
    pub(crate) fn open(&mut self, close: u8) -> Result<After> {
        self.at += 1;
        if self.peek()? == close {
            self.at += 1;
            return Ok(After::End);
        }
        Ok(After::More)
    }

    /// A member's key and its colon.
    #[inline]
    pub(crate) fn key(&mut self) -> Result<Text> {
        if self.peek()? != b'"' {
            return Err(self.fail(ErrorKind::Syntax));
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return Err(self.fail(ErrorKind::Syntax));
        }
        self.at += 1;
        Ok(key)
    }

    /// The comma or the closing bracket behind a member or an element.
    #[inline]
    pub(crate) fn after(&mut self, close: u8) -> Result<After> {
        let byte = self.peek()?;
        if byte != b',' && byte != close {
            return Err(self.fail(ErrorKind::Syntax));
        }
        self.at += 1;
        Ok(if byte == close { After::End } else { After::More })
    }

    /// A string, from its opening quote.
    pub(crate) fn string(&mut self) -> Result<Text> {
        let start = self.at + 1;
        let mut at = start;
        let (mut bits, mut shrunk, mut escaped) = (0u8, 0, false);
        loop {
            let (end, seen) = special(self.body, at).map_err(|at| {
                let kind = if at < self.body.len() { ErrorKind::Control } else { ErrorKind::Truncated };
                InspectError::new(kind, at)
            })?;
            bits |= seen;
            if self.body[end] == b'"' {
                self.at = end + 1;
                let raw = &self.body[start..end];
                let wide = if bits < 0x80 { 0 } else { raw.iter().filter(|byte| (**byte as i8) < -0x40).count() };
                let chars = (raw.len() - wide - shrunk) as u32;
                return Ok(Text { span: Span::new(start, end), escaped, chars });
            }
            let length = self.escape(end)?;
            shrunk += length - 1;
            escaped = true;
            at = end + length;
        }
    }

    /// The length of the escape whose backslash is at `at`; a surrogate pair counts as one.
    fn escape(&self, at: usize) -> Result<usize> {
        let bad = |kind| InspectError::new(kind, at);
        match self.body.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
            Some(b'u') => {
                let first = hex4(self.body, at + 2).ok_or(bad(ErrorKind::Escape))?;
                match first & 0xfc00 {
                    0xdc00 => Err(bad(ErrorKind::Surrogate)),
                    0xd800 => {
                        let paired = self.body.get(at + 6..at + 8) == Some(b"\\u");
                        let second = hex4(self.body, at + 8).filter(|_| paired).ok_or(bad(ErrorKind::Surrogate))?;
                        if second & 0xfc00 == 0xdc00 { Ok(12) } else { Err(bad(ErrorKind::Surrogate)) }
                    }
                    _ => Ok(6),
                }
            }
            Some(_) => Err(bad(ErrorKind::Escape)),
            None => Err(InspectError::new(ErrorKind::Truncated, at + 1)),
        }
    }

    /// A number of any length.
    fn number(&mut self) -> Result<()> {
        if self.body[self.at] == b'-' {
            self.at += 1;
        }
        if self.body.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.body.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.body.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.body.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        // A digit here follows a leading zero; letters make words like 1a.
        match self.body.get(self.at) {
            Some(byte) if byte.is_ascii_alphanumeric() || *byte == b'.' => Err(self.fail(ErrorKind::Number)),
            _ => Ok(()),
        }
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.body.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        if self.at == start { Err(self.fail(ErrorKind::Number)) } else { Ok(()) }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<()> {
        if self.body[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        let rest = &self.body[self.at..];
        if word.starts_with(rest) {
            self.at = self.body.len();
        }
        Err(self.fail(ErrorKind::Syntax))
    }

    /// A string, number or word that begins with `byte`, which we are at.
    fn scalar(&mut self, byte: u8) -> Result<()> {
        match byte {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => Err(self.fail(ErrorKind::Syntax)),
        }
    }

    /// Any value, inside of `depth` objects and arrays, checked and otherwise ignored. No recursion: what is open is a
    /// bit each, set for an object.
    pub(crate) fn skip(&mut self, depth: usize) -> Result<Span> {
        let first = self.peek()?;
        let start = self.at;
        if first != b'{' && first != b'[' {
            self.scalar(first)?;
            return Ok(Span::new(start, self.at));
        }
        let (mut open, mut objects) = (0usize, 0u128);
        loop {
            let byte = self.peek()?;
            let mut after = After::End;
            if byte == b'{' || byte == b'[' {
                if depth + open == MAX_DEPTH {
                    return Err(self.fail(ErrorKind::Depth));
                }
                open += 1;
                objects = objects << 1 | u128::from(byte == b'{');
                after = self.open(byte + 2)?;
                if after == After::End {
                    open -= 1;
                    objects >>= 1;
                }
            } else {
                self.scalar(byte)?;
            }
            while after == After::End {
                if open == 0 {
                    return Ok(Span::new(start, self.at));
                }
                after = self.after(if objects & 1 == 1 { b'}' } else { b']' })?;
                if after == After::End {
                    open -= 1;
                    objects >>= 1;
                }
            }
            if objects & 1 == 1 {
                self.key()?;
            }
        }
    }
}

/// Where the next quote or backslash is, and the union of the bits of all bytes before it; or where a control
/// character or the end stands in the way.
///
/// Short strings are walked in words; in a long run memchr finds the end, and one further pass checks for controls.
#[inline]
fn special(body: &[u8], start: usize) -> std::result::Result<(usize, u8), usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES * 0x80;
    const WORDS: usize = 6;
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let mut seen = 0u64;
    let mut at = start;
    for chunk in body[start.min(body.len())..].as_chunks::<8>().0.iter().take(WORDS) {
        let word = u64::from_le_bytes(*chunk);
        let quote = has_zero(word ^ (ONES * 0x22));
        let slash = has_zero(word ^ (ONES * 0x5c));
        let control = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
        let found = quote | slash | control;
        if found != 0 {
            // A borrow can only mark bytes above a true match, so the lowest mark is exact.
            let before = found.trailing_zeros() / 8;
            let bits = fold_bits(seen | word & !(u64::MAX << (8 * before)));
            at += before as usize;
            return if body[at] < 0x20 { Err(at) } else { Ok((at, bits)) };
        }
        seen |= word;
        at += 8;
    }
    let mut bits = fold_bits(seen);
    let tail = &body[at.min(body.len())..];
    if at - start == WORDS * 8 {
        let length = memchr::memchr2(b'"', b'\\', tail).unwrap_or(tail.len());
        let run = &tail[..length];
        let (least, union) = extremes(run);
        if least < 0x20 {
            return Err(at + run.iter().position(|byte| *byte < 0x20).unwrap_or(0));
        }
        return if length == tail.len() { Err(body.len()) } else { Ok((at + length, bits | union)) };
    }
    for (offset, byte) in tail.iter().enumerate() {
        match byte {
            b'"' | b'\\' => return Ok((at + offset, bits)),
            0..0x20 => return Err(at + offset),
            _ => bits |= byte,
        }
    }
    Err(body.len())
}

fn fold_bits(word: u64) -> u8 {
    word.to_le_bytes().into_iter().fold(0, |bits, byte| bits | byte)
}

/// The least byte and the union of all bits. Written so that the compiler makes vector code of it.
fn extremes(bytes: &[u8]) -> (u8, u8) {
    let (blocks, rest) = bytes.as_chunks::<32>();
    let (mut least, mut union) = ([u8::MAX; 32], [0u8; 32]);
    for block in blocks {
        for lane in 0..32 {
            least[lane] = least[lane].min(block[lane]);
            union[lane] |= block[lane];
        }
    }
    let lanes = least.iter().zip(&union).fold((u8::MAX, 0), |(low, bits), (l, u)| (low.min(*l), bits | u));
    rest.iter().fold(lanes, |(low, bits), byte| (low.min(*byte), bits | byte))
}
