//! Why a body was refused, and where.

/// What is wrong; stable, for metrics and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Over [`super::MAX_BODY_BYTES`].
    TooLarge,
    /// Not valid UTF-8.
    Utf8,
    /// Begins with a byte order mark.
    Bom,
    /// Nothing but white space.
    Empty,
    /// Valid or not, it does not begin as an object.
    NotAnObject,
    /// Ends in the middle.
    Truncated,
    /// A byte that the grammar has no place for.
    Syntax,
    /// Not a number as JSON has them.
    Number,
    /// An unknown or unfinished escape.
    Escape,
    /// Half of a surrogate pair.
    Surrogate,
    /// A raw control character in a string.
    Control,
    /// Nested too deep.
    Depth,
    /// Something behind the object.
    Trailing,
    /// A key that we act on occurs twice.
    Duplicate,
    /// A key that we act on has a value of another type.
    WrongType,
    /// The Content-Type of a form names no usable boundary.
    Boundary,
    /// The form's parts are not delimited or described as they must be.
    Form,
}

impl ErrorKind {
    /// What is wrong, for the client.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::TooLarge => "the body is too large to be read",
            Self::Utf8 => "the body is not valid UTF-8",
            Self::Bom => "the body begins with a byte order mark",
            Self::Empty => "the body is empty",
            Self::NotAnObject => "the body is not a JSON object",
            Self::Truncated => "the body ends before its JSON does",
            Self::Syntax => "the JSON is malformed",
            Self::Number => "the JSON has a malformed number",
            Self::Escape => "the JSON has an invalid escape in a string",
            Self::Surrogate => "the JSON has half of a surrogate pair in a string",
            Self::Control => "the JSON has a raw control character in a string",
            Self::Depth => "the JSON is nested more than 128 levels deep",
            Self::Trailing => "something follows the JSON object",
            Self::Duplicate => "a key that routing depends on occurs twice",
            Self::WrongType => "a value that routing depends on has the wrong type",
            Self::Boundary => "the Content-Type names no valid boundary",
            Self::Form => "the multipart form is malformed",
        }
    }
}

/// A body that is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}{} (at byte {position})", .kind.sentence(), self.about())]
pub struct InspectError {
    /// What is wrong.
    pub kind: ErrorKind,
    /// The byte of the body where it shows.
    pub position: usize,
    /// The key concerned; empty where there is none.
    pub key: &'static str,
}

impl InspectError {
    pub(super) fn new(kind: ErrorKind, position: usize) -> Self {
        Self { kind, position, key: "" }
    }

    fn about(&self) -> Concerning {
        Concerning(self.key)
    }
}

/// Names the key, where there is one.
struct Concerning(&'static str);

impl std::fmt::Display for Concerning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": `{}`", self.0) }
    }
}
