//! Where in a conversation something stands, as far as templates tell places apart: who spoke before, who speaks next,
//! whether it is the beginning or the end, and whether the user speaks again later.

/// Whoever a template knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Speaker {
    /// `user`
    User = 1,
    /// `assistant`
    Assistant = 2,
    /// `system`
    System = 3,
    /// `tool`
    Tool = 4,
    /// `developer`
    Developer = 5,
}

impl Speaker {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::User, Self::Assistant, Self::System, Self::Tool, Self::Developer];

    /// By the `role` of a message; none for a role that segments do not know.
    pub fn of_role(role: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|speaker| speaker.role().as_bytes() == role)
    }

    /// The `role` of a message.
    pub fn role(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Tool => "tool",
            Self::Developer => "developer",
        }
    }
}

/// What comes behind a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Next {
    /// The end, where the answer begins if `generate`.
    End {
        /// `add_generation_prompt`.
        generate: bool,
    },
    /// A message.
    Message(Speaker),
}

/// None, one, or more than one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Counted {
    /// None.
    None = 0,
    /// One.
    One = 1,
    /// Two or more.
    More = 2,
}

impl Counted {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::One, Self::More];

    fn of(count: usize) -> Self {
        Self::ALL[count.min(2)]
    }
}

/// Which gap between two contents is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GapKey {
    /// Whose content stands before it; none at the beginning.
    pub before: Option<Speaker>,
    /// What comes behind it.
    pub next: Next,
    /// Messages before it.
    pub index: Counted,
    /// Messages behind it.
    pub left: Counted,
    /// The user's messages behind it.
    pub users: Counted,
}

impl GapKey {
    /// How many different ones there are, impossible ones included.
    pub const COUNT: usize = 6 * 7 * 27;

    /// All of them, impossible ones included.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let befores = std::iter::once(None).chain(Speaker::ALL.map(Some));
        let ends = [false, true].map(|generate| Next::End { generate });
        let nexts = move || ends.into_iter().chain(Speaker::ALL.map(Next::Message));
        let counts = || {
            let pairs = Counted::ALL.into_iter().flat_map(|index| Counted::ALL.map(|left| (index, left)));
            pairs.flat_map(|(index, left)| Counted::ALL.map(|users| (index, left, users)))
        };
        befores.flat_map(move |before| {
            nexts().flat_map(move |next| {
                counts().map(move |(index, left, users)| Self { before, next, index, left, users })
            })
        })
    }

    /// A number of its own, below [`GapKey::COUNT`].
    pub fn number(self) -> usize {
        let before = self.before.map_or(0, |speaker| speaker as usize);
        let next = match self.next {
            Next::End { generate } => usize::from(generate),
            Next::Message(speaker) => 1 + speaker as usize,
        };
        (((before * 7 + next) * 3 + self.index as usize) * 3 + self.left as usize) * 3 + self.users as usize
    }
}

/// Whose content is meant, and where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentKey {
    /// Who speaks.
    pub speaker: Speaker,
    /// It is the first message.
    pub first: bool,
    /// It is the last message.
    pub last: bool,
    /// The user speaks again later.
    pub answered: bool,
}

impl ContentKey {
    /// How many different ones there are.
    pub const COUNT: usize = 6 * 8;

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Speaker::ALL.into_iter().flat_map(|speaker| {
            (0..8).map(move |flags| Self {
                speaker,
                first: flags & 1 != 0,
                last: flags & 2 != 0,
                answered: flags & 4 != 0,
            })
        })
    }

    /// A number of its own, below [`ContentKey::COUNT`].
    pub fn number(self) -> usize {
        let flags = usize::from(self.first) | usize::from(self.last) << 1 | usize::from(self.answered) << 2;
        (self.speaker as usize) * 8 + flags
    }
}

/// A walk through a conversation, message by message, that knows the keys on its way.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    before: Option<Speaker>,
    index: usize,
    count: usize,
    users: usize,
}

impl Walk {
    /// Before the first message.
    pub fn new(speakers: impl Iterator<Item = Speaker>) -> Self {
        let (count, users) =
            speakers.fold((0, 0), |(all, users), speaker| (all + 1, users + usize::from(speaker == Speaker::User)));
        Self { before: None, index: 0, count, users }
    }

    /// The gap before the next message, and that message's content.
    pub fn message(&mut self, speaker: Speaker) -> (GapKey, ContentKey) {
        let gap = self.gap(Next::Message(speaker));
        self.users = self.users.saturating_sub(usize::from(speaker == Speaker::User));
        let (first, last) = (self.index == 0, self.index + 1 >= self.count);
        self.index += 1;
        self.before = Some(speaker);
        (gap, ContentKey { speaker, first, last, answered: self.users > 0 })
    }

    /// The gap behind the last message.
    pub fn end(&self, generate: bool) -> GapKey {
        self.gap(Next::End { generate })
    }

    fn gap(&self, next: Next) -> GapKey {
        let user_next = next == Next::Message(Speaker::User);
        let users = if user_next { self.users } else { self.users.min(1) };
        let left = self.count.saturating_sub(self.index);
        GapKey {
            before: self.before,
            next,
            index: Counted::of(self.index),
            left: Counted::of(left),
            users: Counted::of(users),
        }
    }
}
