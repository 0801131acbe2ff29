//! What a template does to a message's content before it writes it: it takes something off its ends, or leaves out what
//! an earlier answer thought.

/// White space as Python's `str.strip` has it: Unicode's, and four separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// What is taken off a text's ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Strip {
    /// Nothing.
    #[default]
    Nothing,
    /// White space at both ends.
    Both,
    /// White space before it.
    Start,
    /// White space behind it.
    End,
    /// Line feeds before it.
    FeedsBefore,
    /// Line feeds at both ends.
    Feeds,
}

impl Strip {
    /// All of them, the plainest first.
    pub const ALL: [Self; 6] = [Self::Nothing, Self::Both, Self::Start, Self::End, Self::FeedsBefore, Self::Feeds];

    /// What is left.
    pub fn of(self, text: &str) -> &str {
        match self {
            Self::Nothing => text,
            Self::Both => text.trim_matches(is_space),
            Self::Start => text.trim_start_matches(is_space),
            Self::End => text.trim_end_matches(is_space),
            Self::FeedsBefore => text.trim_start_matches('\n'),
            Self::Feeds => text.trim_matches('\n'),
        }
    }
}

/// The end of what an answer thought.
const THOUGHT: &str = "</think>";

/// What becomes of a content. Always a part of it, so nothing is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Change {
    /// A content that holds `</think>` begins behind the last one, this taken off.
    pub thought: Option<Strip>,
    /// Taken off then.
    pub strip: Strip,
}

impl Change {
    /// What is written of a content.
    pub fn of(self, content: &str) -> &str {
        let kept = match (self.thought, content.rfind(THOUGHT)) {
            (Some(strip), Some(at)) => strip.of(&content[at + THOUGHT.len()..]),
            _ => content,
        };
        self.strip.of(kept)
    }

    /// Whether every content stays as it is.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// All of them, the plainest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let thoughts = std::iter::once(None).chain(Strip::ALL.map(Some));
        thoughts.flat_map(|thought| Strip::ALL.map(|strip| Self { thought, strip }))
    }
}

/// Whether a content shows what an answer thought.
pub(crate) fn has_thought(content: &str) -> bool {
    content.contains(THOUGHT)
}
