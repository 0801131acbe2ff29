//! Counts the events of a stream as they arrive, and reads the send time where an event carries one.

use memchr::{memchr, memmem};

/// A line longer than this is counted without being looked at.
const MAX_LINE: usize = 4096;
/// How an event says when it was sent: CLOCK_MONOTONIC nanoseconds.
pub const SENT_KEY: &[u8] = b"\"sent_ns\":";

/// What one event was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Data, with its send time where it had one.
    Data(Option<u64>),
    /// `[DONE]`.
    Done,
    /// An error inside the stream.
    Error,
}

/// Follows one stream; lines may be cut anywhere.
#[derive(Debug, Default)]
pub struct Scanner {
    line: Vec<u8>,
    event: Option<Event>,
}

impl Scanner {
    /// Forgets the last stream.
    pub fn reset(&mut self) {
        self.line.clear();
        self.event = None;
    }

    /// Takes bytes of the body and calls `emit` for each event that they end.
    pub fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Event)) {
        while let Some(end) = memchr(b'\n', bytes) {
            if self.line.is_empty() {
                self.event = step(self.event, &bytes[..end], &mut emit);
            } else {
                self.keep(&bytes[..end]);
                let line = std::mem::take(&mut self.line);
                self.event = step(self.event, &line, &mut emit);
                // The allocation stays for the next cut line.
                self.line = line;
                self.line.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

fn step(event: Option<Event>, line: &[u8], emit: &mut impl FnMut(Event)) -> Option<Event> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        if let Some(event) = event {
            emit(event);
        }
        return None;
    }
    let Some(data) = line.strip_prefix(b"data:") else { return event };
    let data = data.trim_ascii_start();
    Some(match data {
        b"[DONE]" => Event::Done,
        _ if data.starts_with(b"{\"error\"") => Event::Error,
        _ => Event::Data(sent(data)),
    })
}

fn sent(data: &[u8]) -> Option<u64> {
    let at = memmem::find(data, SENT_KEY)? + SENT_KEY.len();
    let digits = data[at..].trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit());
    let value = digits.fold(0u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
    (value > 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream: &str, expected: &[Event]) {
        for step in 1..=stream.len() {
            let (mut scanner, mut got) = (Scanner::default(), Vec::new());
            for piece in stream.as_bytes().chunks(step) {
                scanner.feed(piece, |event| got.push(event));
            }
            assert_eq!(got, expected, "in steps of {step}");
        }
    }

    #[test]
    fn events_are_counted_at_every_split() {
        use Event::{Data, Done, Error};
        check("data: {\"a\":1}\n\ndata: {\"sent_ns\": 42, \"b\":1}\r\n\r\n", &[Data(None), Data(Some(42))]);
        check(": ping\n\nevent: x\ndata: {}\n\ndata: [DONE]\n\n", &[Data(None), Done]);
        check("data: {\"error\":{}}\n\ndata: cut", &[Error]);
    }
}
