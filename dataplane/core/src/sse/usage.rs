//! Token counts as engines report them.

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// `prompt_tokens` or `input_tokens`.
    pub prompt: Option<u64>,
    /// `completion_tokens` or `output_tokens`.
    pub completion: Option<u64>,
    /// `cached_tokens` of the prompt's details, or `cache_read_input_tokens`.
    pub cached: Option<u64>,
}

impl Usage {
    /// What is known here, else what `earlier` knows.
    pub(super) fn or(self, earlier: Usage) -> Usage {
        Usage {
            prompt: self.prompt.or(earlier.prompt),
            completion: self.completion.or(earlier.completion),
            cached: self.cached.or(earlier.cached),
        }
    }
}

/// Levels within a usage object that are followed.
const MAX_DEPTH: usize = 8;

/// The last usage object in a text that may begin in the middle of something. Found from its end, so that of the counts
/// that an engine repeats in every event (`continuous_usage_stats`) the last one holds. Inside a JSON string the quotes
/// of the key would be escaped, so content is never taken for usage.
pub fn last_usage(text: &[u8]) -> Option<Usage> {
    const KEY: &[u8] = b"\"usage\"";
    /// Its rarest letter in JSON and prose, and the place of that.
    const RARE: (u8, usize) = (b'g', 4);
    memchr::memrchr_iter(RARE.0, text).find_map(|rare| {
        let at = rare.checked_sub(RARE.1)?;
        object_at(text[at..].strip_prefix(KEY)?)
    })
}

/// The usage object behind its key; none when it is null, cut off or without a count.
fn object_at(text: &[u8]) -> Option<Usage> {
    let text = text.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let mut usage = Usage::default();
    let (mut depth, mut at) = (0usize, 0);
    loop {
        match *text.get(at)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let length = string_length(&text[at..])?;
                let key = &text[at + 1..at + length - 1];
                at += length;
                note(&mut usage, key, &text[at..], depth);
                continue;
            }
            _ if depth == 0 => return None,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return (usage != Usage::default()).then_some(usage);
        }
        if depth > MAX_DEPTH {
            return None;
        }
    }
}

/// The length of the string that `text` begins with, quotes included.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

fn note(usage: &mut Usage, key: &[u8], rest: &[u8], depth: usize) {
    let count = || {
        let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    };
    match (depth, key) {
        (1, b"prompt_tokens" | b"input_tokens") => usage.prompt = count(),
        (1, b"completion_tokens" | b"output_tokens") => usage.completion = count(),
        (1, b"cache_read_input_tokens") | (2, b"cached_tokens") => usage.cached = count().or(usage.cached),
        _ => {}
    }
}
