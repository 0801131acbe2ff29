//! A chat template as fixed texts between the messages' contents.
//!
//! What stands in a gap is chosen by [`GapKey`], what becomes of a content by [`ContentKey`]. A conversation that is
//! [`Outside`] of what the segments were seen to render is the template's own to render. Nothing is built here: the texts
//! go to a [`Sink`], which hashes them or puts them together.

use std::collections::BTreeMap;

use super::change::has_thought;
use super::{Change, ContentKey, GapKey, Speaker, Walk};

/// What stands in a gap, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// This text.
    Text(Box<str>),
    /// The time of rendering in this `strftime` format.
    Date(Box<str>),
}

/// Conversations that a template renders in another way than its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Apart(u8);

impl Apart {
    /// A message of which nothing is left to write.
    pub const EMPTY: Self = Self(1);
    /// An answer that holds `</think>`.
    pub const THOUGHT: Self = Self(1 << 1);
    /// `system` or `developer` behind the first message.
    pub const LATE_SYSTEM: Self = Self(1 << 2);
    /// The last message is the assistant's.
    pub const OPEN_ANSWER: Self = Self(1 << 3);
    /// Two messages in a row of the same role.
    pub const REPEATED: Self = Self(1 << 4);
    /// A message of a tool.
    pub const TOOL: Self = Self(1 << 5);
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::EMPTY, Self::THOUGHT, Self::LATE_SYSTEM, Self::OPEN_ANSWER, Self::REPEATED, Self::TOOL];

    /// As a number of so many bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// From a number; none where it has bits of a later version.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits < 1 << Self::ALL.len()).then_some(Self(bits))
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has something of the other.
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// What a sequence of speakers has of it.
    pub fn of_speakers(speakers: impl Iterator<Item = Speaker>) -> Self {
        let (mut found, mut before) = (Self::default(), None);
        for speaker in speakers {
            if before == Some(speaker) {
                found = found.and(Self::REPEATED);
            }
            if before.is_some() && matches!(speaker, Speaker::System | Speaker::Developer) {
                found = found.and(Self::LATE_SYSTEM);
            }
            if speaker == Speaker::Tool {
                found = found.and(Self::TOOL);
            }
            before = Some(speaker);
        }
        if before == Some(Speaker::Assistant) { found.and(Self::OPEN_ANSWER) } else { found }
    }
}

/// The conversation is not of the form that the segments render: the template itself must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not of the form that the segments render")]
pub struct Outside;

/// What becomes of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    change: Change,
    apart: Apart,
}

impl How {
    /// Whether every content that is not empty goes through as it is, so that it need not be looked at as a whole.
    pub fn is_verbatim(self) -> bool {
        self.change.is_nothing() && !self.apart.has(Apart::THOUGHT)
    }

    /// What is written of `content`.
    ///
    /// # Errors
    /// When the template treats such a content in another way.
    pub fn of(self, content: &str) -> Result<&str, Outside> {
        if self.apart.has(Apart::THOUGHT) && has_thought(content) {
            return Err(Outside);
        }
        let kept = self.change.of(content);
        if kept.is_empty() { self.empty().map(|()| kept) } else { Ok(kept) }
    }

    /// For a content of which nothing is left.
    ///
    /// # Errors
    /// When the template treats it in another way.
    pub fn empty(self) -> Result<(), Outside> {
        if self.apart.has(Apart::EMPTY) { Err(Outside) } else { Ok(()) }
    }
}

/// A message on its way to a [`Sink`].
#[derive(Debug, Clone, Copy)]
pub struct Turn<C> {
    /// Who speaks.
    pub speaker: Speaker,
    /// What is said, as the sink knows it.
    pub content: C,
}

/// Where rendered text goes.
pub trait Sink<C> {
    /// A fixed text.
    fn text(&mut self, text: &str);

    /// The time of rendering in a `strftime` format.
    ///
    /// # Errors
    /// When it cannot be written in this format.
    fn date(&mut self, format: &str) -> Result<(), Outside>;

    /// What is written of a content. False ends the text there.
    ///
    /// # Errors
    /// When `how` refuses it.
    fn content(&mut self, content: C, how: How) -> Result<bool, Outside>;
}

/// No text is known for a gap.
const UNKNOWN: u16 = u16::MAX;

/// A chat template as fixed texts between contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// What can stand in a gap, each once.
    texts: Box<[Box<[Piece]>]>,
    /// By [`GapKey::number`]: which of the texts.
    gaps: Box<[u16]>,
    /// By [`ContentKey::number`].
    contents: Box<[Option<Change>]>,
    apart: Apart,
}

impl Segments {
    /// Different texts that one template can have.
    pub const MAX_TEXTS: usize = GapKey::COUNT;

    /// From what was seen of a template.
    pub fn new(gaps: &BTreeMap<GapKey, Box<[Piece]>>, contents: &BTreeMap<ContentKey, Change>, apart: Apart) -> Self {
        let mut texts: Vec<Box<[Piece]>> = gaps.values().cloned().collect();
        texts.sort_unstable();
        texts.dedup();
        let mut by_gap = vec![UNKNOWN; GapKey::COUNT];
        for (key, pieces) in gaps {
            by_gap[key.number()] = texts.binary_search(pieces).map_or(UNKNOWN, |at| at as u16);
        }
        let mut by_content = vec![None; ContentKey::COUNT];
        for (key, change) in contents {
            by_content[key.number()] = Some(*change);
        }
        Self { texts: texts.into(), gaps: by_gap.into(), contents: by_content.into(), apart }
    }

    /// From the wire: each gap with the place of its text. None where there is no such place.
    pub(crate) fn from_places(
        texts: Vec<Box<[Piece]>>,
        gaps: &[(GapKey, u32)],
        contents: &[(ContentKey, Change)],
        apart: Apart,
    ) -> Option<Self> {
        let mut by_gap = vec![UNKNOWN; GapKey::COUNT];
        for (key, text) in gaps {
            by_gap[key.number()] = u16::try_from(*text).ok().filter(|at| usize::from(*at) < texts.len())?;
        }
        let mut by_content = vec![None; ContentKey::COUNT];
        for (key, change) in contents {
            by_content[key.number()] = Some(*change);
        }
        Some(Self { texts: texts.into(), gaps: by_gap.into(), contents: by_content.into(), apart })
    }

    /// What can stand in a gap.
    pub(crate) fn texts(&self) -> &[Box<[Piece]>] {
        &self.texts
    }

    /// The known gaps, each with the place of its text.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (GapKey, u32)> {
        let place = |key: GapKey| Some((key, u32::from(self.gaps[key.number()])));
        GapKey::all().filter_map(place).filter(|(_, text)| *text != u32::from(UNKNOWN))
    }

    /// The known contents.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (ContentKey, Change)> {
        ContentKey::all().filter_map(|key| Some((key, self.contents[key.number()]?)))
    }

    /// What is not rendered by these.
    pub fn apart(&self) -> Apart {
        self.apart
    }

    /// Whether the text changes with the day.
    pub fn is_dated(&self) -> bool {
        self.texts.iter().any(|text| text.iter().any(|piece| matches!(piece, Piece::Date(_))))
    }

    /// Writes a conversation. On an error the sink holds a part of it.
    ///
    /// # Errors
    /// When it is not of the form that was seen.
    pub fn write<C>(
        &self,
        turns: impl Iterator<Item = Turn<C>> + Clone,
        generate: bool,
        sink: &mut impl Sink<C>,
    ) -> Result<(), Outside> {
        let speakers = turns.clone().map(|turn| turn.speaker);
        if Apart::of_speakers(speakers.clone()).has(self.apart) {
            return Err(Outside);
        }
        let mut walk = Walk::new(speakers);
        for turn in turns {
            let (gap, content) = walk.message(turn.speaker);
            self.gap(gap, sink)?;
            let change = self.contents[content.number()].ok_or(Outside)?;
            // Only an answer has thoughts.
            let apart = if turn.speaker == Speaker::Assistant { self.apart } else { Apart(self.apart.0 & 1) };
            if !sink.content(turn.content, How { change, apart })? {
                return Ok(());
            }
        }
        self.gap(walk.end(generate), sink)
    }

    fn gap<C>(&self, key: GapKey, sink: &mut impl Sink<C>) -> Result<(), Outside> {
        let text = self.texts.get(usize::from(self.gaps[key.number()])).ok_or(Outside)?;
        for piece in text {
            match piece {
                Piece::Text(text) => sink.text(text),
                Piece::Date(format) => sink.date(format)?,
            }
        }
        Ok(())
    }
}
