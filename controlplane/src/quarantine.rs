//! An object that makes us panic is a fault of ours, and no reason to stop for all the others: it counts as one that is refused, until it
//! is edited.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What comes of work on one object; in a sentence, that it panicked. What the work changes besides must be in order all the same.
pub(crate) fn guarded<T>(object: &impl Display, work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        tracing::error!(%object, "the control plane panicked over this object and goes on without it: please report it");
        "the control plane cannot read it, by a fault of its own that its log tells of; please report it".to_owned()
    })
}
