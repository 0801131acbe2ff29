//! The line of one endpoint on the board, as the one who attends to it here writes it.

use std::sync::Arc;

use api::id::EndpointKey;
use tokio::sync::watch;

use super::{Board, Entry, State};
use crate::kv::agree::Agreement;
use crate::kv::store::RankId;
use crate::kv::subscribe::Status;

/// See the module. It is void once somebody else attends to the endpoint, or nobody: a task that was ended runs on up to its next
/// pause, and what it wrote until then would stand for ever, as if the endpoint were heard.
#[derive(Debug)]
pub(in crate::kv::supervise) struct Line {
    pub(super) board: Arc<Board>,
    pub(super) key: EndpointKey,
    pub(super) by: RankId,
}

impl Line {
    /// What becomes of its events, and what came of asking it how it writes chats. What else was said of it is over.
    pub(in crate::kv::supervise) fn set(&self, state: State, chats: Agreement, ranks: Vec<watch::Receiver<Status>>) {
        let mut inner = self.board.inner();
        let Some(before) = inner.entries.get(&self.key).filter(|entry| entry.by == Some(self.by)) else { return };
        let entry = Entry::new(before.by, Some(&before.model), state, ranks);
        inner.write(&self.key, entry);
        self.board.agree(&mut inner, &self.key, chats);
    }

    /// What came of asking it once more how it writes chats.
    pub(in crate::kv::supervise) fn agree(&self, chats: Agreement) {
        let mut inner = self.board.inner();
        if inner.entries.get(&self.key).is_some_and(|entry| entry.by == Some(self.by)) {
            self.board.agree(&mut inner, &self.key, chats);
        }
    }
}
