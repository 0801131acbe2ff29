//! The prompt: which strings of the body it is made of, in which order, and their hashes.

use api::prefix::Hasher;

use super::error::InspectError;
use super::json::{Met, find_key, string};
use super::scan::{After, Scanner};
use super::text::Text;
use super::{Inspected, MAX_MESSAGES};

type Result<T> = std::result::Result<T, InspectError>;

/// Which key the prompt was read from. The first that is there counts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptSource {
    /// No prompt that we can read: scored by load alone.
    #[default]
    None,
    /// `prompt`, a plain text; of a list the first.
    Prompt,
    /// `messages`, with a top-level `system` before them.
    Messages,
    /// `input`, with `instructions` before it.
    Input,
    /// Token ids: scored by load alone.
    Tokens,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// As the body says.
    Given(Text),
    /// Implied by the key.
    Implied(&'static str),
}

/// One part of a message's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Text; between texts of one message stands a newline.
    Text(Text),
    /// An image, sound, video or file. The prefix chain ends here.
    Media,
}

/// A message as it is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptMessage<'a> {
    /// Who speaks.
    pub role: Role,
    /// What is said; never empty.
    pub parts: &'a [Part],
}

/// The keys that hold prompt text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Prompt,
    Messages,
    Input,
    System,
    Instructions,
}

/// What a key held; ranges of the lists in [`Prompt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Slot {
    #[default]
    Absent,
    Parts(usize, usize),
    Messages(usize, usize),
    Tokens,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    role: Role,
    parts: (usize, usize),
}

/// The pieces that were met, by key; which of them count is known only at the body's end.
#[derive(Debug, Clone, Default)]
pub(super) struct Prompt {
    slots: [Slot; 5],
    messages: Vec<Stored>,
    parts: Vec<Part>,
    /// Something was passed over that an engine may render.
    partial: bool,
    /// Something is there that a chat template may look at besides role and text.
    odd: bool,
}

impl Prompt {
    pub(super) fn clear(&mut self) {
        self.slots = [Slot::Absent; 5];
        self.messages.clear();
        self.parts.clear();
        self.partial = false;
        self.odd = false;
    }

    pub(super) fn set(&mut self, key: Key, slot: Slot) {
        self.slots[key as usize] = slot;
    }

    /// Whether all that was met is text, and none of it was passed over.
    pub(super) fn is_all_text(&self) -> bool {
        !self.partial && self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether every message is a role and texts, and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        !self.odd
    }

    fn slot(&self, key: Key) -> Slot {
        self.slots[key as usize]
    }

    pub(super) fn source(&self) -> PromptSource {
        match (self.slot(Key::Prompt), self.slot(Key::Messages), self.slot(Key::Input)) {
            (Slot::Tokens, ..) => PromptSource::Tokens,
            (Slot::Parts(..), ..) => PromptSource::Prompt,
            (_, Slot::Messages(..), _) => PromptSource::Messages,
            (_, _, Slot::Tokens) => PromptSource::Tokens,
            (_, _, Slot::Parts(..) | Slot::Messages(..)) => PromptSource::Input,
            _ => PromptSource::None,
        }
    }

    /// The messages of a source that have content, the one before them included.
    pub(super) fn messages(&self, source: PromptSource) -> impl Iterator<Item = PromptMessage<'_>> + Clone {
        self.turns(source).filter(|message| has_content(message.parts))
    }

    /// The same with those that have none.
    pub(super) fn turns(&self, source: PromptSource) -> impl Iterator<Item = PromptMessage<'_>> + Clone {
        let (before, role, key) = match source {
            PromptSource::Messages => (self.slot(Key::System), "system", Key::Messages),
            PromptSource::Input => (self.slot(Key::Instructions), "developer", Key::Input),
            _ => (Slot::Absent, "", Key::System),
        };
        let main = if role.is_empty() { Slot::Absent } else { self.slot(key) };
        let stored = match main {
            Slot::Messages(first, end) => &self.messages[first..end],
            _ => &[],
        };
        let stored = stored.iter().map(|message| self.message(message.role, message.parts));
        self.single(before, role).into_iter().chain(self.single(main, "user")).chain(stored)
    }

    fn message(&self, role: Role, parts: (usize, usize)) -> PromptMessage<'_> {
        PromptMessage { role, parts: &self.parts[parts.0..parts.1] }
    }

    fn single(&self, slot: Slot, role: &'static str) -> Option<PromptMessage<'_>> {
        let Slot::Parts(first, end) = slot else { return None };
        has_content(&self.parts[first..end]).then(|| self.message(Role::Implied(role), (first, end)))
    }

    /// The parts of a plain prompt.
    pub(super) fn plain(&self) -> &[Part] {
        match self.slot(Key::Prompt) {
            Slot::Parts(first, end) => &self.parts[first..end],
            _ => &[],
        }
    }

    /// Code points of the scheduling text: every text of every message, whatever stands between them.
    pub(super) fn chars(&self, source: PromptSource) -> u64 {
        if source == PromptSource::Prompt {
            return content_chars(self.plain());
        }
        let one = |message: PromptMessage<'_>| {
            let role = match message.role {
                Role::Given(text) => u64::from(text.chars),
                Role::Implied(role) => role.len() as u64,
            };
            let content = content_chars(message.parts);
            if content == 0 { 0 } else { (START.len() + END.len() + 1) as u64 + role + content }
        };
        self.messages(source).map(one).sum()
    }

    /// Reads the value of `key`, which we are before.
    pub(super) fn read(&mut self, scanner: &mut Scanner<'_>, key: Key) -> Result<Slot> {
        match scanner.peek()? {
            b'"' => {
                let first = self.parts.len();
                self.parts.push(Part::Text(scanner.string()?));
                Ok(Slot::Parts(first, first + 1))
            }
            b'[' if matches!(key, Key::System | Key::Instructions) => {
                let first = self.parts.len();
                self.content_list(scanner, 2)?;
                Ok(Slot::Parts(first, self.parts.len()))
            }
            b'[' => self.list(scanner, key),
            _ => scanner.skip(1).map(|_| Slot::Absent),
        }
    }

    /// `messages`, or `prompt` or `input` as a list: what its first element is decides what it is.
    fn list(&mut self, scanner: &mut Scanner<'_>, key: Key) -> Result<Slot> {
        let (first, first_part) = (self.messages.len(), self.parts.len());
        let mut slot = if key == Key::Messages { Slot::Messages(first, first) } else { Slot::Absent };
        let mut after = scanner.open(b']')?;
        let mut leading = true;
        while after == After::More {
            match scanner.peek()? {
                b'{' if key != Key::Prompt => {
                    self.read_message(scanner, key)?;
                    if leading {
                        slot = Slot::Messages(first, first);
                    }
                }
                b'"' if leading && key != Key::Messages => {
                    self.parts.push(Part::Text(scanner.string()?));
                    slot = Slot::Parts(first_part, first_part + 1);
                }
                byte => {
                    (self.partial, self.odd) = (true, true);
                    scanner.skip(2)?;
                    if leading && key != Key::Messages && (byte == b'[' || byte.is_ascii_digit()) {
                        slot = Slot::Tokens;
                    }
                }
            }
            leading = false;
            after = scanner.after(b']')?;
        }
        Ok(if let Slot::Messages(..) = slot { Slot::Messages(first, self.messages.len()) } else { slot })
    }

    /// One message; what has no role is passed over.
    fn read_message(&mut self, scanner: &mut Scanner<'_>, key: Key) -> Result<()> {
        const KEYS: [&str; 3] = ["role", "content", "type"];
        let first = self.parts.len();
        let (mut met, mut role, mut kind) = (Met::default(), None, None);
        let mut after = scanner.open(b'}')?;
        while after == After::More {
            scanner.blanks();
            let at = scanner.at;
            let name = scanner.key()?;
            let known = find_key(scanner.body, name, &KEYS);
            if let Some(index) = known {
                met.mark(&KEYS, index, at)?;
            }
            match known.map(|index| KEYS[index]) {
                Some("role") => role = self.field(scanner)?,
                Some("type") => kind = self.field(scanner)?,
                Some(_) => self.content(scanner)?,
                None => self.odd |= scanner.skip(3)?.of(scanner.body) != b"null",
            }
            after = scanner.after(b'}')?;
        }
        let message = key != Key::Input || kind.is_none_or(|kind: Text| kind.decode(scanner.body) == "message");
        self.partial |= !has_content(&self.parts[first..]);
        match role {
            Some(role) if message && self.messages.len() < MAX_MESSAGES => {
                self.messages.push(Stored { role: Role::Given(role), parts: (first, self.parts.len()) });
            }
            _ => {
                (self.partial, self.odd) = (true, true);
                self.parts.truncate(first);
            }
        }
        Ok(())
    }

    fn field(&self, scanner: &mut Scanner<'_>) -> Result<Option<Text>> {
        if scanner.peek()? == b'"' { string(scanner) } else { scanner.skip(3).map(|_| None) }
    }

    fn content(&mut self, scanner: &mut Scanner<'_>) -> Result<()> {
        match scanner.peek()? {
            b'"' => self.parts.push(Part::Text(scanner.string()?)),
            b'[' => self.content_list(scanner, 4)?,
            b'n' => drop(scanner.skip(3)?),
            _ => {
                self.odd = true;
                scanner.skip(3)?;
            }
        }
        Ok(())
    }

    /// A list of content parts that is itself the `depth`th level.
    fn content_list(&mut self, scanner: &mut Scanner<'_>, depth: usize) -> Result<()> {
        let mut after = scanner.open(b']')?;
        while after == After::More {
            if scanner.peek()? == b'{' {
                match read_part(scanner, depth + 1)? {
                    Some(part) => self.parts.push(part),
                    None => (self.partial, self.odd) = (true, true),
                }
            } else {
                self.odd = true;
                scanner.skip(depth)?;
            }
            after = scanner.after(b']')?;
        }
        Ok(())
    }
}

fn read_part(scanner: &mut Scanner<'_>, depth: usize) -> Result<Option<Part>> {
    const KEYS: [&str; 2] = ["type", "text"];
    let mut met = Met::default();
    let mut values = [None; 2];
    let mut kind_is_text = true;
    let mut after = scanner.open(b'}')?;
    while after == After::More {
        scanner.blanks();
        let at = scanner.at;
        let name = scanner.key()?;
        match find_key(scanner.body, name, &KEYS) {
            Some(index) => {
                met.mark(&KEYS, index, at)?;
                if scanner.peek()? == b'"' {
                    values[index] = string(scanner)?;
                } else {
                    scanner.skip(depth)?;
                    kind_is_text &= index != 0;
                }
            }
            None => drop(scanner.skip(depth)?),
        }
        after = scanner.after(b'}')?;
    }
    let [kind, text] = values;
    let kind = kind.map(|kind: Text| kind.decode(scanner.body));
    Ok(match kind.as_deref() {
        None | Some("text" | "input_text" | "output_text") if kind_is_text => text.map(Part::Text),
        Some(kind) if is_media(kind) => Some(Part::Media),
        _ => None,
    })
}

/// Names of part types that put something other than text before the model.
fn is_media(kind: &str) -> bool {
    ["image", "audio", "video", "file", "document"].iter().any(|word| kind.contains(word))
}

fn has_content(parts: &[Part]) -> bool {
    parts.iter().any(|part| !matches!(part, Part::Text(Text { chars: 0, .. })))
}

/// Code points of the texts and of the newlines between them; 0 where there is no text.
fn content_chars(parts: &[Part]) -> u64 {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(u64::from(text.chars)),
        Part::Media => None,
    });
    let (chars, count) = texts.fold((0, 0u64), |(chars, count), text| (chars + text, count + 1));
    if chars == 0 { 0 } else { chars + count - 1 }
}

const START: &[u8] = b"<|im_start|>";
const END: &[u8] = b"<|im_end|>\n";

/// Where rendered text goes.
pub(super) struct Sink<'a> {
    pub(super) body: &'a [u8],
    pub(super) hasher: Hasher,
    pub(super) blocks: &'a mut Vec<u64>,
    pub(super) bytes: usize,
}

/// Whether the chain goes on.
#[derive(PartialEq, Eq)]
pub(super) enum Chain {
    On,
    Ended,
}

impl Sink<'_> {
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.hasher.push(bytes, self.blocks);
    }

    pub(super) fn text(&mut self, text: Text) {
        let (hasher, blocks, bytes) = (&mut self.hasher, &mut *self.blocks, &mut self.bytes);
        text.pieces(self.body, &mut |piece| {
            *bytes += piece.len();
            hasher.push(piece, blocks);
        });
    }

    pub(super) fn parts(&mut self, parts: &[Part]) -> Chain {
        for (index, part) in parts.iter().enumerate() {
            let Part::Text(text) = part else { return Chain::Ended };
            if index > 0 {
                self.raw(b"\n");
            }
            self.text(*text);
        }
        Chain::On
    }
}

pub(super) fn hash(inspected: &Inspected, body: &[u8], seed: u64, blocks: &mut Vec<u64>) -> usize {
    if matches!(inspected.source, PromptSource::None | PromptSource::Tokens) {
        return 0;
    }
    let mut sink = Sink { body, hasher: Hasher::new(seed), blocks, bytes: 0 };
    if let Some(tools) = inspected.tools {
        sink.raw(tools.of(body));
    }
    sink.parts(inspected.prompt.plain());
    for message in inspected.messages() {
        sink.raw(START);
        match message.role {
            Role::Given(role) => sink.text(role),
            Role::Implied(role) => sink.raw(role.as_bytes()),
        }
        sink.raw(b"\n");
        if sink.parts(message.parts) == Chain::Ended {
            break;
        }
        sink.raw(END);
    }
    sink.bytes
}
