//! A connection's bytes as our codec reads them.

use dataplane_core::http::{BodyReader, HeadLimits, RequestHead, ResponseHead, Version, parse_request, parse_response};

use crate::message::Message;

/// All that we make of the bytes.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) whole: Vec<Whole>,
    pub(crate) rest: Rest,
}

/// A message that we took to its end.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) message: Message,
    /// Where it begins and ends. An interim answer belongs to the one after it.
    pub(crate) span: std::ops::Range<usize>,
    /// Another message may follow.
    pub(crate) keeps: bool,
    /// The client asks for `100 Continue`.
    pub(crate) expects: bool,
    /// It ends where the connection does.
    pub(crate) until_close: bool,
}

/// What follows the last of them.
#[derive(Debug)]
pub(crate) enum Rest {
    /// More bytes are waited for; the message that has begun here, if its head is whole.
    Open(usize, Option<Message>),
    /// Refused.
    Refused,
    /// The connection ends here, whatever follows.
    Closed,
}

/// What one look at the bytes finds.
enum Look {
    Whole(Whole),
    Rest(Rest),
}

/// Reads all requests.
pub(crate) fn requests(stream: &[u8]) -> Ours {
    let limits = HeadLimits::default();
    all(stream, |at| {
        let bytes = &stream[at..];
        let head = match parse_request(bytes, &limits) {
            Err(_) => return Look::Rest(Rest::Refused),
            Ok(None) => return Look::Rest(Rest::Open(at, None)),
            Ok(Some(head)) => head,
        };
        let body = BodyReader::request(head.framing, &limits);
        let whole = Whole {
            message: of_request(&head, bytes),
            span: at..at + head.len as usize,
            keeps: head.keep_alive,
            expects: head.expect_continue,
            until_close: false,
        };
        with_body(stream, whole, body)
    })
}

/// Reads all answers, to requests of which each was HEAD or none.
pub(crate) fn answers(stream: &[u8], to_head: bool) -> Ours {
    let limits = HeadLimits::default();
    all(stream, |start| {
        let mut at = start;
        loop {
            let bytes = &stream[at..];
            let head = match parse_response(bytes, &limits, to_head) {
                Err(_) => return Look::Rest(Rest::Refused),
                Ok(None) => return Look::Rest(Rest::Open(start, None)),
                Ok(Some(head)) => head,
            };
            let end = at + head.len as usize;
            if head.interim {
                at = end;
                continue;
            }
            let body = BodyReader::response(head.framing, &limits);
            let whole = Whole {
                message: of_response(&head, bytes),
                span: start..end,
                keeps: head.keep_alive,
                expects: false,
                until_close: matches!(body, BodyReader::UntilClose),
            };
            return with_body(stream, whole, body);
        }
    })
}

fn all(stream: &[u8], mut look: impl FnMut(usize) -> Look) -> Ours {
    let (mut whole, mut at) = (Vec::<Whole>::new(), 0);
    loop {
        match look(at) {
            Look::Rest(rest) => return Ours { whole, rest },
            Look::Whole(next) => {
                assert!(next.span.end > at && next.span.end <= stream.len(), "a message takes some bytes: {next:?}");
                at = next.span.end;
                let keeps = next.keeps;
                whole.push(next);
                if !keeps {
                    return Ours { whole, rest: Rest::Closed };
                }
            }
        }
    }
}

/// The message with its body, which begins where its span ends.
fn with_body(stream: &[u8], mut whole: Whole, mut body: BodyReader) -> Look {
    let bytes = &stream[whole.span.end..];
    let Ok(scan) = body.scan(bytes, |data| whole.message.body.extend_from_slice(data)) else {
        return Look::Rest(Rest::Refused);
    };
    whole.span.end += scan.consumed;
    if body.ends_at_close() {
        Look::Whole(whole)
    } else {
        Look::Rest(Rest::Open(whole.span.start, Some(whole.message)))
    }
}

fn minor(version: Version) -> u8 {
    u8::from(version == Version::Http11)
}

fn of_request(head: &RequestHead, buf: &[u8]) -> Message {
    let line = [
        Some(head.method_span.of(buf)),
        Some(head.path.of(buf)),
        head.query.map(|query| query.of(buf)),
        head.authority.map(|authority| authority.of(buf)),
    ];
    Message::new(line, minor(head.version), head.iter().map(|f| (f.name(buf), f.value(buf))))
}

fn of_response(head: &ResponseHead, buf: &[u8]) -> Message {
    let status = head.status.to_string();
    let line = [Some(status.as_bytes()), Some(head.reason.of(buf)), None, None];
    Message::new(line, minor(head.version), head.iter().map(|f| (f.name(buf), f.value(buf))))
}
