//! Seeded mutations that stay near the grammar: bytes, ranges, lines and whole messages.

use crate::corpus::LINES;
use crate::cuts::Dice;

/// The longest stream that is made.
const MOST_BYTES: usize = 8 << 10;

/// Bytes at which readers part.
const BYTES: &[u8] = b"\r\n\r\n\r\n \t:;,\"\\=/?#%.*_-+0159afAFxX{}[]@\0\x0b\x0c\x1f\x7f\x80\xa0\xff";

/// Texts and what may stand for them.
const WORDS: &[(&[u8], &[&[u8]])] = &[
    (b"\r\n", &[b"\n", b"\r", b"\r\r\n", b"\r\n\r\n", b"\n\r", b" \r\n", b"\r\n "]),
    (b": ", &[b":", b" : ", b":\t", b":  ", b"=", b": ,"]),
    (b"HTTP/1.1", &[b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2", b"http/1.1", b"HTTP/1.1 ", b" HTTP/1.1", b"HTTP/1.10"]),
    (b"HTTP/1.0", &[b"HTTP/1.1"]),
    (b"GET", &[b"HEAD", b"POST", b"get", b"CONNECT", b"M-SEARCH", b"OPTIONS", b"|"]),
    (b"POST", &[b"GET", b"PUT", b"QUERY", b"TRACE"]),
    (b"chunked", &[b"Chunked", b"chunked, chunked", b"gzip", b"\"chunked\"", b"chunked;x", b" chunked\t", b"x"]),
    (b"ransfer-Encoding", &[b"RANSFER-ENCODING", b"e", b"ransfer_Encoding"]),
    (b"ontent-Length", &[b"ONTENT-LENGTH", b"ontent-Type", b"ontent_Length", b"ontent-Length "]),
    (b"lose", &[b"LOSE", b"lose, keep-alive", b"eep-alive"]),
    (
        b"200 OK",
        &[b"204 No Content", b"304 Not Modified", b"100 Continue", b"101 X", b"200", b"299 ", b"600 X", b"404 \xe9"],
    ),
    (b"/", &[b"//", b"/./", b"/../", b"/%2f", b"/%61", b"http://h/", b"/?", b"\\", b"*", b"http://h?"]),
    (b"0\r\n", &[b"00\r\n", b"0;x\r\n", b"0 \r\n", b"1\r\n", b"0\r\nx: y\r\n", b"0\r\ncontent-length: 9\r\n"]),
    (
        b"5",
        &[b"05", b"5;a=b", b"6", b"4", b"5 ;a", b"0x5", b"+5", b"5,5", b"18446744073709551621", b"0000000000000005"],
    ),
    (b"2", &[b"02", b"2;a", b"3", b"1", b"2 ; a = \"b\""]),
    (b"100-continue", &[b"100-Continue", b"100-continue, x", b"x"]),
    (b"Host", &[b"host", b"HOST", b"Hos", b"Host "]),
];

/// One stream made of others. Most begin as one of the first `good` ones, so that many still mean something.
pub(crate) fn mutated(corpus: &[Vec<u8>], good: usize, dice: &mut Dice) -> Vec<u8> {
    let among = if dice.below(4) == 0 { corpus.len() } else { good };
    let mut stream = corpus[dice.below(among)].clone();
    for _ in 0..1 + dice.below(3) {
        once(&mut stream, corpus, dice);
        stream.truncate(MOST_BYTES);
    }
    stream
}

fn once(stream: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut Dice) {
    match dice.below(16) {
        0..5 => in_bytes(stream, dice),
        5..9 => in_lines(stream, dice),
        9..13 => with_other(stream, &corpus[dice.below(corpus.len())], dice),
        _ => reworded(stream, dice),
    }
}

/// A byte or a range, anywhere.
fn in_bytes(stream: &mut Vec<u8>, dice: &mut Dice) {
    let (at, byte) = (place(stream, dice), BYTES[dice.below(BYTES.len())]);
    match dice.below(6) {
        0 => stream.insert(at, byte),
        1 => stream.iter_mut().skip(at).take(1).for_each(|b| *b = byte),
        2 => {
            let bit = 1 << dice.below(8);
            stream.iter_mut().skip(at).take(1).for_each(|b| *b ^= bit);
        }
        3 => drop(stream.drain(range(stream, dice, 12))),
        4 => {
            let copied = stream[range(stream, dice, 40)].to_vec();
            stream.splice(at..at, copied);
        }
        _ => {
            let range = range(stream, dice, 20);
            stream[range].iter_mut().filter(|b| b.is_ascii_alphabetic()).for_each(|b| *b ^= 0x20);
        }
    }
}

/// A line, or some.
fn in_lines(stream: &mut Vec<u8>, dice: &mut Dice) {
    let (one, two) = (line_start(stream, dice), line_start(stream, dice));
    let lines = one.min(two)..one.max(two);
    match dice.below(4) {
        0 => drop(stream.drain(lines)),
        1 => {
            let copied = stream[lines].to_vec();
            let at = line_start(stream, dice);
            stream.splice(at..at, copied);
        }
        _ => {
            let line = LINES[dice.below(LINES.len())].as_bytes();
            // Now and then more than the limit of fields.
            let line = line.repeat([1, 1, 1, 1, 2, 101][dice.below(6)]);
            stream.splice(one..one, line);
        }
    }
}

/// The rest of another stream, or all of it, before or after.
fn with_other(stream: &mut Vec<u8>, other: &[u8], dice: &mut Dice) {
    match dice.below(4) {
        0 => {
            stream.truncate(line_start(stream, dice));
            stream.extend_from_slice(&other[line_start(other, dice)..]);
        }
        1 => drop(stream.splice(0..0, other.iter().copied())),
        _ => stream.extend_from_slice(other),
    }
}

/// One text for another, where it occurs.
fn reworded(stream: &mut Vec<u8>, dice: &mut Dice) {
    let (word, others) = WORDS[dice.below(WORDS.len())];
    let places: Vec<_> = memchr::memmem::find_iter(stream, word).collect();
    if let Some(at) = places.get(dice.below(places.len().max(1))) {
        stream.splice(*at..at + word.len(), others[dice.below(others.len())].iter().copied());
    }
}

fn place(stream: &[u8], dice: &mut Dice) -> usize {
    dice.below(stream.len() + 1)
}

fn range(stream: &[u8], dice: &mut Dice, longest: usize) -> std::ops::Range<usize> {
    let at = place(stream, dice);
    at..stream.len().min(at + 1 + dice.below(longest))
}

/// The start of a line, or the end.
fn line_start(stream: &[u8], dice: &mut Dice) -> usize {
    let starts: Vec<_> = std::iter::once(0).chain(memchr::memchr_iter(b'\n', stream).map(|lf| lf + 1)).collect();
    starts[dice.below(starts.len())]
}
