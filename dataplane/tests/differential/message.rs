//! What a reader makes of one message, in a form that two readers can share.

use std::fmt;

/// One message, as far as it is known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Method, path, query and authority of the target; or status and reason.
    pub(crate) line: [Option<Vec<u8>>; 4],
    /// The minor version.
    pub(crate) version: u8,
    /// Names in lower case; sorted by name, those of one name in the order in which they came.
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The data of the body so far.
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn new<'a>(
        line: [Option<&[u8]>; 4],
        version: u8,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Self {
        let mut fields: Vec<_> = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self { line: line.map(|part| part.map(<[u8]>::to_vec)), version, fields, body: Vec::new() }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.line {
            match part {
                Some(part) => write!(f, "\"{}\" ", part.escape_ascii())?,
                None => write!(f, "- ")?,
            }
        }
        write!(f, "HTTP/1.{}", self.version)?;
        for (name, value) in &self.fields {
            write!(f, " | {}: {}", name.escape_ascii(), value.escape_ascii())?;
        }
        write!(f, " || {}", self.body.escape_ascii())
    }
}
