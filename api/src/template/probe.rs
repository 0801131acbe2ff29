//! Finds out whether a chat template only puts fixed texts around what is said, and which. First it is shown small
//! conversations whose contents can be found again (`learn`); then what was learned must render [`CONVERSATIONS`] of
//! every kind as the template does, to the byte. What cannot be told from its neighbours (a late system message that a
//! template moves to the front) is set [`Apart`], if the rest holds.

use std::cell::Cell;

use super::python::format_date;
use super::render::{Clock, RenderError, Renderer, Request};
use super::segments::{Apart, How, Outside, Segments, Sink, Turn};
use super::{ChatTemplate, ContentForm, Conversation, Speaker, conversation};
use crate::limits::MAX_TEMPLATE_BYTES;
use crate::template::change::has_thought;
use crate::template::conversation::part;

mod learn;

/// Conversations that segments are held to.
const CONVERSATIONS: u64 = 2_000;
/// Of those that the template renders, segments must render one in so many.
const LEAST_SHARE: usize = 4;
/// Conversations that the template must render at all.
const LEAST_RENDERED: usize = 100;
/// Steps of one rendering: the conversations are short, and thousands of them are rendered, while others wait.
const FUEL: u64 = 50_000;
/// Renderings that may take more before it is given up.
const MOST_SLOW: u32 = 16;

/// What was found out about a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// What a content is to it.
    pub content: ContentForm,
    /// The segments, or why there are none.
    pub segments: Result<Segments, Unfit>,
    /// Conversations that the template rendered; it refused the others.
    pub rendered: usize,
    /// Of these, how many the segments render.
    pub alike: usize,
}

/// Why a template is not of the form of segments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It renders hardly any conversation.
    #[error("it rendered only {0} of {CONVERSATIONS} conversations")]
    Refuses(usize),
    /// Too much work.
    #[error("it takes more than {FUEL} steps for short conversations")]
    Slow,
    /// Too much text.
    #[error("its texts have more than {MAX_TEMPLATE_BYTES} bytes in all")]
    Long,
    /// Texts depend on more than their neighbours.
    #[error("it renders conversation {0} in another way than its neighbours' texts tell")]
    Different(u64),
    /// What segments can render is too little to be worth it.
    #[error("segments rendered only {alike} of {rendered} conversations")]
    Rare {
        /// Rendered by segments.
        alike: usize,
        /// Rendered by the template.
        rendered: usize,
    },
}

/// Probes a template.
///
/// # Errors
/// When it does not parse.
pub fn probe(template: &ChatTemplate) -> Result<Probed, RenderError> {
    let renderer = Tries { renderer: Renderer::with_fuel(template, FUEL)?, slow: Cell::new(0) };
    let content = content_form(&renderer);
    let found = learn::learn(&renderer, content);
    let trials: Vec<Trial> = (0..CONVERSATIONS)
        .filter_map(|number| Trial::of(number, &renderer, content, &found.segments(Apart::default())))
        .collect();
    let rendered = trials.len();
    let settled = settle(&trials);
    let kept = |apart: Apart| trials.iter().filter(|trial| trial.alike && !trial.apart.has(apart)).count();
    let alike = settled.as_ref().map_or(0, |apart| kept(*apart));
    let segments = settled.and_then(|apart| match alike {
        _ if renderer.slow.get() >= MOST_SLOW => Err(Unfit::Slow),
        _ if found.bytes() > MAX_TEMPLATE_BYTES => Err(Unfit::Long),
        _ if rendered < LEAST_RENDERED => Err(Unfit::Refuses(rendered)),
        _ if alike * LEAST_SHARE < rendered => Err(Unfit::Rare { alike, rendered }),
        _ => Ok(found.segments(apart)),
    });
    Ok(Probed { content, segments, rendered, alike })
}

/// The template at work, until it has been slow too often: then it renders nothing more.
struct Tries {
    renderer: Renderer,
    slow: Cell<u32>,
}

impl Tries {
    fn render(&self, request: &Request) -> Option<String> {
        if self.slow.get() >= MOST_SLOW {
            return None;
        }
        let rendered = self.renderer.render(request);
        self.slow.set(self.slow.get() + u32::from(rendered == Err(RenderError::Bound)));
        rendered.ok()
    }
}

/// Templates that walk through a list of parts are given one, as vLLM does.
fn content_form(renderer: &Tries) -> ContentForm {
    let text = "Xq7k0q7X";
    let of = |content: minijinja::Value| {
        let message = minijinja::Value::from_pairs([("role", minijinja::Value::from("user")), ("content", content)]);
        let request =
            Request { messages: vec![message], generate: true, variables: Default::default(), clock: Clock::Marked };
        renderer.render(&request)
    };
    let (plain, parts) = (of(text.into()), of(part(text)));
    if parts.is_some() && (plain == parts || plain.is_none()) { ContentForm::Parts } else { ContentForm::Text }
}

/// A conversation that the template rendered, as compared with the segments.
struct Trial {
    number: u64,
    /// In what it may differ from plain ones.
    apart: Apart,
    alike: bool,
    /// The segments say that they do not render it.
    outside: bool,
}

impl Trial {
    fn of(number: u64, renderer: &Tries, form: ContentForm, segments: &Segments) -> Option<Self> {
        let conversation = conversation(number);
        let expected = renderer.render(&conversation.request(form, Clock::At(conversation.unix_s)))?;
        let mut text = Text { text: String::new(), unix_s: conversation.unix_s, empty: false };
        let written = segments.write(turns(&conversation), conversation.generate, &mut text);
        let mut apart = Apart::of_speakers(conversation.messages.iter().map(|message| message.speaker));
        if text.empty {
            apart = apart.and(Apart::EMPTY);
        }
        let answers = conversation.messages.iter().filter(|message| message.speaker == Speaker::Assistant);
        if answers.into_iter().any(|message| has_thought(&message.content)) {
            apart = apart.and(Apart::THOUGHT);
        }
        Some(Self { number, apart, alike: written.is_ok() && text.text == expected, outside: written.is_err() })
    }
}

/// The least that has to be set apart for all others to be alike.
fn settle(trials: &[Trial]) -> Result<Apart, Unfit> {
    let mut apart = Apart::default();
    loop {
        let mut wrong =
            trials.iter().filter(|trial| !trial.alike && !trial.outside && !trial.apart.has(apart)).peekable();
        let Some(first) = wrong.peek().map(|trial| trial.number) else { return Ok(apart) };
        let wrong: Vec<&Trial> = wrong.collect();
        let lost = |kind: Apart| trials.iter().filter(|t| t.alike && t.apart.has(kind) && !t.apart.has(apart)).count();
        let covered = |kind: Apart| wrong.iter().filter(|trial| trial.apart.has(kind)).count();
        let best = Apart::ALL.into_iter().filter(|kind| covered(*kind) > 0);
        let best = best.max_by_key(|kind| covered(*kind) * trials.len() / (lost(*kind) + 1));
        apart = apart.and(best.ok_or(Unfit::Different(first))?);
    }
}

fn turns(conversation: &Conversation) -> impl Iterator<Item = Turn<&str>> + Clone {
    conversation.messages.iter().map(|message| Turn { speaker: message.speaker, content: message.content.as_str() })
}

/// Puts the text together.
struct Text {
    text: String,
    unix_s: i64,
    /// Of some content nothing was left.
    empty: bool,
}

impl Sink<&str> for Text {
    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn date(&mut self, format: &str) -> Result<(), Outside> {
        self.text.push_str(&format_date(format, self.unix_s).map_err(|_| Outside)?);
        Ok(())
    }

    fn content(&mut self, content: &str, how: How) -> Result<bool, Outside> {
        let kept = how.of(content)?;
        self.empty |= kept.is_empty();
        self.text.push_str(kept);
        Ok(true)
    }
}

/// A conversation's text by segments.
#[cfg(test)]
pub(super) fn render_by_segments(segments: &Segments, conversation: &Conversation) -> Result<String, Outside> {
    let mut text = Text { text: String::new(), unix_s: conversation.unix_s, empty: false };
    segments.write(turns(conversation), conversation.generate, &mut text)?;
    Ok(text.text)
}
