//! What the data plane reads of a request: the few fields that routing, limits and scheduling need, found in one strict
//! pass over the body bytes, and the edits that it makes, as splices of bytes.
//!
//! The body itself is never re-serialised. [`inspect_json`] refuses what an engine could read in another way than we
//! do: anything but one JSON object in valid UTF-8, a second occurrence of a key that we act on (compared after
//! unescaping), lone surrogates, nesting over [`MAX_DEPTH`].

mod chat;
mod error;
mod json;
mod multipart;
mod path;
mod prompt;
pub(crate) mod scan;
mod splice;
mod text;

pub use chat::Chat;
pub use error::{ErrorKind, InspectError};
pub use json::inspect_json;
pub use multipart::{boundary_of, inspect_multipart};
pub use path::{ApiKind, PathModel, api_kind, model_in_path};
pub use prompt::{Part, PromptMessage, PromptSource, Role};
pub(crate) use splice::escape_json;
pub use splice::{Splice, Splices, apply, apply_in_place, plan_splices, segments, spliced_len};
pub use text::{Span, Text};

/// Objects and arrays within one another, the body's own object included.
pub const MAX_DEPTH: usize = 128;
/// Bytes of a body that can be inspected at all; the proxy's own limit is far below.
pub const MAX_BODY_BYTES: usize = u32::MAX as usize;
/// Messages of a prompt that are looked at; those behind them do not count for scheduling.
pub const MAX_MESSAGES: usize = 65_536;

/// How the body says what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodyFormat {
    /// A JSON object.
    #[default]
    Json,
    /// multipart/form-data, with the model in a field of that name.
    Multipart,
}

/// What has to be done with a body before it can be routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// Read by [`inspect_json`].
    Json,
    /// Read by [`inspect_multipart`].
    Multipart,
    /// Not read: the path names the model.
    Opaque,
}

/// How a body is read, by its path and Content-Type. Without a telling type it must be JSON, as Kthena has it.
pub fn body_kind(path: &str, content_type: Option<&[u8]>) -> BodyKind {
    if model_in_path(path).is_some() {
        return BodyKind::Opaque;
    }
    let essence = content_type.unwrap_or_default().split(|byte| *byte == b';').next().unwrap_or_default();
    if essence.trim_ascii().eq_ignore_ascii_case(b"multipart/form-data") { BodyKind::Multipart } else { BodyKind::Json }
}

/// `stream_options` as the client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamOptions {
    /// No such key.
    #[default]
    Absent,
    /// `null`, here.
    Null(Span),
    /// Neither an object nor null: the engine's to refuse.
    Other,
    /// An object, braces included.
    Object {
        /// Where it is.
        span: Span,
        /// Whether it has no member.
        empty: bool,
        /// Its `include_usage`.
        include_usage: IncludeUsage,
    },
}

/// `stream_options.include_usage` as the client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeUsage {
    /// No such key.
    #[default]
    Absent,
    /// `true`.
    On,
    /// `false` or `null`, here.
    Off(Span),
    /// Something else; engines may take it for true.
    Other,
}

/// What was found. Reusable: [`Inspected::clear`] keeps the memory.
#[derive(Debug, Clone, Default)]
pub struct Inspected {
    /// How the body was read.
    pub format: BodyFormat,
    /// The model; none when absent or null.
    pub model: Option<Text>,
    /// Whether a stream is asked for; none when absent or null.
    pub stream: Option<bool>,
    /// The value of `stream`, for insertions behind it.
    pub stream_span: Span,
    /// How usage is to be streamed.
    pub stream_options: StreamOptions,
    /// The raw value of `tools`.
    pub tools: Option<Span>,
    /// Separates prefix caches.
    pub cache_salt: Option<Text>,
    /// `max_completion_tokens`, else `max_tokens`, else `max_output_tokens`: the most tokens of one answer.
    pub max_tokens: Option<u64>,
    /// Answers asked for.
    pub n: Option<u64>,
    /// The end user, as the client names it.
    pub user: Option<Text>,
    /// `session_id`, else `prompt_cache_key`: requests that belong together.
    pub session: Option<Text>,
    /// The answer that this request goes on from.
    pub previous_response: Option<Text>,
    /// The client wants no beginning of an answer behind its messages (`add_generation_prompt` is false).
    pub unopened: bool,
    /// The client says something to the chat template.
    pub by_template: bool,
    /// Which key the prompt was read from.
    pub source: PromptSource,
    /// Code points of the scheduling text, without the tools.
    pub text_chars: u64,
    prompt: prompt::Prompt,
}

impl Inspected {
    /// Empties it and keeps the memory of its lists.
    pub fn clear(&mut self) {
        let mut prompt = std::mem::take(&mut self.prompt);
        prompt.clear();
        *self = Self { prompt, ..Self::default() };
    }

    /// Kthena's estimate: a token for each four code points of the scheduling text, rounded up.
    pub fn token_estimate(&self) -> u64 {
        self.text_chars.div_ceil(4)
    }

    /// Whether the text that is hashed is all that the engine sees: no tools, no media, no further prompts of a list.
    pub fn is_all_text(&self) -> bool {
        self.tools.is_none() && self.prompt.is_all_text()
    }

    /// The messages of the prompt in the order in which they are rendered. Empty for a plain prompt.
    pub fn messages(&self) -> impl Iterator<Item = PromptMessage<'_>> {
        self.prompt.messages(self.source)
    }

    /// Hashes the rendered prompt: the raw `tools`, then the plain prompt or `<|im_start|>{role}\n{content}<|im_end|>\n`
    /// for each message. `blocks` is emptied and gets one hash per full block. Returns the bytes of the rendered text up
    /// to where the chain ends (the first part that is no text, such as an image). Nothing is rendered into memory.
    ///
    /// `body` must be the bytes that were inspected.
    pub fn hash_prompt(&self, body: &[u8], seed: u64, blocks: &mut Vec<u64>) -> usize {
        blocks.clear();
        prompt::hash(self, body, seed, blocks)
    }

    /// The same for the text that engines with this chat template make of it. Nothing where the template itself must
    /// render it, then `blocks` holds nothing of use.
    pub fn hash_chat(&self, body: &[u8], chat: &Chat<'_>, blocks: &mut Vec<u64>) -> Option<usize> {
        blocks.clear();
        chat::hash(self, body, chat, blocks)
    }
}

#[cfg(test)]
mod tests;
