//! The walk over a request's top level and the few values whose inside matters.

use super::error::{ErrorKind, InspectError};
use super::prompt::{Key as PromptKey, Prompt, Slot};
use super::scan::{After, Scanner};
use super::text::{Span, Text};
use super::{IncludeUsage, Inspected, MAX_BODY_BYTES, StreamOptions};

type Result<T> = std::result::Result<T, InspectError>;

/// The keys that we act on. Everything else is checked and passed over.
const KEYS: [&str; 24] = [
    "model",
    "stream",
    "stream_options",
    "messages",
    "prompt",
    "input",
    "system",
    "instructions",
    "tools",
    "cache_salt",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "user",
    "session_id",
    "prompt_cache_key",
    "previous_response_id",
    "add_generation_prompt",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
    "documents",
    "reasoning_effort",
];

/// Keys that were met, to refuse the second one.
#[derive(Debug, Default)]
pub(super) struct Met(u32);

impl Met {
    /// Marks the key, which is `keys[index]`.
    pub(super) fn mark(&mut self, keys: &[&'static str], index: usize, at: usize) -> Result<()> {
        let bit = 1 << index;
        if self.0 & bit != 0 {
            return Err(InspectError { kind: ErrorKind::Duplicate, position: at, key: keys[index] });
        }
        self.0 |= bit;
        Ok(())
    }
}

/// Which of `keys` a key is, after unescaping.
pub(super) fn find_key(body: &[u8], key: Text, keys: &[&'static str]) -> Option<usize> {
    if !key.escaped {
        let raw = key.span.of(body);
        return keys.iter().position(|known| known.as_bytes() == raw);
    }
    // A key of ours is short: a longer one needs no decoding, whatever its escapes.
    let longest = keys.iter().map(|known| known.len()).max().unwrap_or(0);
    if key.chars as usize > longest {
        return None;
    }
    let value = key.decode(body);
    keys.iter().position(|known| **known == *value)
}

/// Reads a JSON request. On an error `out` holds nothing of use.
///
/// # Errors
/// When the body is not one valid JSON object, or could be read in two ways.
pub fn inspect_json(body: &[u8], out: &mut Inspected) -> Result<()> {
    out.clear();
    check_bytes(body)?;
    let mut scanner = Scanner::new(body);
    scanner.blanks();
    match body.get(scanner.at) {
        None => return Err(InspectError::new(ErrorKind::Empty, scanner.at)),
        Some(b'{') => {}
        Some(_) => return Err(InspectError::new(ErrorKind::NotAnObject, scanner.at)),
    }
    let mut walk = Walk { met: Met::default(), limits: [None; 3], sessions: [None; 2] };
    let mut after = scanner.open(b'}')?;
    while after == After::More {
        scanner.blanks();
        let at = scanner.at;
        let key = scanner.key()?;
        match find_key(body, key, &KEYS) {
            Some(index) => {
                walk.met.mark(&KEYS, index, at)?;
                walk.member(&mut scanner, KEYS[index], out)?;
            }
            None => {
                scanner.skip(1)?;
            }
        }
        after = scanner.after(b'}')?;
    }
    scanner.blanks();
    if scanner.at < body.len() {
        return Err(scanner.fail(ErrorKind::Trailing));
    }
    let [max_tokens, max_completion_tokens, max_output_tokens] = walk.limits;
    out.max_tokens = max_completion_tokens.or(max_tokens).or(max_output_tokens);
    out.session = walk.sessions[0].or(walk.sessions[1]);
    out.source = out.prompt.source();
    out.text_chars = out.prompt.chars(out.source);
    Ok(())
}

fn check_bytes(body: &[u8]) -> Result<()> {
    if body.len() > MAX_BODY_BYTES {
        return Err(InspectError::new(ErrorKind::TooLarge, MAX_BODY_BYTES));
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(InspectError::new(ErrorKind::Bom, 0));
    }
    if simdutf8::basic::from_utf8(body).is_err() {
        let position = simdutf8::compat::from_utf8(body).err().map_or(0, |error| error.valid_up_to());
        return Err(InspectError::new(ErrorKind::Utf8, position));
    }
    Ok(())
}

/// What the top level has shown so far and is only settled at its end.
struct Walk {
    met: Met,
    /// By `max_tokens`, `max_completion_tokens`, `max_output_tokens`.
    limits: [Option<u64>; 3],
    /// By `session_id`, `prompt_cache_key`.
    sessions: [Option<Text>; 2],
}

impl Walk {
    fn member(&mut self, scanner: &mut Scanner<'_>, key: &'static str, out: &mut Inspected) -> Result<()> {
        match key {
            "model" => out.model = required_string(scanner, key)?,
            "stream" => (out.stream, out.stream_span) = boolean(scanner, key)?,
            "stream_options" => out.stream_options = stream_options(scanner)?,
            "tools" => out.tools = Some(scanner.skip(1)?).filter(|span| span.of(scanner.body) != b"null"),
            "cache_salt" => out.cache_salt = required_string(scanner, key)?,
            "max_tokens" => self.limits[0] = count(scanner)?,
            "max_completion_tokens" => self.limits[1] = count(scanner)?,
            "max_output_tokens" => self.limits[2] = count(scanner)?,
            "n" => out.n = count(scanner)?,
            "user" => out.user = string(scanner)?,
            "session_id" => self.sessions[0] = string(scanner)?,
            "prompt_cache_key" => self.sessions[1] = string(scanner)?,
            "previous_response_id" => out.previous_response = string(scanner)?,
            "add_generation_prompt" => out.unopened = scanner.skip(1)?.of(scanner.body) == b"false",
            "chat_template" | "chat_template_kwargs" | "continue_final_message" | "documents" | "reasoning_effort" => {
                out.by_template |= !matches!(scanner.skip(1)?.of(scanner.body), b"null" | b"false");
            }
            "messages" => prompt(&mut out.prompt, scanner, PromptKey::Messages)?,
            "prompt" => prompt(&mut out.prompt, scanner, PromptKey::Prompt)?,
            "input" => prompt(&mut out.prompt, scanner, PromptKey::Input)?,
            "system" => prompt(&mut out.prompt, scanner, PromptKey::System)?,
            _ => prompt(&mut out.prompt, scanner, PromptKey::Instructions)?,
        }
        Ok(())
    }
}

fn prompt(prompt: &mut Prompt, scanner: &mut Scanner<'_>, key: PromptKey) -> Result<()> {
    let slot: Slot = prompt.read(scanner, key)?;
    prompt.set(key, slot);
    Ok(())
}

/// A string, or none where the value is of another type.
pub(super) fn string(scanner: &mut Scanner<'_>) -> Result<Option<Text>> {
    if scanner.peek()? == b'"' {
        return scanner.string().map(Some);
    }
    scanner.skip(1)?;
    Ok(None)
}

/// A string or null; another type could be read as a string by a lenient engine, so it is refused.
fn required_string(scanner: &mut Scanner<'_>, key: &'static str) -> Result<Option<Text>> {
    let first = scanner.peek()?;
    let at = scanner.at;
    let value = string(scanner)?;
    if first != b'"' && first != b'n' {
        return Err(InspectError { kind: ErrorKind::WrongType, position: at, key });
    }
    Ok(value)
}

fn boolean(scanner: &mut Scanner<'_>, key: &'static str) -> Result<(Option<bool>, Span)> {
    let span = scanner.skip(1)?;
    match span.of(scanner.body) {
        b"true" => Ok((Some(true), span)),
        b"false" => Ok((Some(false), span)),
        b"null" => Ok((None, span)),
        _ => Err(InspectError { kind: ErrorKind::WrongType, position: span.start as usize, key }),
    }
}

/// A whole number, clamped; none for anything else, which is the engine's to refuse.
fn count(scanner: &mut Scanner<'_>) -> Result<Option<u64>> {
    let span = scanner.skip(1)?;
    let raw = span.of(scanner.body);
    if raw.iter().all(u8::is_ascii_digit) {
        let digit = |value: u64, byte: &u8| value.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
        return Ok(Some(raw.iter().fold(0, digit)));
    }
    Ok(None)
}

fn stream_options(scanner: &mut Scanner<'_>) -> Result<StreamOptions> {
    const KEY: [&str; 1] = ["include_usage"];
    match scanner.peek()? {
        b'{' => {}
        b'n' => return scanner.skip(1).map(StreamOptions::Null),
        _ => return scanner.skip(1).map(|_| StreamOptions::Other),
    }
    let start = scanner.at;
    let (mut met, mut include_usage) = (Met::default(), IncludeUsage::Absent);
    let mut after = scanner.open(b'}')?;
    let empty = after == After::End;
    while after == After::More {
        scanner.blanks();
        let at = scanner.at;
        let key = scanner.key()?;
        let known = find_key(scanner.body, key, &KEY);
        let value = scanner.skip(2)?;
        if let Some(index) = known {
            met.mark(&KEY, index, at)?;
            include_usage = match value.of(scanner.body) {
                b"true" => IncludeUsage::On,
                b"false" | b"null" => IncludeUsage::Off(value),
                _ => IncludeUsage::Other,
            };
        }
        after = scanner.after(b'}')?;
    }
    Ok(StreamOptions::Object { span: Span::new(start, scanner.at), empty, include_usage })
}
