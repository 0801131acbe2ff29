//! How an engine writes a conversation before the model sees it: the model's chat template, a Jinja program.
//!
//! Both planes must render alike, so the rules are here. A template that only puts fixed texts before and after what is
//! said is told as [`Segments`], which cost a request no more than hashing its bytes; whatever is not of that form is
//! rendered by the template itself (`render`, with minijinja, behind the feature `template`). `probe` finds the segments
//! of a template and holds them to what it renders.
//!
//! A rendered text is a hint like the hashes made of it: one that differs from the engine's costs a worse choice of
//! endpoint, never a wrong answer.

use std::collections::BTreeMap;

#[cfg(feature = "template")]
mod body;
mod change;
#[cfg(feature = "template")]
mod conversation;
mod key;
#[cfg(feature = "template")]
mod probe;
#[cfg(feature = "template")]
mod python;
#[cfg(feature = "template")]
mod render;
mod segments;
#[cfg(test)]
#[cfg(feature = "template")]
mod tests;

pub use change::{Change, Strip, is_space};
#[cfg(feature = "template")]
pub use conversation::{Conversation, Message, conversation};
pub use key::{ContentKey, Counted, GapKey, Next, Speaker, Walk};
#[cfg(feature = "template")]
pub use probe::{Probed, Unfit, probe};
#[cfg(feature = "template")]
pub use python::format_date;
#[cfg(feature = "template")]
pub use render::{Clock, RenderError, Renderer, Request};
pub use segments::{Apart, How, Outside, Piece, Segments, Sink, Turn};

/// A model's chat template, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTemplate {
    /// The Jinja program.
    pub source: Box<str>,
    /// Variables that the template is given besides the conversation, such as `bos_token`.
    pub tokens: BTreeMap<String, String>,
    /// The text that the tokenizer puts before a plain prompt; empty where it adds none.
    pub bos: Box<str>,
    /// What a message's content is to the template.
    pub content: ContentForm,
    /// The same as segments, where it is of that form.
    pub segments: Option<Segments>,
}

/// What a message's content is to a template. Engines look at the template to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentForm {
    /// A text; the texts of a list are joined by [`ChatTemplate::JOIN`].
    #[default]
    Text,
    /// A list of parts; a text is a list of one.
    Parts,
}

impl ChatTemplate {
    /// Between the texts of one message, as vLLM joins them.
    pub const JOIN: &str = "\n";

    /// A template of which nothing more is known.
    pub fn new(source: &str) -> Self {
        Self {
            source: source.into(),
            tokens: BTreeMap::new(),
            bos: "".into(),
            content: ContentForm::Text,
            segments: None,
        }
    }
}
