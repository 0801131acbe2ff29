//! Frames: a byte of flags, a length, a body. Bounded, so that a peer's word costs what it sends and no more.

use bytes::{Buf, Bytes, BytesMut};

use super::ZmtpError;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
/// Frames of one message. Engines send three or four.
const MOST_FRAMES: usize = 8;
/// Bytes of one message.
const MOST_BYTES: usize = crate::kv::decode::MOST_BYTES + 4_096;

/// A message's frames.
pub type Frames = Vec<Bytes>;

/// What a peer sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Message(Frames),
    Command(Bytes),
}

/// Takes bytes apart.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Frames of a message that goes on.
    frames: Frames,
    bytes: usize,
}

impl Decoder {
    /// The next thing that is there whole, taken off the buffer.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Sent>, ZmtpError> {
        while let Some((flags, body)) = self.frame(buffer)? {
            if flags & COMMAND != 0 {
                return Ok(Some(Sent::Command(body)));
            }
            self.bytes += body.len();
            self.frames.push(body);
            if self.frames.len() > MOST_FRAMES || self.bytes > MOST_BYTES {
                return Err(ZmtpError::Frame("a message is larger than any engine's"));
            }
            if flags & MORE == 0 {
                self.bytes = 0;
                return Ok(Some(Sent::Message(std::mem::take(&mut self.frames))));
            }
        }
        Ok(None)
    }

    fn frame(&self, buffer: &mut BytesMut) -> Result<Option<(u8, Bytes)>, ZmtpError> {
        let Some(&flags) = buffer.first() else { return Ok(None) };
        if flags > (MORE | LONG | COMMAND) || flags & (MORE | COMMAND) == MORE | COMMAND {
            return Err(ZmtpError::Frame("a frame has flags that there are none of"));
        }
        let head = if flags & LONG == 0 { 2 } else { 9 };
        let Some(length) = buffer.get(1..head) else { return Ok(None) };
        let length = length.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        if length > MOST_BYTES as u64 {
            return Err(ZmtpError::Frame("a frame is larger than any engine's"));
        }
        let end = head + length as usize;
        if buffer.len() < end {
            return Ok(None);
        }
        buffer.advance(head);
        Ok(Some((flags, buffer.split_to(end - head).freeze())))
    }
}

/// Writes a message.
pub(super) fn message(frames: &[&[u8]], out: &mut Vec<u8>) {
    for (at, body) in frames.iter().enumerate() {
        let more = if at + 1 < frames.len() { MORE } else { 0 };
        frame(more, body, out);
    }
}

/// Writes a command.
pub(super) fn command(body: &[u8], out: &mut Vec<u8>) {
    frame(COMMAND, body, out);
}

fn frame(flags: u8, body: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(body.len()) {
        Ok(length) => out.extend_from_slice(&[flags, length]),
        Err(_) => {
            out.push(flags | LONG);
            out.extend_from_slice(&(body.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Sent>, String> {
        let (mut decoder, mut buffer, mut sent) = (Decoder::default(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(next) = decoder.next(&mut buffer).map_err(|error| error.to_string())? {
                sent.push(next);
            }
        }
        Ok(sent)
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let long = vec![7; 300];
        let mut bytes = Vec::new();
        message(&[b"", b"topic", &long], &mut bytes);
        command(b"\x04PING", &mut bytes);
        message(&[b"x"], &mut bytes);
        let bytes_of = |text: &'static [u8]| Bytes::from_static(text);
        for step in [1, 2, 7, 1_000] {
            let expected = vec![
                Sent::Message(vec![bytes_of(b""), bytes_of(b"topic"), long.clone().into()]),
                Sent::Command(bytes_of(b"\x04PING")),
                Sent::Message(vec![bytes_of(b"x")]),
            ];
            assert_eq!(all(&bytes, step), Ok(expected));
        }
    }

    #[test]
    fn a_length_or_a_number_of_frames_that_no_engine_sends_is_refused_before_it_is_there() {
        let huge = [&[LONG][..], &u64::MAX.to_be_bytes()].concat();
        assert!(all(&huge, 100).unwrap_err().contains("frame is larger"));
        let mut many = Vec::new();
        message(&[b"".as_slice(); MOST_FRAMES + 1], &mut many);
        assert!(all(&many, 1_000).unwrap_err().contains("message is larger"));
        assert!(all(&[0x80, 0], 2).unwrap_err().contains("flags"));
        assert!(all(&[MORE | COMMAND, 0], 2).unwrap_err().contains("flags"));
    }
}
