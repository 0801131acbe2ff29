//! The prompt's chain of hashes. Where the backend's chat template is known it is the text that engines see: by segments
//! right here, in one pass, or by the template itself on a helper thread. A text is a hint, so nothing about it refuses a
//! request: where the template refuses the conversation the plain form stands for it, and where it cannot be had in time nothing does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::prefix;
use dataplane_core::inspect::{ApiKind, Chat, Inspected, PromptSource};
use dataplane_core::table::ChatTable;

use super::Ended;
use super::ask::{self, Ask};
use super::forward::unless_gone;
use super::read::Received;
use crate::metrics::PromptText;
use crate::rt;
use crate::server::connection::Connection;

/// How long a request waits for a helper thread to render it.
const RENDER_TIME: Duration = Duration::from_millis(250);

/// What a chain depends on besides the body.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    seed: u64,
    chat: Option<Arc<ChatTable>>,
    unix_s: i64,
}

/// Hashes of full blocks, and the bytes of the text.
type Chain = (Vec<u64>, u32);

/// What came of asking the template.
enum Rendered {
    Text(Chain),
    /// It refuses the conversation, or fails.
    Not,
    /// No helper had the time.
    Late,
}

/// The request again, how the text was had, and its chain.
type Hashed = (Received, PromptText, Chain);

impl Prompt {
    pub(super) fn new(seed: u64, chat: Option<Arc<ChatTable>>) -> Self {
        // Templates that write the date are the only ones that ask for it.
        let unix_s = match &chat {
            None => 0,
            Some(_) => SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64),
        };
        Self { seed, chat, unix_s }
    }

    /// The chain of a request's prompt.
    pub(super) async fn hash(
        self,
        connection: &mut Connection,
        received: Received,
        ask: &Ask,
    ) -> Result<(Received, Vec<u64>, u32), Ended> {
        let templated = self.chat.is_some();
        let chat_request = ask.api == ApiKind::Chat && ask.inspected.source == PromptSource::Messages;
        let (received, had, (chain, bytes)) =
            if received.body.len() > connection.worker.shared.config.limits.offload_bytes {
                let inspected = ask.inspected.clone();
                ask::offload(connection, move || self.hash_large(received, &inspected, chat_request)).await?
            } else {
                self.hash_small(connection, received, &ask.inspected, chat_request).await?
            };
        if templated {
            connection.worker.metrics.prompt(had);
        }
        Ok((received, chain, bytes))
    }

    /// All of it where we are, a helper thread.
    fn hash_large(self, received: Received, inspected: &Inspected, chat_request: bool) -> Hashed {
        let body = received.body();
        if let Some(chain) = self.by_segments(inspected, body) {
            return (received, PromptText::Segments, chain);
        }
        if let Some(chain) = chat_request.then(|| self.by_template(body)).flatten() {
            return (received, PromptText::Template, chain);
        }
        let chain = self.plain(inspected, body);
        (received, PromptText::Plain, chain)
    }

    /// On the core, but for what only the template can render.
    async fn hash_small(
        self,
        connection: &mut Connection,
        received: Received,
        inspected: &Inspected,
        chat_request: bool,
    ) -> Result<Hashed, Ended> {
        if let Some(chain) = self.by_segments(inspected, received.body()) {
            return Ok((received, PromptText::Segments, chain));
        }
        if self.chat.is_some() && chat_request {
            match self.clone().on_a_helper(connection, received.body().to_vec()).await? {
                Rendered::Text(chain) => return Ok((received, PromptText::Template, chain)),
                // Another form than this conversation has at other times would match nothing, and mislead.
                Rendered::Late => return Ok((received, PromptText::Late, Chain::default())),
                Rendered::Not => {}
            }
        }
        let chain = self.plain(inspected, received.body());
        Ok((received, PromptText::Plain, chain))
    }

    async fn on_a_helper(self, connection: &mut Connection, body: Vec<u8>) -> Result<Rendered, Ended> {
        let Ok(pending) = connection.worker.shared.offload.run_if_quiet(move || self.by_template(&body)) else {
            return Ok(Rendered::Late);
        };
        // The client's time to send its body is over; ours is bounded.
        connection.watch.nothing();
        let done = unless_gone(rt::timeout(RENDER_TIME, pending.value()), &mut connection.reader).await;
        Ok(match done.ok_or(Ended::Gone)? {
            Err(_) => Rendered::Late,
            Ok(rendered) => rendered.flatten().map_or(Rendered::Not, Rendered::Text),
        })
    }

    /// Nothing where the template has to be asked, or none is known.
    fn by_segments(&self, inspected: &Inspected, body: &[u8]) -> Option<Chain> {
        let chat = Chat { template: &self.chat.as_ref()?.template, seed: self.seed, unix_s: self.unix_s };
        let mut chain = Vec::new();
        let bytes = inspected.hash_chat(body, &chat, &mut chain)?;
        Some((chain, clamped(bytes)))
    }

    /// Takes up to tens of milliseconds. Nothing where the template fails or refuses the conversation.
    fn by_template(&self, body: &[u8]) -> Option<Chain> {
        let chat = self.chat.as_ref()?;
        let text = chat.renderer().ok()?.render_body(&chat.template, body, self.unix_s).ok()?;
        let mut chain = Vec::new();
        prefix::chain(self.seed, text.as_bytes(), &mut chain);
        Some((chain, clamped(text.len())))
    }

    fn plain(&self, inspected: &Inspected, body: &[u8]) -> Chain {
        let mut chain = Vec::new();
        let bytes = inspected.hash_prompt(body, self.seed, &mut chain);
        (chain, clamped(bytes))
    }
}

fn clamped(bytes: usize) -> u32 {
    bytes.min(u32::MAX as usize) as u32
}
