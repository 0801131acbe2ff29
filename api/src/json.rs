//! The snapshot file: the JSON form of `proto::Snapshot`, decoded like any other.

use crate::decode::{self, Problem, Reason};
use crate::limits::MAX_SNAPSHOT_BYTES;
use crate::snapshot::Snapshot;
use crate::{encode, proto};

#[cfg(test)]
mod tests;

/// Reads a snapshot file, or says everything that is wrong with it. JSON that does not parse, a field that does not exist
/// or one of the wrong type is one problem with its line and column; what it says is then checked as a whole.
pub fn snapshot_from_json(bytes: &[u8]) -> Result<Snapshot, Vec<Problem>> {
    let refuse = |reason| vec![Problem { object: None, path: String::new(), reason }];
    if bytes.len() > MAX_SNAPSHOT_BYTES {
        return Err(refuse(Reason::TooLong { found: bytes.len(), max: MAX_SNAPSHOT_BYTES }));
    }
    let wire: proto::Snapshot = serde_json::from_slice(bytes).map_err(|error| refuse(syntax(&error)))?;
    decode::snapshot(wire)
}

/// The snapshot as an indented file that ends in a line feed.
pub fn snapshot_to_json(snapshot: &Snapshot) -> String {
    let wire = encode::snapshot(snapshot);
    let mut text =
        serde_json::to_string_pretty(&wire).expect("a message has string keys and writing memory cannot fail");
    text.push('\n');
    text
}

fn syntax(error: &serde_json::Error) -> Reason {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let place = format!(" at line {line} column {column}");
    let message = text.strip_suffix(place.as_str()).unwrap_or(&text).to_owned();
    Reason::Syntax { line, column, message }
}
