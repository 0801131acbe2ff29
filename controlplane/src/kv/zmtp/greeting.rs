//! The first 64 bytes of each side, and the READY that follows them.

use super::ZmtpError;
use super::frame;

pub(super) const LENGTH: usize = 64;
const MAJOR: u8 = 3;
const MINOR: u8 = 1;
const MECHANISM: std::ops::Range<usize> = 12..32;

/// Ours: signature, version, no mechanism, not as a server.
pub(super) fn ours() -> [u8; LENGTH] {
    let mut greeting = [0; LENGTH];
    (greeting[0], greeting[8], greeting[9]) = (0xff, 1, 0x7f);
    (greeting[10], greeting[11]) = (MAJOR, MINOR);
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// Whether a peer that greets like this can be talked to.
pub(super) fn check(greeting: &[u8; LENGTH]) -> Result<(), ZmtpError> {
    if greeting[0] != 0xff || greeting[9] & 1 == 0 {
        return Err(ZmtpError::Greeting("its first bytes are not ZeroMQ's"));
    }
    if greeting[10] < MAJOR {
        return Err(ZmtpError::Greeting("its version is older"));
    }
    let name = greeting[MECHANISM].split(|byte| *byte == 0).next();
    if name != Some(b"NULL") {
        return Err(ZmtpError::Greeting("it wants a security mechanism"));
    }
    Ok(())
}

/// Says what our socket is.
pub(super) fn ready(socket_type: &str, out: &mut Vec<u8>) {
    let mut body = b"\x05READY".to_vec();
    property(&mut body, "Socket-Type", socket_type);
    if socket_type == "DEALER" {
        property(&mut body, "Identity", "");
    }
    frame::command(&body, out);
}

fn property(body: &mut Vec<u8>, name: &str, value: &str) {
    body.push(name.len() as u8);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&(value.len() as u32).to_be_bytes());
    body.extend_from_slice(value.as_bytes());
}

/// What a peer's READY says its socket is.
pub(super) fn socket_type(command: &[u8]) -> Result<String, ZmtpError> {
    if let Some(reason) = command.strip_prefix(b"\x05ERROR") {
        let reason = String::from_utf8_lossy(reason.get(1..).unwrap_or_default()).into_owned();
        return Err(ZmtpError::Refused(reason));
    }
    let mut rest = command.strip_prefix(b"\x05READY").ok_or(ZmtpError::Frame("its first command is not READY"))?;
    while !rest.is_empty() {
        let (name, value, after) = split_property(rest).ok_or(ZmtpError::Frame("a property is cut off"))?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return Ok(String::from_utf8_lossy(value).into_owned());
        }
        rest = after;
    }
    Err(ZmtpError::Frame("its READY names no kind of socket"))
}

fn split_property(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_speaks_version_3_without_security_is_talked_to() {
        let with = |at: usize, byte: u8| {
            let mut greeting = ours();
            greeting[at] = byte;
            check(&greeting).map_err(|error| error.to_string())
        };
        assert_eq!(with(11, 0), Ok(()), "3.0");
        assert!(with(0, b'H').unwrap_err().contains("first bytes"));
        assert!(with(10, 2).unwrap_err().contains("older"));
        assert!(with(12, b'P').unwrap_err().contains("mechanism"));
    }

    #[test]
    fn a_ready_says_what_the_socket_is() {
        let check = |command: &[u8]| socket_type(command).map_err(|error| error.to_string());
        let mut ready = Vec::new();
        super::ready("DEALER", &mut ready);
        assert_eq!(check(&ready[2..]), Ok("DEALER".to_owned()), "after flags and length");
        assert_eq!(check(b"\x05READY\x01x\0\0\0\x01y\x0bsocket-type\0\0\0\x03PUB"), Ok("PUB".to_owned()));
        for broken in [&b"\x05READY"[..], b"\x05READY\x0bSocket-Type\0\0\0\x09PUB", b"\x05READY\x0b", b"\x04PING"] {
            assert!(check(broken).is_err(), "{broken:?}");
        }
        assert_eq!(check(b"\x05ERROR\x02no"), Err("the peer says: no".to_owned()));
    }
}
