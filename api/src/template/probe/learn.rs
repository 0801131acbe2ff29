//! What a template puts into each gap, and what it does to each content, from small conversations whose contents can be
//! found again in the text.

use std::collections::{BTreeMap, BTreeSet};

use super::super::python::MARKS;
use super::super::{
    Apart, Change, Clock, ContentForm, ContentKey, Conversation, GapKey, Message, Piece, Segments, Speaker, Walk,
};
use super::Tries;

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Found {
    gaps: BTreeMap<GapKey, Box<[Piece]>>,
    contents: BTreeMap<ContentKey, Change>,
}

impl Found {
    pub(super) fn segments(&self, apart: Apart) -> Segments {
        Segments::new(&self.gaps, &self.contents, apart)
    }

    /// Of all different texts, as they go over the wire or a little more.
    pub(super) fn bytes(&self) -> usize {
        let texts: BTreeSet<&[Piece]> = self.gaps.values().map(|text| &**text).collect();
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) | Piece::Date(text) => text.len() + PIECE_BYTES,
        };
        texts.into_iter().map(|text| text.iter().map(piece).sum::<usize>() + PIECE_BYTES).sum()
    }
}

/// What a piece or a text takes on the wire besides its bytes, at most.
const PIECE_BYTES: usize = 16;

/// Contents that a template may change, around a text that it will not.
const PLAIN: [&str; 3] = ["\u{1c} \n\n Xq \n\u{1f}\n", "\n\nXq\n\n", "\n Xq\u{a0}"];
/// The same, with thoughts.
const THOUGHTFUL: [&str; 4] =
    ["a</think>\n\n Xq \n b\n", "<think>\nb\n</think>\n\nXq</think>\n  Y \n", "</think>Xq", "c</think>\t\nXq"];

pub(super) fn learn(renderer: &Tries, form: ContentForm) -> Found {
    let mut found = Found::default();
    for speakers in sequences() {
        for generate in [true, false] {
            let keys = Keys::of(&speakers, generate);
            if !keys.are_known(&found) {
                Lesson { renderer, form, speakers: &speakers, generate }.learn(&keys, &mut found);
            }
        }
    }
    found
}

/// Who speaks, the shortest first. Long ones are those that templates with rules about turns take.
fn sequences() -> Vec<Vec<Speaker>> {
    use Speaker::{Assistant, System, Tool, User};
    let mut sequences = vec![Vec::new()];
    let longer = |all: &[Vec<Speaker>], by: &[Speaker]| -> Vec<Vec<Speaker>> {
        let append = |head: &Vec<Speaker>, next| head.iter().copied().chain([next]).collect();
        all.iter().flat_map(|head| by.iter().map(move |next| append(head, *next))).collect()
    };
    let mut last = sequences.clone();
    for _ in 0..4 {
        last = longer(&last, &Speaker::ALL);
        sequences.extend(last.iter().cloned());
    }
    let mut heads = vec![Vec::new(), vec![System]];
    for length in 1..=6 {
        // Seven in a row only where there are no tools among them.
        heads = longer(&heads, if length < 6 { &[User, Assistant, Tool] } else { &[User, Assistant] });
        if length >= 4 {
            sequences.extend(heads.iter().filter(|s| s.contains(&User)).cloned());
        }
    }
    sequences
}

/// The keys of one conversation, in order.
struct Keys {
    gaps: Vec<GapKey>,
    contents: Vec<ContentKey>,
}

impl Keys {
    fn of(speakers: &[Speaker], generate: bool) -> Self {
        let mut walk = Walk::new(speakers.iter().copied());
        let (mut gaps, contents): (Vec<_>, Vec<_>) = speakers.iter().map(|speaker| walk.message(*speaker)).unzip();
        gaps.push(walk.end(generate));
        Self { gaps, contents }
    }

    fn are_known(&self, found: &Found) -> bool {
        self.gaps.iter().all(|key| found.gaps.contains_key(key))
            && self.contents.iter().all(|key| found.contents.contains_key(key))
    }
}

/// One conversation to learn from.
struct Lesson<'a> {
    renderer: &'a Tries,
    form: ContentForm,
    speakers: &'a [Speaker],
    generate: bool,
}

impl Lesson<'_> {
    fn learn(&self, keys: &Keys, found: &mut Found) {
        let marks: Vec<String> = (0..self.speakers.len()).map(|at| format!("Xq7k{at}q7X")).collect();
        let Some(text) = self.render(&marks) else { return };
        // Each content once, and in order, or the template does more than put texts between them.
        let Some(places) = places(&text, &marks) else { return };
        let starts = std::iter::once(0).chain(places.iter().map(|place| place.end));
        let ends = places.iter().map(|place| place.start).chain([text.len()]);
        for ((start, end), key) in starts.zip(ends).zip(&keys.gaps) {
            found.gaps.entry(*key).or_insert_with(|| pieces(&text[start..end]));
        }
        for (at, key) in keys.contents.iter().enumerate() {
            if !found.contents.contains_key(key)
                && let Some(change) = self.change(&marks, at, (&text[..places[at].start], &text[places[at].end..]))
            {
                found.contents.insert(*key, change);
            }
        }
    }

    /// What becomes of the content at `at`, which stands between two known texts.
    fn change(&self, marks: &[String], at: usize, around: (&str, &str)) -> Option<Change> {
        let outcome = |content: &'static str| {
            let mut contents = marks.to_vec();
            contents[at] = content.to_owned();
            let text = self.render(&contents)?;
            let rest = text.strip_prefix(around.0)?.strip_suffix(around.1)?;
            Some((content, rest.to_owned()))
        };
        let plain: Vec<_> = PLAIN.into_iter().map(outcome).collect::<Option<_>>()?;
        let thoughtful: Option<Vec<_>> = THOUGHTFUL.into_iter().map(outcome).collect();
        let fits = |change: &Change, seen: &[(&str, String)]| seen.iter().all(|(from, to)| change.of(from) == to);
        let all = thoughtful.and_then(|seen| Change::all().find(|c| fits(c, &plain) && fits(c, &seen)));
        all.or_else(|| Change::all().find(|change| fits(change, &plain)))
    }

    fn render(&self, contents: &[String]) -> Option<String> {
        let message = |(speaker, content): (&Speaker, &String)| Message { speaker: *speaker, content: content.clone() };
        let messages = self.speakers.iter().zip(contents).map(message).collect();
        let conversation = Conversation { messages, generate: self.generate, unix_s: 0 };
        self.renderer.render(&conversation.request(self.form, Clock::Marked))
    }
}

fn places(text: &str, marks: &[String]) -> Option<Vec<std::ops::Range<usize>>> {
    let mut from = 0;
    let place = |mark: &String| {
        let start = text.find(mark.as_str())?;
        let once = start >= from && text.rfind(mark.as_str()) == Some(start);
        from = start + mark.len();
        once.then_some(start..from)
    };
    marks.iter().map(place).collect()
}

/// Splits at the marked dates.
fn pieces(text: &str) -> Box<[Piece]> {
    let mut pieces = Vec::new();
    for part in text.split_inclusive(MARKS[1]) {
        let (plain, date) = match part.strip_suffix(MARKS[1]).and_then(|part| part.split_once(MARKS[0])) {
            Some((plain, format)) => (plain, Some(format)),
            None => (part, None),
        };
        pieces.extend((!plain.is_empty()).then(|| Piece::Text(plain.into())));
        pieces.extend(date.map(|format| Piece::Date(format.into())));
    }
    pieces.into()
}
