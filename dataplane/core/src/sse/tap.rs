//! The passive tap.

use super::usage::{Usage, last_usage};
use super::{HEAD_BYTES, TAIL_BYTES};

/// What kind of answer passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Server-sent events.
    Events,
    /// Server-sent events of the Anthropic API, whose first event carries the input tokens.
    AnthropicEvents,
    /// One JSON value.
    Json,
}

/// What a slice of the answer showed for the first time, or showed at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Events that began to be known as such in this slice.
    pub events: u32,
    /// Whether the answer's first event is among them.
    pub first_event: bool,
    /// Whether the stream said that it is complete (`[DONE]`, `message_stop`, `response.completed`).
    pub done: bool,
    /// Whether the engine reported an error inside of the answer.
    pub error: bool,
}

/// Where in the stream of events the bytes so far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Between two events.
    Boundary,
    /// Within an event, behind the end of a line.
    Line,
    /// Within a line.
    Inside,
}

/// Bytes of a line that tell what it is.
const PREFIX: usize = 40;

/// Watches one answer, fed with the body's bytes in any segmentation. About 3 KiB; reusable.
#[derive(Debug, Clone)]
pub struct Tap {
    watch: Watch,
    events: u64,
    bytes: u64,
    done: bool,
    error: bool,
    /// The first bytes of a line, or of the JSON value, that is not complete yet.
    prefix: [u8; PREFIX],
    prefix_len: u8,
    /// Whether the line has bytes.
    in_line: bool,
    in_event: bool,
    /// A line end of CR LF counts once.
    after_cr: bool,
    head: Vec<u8>,
    tail: Box<[u8; TAIL_BYTES]>,
}

impl Tap {
    /// Before the first byte.
    pub fn new(watch: Watch) -> Self {
        Self {
            watch,
            events: 0,
            bytes: 0,
            done: false,
            error: false,
            prefix: [0; PREFIX],
            prefix_len: 0,
            in_line: false,
            in_event: false,
            after_cr: false,
            head: Vec::new(),
            tail: Box::new([0; TAIL_BYTES]),
        }
    }

    /// Makes it new for another answer and keeps its memory.
    pub fn reset(&mut self, watch: Watch) {
        self.head.clear();
        self.watch = watch;
        (self.events, self.bytes, self.done, self.error) = (0, 0, false, false);
        (self.prefix_len, self.in_line, self.in_event, self.after_cr) = (0, false, false, false);
    }

    /// Events with data so far, `[DONE]` and errors not among them. Events, not tokens: engines may put several tokens
    /// into one.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the stream said that it is complete.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the engine reported an error inside of the answer.
    pub fn has_error(&self) -> bool {
        self.error
    }

    /// Where the bytes so far end.
    pub fn place(&self) -> Place {
        match (self.in_line, self.in_event) {
            (true, _) => Place::Inside,
            (false, true) => Place::Line,
            (false, false) => Place::Boundary,
        }
    }

    /// Takes note of the next bytes of the body.
    pub fn push(&mut self, data: &[u8]) -> Seen {
        let mut seen = Seen::default();
        if self.watch == Watch::Json {
            self.json(data, &mut seen);
        } else {
            self.lines(data, &mut seen);
        }
        self.keep(data);
        seen
    }

    /// The usage that the answer reports, looked for from its end.
    pub fn usage(&self) -> Option<Usage> {
        let mut text = [0; TAIL_BYTES];
        let at = (self.bytes % TAIL_BYTES as u64) as usize;
        let length = self.bytes.min(TAIL_BYTES as u64) as usize;
        if length < TAIL_BYTES {
            text[..length].copy_from_slice(&self.tail[..length]);
        } else {
            text[..TAIL_BYTES - at].copy_from_slice(&self.tail[at..]);
            text[TAIL_BYTES - at..].copy_from_slice(&self.tail[..at]);
        }
        match (last_usage(&text[..length]), last_usage(&self.head)) {
            (Some(last), Some(first)) => Some(last.or(first)),
            (last, first) => last.or(first),
        }
    }

    fn keep(&mut self, data: &[u8]) {
        if self.watch == Watch::AnthropicEvents && self.head.len() < HEAD_BYTES {
            let room = HEAD_BYTES - self.head.len();
            self.head.extend_from_slice(&data[..data.len().min(room)]);
        }
        let skipped = data.len().saturating_sub(TAIL_BYTES);
        let last = &data[skipped..];
        let at = ((self.bytes + skipped as u64) % TAIL_BYTES as u64) as usize;
        let (before, after) = last.split_at(last.len().min(TAIL_BYTES - at));
        self.tail[at..at + before.len()].copy_from_slice(before);
        self.tail[..after.len()].copy_from_slice(after);
        self.bytes += data.len() as u64;
    }

    fn json(&mut self, data: &[u8], seen: &mut Seen) {
        if (self.prefix_len as usize) < PREFIX && !self.error {
            let fresh = if self.prefix_len == 0 { data.trim_ascii_start() } else { data };
            self.append(fresh);
            self.error = is_error(&self.prefix[..self.prefix_len as usize]);
            seen.error = self.error;
        }
        if self.bytes == 0 && !data.is_empty() {
            self.events = 1;
            (seen.events, seen.first_event) = (1, true);
        }
    }

    fn append(&mut self, data: &[u8]) {
        let at = self.prefix_len as usize;
        let take = data.len().min(PREFIX - at);
        self.prefix[at..at + take].copy_from_slice(&data[..take]);
        self.prefix_len += take as u8;
    }

    fn lines(&mut self, mut data: &[u8], seen: &mut Seen) {
        if self.after_cr && !data.is_empty() {
            self.after_cr = false;
            data = data.strip_prefix(b"\n").unwrap_or(data);
        }
        while !data.is_empty() {
            let Some(end) = memchr::memchr2(b'\n', b'\r', data) else {
                self.append(data);
                self.in_line = true;
                return;
            };
            if self.in_line {
                self.append(&data[..end]);
                let (prefix, length) = (self.prefix, self.prefix_len as usize);
                self.line(&prefix[..length], seen);
            } else {
                self.line(&data[..end], seen);
            }
            (self.prefix_len, self.in_line) = (0, false);
            let rest = &data[end + 1..];
            self.after_cr = data[end] == b'\r' && rest.is_empty();
            data = if data[end] == b'\r' { rest.strip_prefix(b"\n").unwrap_or(rest) } else { rest };
        }
    }

    /// A complete line, or as much of it as tells what it is.
    fn line(&mut self, line: &[u8], seen: &mut Seen) {
        self.in_event = !line.is_empty();
        if let Some(payload) = line.strip_prefix(b"data:") {
            self.payload(payload.strip_prefix(b" ").unwrap_or(payload), seen);
        } else if let Some(name) = line.strip_prefix(b"event:") {
            match name.trim_ascii() {
                b"error" | b"response.failed" => self.set_error(seen),
                b"message_stop" | b"response.completed" | b"response.incomplete" => self.set_done(seen),
                _ => {}
            }
        }
    }

    fn payload(&mut self, payload: &[u8], seen: &mut Seen) {
        if payload.starts_with(b"[DONE]") {
            return self.set_done(seen);
        }
        if is_error(&payload[..payload.len().min(PREFIX)]) {
            return self.set_error(seen);
        }
        self.events += 1;
        seen.events += 1;
        seen.first_event |= self.events == 1;
    }

    fn set_done(&mut self, seen: &mut Seen) {
        (self.done, seen.done) = (true, true);
    }

    fn set_error(&mut self, seen: &mut Seen) {
        (self.error, seen.error) = (true, true);
    }
}

/// Whether a JSON answer begins as an engine's error does.
pub fn begins_as_error(answer: &[u8]) -> bool {
    let answer = answer.trim_ascii_start();
    is_error(&answer[..answer.len().min(PREFIX)])
}

/// Whether a JSON text begins as an engine's error does: its first key is `error` with a value, or its first member
/// says that it is one.
fn is_error(text: &[u8]) -> bool {
    let Some(inside) = text.strip_prefix(b"{") else { return false };
    let inside = inside.trim_ascii_start();
    let value_of =
        |key: &[u8]| Some(inside.strip_prefix(key)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start());
    if let Some(value) = value_of(b"\"error\"") {
        return matches!(value.first(), Some(b'{' | b'"'));
    }
    [&b"\"object\""[..], b"\"type\""]
        .iter()
        .any(|key| value_of(key).is_some_and(|value| value.starts_with(b"\"error\"")))
}
