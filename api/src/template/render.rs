//! Rendering by the template itself: the reference that segments are held to, and what is used where there are none.
//!
//! Set up as transformers sets up Jinja (`trim_blocks`, `lstrip_blocks`, `break` and `continue`, the functions of
//! `python`), with bounds on the work ([`MAX_FUEL`]), the depth ([`MAX_DEPTH`]) and the output ([`MAX_OUTPUT`]).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::{ChatTemplate, python};
use crate::limits::{BLOCK_BYTES, MAX_BLOCKS, MAX_TEMPLATE_BYTES};

/// Steps that one rendering may take, and 64-byte pieces of what it builds: tens of milliseconds, 64 MB.
const MAX_FUEL: u64 = 1_000_000;
/// Blocks within one another, macros counted several times.
const MAX_DEPTH: usize = 200;
/// Bytes of text that are rendered; nothing behind them is hashed.
pub(super) const MAX_OUTPUT: usize = MAX_BLOCKS * BLOCK_BYTES;
const NAME: &str = "chat";

/// The time of rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Seconds since 1970, in UTC.
    At(i64),
    /// Dates are written as their format between two marks, to be found.
    Marked,
}

/// What is rendered.
#[derive(Debug, Clone)]
pub struct Request {
    /// Objects with `role`, `content` and whatever else the engine passes on.
    pub messages: Vec<Value>,
    /// Whether the beginning of an answer stands at the end (`add_generation_prompt`).
    pub generate: bool,
    /// Further variables, such as `tools`.
    pub variables: BTreeMap<String, Value>,
    /// The time of rendering.
    pub clock: Clock,
}

/// Why there is no text. Whatever the reason, the engine's text is not known then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The template is not one.
    #[error("the chat template does not parse: {0}")]
    Syntax(String),
    /// The template refuses the conversation; so will the engine.
    #[error("the chat template refuses the conversation: {0}")]
    Raised(String),
    /// The template failed.
    #[error("the chat template failed: {0}")]
    Failed(String),
    /// It would take too long, or too much memory.
    #[error("the chat template takes more than {MAX_FUEL} steps")]
    Bound,
}

/// A template, ready to render.
#[derive(Debug, Clone)]
pub struct Renderer {
    environment: Arc<Environment<'static>>,
    tokens: BTreeMap<String, Value>,
}

impl Renderer {
    /// Parses the template.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(template: &ChatTemplate) -> Result<Self, RenderError> {
        Self::with_fuel(template, MAX_FUEL)
    }

    /// With another bound on the steps of a rendering.
    pub(super) fn with_fuel(template: &ChatTemplate, fuel: u64) -> Result<Self, RenderError> {
        let (source, tokens) = (&*template.source, &template.tokens);
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(RenderError::Syntax(format!("longer than {MAX_TEMPLATE_BYTES} bytes")));
        }
        let mut environment = Environment::new();
        let refuse = |error: Error| RenderError::Syntax(error.to_string());
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(refuse)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(fuel));
        environment.set_recursion_limit(MAX_DEPTH);
        python::install(&mut environment);
        let source = without_generation_marks(source).into_owned();
        environment.add_template_owned(NAME, source).map_err(refuse)?;
        let tokens = tokens.iter().map(|(name, value)| (name.clone(), Value::from(value))).collect();
        Ok(Self { environment: Arc::new(environment), tokens })
    }

    /// The text of a conversation, up to [`MAX_OUTPUT`] bytes of it.
    ///
    /// # Errors
    /// When the template refuses it, fails, or takes too long.
    pub fn render(&self, request: &Request) -> Result<String, RenderError> {
        let template = self.environment.get_template(NAME).map_err(|e| fault(&e))?;
        let clock = request.clock;
        let now = Value::from_function(move |format: &str| match clock {
            Clock::At(unix_s) => python::format_date(format, unix_s)
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"))),
            Clock::Marked => Ok(format!("{}{format}{}", python::MARKS[0], python::MARKS[1])),
        });
        // transformers passes these on whether a request has them or not.
        let mut variables: BTreeMap<String, Value> = self.tokens.clone();
        variables.extend(["tools", "documents"].map(|name| (name.to_owned(), Value::from(()))));
        variables.extend(request.variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        variables.insert("messages".into(), Value::from(request.messages.clone()));
        variables.insert("add_generation_prompt".into(), Value::from(request.generate));
        variables.insert("strftime_now".into(), now);
        let mut output = Bounded { bytes: Vec::new(), full: false };
        match template.render_captured_to(Value::from_pairs(variables), &mut output) {
            Err(error) if !output.full => Err(fault(&error)),
            _ => Ok(output.text()),
        }
    }
}

/// transformers lets a template mark what the assistant generates; it changes nothing in the text.
fn without_generation_marks(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let pattern = r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})";
    let Ok(marks) = regex::Regex::new(pattern) else { return Cow::Borrowed(source) };
    marks.replace_all(source, |found: &regex::Captures<'_>| {
        let word = if found.get(2).is_some() { "endif" } else { "if true" };
        format!("{}{word}{}", &found[1], &found[3])
    })
}

fn fault(error: &Error) -> RenderError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(inner) = error.downcast_ref::<Error>() {
            if inner.kind() == ErrorKind::OutOfFuel {
                return RenderError::Bound;
            }
            if let Some(raised) = inner.detail().and_then(|detail| detail.strip_prefix(python::RAISED)) {
                return RenderError::Raised(raised.to_owned());
            }
        }
        cause = error.source();
    }
    RenderError::Failed(error.to_string())
}

/// Takes so much and then no more, which ends the rendering.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl Bounded {
    fn text(self) -> String {
        // What was cut in the middle of a character is not worth keeping.
        let whole = std::str::from_utf8(&self.bytes).map_or_else(|error| error.valid_up_to(), str::len);
        let mut bytes = self.bytes;
        bytes.truncate(whole);
        String::from_utf8(bytes).unwrap_or_default()
    }
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_OUTPUT - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if bytes.len() > room {
            self.full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
