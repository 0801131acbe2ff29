//! On what terms predictions for an endpoint live.

use api::limits::CACHE_TOKENS;

/// What is known of an endpoint's cache, and of who tells of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// Tokens that its cache takes, by the snapshot.
    pub(super) configured: Option<u64>,
    /// The same by its engine, as the KV lane tells.
    pub(super) reported: Option<u64>,
    /// Its engine's events are heard and complete: predictions live until the event has come.
    pub(super) brief: bool,
}

impl Terms {
    /// Tokens that its cache takes.
    pub(super) fn capacity(&self) -> u64 {
        self.reported.or(self.configured).unwrap_or(CACHE_TOKENS)
    }
}
