//! The codec against RFC 9110 and 9112, known attacks, and itself cut into pieces.

mod body;
mod encode;
mod properties;
mod request;
mod response;
mod target;
mod transfer_encoding;

use super::*;

/// A request with these field lines after a valid Host.
fn with_fields(lines: &str) -> String {
    format!("POST /v1/completions HTTP/1.1\r\nHost: a\r\n{lines}\r\n")
}

fn request(input: &[u8]) -> RequestHead {
    let parsed = parse_request(input, &HeadLimits::default());
    match parsed {
        Ok(Some(head)) => head,
        other => panic!("{:?}: {other:?}", input.escape_ascii().to_string()),
    }
}

fn response(input: &[u8]) -> ResponseHead {
    let parsed = parse_response(input, &HeadLimits::default(), false);
    match parsed {
        Ok(Some(head)) => head,
        other => panic!("{:?}: {other:?}", input.escape_ascii().to_string()),
    }
}

fn request_fault(input: &[u8]) -> Option<Fault> {
    parse_request(input, &HeadLimits::default()).err().map(|bad| bad.reason)
}

fn response_fault(input: &[u8]) -> Option<Fault> {
    parse_response(input, &HeadLimits::default(), false).err().map(|bad| bad.reason)
}
