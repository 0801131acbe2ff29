//! Where hyper is known to read otherwise, each with its reason, as narrowly as can be said.

use dataplane_core::http::{HeadLimits, ResponseFraming, Version, parse_response};

use crate::compare::{Disagreement, Kind, Way};

/// One known difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exception {
    /// Hyper takes at most 100 trailer fields, we count their bytes alone. We drop them all, so nothing depends on them.
    ManyTrailers,
    /// Hyper takes at most 16 KiB of trailers, we take as much as a head may have. Dropped as well.
    LongTrailers,
    /// RFC 9112 6.1 lets a recipient take chunks in an HTTP/1.0 answer if it closes the connection after it, as we do,
    /// because old engines send them; hyper refuses.
    OldChunkedAnswer,
    /// Hyper drops a reason phrase that is not ASCII; we pass it on, as RFC 9112 4 allows.
    ForeignReason,
}

impl Exception {
    pub(crate) const ALL: [Self; 4] =
        [Self::ManyTrailers, Self::LongTrailers, Self::OldChunkedAnswer, Self::ForeignReason];

    /// The one that explains this, if any does.
    pub(crate) fn of(way: Way, stream: &[u8], found: &Disagreement) -> Option<Self> {
        Self::ALL.into_iter().find(|exception| exception.explains(way, &stream[found.at..], &found.kind))
    }

    fn explains(self, way: Way, message: &[u8], kind: &Kind) -> bool {
        match self {
            Self::ManyTrailers => matches!(kind, Kind::Refused) && trailers(message).is_some_and(|t| t.fields > 100),
            Self::LongTrailers => {
                // Hyper counts the empty line and refuses at the limit itself.
                matches!(kind, Kind::Refused) && trailers(message).is_some_and(|t| t.bytes + 2 >= 16 << 10)
            }
            Self::OldChunkedAnswer => matches!(kind, Kind::Refused) && is_old_and_chunked(way, message),
            Self::ForeignReason => match kind {
                Kind::Differs(both) => {
                    let (ours, mut theirs) = (&both.0, both.1.clone());
                    let reason = ours.line[1].clone();
                    let foreign = reason.as_ref().is_some_and(|r| !r.is_ascii()) && theirs.line[1] == Some(Vec::new());
                    theirs.line[1] = reason;
                    way != Way::Requests && foreign && *ours == theirs
                }
                _ => false,
            },
        }
    }

    /// Bytes at which it occurs.
    pub(crate) fn example(self) -> (Way, Vec<u8>) {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n";
        let answers = Way::Answers { to_head: false };
        match self {
            Self::ManyTrailers => (Way::Requests, format!("{head}{}\r\n", "x: y\r\n".repeat(101)).into()),
            Self::LongTrailers => (Way::Requests, format!("{head}x: {}\r\n\r\n", "v".repeat((16 << 10) - 7)).into()),
            Self::OldChunkedAnswer => {
                (answers, b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_vec())
            }
            Self::ForeignReason => (answers, b"HTTP/1.1 404 Fehlt v\xc3\xb6llig\r\ncontent-length: 0\r\n\r\n".to_vec()),
        }
    }
}

/// The trailers of a chunked body.
struct Trailers {
    fields: usize,
    bytes: usize,
}

/// The trailers of the first message, whose body we have accepted: the lines after its last chunk's.
fn trailers(message: &[u8]) -> Option<Trailers> {
    let line_end = |from: usize| memchr::memmem::find(&message[from..], b"\r\n").map(|at| from + at);
    let mut at = memchr::memmem::find(message, b"\r\n\r\n")? + 4;
    loop {
        let end = line_end(at)?;
        let digits = message[at..end].iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let size = usize::from_str_radix(std::str::from_utf8(&message[at..at + digits]).ok()?, 16).ok()?;
        at = end + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?.checked_add(2).filter(|next| *next <= message.len())?;
    }
    let (start, mut fields) = (at, 0);
    while let Some(end) = line_end(at).filter(|end| *end > at) {
        fields += 1;
        at = end + 2;
    }
    Some(Trailers { fields, bytes: at - start })
}

fn is_old_and_chunked(way: Way, mut message: &[u8]) -> bool {
    let Way::Answers { to_head } = way else { return false };
    while let Ok(Some(head)) = parse_response(message, &HeadLimits::default(), to_head) {
        if !head.interim {
            return head.version == Version::Http10 && head.framing == ResponseFraming::Chunked;
        }
        message = &message[head.len as usize..];
    }
    false
}
