//! The frames around a payload: of live messages, and of the two kinds of replay.

/// A replay's end, where a sequence number is expected.
const END: [u8; 8] = [0xff; 8];

/// Why frames are not a message of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Another number of frames.
    #[error("a message of {0} frames")]
    Frames(usize),
    /// A sequence number of another length.
    #[error("a sequence number of {0} bytes")]
    Sequence(usize),
}

/// A numbered payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'f> {
    /// One message again.
    Message {
        /// Its sequence number.
        sequence: u64,
        /// The payload that it had.
        payload: &'f [u8],
    },
    /// That was all.
    End,
}

/// A live message: topic, sequence number, payload.
pub fn live<F: AsRef<[u8]>>(frames: &[F]) -> Result<(u64, &[u8]), FramingError> {
    match frames {
        [_, sequence, payload] => Ok((number(sequence.as_ref())?, payload.as_ref())),
        _ => Err(FramingError::Frames(frames.len())),
    }
}

/// A part of a replay, as a DEALER sees it: an empty frame, since vLLM 0.26 and in SGLang the topic, then as above. Which of
/// the two it is shows in the number of frames. A REQ socket takes the empty frame off, so it may be missing.
pub fn answer<F: AsRef<[u8]>>(frames: &[F]) -> Result<Answer<'_>, FramingError> {
    let (sequence, payload) = match frames {
        [sequence, payload] | [_, sequence, payload] | [_, _, sequence, payload] => {
            (sequence.as_ref(), payload.as_ref())
        }
        _ => return Err(FramingError::Frames(frames.len())),
    };
    if sequence == END {
        return Ok(Answer::End);
    }
    Ok(Answer::Message { sequence: number(sequence)?, payload })
}

fn number(frame: &[u8]) -> Result<u64, FramingError> {
    frame.try_into().map(u64::from_be_bytes).map_err(|_| FramingError::Sequence(frame.len()))
}
