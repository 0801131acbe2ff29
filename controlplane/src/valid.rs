//! The mark of a checked spec.

use std::ops::Deref;

/// A spec that its kind's `validate` accepted; nothing else makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Valid<T>(T);

impl<T> Valid<T> {
    pub(crate) fn new(checked: T) -> Self {
        Self(checked)
    }

    /// The spec.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Valid<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
