//! Whether an engine writes a chat as its data planes take it to.
//!
//! What data planes look for is the text that they render by the model's chat template; what an engine caches is the text
//! that it renders itself. Where the two differ, blocks that are truly there are never found, and predictions, which
//! would be right, are dropped for them. So an engine is asked once, before it is heard, for the tokens of a small chat
//! (vLLM's `/tokenize`). Read by the vocabulary, they must be our text to the byte: this holds the vocabulary to the engine, too.

use std::net::SocketAddr;
use std::time::Duration;

use api::template::{ChatTemplate, Renderer};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::vocabulary::Vocabulary;
use crate::chance::{jittered, random};
use crate::engine::{Reply, ScrapeError, post};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(2);
/// After each try but the last one.
pub(crate) const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// Refusals that mean: not now.
const LATER: [u16; 3] = [408, 425, 429];
/// Templates may write the date, which need not be the engine's: its clock may be in another zone.
const DAYS: [i64; 3] = [0, -86_400, 86_400];
/// Bytes of text that are shown before a difference and from there on.
const SHOWN: (usize, usize) = (16, 32);

/// A message: its role and what is said.
type Message = (&'static str, &'static str);
/// The fullest that the template takes is asked for. Without white space at the ends, which templates trim.
const CHATS: [&[Message]; 3] = [
    &[
        ("system", "Answer briefly, in the language of the question: naïve, 東京, ½."),
        ("user", "Wie groß ist {\"a\": [1, 2]}?\nUnd \"b\"? 🙂"),
        ("assistant", "Zwölf."),
        ("user", "다시 한번, по-русски."),
    ],
    &[
        ("user", "Wie groß ist {\"a\": [1, 2]}?\nUnd \"b\"? 🙂"),
        ("assistant", "Zwölf."),
        ("user", "다시 한번, по-русски."),
    ],
    &[("user", "Wie groß ist {\"a\": [1, 2]}?\nUnd \"b\"? 🙂")],
];

/// What came of asking. The worst of several is the greatest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Agreement {
    /// It was not asked yet.
    #[default]
    Unasked,
    /// It writes what is looked for.
    Same,
    /// It cannot be asked, and why.
    Unchecked(String),
    /// It has not answered, and why; it is asked again.
    Unanswered(String),
    /// It writes something else, and what.
    Differs(String),
}

impl Agreement {
    /// In a word, for a metric's label.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unasked => "unasked",
            Self::Same => "same",
            Self::Unanswered(_) => "unanswered",
            Self::Unchecked(_) => "unchecked",
            Self::Differs(_) => "differs",
        }
    }

    /// Why it is not the same.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Unanswered(why) | Self::Unchecked(why) | Self::Differs(why) => Some(why),
            Self::Unasked | Self::Same => None,
        }
    }
}

/// What an engine is asked, and what it may answer.
#[derive(Debug)]
pub(crate) struct Question {
    /// The request's document.
    body: String,
    expected: Expected,
}

#[derive(Debug)]
enum Expected {
    /// One of these.
    Text(Vec<String>),
    /// What begins so: no template is known, and data planes hash the messages without what opens the answer.
    Beginning(String),
}

#[derive(Debug, Deserialize)]
struct Answer {
    tokens: Vec<u32>,
}

impl Question {
    /// How chats are written by this template, or where none is known, at this time.
    pub(crate) fn new(template: Option<&ChatTemplate>, model: &str, unix_s: i64) -> Result<Self, String> {
        let Some(template) = template else {
            return Ok(Self { body: body(model, CHATS[0]), expected: Expected::Beginning(plain(CHATS[0])) });
        };
        let renderer = Renderer::new(template).map_err(|error| error.to_string())?;
        let mut refused = String::new();
        for chat in CHATS {
            let body = body(model, chat);
            let text = |day: &i64| renderer.render_body(template, body.as_bytes(), unix_s + day);
            match DAYS.iter().map(text).collect() {
                Ok(texts) => return Ok(Self { body, expected: Expected::Text(texts) }),
                Err(error) => refused = error.to_string(),
            }
        }
        Err(refused)
    }

    /// What the engine's answer says.
    pub(crate) fn judge(&self, answer: &str, vocabulary: &Vocabulary) -> Agreement {
        let Ok(Answer { tokens }) = serde_json::from_str(answer) else {
            return Agreement::Unchecked("the engine's /tokenize answers without a list of tokens".to_owned());
        };
        let mut text = Vec::new();
        if let Some(unknown) = tokens.iter().find(|token| !vocabulary.read(**token, &mut text)) {
            return Agreement::Differs(format!(
                "the engine has a token {unknown} that the vocabulary lacks: it is of another model"
            ));
        }
        vocabulary.unpad(&mut text);
        match &self.expected {
            Expected::Text(texts) if texts.iter().any(|expected| expected.as_bytes() == text) => Agreement::Same,
            Expected::Beginning(beginning) if text.starts_with(beginning.as_bytes()) => Agreement::Same,
            Expected::Text(texts) => {
                let expected = texts.first().map(String::as_str).unwrap_or_default();
                Agreement::Differs(difference("chatTemplate", expected, &text))
            }
            Expected::Beginning(beginning) => Agreement::Differs(format!(
                "no chatTemplate is known, and {}",
                difference("what is taken for its place", beginning, &text)
            )),
        }
    }
}

/// Asks an engine a few times, which is all that it is waited for: it may be too busy to answer. One that has no such page, or
/// refuses the question, is not checked.
pub(crate) async fn agree(
    address: SocketAddr,
    question: &Question,
    vocabulary: &Vocabulary,
    pauses: &[Duration],
) -> Agreement {
    let mut pauses = pauses.iter();
    loop {
        let answer = timeout(ANSWER, post(address, "/tokenize", question.body.clone())).await;
        let failed = match answer.map(|answer| answer.and_then(Reply::ok)) {
            Ok(Ok(text)) => return question.judge(&text, vocabulary),
            Ok(Err(ScrapeError::Status(status))) if status.is_client_error() && !LATER.contains(&status.as_u16()) => {
                return Agreement::Unchecked(format!("the engine's /tokenize answers {status}"));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it has not answered in time".to_owned(),
        };
        let Some(pause) = pauses.next() else {
            return Agreement::Unanswered(format!("the engine's /tokenize cannot be asked: {failed}"));
        };
        sleep(jittered(*pause, random())).await;
    }
}

fn body(model: &str, chat: &[Message]) -> String {
    let messages: Vec<_> = chat.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    json!({"model": model, "messages": messages, "add_generation_prompt": true}).to_string()
}

/// What data planes hash where no template is known.
fn plain(chat: &[Message]) -> String {
    chat.iter().map(|(role, content)| format!("<|im_start|>{role}\n{content}<|im_end|>\n")).collect()
}

/// In a sentence: where a text leaves what was expected of it, and how.
fn difference(of: &str, expected: &str, found: &[u8]) -> String {
    let expected = expected.as_bytes();
    let alike = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
    let shown = |text: &[u8]| {
        let range = alike.saturating_sub(SHOWN.0)..text.len().min(alike + SHOWN.1);
        format!("{:?}", String::from_utf8_lossy(&text[range]))
    };
    let (engine, ours) = (shown(found), shown(expected));
    format!("the engine does not write a chat as {of} does: around byte {alike} it has {engine}, and {of} {ours}")
}

#[cfg(test)]
mod tests;
