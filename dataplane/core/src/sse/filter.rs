//! Taking out the usage event that the client did not ask for.
//!
//! With `include_usage`, vLLM and OpenAI send one more event before `[DONE]`, with `"choices":[]` and a usage object;
//! that one is removed. OpenAI's other events gain `"usage":null` (vLLM 0.32 leaves the key out): those stay as they
//! are, for every client takes an optional null, and to touch each event would cost more than it is worth.

use memchr::memmem;

use super::MAX_HELD_BYTES;
use super::usage::{Usage, last_usage};
use crate::inspect::scan::{After, Scanner};

/// What came of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// It goes on as it is; nothing was added to `out`.
    Whole,
    /// What `out` was given goes on in its place; that may be nothing.
    Edited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the first line of an event, all of it held.
    Undecided,
    /// The line of a usage event is held whole; a blank line must follow.
    Blank,
    /// Within an event that passes, at the start of a line or within it.
    Passing { in_line: bool },
}

/// The transformer. Bytes are held back only while they may belong to the usage event, and never more than
/// [`MAX_HELD_BYTES`]. An event is that event when its one line is `data:` with a JSON object whose `choices` is an
/// empty list and whose `usage` is an object.
#[derive(Debug, Clone)]
pub struct UsageFilter {
    state: State,
    held: Vec<u8>,
    /// Where in the held line to go on looking for a sign that the event is another one.
    searched: usize,
    /// The last byte was a CR: an LF right behind it belongs to the same line end.
    after_cr: bool,
    /// That line end was taken out.
    drop_lf: bool,
    choices: memmem::Finder<'static>,
    /// How an event began that was another one, up to the first of its choices. What begins so is no usage event either, and
    /// all events of a stream begin alike as a rule.
    other: Vec<u8>,
    removed: u64,
    usage: Option<Usage>,
}

const CHOICES: &[u8] = b"\"choices\"";
/// The longest beginning that is kept.
const OTHER_BYTES: usize = 512;

impl Default for UsageFilter {
    fn default() -> Self {
        Self::new()
    }
}

impl UsageFilter {
    /// Before the first byte.
    pub fn new() -> Self {
        Self {
            state: State::Undecided,
            held: Vec::new(),
            searched: 0,
            after_cr: false,
            drop_lf: false,
            choices: memmem::Finder::new(CHOICES),
            other: Vec::new(),
            removed: 0,
            usage: None,
        }
    }

    /// Events taken out.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// The usage of the event that was taken out.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Takes the next bytes of the stream. Appends to `out` what goes on, unless the slice goes on as it is.
    pub fn push(&mut self, data: &[u8], out: &mut Vec<u8>) -> Passed {
        let plain = self.plain_events(data);
        if plain == data.len() {
            return Passed::Whole;
        }
        out.extend_from_slice(&data[..plain]);
        self.lines(&data[plain..], out);
        Passed::Edited
    }

    /// The end of the stream: what is held goes on, for a stream cut within an event is the client's to see.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// The length of the whole events at the start of `data` that are plainly others: the usual slice is nothing else.
    fn plain_events(&mut self, data: &[u8]) -> usize {
        let mut at = 0;
        if self.state != State::Undecided || !self.held.is_empty() || self.after_cr {
            return 0;
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', &data[at..]) {
            let line = &data[at..at + end];
            if !data[at + end..].starts_with(b"\n\n") || end == 0 || !self.is_plainly_other(line) {
                break;
            }
            at += end + 2;
        }
        at
    }

    fn is_plainly_other(&mut self, line: &[u8]) -> bool {
        if !self.other.is_empty() && line.starts_with(&self.other) {
            return true;
        }
        self.searched = 0;
        let other = !self.may_be_usage(line);
        // Where the search ended is where the choices are, if there are any.
        let begun = line.len() - line[self.searched..].strip_prefix(CHOICES).map_or(0, <[u8]>::len);
        let first = line[begun..].iter().position(|byte| !b" \t:[".contains(byte));
        if let (true, Some(first)) = (other && begun > self.searched, first)
            && begun + first < OTHER_BYTES
        {
            self.other.clear();
            self.other.extend_from_slice(&line[..=begun + first]);
        }
        self.searched = 0;
        other
    }

    fn lines(&mut self, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            if self.after_cr {
                self.after_cr = false;
                if data[0] == b'\n' {
                    self.line_feed(out);
                    data = &data[1..];
                    continue;
                }
            }
            let end = memchr::memchr2(b'\n', b'\r', data);
            let (text, rest) = data.split_at(end.unwrap_or(data.len()));
            if !text.is_empty() {
                self.text(text, out);
            }
            let Some(byte) = rest.first() else { return };
            self.end_line(*byte, out);
            data = &rest[1..];
        }
    }

    /// Bytes of a line.
    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        match self.state {
            State::Undecided => {
                self.held.extend_from_slice(text);
                let held = std::mem::take(&mut self.held);
                let undecided = held.len() <= MAX_HELD_BYTES && self.may_be_usage(&held);
                self.held = held;
                if !undecided {
                    self.pass(out, true);
                }
            }
            State::Blank => {
                self.pass(out, true);
                out.extend_from_slice(text);
            }
            State::Passing { .. } => {
                out.extend_from_slice(text);
                self.state = State::Passing { in_line: true };
            }
        }
    }

    /// A CR or an LF.
    fn end_line(&mut self, byte: u8, out: &mut Vec<u8>) {
        (self.after_cr, self.drop_lf) = (byte == b'\r', false);
        match self.state {
            State::Undecided if self.held.is_empty() => out.push(byte),
            State::Undecided => {
                let usage = is_usage_event(&self.held);
                self.held.push(byte);
                if usage { self.state = State::Blank } else { self.pass(out, false) }
            }
            State::Blank => {
                self.usage = last_usage(&self.held);
                self.removed += 1;
                self.drop_lf = true;
                self.held.clear();
                self.start_event();
            }
            State::Passing { in_line } => {
                out.push(byte);
                if in_line { self.state = State::Passing { in_line: false } } else { self.start_event() }
            }
        }
    }

    /// The LF of a CR LF goes where its CR went.
    fn line_feed(&mut self, out: &mut Vec<u8>) {
        if self.drop_lf {
            self.drop_lf = false;
        } else if self.state == State::Blank {
            self.held.push(b'\n');
        } else {
            out.push(b'\n');
        }
    }

    fn start_event(&mut self) {
        (self.state, self.searched) = (State::Undecided, 0);
    }

    /// Lets go of what is held: the event is another one.
    fn pass(&mut self, out: &mut Vec<u8>, in_line: bool) {
        out.append(&mut self.held);
        self.state = State::Passing { in_line };
    }

    /// Whether an event whose first line begins so can still be the usage event.
    fn may_be_usage(&mut self, line: &[u8]) -> bool {
        let Some(payload) = line.strip_prefix(b"data:") else { return b"data:".starts_with(line) };
        match payload.trim_ascii_start().first() {
            None => return true,
            Some(b'{') => {}
            Some(_) => return false,
        }
        self.searched = self.searched.min(line.len());
        let Some(found) = self.choices.find(&line[self.searched..]) else {
            self.searched = line.len().saturating_sub(CHOICES.len());
            return true;
        };
        self.searched += found;
        let value = line[self.searched + CHOICES.len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(b":") else { return value.is_empty() };
        let value = value.trim_ascii_start();
        let Some(inside) = value.strip_prefix(b"[") else { return value.is_empty() };
        matches!(inside.trim_ascii_start().first(), None | Some(b']'))
    }
}

/// Whether a whole line is the usage event.
fn is_usage_event(line: &[u8]) -> bool {
    let Some(payload) = line.strip_prefix(b"data:") else { return false };
    let mut scanner = Scanner::new(payload);
    let (mut empty_choices, mut usage) = (false, false);
    let mut walk = || {
        if scanner.peek()? != b'{' {
            return Ok(false);
        }
        let mut after = scanner.open(b'}')?;
        while after == After::More {
            let key = scanner.key()?.span.of(payload);
            let value = scanner.skip(1)?.of(payload);
            match key {
                b"choices" => empty_choices = value[0] == b'[' && value[1..value.len() - 1].trim_ascii().is_empty(),
                b"usage" => usage = value[0] == b'{',
                _ => {}
            }
            after = scanner.after(b'}')?;
        }
        scanner.blanks();
        Ok::<_, crate::inspect::InspectError>(scanner.at == payload.len())
    };
    walk().unwrap_or(false) && empty_choices && usage
}
