//! Edits of a body as byte ranges and what takes their place.

use std::ops::Range;

use smallvec::SmallVec;

use super::{BodyFormat, IncludeUsage, Inspected, StreamOptions};

/// One edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// The bytes that go; empty for an insertion.
    pub at: Range<usize>,
    /// The bytes that come.
    pub with: SmallVec<[u8; 64]>,
}

/// The edits of one body, in order and apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Splices {
    edits: SmallVec<[Splice; 2]>,
    usage_injected: bool,
}

impl Splices {
    /// Whether the body goes on as it came.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// The edits.
    pub fn edits(&self) -> &[Splice] {
        &self.edits
    }

    /// Whether usage was asked for in the client's place, so that the extra event has to be taken out of the answer.
    pub fn usage_injected(&self) -> bool {
        self.usage_injected
    }

    fn push(&mut self, at: Range<usize>, with: &[u8]) {
        self.edits.push(Splice { at, with: SmallVec::from_slice(with) });
    }
}

const OPTIONS: &[u8] = br#"{"include_usage":true}"#;

/// The edits that rename the model and that ask for usage on a stream. `inject_usage` is for chat and completions whose
/// policy wants it; a client that asks for usage itself, or for no stream, is left alone.
///
/// A client that sent `continuous_usage_stats` without `include_usage` gets what it sent: its events carry usage.
pub fn plan_splices(inspected: &Inspected, body: &[u8], rename: Option<&str>, inject_usage: bool) -> Splices {
    let mut splices = Splices::default();
    if let (Some(name), Some(model)) = (rename, inspected.model) {
        match inspected.format {
            BodyFormat::Json if model.decode(body) != name => {
                let mut with = SmallVec::new();
                escape_json(name, &mut with);
                splices.edits.push(Splice { at: model.span.range(), with });
            }
            BodyFormat::Multipart if model.span.of(body) != name.as_bytes() => {
                splices.push(model.span.range(), name.as_bytes());
            }
            _ => {}
        }
    }
    if inject_usage && inspected.format == BodyFormat::Json && inspected.stream == Some(true) {
        splices.usage_injected = ask_for_usage(inspected, &mut splices);
    }
    splices.edits.sort_by_key(|splice| splice.at.start);
    splices
}

fn ask_for_usage(inspected: &Inspected, splices: &mut Splices) -> bool {
    match inspected.stream_options {
        StreamOptions::Absent => {
            let end = inspected.stream_span.end as usize;
            splices.push(end..end, br#","stream_options":{"include_usage":true}"#);
        }
        StreamOptions::Null(span) => splices.push(span.range(), OPTIONS),
        StreamOptions::Object { span, empty: true, .. } => splices.push(span.range(), OPTIONS),
        StreamOptions::Object { span, include_usage: IncludeUsage::Absent, .. } => {
            let inside = span.start as usize + 1;
            splices.push(inside..inside, br#""include_usage":true,"#);
        }
        StreamOptions::Object { include_usage: IncludeUsage::Off(value), .. } => splices.push(value.range(), b"true"),
        StreamOptions::Object { .. } | StreamOptions::Other => return false,
    }
    true
}

/// A string's value as it stands between the quotes of JSON.
pub(crate) fn escape_json(value: &str, out: &mut impl Extend<u8>) {
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            0..0x20 => {
                let digit = |value: u8| b"0123456789abcdef"[value as usize];
                out.extend([b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.extend([byte]),
        }
    }
}

/// Edits a body where it lies, at the end of `bytes`, and returns where it is then. Of each edit what comes before it or what comes after
/// it moves, whichever is less, so that a body of megabytes stays where it is: models, `stream` and its options are told before the
/// messages or after them. Between two halves of megabytes one of the halves moves. From `floor` on, what lies before the body may be written over.
pub fn apply_in_place(bytes: &mut Vec<u8>, body: Range<usize>, floor: usize, splices: &Splices) -> Range<usize> {
    let Range { mut start, mut end } = body;
    debug_assert_eq!(end, bytes.len());
    // The last one first: those that are to come lie before it, and their places count from where the body begins.
    for Splice { at, with } in splices.edits.iter().rev() {
        let (before, after) = (at.start, start + at.end..end);
        let grown = with.len() as isize - at.len() as isize;
        match start.checked_add_signed(-grown) {
            Some(left) if left >= floor && before <= after.len() => {
                bytes.copy_within(start..start + before, left);
                start = left;
            }
            _ => {
                let to = after.start.saturating_add_signed(grown);
                end = end.saturating_add_signed(grown);
                bytes.resize(bytes.len().max(end), 0);
                bytes.copy_within(after, to);
                bytes.truncate(end);
            }
        }
        bytes[start + before..][..with.len()].copy_from_slice(with);
    }
    start..end
}

/// The length of the edited body.
pub fn spliced_len(body: &[u8], splices: &Splices) -> usize {
    splices.edits.iter().fold(body.len(), |length, splice| length - splice.at.len() + splice.with.len())
}

/// The edited body in pieces, for a vectored write. Empty pieces are possible.
pub fn segments<'a>(body: &'a [u8], splices: &'a Splices) -> impl Iterator<Item = &'a [u8]> {
    let edits = &splices.edits;
    let before = |index: usize| if index == 0 { 0 } else { edits[index - 1].at.end };
    let pairs = edits.iter().enumerate();
    let rest = &body[before(edits.len())..];
    pairs.flat_map(move |(index, splice)| [&body[before(index)..splice.at.start], &splice.with]).chain([rest])
}

/// Appends the edited body to `out`: what [`apply_in_place`] is held to.
pub fn apply(body: &[u8], splices: &Splices, out: &mut Vec<u8>) {
    out.reserve(spliced_len(body, splices));
    for segment in segments(body, splices) {
        out.extend_from_slice(segment);
    }
}
