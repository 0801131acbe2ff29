//! What can be wrong with a snapshot, and where.

use std::fmt;

use crate::id::{BackendName, ProfileName, RouteName};

/// One fault: where it is and what to do about it. Displayed as `path: sentence`.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The object that is at fault, so that it alone can be left out; none where the fault is not of one named object.
    pub object: Option<Object>,
    /// As `backends[2].endpoints[0].address`; empty where the whole input is meant.
    pub path: String,
    /// What is wrong and what to do.
    pub reason: Reason,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}", self.reason),
            path => write!(f, "{path}: {}", self.reason),
        }
    }
}

impl std::error::Error for Problem {}

/// An object of a snapshot that can be taken or refused on its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A route.
    Route(RouteName),
    /// A backend.
    Backend(BackendName),
    /// A profile.
    Profile(ProfileName),
}

/// Why something is refused. The text is a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Reason {
    /// JSON that does not parse, or does not have the snapshot's shape.
    #[error("line {line} column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1; 0 at a line's beginning.
        column: usize,
        /// The parser's words.
        message: String,
    },
    /// Bytes that are not the message.
    #[error("not a snapshot: {0}")]
    Wire(String),
    /// More of something than is taken.
    #[error("{found} {what}, at most {max} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A text longer than is taken.
    #[error("{found} bytes long, at most {max} are allowed")]
    TooLong {
        /// Its length in bytes.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// A number or duration outside its range.
    #[error("{found} is out of range, use {min} to {max}")]
    OutOfRange {
        /// What was given.
        found: String,
        /// The least that is allowed.
        min: String,
        /// The most that is allowed.
        max: String,
    },
    /// Something required is absent.
    #[error("is missing: {0}")]
    Missing(&'static str),
    /// A text of the wrong form.
    #[error("{found:?} is not usable: {wanted}")]
    Malformed {
        /// What was given.
        found: String,
        /// What is wanted.
        wanted: &'static str,
    },
    /// An address with a host name.
    #[error(
        "{0:?} has a host name: endpoints are IP:port, write the address that the name stands for (IPv6 in brackets)"
    )]
    HostName(String),
    /// An enum value of a later version.
    #[error("{found} is not a value that this version knows: use one of {known}")]
    UnknownValue {
        /// The number.
        found: i32,
        /// The names known.
        known: &'static str,
    },
    /// Something without which the object would mean something else.
    #[error(
        "{0:?} is not known to this version, and without it the rest would mean something else: bring it up to date"
    )]
    UnknownNeed(String),
    /// Two things of one name, handle or key.
    #[error("{what} {found} is used twice, first by {first}: each must be unique")]
    Duplicate {
        /// Of what.
        what: &'static str,
        /// The value.
        found: String,
        /// The path of the first use.
        first: String,
    },
    /// Two backends say different things of one endpoint.
    #[error("{found} contradicts {first}, which says {other} of the same endpoint (uid, port, rank)")]
    Contradiction {
        /// What is said here.
        found: String,
        /// What is said there.
        other: String,
        /// The path of the first use.
        first: String,
    },
    /// A regex that does not compile, or takes too much memory.
    #[error("the regex is refused: {0}")]
    Regex(String),
    /// Weights that add up to nothing.
    #[error("all weights are 0: give at least one a positive weight")]
    NoWeight,
    /// A reference to a profile that is not there.
    #[error("no profile {0:?} in this snapshot: name one under `profiles`, or leave it out for locality-cost")]
    UnknownProfile(String),
    /// A delta that does not fit what it is applied to.
    #[error("the delta does not fit its base: {0}")]
    Unfit(&'static str),
    /// There were more problems than are listed.
    #[error("and {0} more problems")]
    More(usize),
}
