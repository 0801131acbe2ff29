//! What Triton does not even refuse.

use memchr::memmem;

use crate::refusal::{Reason, Refusal};

/// A field's value and a target have to be shorter: at so many bytes Triton closes the connection without an answer, which looks like the end
/// of an engine. Five clients' requests of that kind would take an endpoint out.
const SHORTER_THAN: usize = 8 << 10;

/// Refuses what Triton would close on. It looks at the head as it is sent: the proxy renames models in targets and adds to fields.
pub(super) fn takes(wire: &[u8]) -> Result<(), Refusal> {
    let head = &wire[..memmem::find(wire, b"\r\n\r\n").unwrap_or(wire.len())];
    if head.len() < SHORTER_THAN {
        return Ok(());
    }
    let mut lines = head.split(|byte| *byte == b'\n');
    let target = lines.next().and_then(|line| line.split(|byte| *byte == b' ').nth(1)).unwrap_or_default();
    if target.len() >= SHORTER_THAN {
        let message =
            "the model server of this model takes targets of at most 8191 bytes: put what is long into the body";
        return Err(Refusal::new(414, Reason::RequestParsing, message));
    }
    for line in lines {
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        if value.trim_ascii().len() >= SHORTER_THAN {
            let name = String::from_utf8_lossy(name);
            let message = format!(
                "the model server of this model takes header values of at most 8191 bytes, and {name} is longer"
            );
            return Err(Refusal::new(431, Reason::RequestParsing, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_and_a_target_are_shorter_than_eight_kib() {
        let status = |wire: &str| takes(wire.as_bytes()).err().map(|refusal| refusal.status);
        let check = |target: usize, value: usize, expected| {
            let (target, value) = ("t".repeat(target), "v".repeat(value));
            let wire = format!("POST {target} HTTP/1.1\r\nA: b\r\nLong:  {value} \r\nc: d\r\n\r\n");
            assert_eq!(status(&(wire.clone() + &"\r\nbody: ".repeat(10_000))), expected);
            assert_eq!(status(&wire), expected);
        };
        check(1, 1, None);
        check(8191, 8191, None);
        check(8192, 1, Some(414));
        check(1, 8192, Some(431));
    }
}
