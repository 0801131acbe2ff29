//! The prompt as engines with a known chat template see it: its segments and the body's strings, hashed as they are
//! passed, with nothing put together. Only a content that has to be trimmed and holds escapes is unescaped into a buffer
//! first, which serves all messages of a request.

use api::prefix::Hasher;
use api::template::{self, ChatTemplate, ContentForm, How, Outside, Segments, Speaker, Turn};

use super::Inspected;
use super::prompt::{Part, PromptMessage, PromptSource, Role, Sink};
use super::text::Text;

/// What the text of a conversation depends on besides the body.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// The template of the engines.
    pub template: &'a ChatTemplate,
    /// What the chain of hashes begins with.
    pub seed: u64,
    /// The time, in seconds since 1970.
    pub unix_s: i64,
}

pub(super) fn hash(inspected: &Inspected, body: &[u8], chat: &Chat<'_>, blocks: &mut Vec<u64>) -> Option<usize> {
    let mut sink = Sink { body, hasher: Hasher::new(chat.seed), blocks, bytes: 0 };
    match inspected.source {
        PromptSource::None | PromptSource::Tokens => return Some(0),
        PromptSource::Prompt => {
            sink.raw(chat.template.bos.as_bytes());
            sink.parts(inspected.prompt.plain());
            return Some(sink.bytes);
        }
        PromptSource::Messages | PromptSource::Input => {}
    }
    let segments = chat.template.segments.as_ref()?;
    if inspected.by_template || inspected.tools.is_some() || !inspected.prompt.is_plain() {
        return None;
    }
    let mut sink = ChatSink { sink, form: chat.template.content, unix_s: chat.unix_s, scratch: String::new() };
    write(inspected, segments, &mut sink).ok()?;
    Some(sink.sink.bytes)
}

fn write(inspected: &Inspected, segments: &Segments, sink: &mut ChatSink<'_>) -> Result<(), Outside> {
    let body = sink.sink.body;
    let turns = || inspected.prompt.turns(inspected.source);
    if turns().any(|message| speaker(body, message).is_none()) {
        return Err(Outside);
    }
    // Made anew for each pass: what segments know of a conversation they know of its roles, in passes of their own.
    segments.write(turns().filter_map(|message| turn(body, message)), !inspected.unopened, sink)
}

fn turn<'m>(body: &[u8], message: PromptMessage<'m>) -> Option<Turn<&'m [Part]>> {
    Some(Turn { speaker: speaker(body, message)?, content: message.parts })
}

/// Engines take what is implied for a system message, whatever the key is called.
fn speaker(body: &[u8], message: PromptMessage<'_>) -> Option<Speaker> {
    match message.role {
        Role::Given(role) if role.escaped => Speaker::of_role(role.decode(body).as_bytes()),
        Role::Given(role) => Speaker::of_role(role.span.of(body)),
        Role::Implied("user") => Some(Speaker::User),
        Role::Implied(_) => Some(Speaker::System),
    }
}

struct ChatSink<'a> {
    sink: Sink<'a>,
    form: ContentForm,
    unix_s: i64,
    scratch: String,
}

impl template::Sink<&[Part]> for ChatSink<'_> {
    fn text(&mut self, text: &str) {
        self.sink.raw(text.as_bytes());
    }

    fn date(&mut self, format: &str) -> Result<(), Outside> {
        let date = template::format_date(format, self.unix_s).map_err(|_| Outside)?;
        self.sink.raw(date.as_bytes());
        Ok(())
    }

    fn content(&mut self, parts: &[Part], how: How) -> Result<bool, Outside> {
        if parts.iter().any(|part| matches!(part, Part::Media)) {
            // Where it stands among the texts is the engine's affair.
            return Ok(false);
        }
        if parts.len() > 1 && self.form == ContentForm::Parts {
            return Err(Outside);
        }
        if parts.iter().all(|part| matches!(part, Part::Text(Text { chars: 0, .. }))) && parts.len() < 2 {
            how.empty()?;
        } else if how.is_verbatim() {
            self.sink.parts(parts);
        } else {
            self.changed(parts, how)?;
        }
        Ok(true)
    }
}

impl ChatSink<'_> {
    fn changed(&mut self, parts: &[Part], how: How) -> Result<(), Outside> {
        let body = self.sink.body;
        if let [Part::Text(text @ Text { escaped: false, .. })] = parts {
            let content = simdutf8::basic::from_utf8(text.span.of(body)).map_err(|_| Outside)?;
            self.sink.raw(how.of(content)?.as_bytes());
            return Ok(());
        }
        self.scratch.clear();
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                self.scratch.push_str(ChatTemplate::JOIN);
            }
            if let Part::Text(text) = part {
                let scratch = &mut self.scratch;
                // Pieces end between characters, so each is a text.
                text.pieces(body, &mut |piece| scratch.push_str(simdutf8::basic::from_utf8(piece).unwrap_or_default()));
            }
        }
        self.sink.raw(how.of(&self.scratch)?.as_bytes());
        Ok(())
    }
}
