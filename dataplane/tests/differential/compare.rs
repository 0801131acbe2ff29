//! The property: what we accept, hyper accepts too, as the same messages that end at the same bytes.

use std::fmt;

use crate::message::Message;
use crate::ours::{self, Ours, Rest, Whole};
use crate::theirs::Hyper;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From a client: hyper is the server.
    Requests,
    /// From an engine, to requests of this kind: hyper is the client.
    Answers { to_head: bool },
}

/// Where hyper reads otherwise.
pub(crate) struct Disagreement {
    /// Where the message begins that we accept and hyper takes otherwise.
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// Hyper refuses it.
    Refused,
    /// Hyper ends it before we do.
    Early,
    /// Hyper waits where it ends for us.
    Late,
    /// Hyper reads other values: ours, hyper's.
    Differs(Box<(Message, Message)>),
    /// Whether the connection serves on: for us.
    KeepAlive(bool),
    /// How many clients so far wait to be told to go on: ours, hyper's.
    Continue(usize, usize),
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message at byte {}: ", self.at)?;
        match &self.kind {
            Kind::Refused => write!(f, "hyper refuses it"),
            Kind::Early => write!(f, "hyper ends it before its last byte"),
            Kind::Late => write!(f, "hyper waits for more"),
            Kind::Differs(both) => write!(f, "\n  we read {:?}\n  hyper   {:?}", both.0, both.1),
            Kind::KeepAlive(true) => write!(f, "hyper closes after it"),
            Kind::KeepAlive(false) => write!(f, "hyper serves on after it"),
            Kind::Continue(ours, theirs) => write!(f, "{ours} times `100 Continue` for us, {theirs} for hyper"),
        }
    }
}

impl Way {
    /// All that we make of the bytes.
    pub(crate) fn ours(self, stream: &[u8]) -> Ours {
        match self {
            Self::Requests => ours::requests(stream),
            Self::Answers { to_head } => ours::answers(stream, to_head),
        }
    }

    fn theirs(self, stream: &[u8]) -> Hyper {
        match self {
            Self::Requests => Hyper::server(stream),
            Self::Answers { to_head } => Hyper::client(stream, to_head),
        }
    }
}

/// Compares all that we accept; says how many messages that are.
pub(crate) fn compare(way: Way, stream: &[u8]) -> Result<usize, Disagreement> {
    let ours = way.ours(stream);
    if ours.whole.is_empty() && !matches!(ours.rest, Rest::Open(..)) {
        return Ok(0);
    }
    let mut theirs = way.theirs(stream);
    let mut continues = 0;
    for (place, whole) in ours.whole.iter().enumerate() {
        let at = whole.span.start;
        continues += usize::from(whole.expects);
        let agreed = boundary(&mut theirs, place, whole).and_then(|()| same(&theirs, place, &whole.message));
        agreed.and_then(|()| manners(way, &theirs, whole, continues)).map_err(|kind| Disagreement { at, kind })?;
    }
    if let Rest::Open(at, begun) = &ours.rest {
        open(&mut theirs, stream.len(), ours.whole.len(), begun.as_ref())
            .map_err(|kind| Disagreement { at: *at, kind })?;
    }
    Ok(ours.whole.len())
}

/// With the last byte it is whole, and not before.
fn boundary(theirs: &mut Hyper, place: usize, whole: &Whole) -> Result<(), Kind> {
    theirs.show(if whole.until_close { whole.span.end } else { whole.span.end - 1 });
    if theirs.whole() != place {
        return Err(Kind::Early);
    }
    if whole.until_close {
        theirs.close();
    } else {
        theirs.show(whole.span.end);
    }
    match theirs.whole() {
        n if n == place + 1 => Ok(()),
        _ if theirs.has_ended() => Err(Kind::Refused),
        _ => Err(Kind::Late),
    }
}

fn same(theirs: &Hyper, place: usize, ours: &Message) -> Result<(), Kind> {
    match theirs.message(place) {
        Some(message) if message == *ours => Ok(()),
        Some(message) => Err(Kind::Differs(Box::new((ours.clone(), message)))),
        None if theirs.has_ended() => Err(Kind::Refused),
        None => Err(Kind::Late),
    }
}

/// How the connection goes on. After an answer we may be the more cautious side.
fn manners(way: Way, theirs: &Hyper, whole: &Whole, continues: usize) -> Result<(), Kind> {
    let served_on = !theirs.has_ended();
    if served_on != whole.keeps && (way == Way::Requests || whole.keeps) {
        return Err(Kind::KeepAlive(whole.keeps));
    }
    if way == Way::Requests && theirs.continues() != continues {
        return Err(Kind::Continue(continues, theirs.continues()));
    }
    Ok(())
}

/// What has only begun for us has not ended for hyper, and is the same as far as it has come.
fn open(theirs: &mut Hyper, end: usize, whole: usize, begun: Option<&Message>) -> Result<(), Kind> {
    theirs.show(end);
    if theirs.whole() != whole {
        return Err(Kind::Early);
    }
    begun.map_or(Ok(()), |message| same(theirs, whole, message))
}
