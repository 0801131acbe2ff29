//! A list as it is followed: what is asked for, and who is told what it says.

use std::fmt::Display;

use kube::core::params::ListParams;
use serde_json::Value;

/// A list that can be followed, and who is told what it says. It is displayed as people call it.
pub(crate) trait List: Display + Send + Sync {
    /// An object of it as it counts.
    type Entry: Send;

    /// As in `kind`.
    fn kind(&self) -> &'static str;

    /// The path at the API server.
    fn path(&self) -> String;

    /// For one page; the selectors are those of the watch, too.
    fn params(&self) -> ListParams;

    /// Whether an answer brings metadata only.
    fn metadata_only(&self) -> bool {
        false
    }

    /// Whether one may do without where it may not be read.
    fn is_optional(&self) -> bool {
        false
    }

    /// What is to be done where the API server answers with this code.
    fn remedy(&self, code: u16) -> &'static str;

    /// None where the object does not count.
    fn entry(&self, value: Value) -> Option<Self::Entry>;

    /// Says it; an error where nobody wants it any more.
    fn tell(&mut self, news: News<Self::Entry>) -> impl Future<Output = Result<(), Over>> + Send;
}

/// What is new of a list, and up to which version.
#[derive(Debug)]
pub(crate) enum News<T> {
    /// These are all there are.
    Listed(Vec<T>, String),
    /// One is new, or says something new; none where it does not count.
    Put(Option<T>, String),
    /// One is gone; as it was at last.
    Gone(Value, String),
    /// Nothing.
    Nothing(String),
    /// It cannot be read, and why. What was said of it before stays.
    Failed(String),
    /// It may not be read, and one can do without.
    Denied,
}

/// Nobody wants to hear of it any more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("nobody listens")]
pub(crate) struct Over;
