//! The bytes that go to the engine: the client's head edited, its body as it was but for splices, in one piece.

use std::io::Write;
use std::net::IpAddr;

use api::snapshot::{Credentials, Endpoint};
use dataplane_core::http::{Known, RequestEdits, RequestFraming, write_request_head};
use dataplane_core::inspect::{Splices, apply_in_place, spliced_len};

use super::forward::Wire;
use super::read::Received;
use crate::server::reader::HEADROOM;

/// What of a request stays the same from attempt to attempt.
pub(crate) struct Edits<'a> {
    pub(crate) id: &'a str,
    pub(crate) client: IpAddr,
    pub(crate) credentials: Credentials,
    /// The engine has to be told the endpoint's rank.
    pub(crate) ranked: bool,
    /// Replaces the target.
    pub(crate) target: Option<&'a [u8]>,
}

/// The request for an endpoint. The body stays where it is, but for what is spliced into it, and the head is written before it, into
/// the room of the client's head.
pub(crate) fn compose(received: Received, splices: &Splices, endpoint: &Endpoint, edits: &Edits<'_>) -> Wire {
    let Received { input, head, body, room } = received;
    let mut client = Vec::with_capacity(16);
    write_address(edits.client, &mut client);
    let length = spliced_len(&input.bytes()[body.clone()], splices) as u64;
    let framing = match head.framing {
        RequestFraming::None => RequestFraming::None,
        RequestFraming::Length(_) | RequestFraming::Chunked => RequestFraming::Length(length),
    };
    let request = RequestEdits {
        framing,
        target: edits.target,
        host: None,
        request_id: Some(edits.id.as_bytes()),
        forwarded_for: Some(&client),
        // A proxy in front of this one knows better.
        forwarded_proto: head.known(input.bytes(), Known::ForwardedProto).is_none().then_some(b"http"),
        data_parallel_rank: edits.ranked.then_some(endpoint.key.rank.into()),
        strip_credentials: edits.credentials == Credentials::Strip,
        // The answer is read on its way.
        strip_accept_encoding: true,
        extra: &[],
    };
    let mut written = Vec::with_capacity(head.len as usize + 512);
    write_request_head(&mut written, &head, input.bytes(), &request);
    let mut bytes = input.0;
    bytes.truncate(HEADROOM + body.end);
    let body = HEADROOM + body.start..bytes.len();
    let start = apply_in_place(&mut bytes, body, written.len(), splices).start;
    match start.checked_sub(written.len()) {
        Some(from) => {
            bytes[from..start].copy_from_slice(&written);
            Wire { bytes, from, room }
        }
        None => {
            written.extend_from_slice(&bytes[start..]);
            Wire { bytes: written, from: 0, room }
        }
    }
}

/// The usual form of an address. The formatter of the standard library takes as long as all the rest of a head.
fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    let IpAddr::V4(v4) = address else {
        return write!(out, "{address}").expect("writing to memory does not fail");
    };
    for (place, octet) in v4.octets().into_iter().enumerate() {
        if place > 0 {
            out.push(b'.');
        }
        out.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
    }
}

/// The target with another model in its path.
pub(crate) fn renamed_target(path: &str, query: Option<&[u8]>, at: &std::ops::Range<usize>, model: &str) -> Vec<u8> {
    let mut target = path.as_bytes()[..at.start].to_vec();
    for byte in model.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => target.push(byte),
            _ => target.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    target.extend_from_slice(&path.as_bytes()[at.end..]);
    if let Some(query) = query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for text in ["0.0.0.0", "10.200.3.255", "::1", "2001:db8::7"] {
            let mut out = Vec::new();
            write_address(text.parse().unwrap(), &mut out);
            assert_eq!(out, text.as_bytes());
        }
    }

    #[test]
    fn a_model_in_a_path_is_replaced_and_escaped() {
        let path = "/v2/models/old/infer";
        let target = renamed_target(path, Some(b"a=1"), &(11..14), "new/1");
        assert_eq!(target, b"/v2/models/new%2F1/infer?a=1");
    }
}
