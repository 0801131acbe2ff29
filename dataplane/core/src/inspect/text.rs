//! Places in a body, and the strings there.

use std::borrow::Cow;

/// A range of a body's bytes. Four bytes an end: bodies over 4 GiB are refused before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The same as a range of indexes.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Its bytes in the body that it was found in.
    pub fn of(self, body: &[u8]) -> &[u8] {
        &body[self.range()]
    }
}

/// A string of the body, between its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Text {
    /// Where it is, without the quotes.
    pub span: Span,
    /// Whether it holds escapes.
    pub escaped: bool,
    /// Code points after unescaping.
    pub chars: u32,
}

impl Text {
    /// The string's value. Borrowed unless it holds escapes.
    pub fn decode<'a>(&self, body: &'a [u8]) -> Cow<'a, str> {
        let raw = self.span.of(body);
        if !self.escaped {
            return String::from_utf8_lossy(raw);
        }
        let mut value = Vec::with_capacity(raw.len());
        self.pieces(body, &mut |piece| value.extend_from_slice(piece));
        Cow::Owned(String::from_utf8(value).unwrap_or_default())
    }

    /// Hands out the value in pieces without building it.
    pub(super) fn pieces(&self, body: &[u8], take: &mut impl FnMut(&[u8])) {
        let raw = self.span.of(body);
        if self.escaped { unescape(raw, take) } else { take(raw) }
    }
}

/// Bytes that are decoded before they are handed on, so that dense escapes do not cost a call each.
const BUFFER: usize = 512;

/// Unescapes a string that the scanner has already checked.
pub(super) fn unescape(mut raw: &[u8], take: &mut impl FnMut(&[u8])) {
    let mut buffer = [0u8; BUFFER];
    let mut filled = 0;
    loop {
        // Escapes stand close together where they are common: a short look by hand saves the call.
        let run = match raw.iter().take(16).position(|byte| *byte == b'\\') {
            Some(run) => run,
            None => memchr::memchr(b'\\', raw).unwrap_or(raw.len()),
        };
        let (plain, rest) = raw.split_at(run);
        if filled + plain.len() + 4 > BUFFER {
            take(&buffer[..filled]);
            filled = 0;
        }
        if plain.len() + 4 > BUFFER {
            take(plain);
        } else {
            buffer[filled..filled + plain.len()].copy_from_slice(plain);
            filled += plain.len();
        }
        if rest.is_empty() {
            take(&buffer[..filled]);
            return;
        }
        let (decoded, used) = decode_escape(rest);
        filled += decoded.encode_utf8(&mut buffer[filled..]).len();
        raw = &rest[used..];
    }
}

/// The character that `raw` begins with, a checked escape, and its length.
fn decode_escape(raw: &[u8]) -> (char, usize) {
    let simple = |decoded| (decoded, 2);
    match raw.get(1) {
        Some(b'n') => simple('\n'),
        Some(b't') => simple('\t'),
        Some(b'r') => simple('\r'),
        Some(b'b') => simple('\u{8}'),
        Some(b'f') => simple('\u{c}'),
        Some(b'u') => {
            let first = hex4(raw, 2).unwrap_or(0xfffd);
            if first & 0xfc00 != 0xd800 {
                return (char::from_u32(first).unwrap_or('\u{fffd}'), 6);
            }
            let second = hex4(raw, 8).unwrap_or(0xdc00);
            let code = 0x10000 + ((first & 0x3ff) << 10) + (second & 0x3ff);
            (char::from_u32(code).unwrap_or('\u{fffd}'), 12)
        }
        Some(byte) => simple(*byte as char),
        None => ('\u{fffd}', raw.len()),
    }
}

/// The four hexadecimal digits at `at`.
pub(super) fn hex4(raw: &[u8], at: usize) -> Option<u32> {
    raw.get(at..at + 4)?.iter().try_fold(0, |value, digit| Some(value << 4 | (*digit as char).to_digit(16)?))
}
