//! Why an answer of the API server about a list was of no use.

use std::time::Duration;

use kube::Error;
use kube::core::Status;

use super::list::Over;
use crate::refusal::retry_after;

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{}", .0.message)]
    Said(Box<Status>),
    #[error(transparent)]
    Client(Box<Error>),
    #[error("no answer for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the list is older ({0}) than what was read before")]
    Older(String),
    #[error("the server has come as far as {0} only, and was farther before")]
    Back(String),
    #[error(transparent)]
    Over(#[from] Over),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => Self::Said(status),
            error => Self::Client(Box::new(error)),
        }
    }
}

impl Failure {
    pub(super) fn code(&self) -> u16 {
        if let Self::Said(status) = self { status.code } else { 0 }
    }

    /// The server does not know the place in the list from which the watch was to go on: no longer, or not yet.
    pub(super) fn is_gone(&self) -> bool {
        self.code() == 410 || matches!(self, Self::Back(_))
    }

    /// How long the server asks to be left alone.
    pub(super) fn asked(&self) -> Option<Duration> {
        if let Self::Said(status) = self { retry_after(status) } else { None }
    }
}
