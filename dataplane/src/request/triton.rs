//! What Triton does not even refuse.

use super::read::Received;
use crate::refusal::{Reason, Refusal};

/// A field's value and a target have to be shorter: at so many bytes Triton closes the connection without an answer, which looks like the end
/// of an engine. Five clients' requests of that kind would take an endpoint out.
const SHORTER_THAN: usize = 8 << 10;

/// Refuses what Triton would close on.
pub(super) fn takes(received: &Received, target: Option<&[u8]>) -> Result<(), Refusal> {
    let (head, bytes) = (&received.head, received.input.bytes());
    let renamed = target.map_or(0, <[u8]>::len);
    if (head.len as usize).max(renamed) < SHORTER_THAN {
        return Ok(());
    }
    let asked = head.path.len() + head.query.map_or(0, |query| 1 + query.len());
    if asked.max(renamed) >= SHORTER_THAN {
        let message =
            "the model server of this model takes targets of at most 8191 bytes: put what is long into the body";
        return Err(Refusal::new(414, Reason::RequestParsing, message));
    }
    match head.iter().find(|field| field.value(bytes).len() >= SHORTER_THAN) {
        Some(field) => {
            let name = String::from_utf8_lossy(field.name(bytes));
            let message = format!(
                "the model server of this model takes header values of at most 8191 bytes, and {name} is longer"
            );
            Err(Refusal::new(431, Reason::RequestParsing, message))
        }
        None => Ok(()),
    }
}
