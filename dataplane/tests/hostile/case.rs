//! What a case is, and how it is run.

use crate::client::{Client, End, Reply};
use crate::engine::Act;
use crate::lane::{Lane, World};

/// The body of most requests. A lane replaces the model names of the tables by its own, which are as long.
pub(crate) const BODY: &str = r#"{"model":"mdl0","prompt":"x"}"#;

/// A case of its own kind.
pub(crate) type Check = Box<dyn Fn(&Lane, &World) -> Result<(), String> + Send + Sync>;

/// One named case.
pub(crate) struct Case {
    pub(crate) category: &'static str,
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// Bytes of a client, and what must come of them.
    Request(Vec<u8>, Expect),
    /// Doings of an engine, and what the client must see.
    Upstream(Upstream),
    /// Anything else.
    Run(Check),
}

/// What must come of a client's bytes.
pub(crate) enum Expect {
    /// One of these statuses, the connection ended, and nothing reached the engine.
    Refused(&'static [u16]),
    /// This status, nothing reached the engine, and the connection serves on.
    RefusedKept(u16),
    /// Exactly one request with this first line, these field lines (ours excepted) and this body.
    Served { line: &'static str, fields: Vec<&'static str>, body: Vec<u8> },
    /// Exactly these bodies, one request each, and an answer for each.
    ServedAll(Vec<Vec<u8>>),
    /// This status from the proxy itself.
    Local(u16),
    /// No answer at all: the client ends before its request does.
    Nothing,
}

/// Doings of an engine on its first request.
pub(crate) struct Upstream {
    pub(crate) banner: Vec<u8>,
    pub(crate) acts: Vec<Act>,
    pub(crate) request: Vec<u8>,
    pub(crate) seen: Seen,
    /// Whether the next request may use the same connection: it must, or it must not.
    pub(crate) reused: bool,
}

/// What the client sees.
pub(crate) enum Seen {
    /// 502 of ours.
    BadGateway,
    /// This answer, whole.
    Whole(u16, Vec<u8>),
    /// This status, a beginning of this body, and no proper end.
    Cut(u16, Vec<u8>),
}

impl Case {
    pub(crate) fn request(
        category: &'static str,
        name: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        expect: Expect,
    ) -> Self {
        Self { category, name: name.into(), kind: Kind::Request(bytes.into(), expect) }
    }

    pub(crate) fn refused(
        category: &'static str,
        name: impl Into<String>,
        statuses: &'static [u16],
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        Self::request(category, name, bytes, Expect::Refused(statuses))
    }

    pub(crate) fn run(
        category: &'static str,
        name: impl Into<String>,
        run: impl Fn(&Lane, &World) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { category, name: name.into(), kind: Kind::Run(Box::new(run)) }
    }

    /// Runs it on a lane that nobody else uses meanwhile.
    pub(crate) fn check(&self, lane: &Lane, world: &World) -> Result<(), String> {
        lane.engine.reset();
        match &self.kind {
            Kind::Request(bytes, expect) => request(lane, world, &lane.own(bytes), expect),
            Kind::Upstream(case) => upstream(lane, world, case),
            Kind::Run(run) => run(lane, world),
        }
    }
}

/// A POST of a body with its length.
pub(crate) fn post(fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    post_to("/v1/completions", fields, body)
}

pub(crate) fn post_to(path: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\n{fields}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(crate) fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn request(lane: &Lane, world: &World, bytes: &[u8], expect: &Expect) -> Result<(), String> {
    let mut client = Client::new(world.proxy);
    if bytes.starts_with(b"HEAD ") {
        client = client.asking_head();
    }
    client.send(bytes);
    match expect {
        Expect::Refused(statuses) => {
            let (replies, end) = client.read_to_end()?;
            only(&replies, statuses)?;
            ensure(end != End::Open, || "the connection stays open".into())?;
            ensure(replies[0].has("connection: close"), || format!("no close: {}", replies[0].head))?;
            untouched(lane)
        }
        Expect::RefusedKept(status) => {
            only(&client.replies(1)?, &[*status])?;
            untouched(lane)?;
            client.send(&lane.own(&post("x-token: after\r\n", BODY)));
            let replies = client.replies(2)?;
            ensure(replies.len() == 2 && replies[1].body == br#"{"echo":"after"}"#, || {
                format!("the connection does not serve on: {replies:?}")
            })
        }
        Expect::Served { line, fields, body } => {
            served(lane, &mut client, 1)?;
            let all = lane.engine.requests();
            ensure(all[0].body() == lane.own(body), || format!("another body: {:?}", lossy(all[0].body())))?;
            head_is(&all[0].head(), line, fields)
        }
        Expect::ServedAll(bodies) => {
            served(lane, &mut client, bodies.len())?;
            let got: Vec<_> = lane.engine.requests().iter().map(|r| r.body().to_vec()).collect();
            let expected: Vec<_> = bodies.iter().map(|b| lane.own(b)).collect();
            ensure(got == expected, || format!("other bodies: {:?}", got.iter().map(|b| lossy(b)).collect::<Vec<_>>()))
        }
        Expect::Local(status) => {
            let replies = client.replies(1)?;
            client.half_close();
            only(&replies, &[*status])?;
            only(&client.read_to_end()?.0, &[*status])?;
            untouched(lane)
        }
        Expect::Nothing => {
            client.half_close();
            let (replies, end) = client.read_to_end()?;
            ensure(replies.is_empty() && end != End::Open, || format!("an answer: {replies:?} {end:?}"))?;
            untouched(lane)
        }
    }
}

/// So many answers of 200 and no more, and as many requests at the engine.
fn served(lane: &Lane, client: &mut Client, count: usize) -> Result<(), String> {
    let replies = client.replies(count)?;
    ensure(replies.len() == count && replies.iter().all(|r| r.status == 200 && r.whole), || {
        format!("not {count} answers: {replies:?}")
    })?;
    client.half_close();
    let (all, end) = client.read_to_end()?;
    ensure(all.len() == count && end != End::Open, || format!("more answers: {all:?} {end:?}"))?;
    let got = lane.engine.requests();
    let bytes: usize = got.iter().map(|r| r.bytes.len()).sum();
    ensure(got.len() == count && bytes == lane.engine.received(), || {
        format!("{} requests of {bytes} bytes, {} bytes came", got.len(), lane.engine.received())
    })
}

/// Field lines are exactly these, in order, beside those that the proxy adds, each of which is there once.
fn head_is(head: &str, line: &str, fields: &[&str]) -> Result<(), String> {
    let mut lines: Vec<_> = head.trim_end_matches("\r\n").split("\r\n").collect();
    let first = lines.remove(0);
    ensure(first == line, || format!("another request line: {first}"))?;
    for ours in ["x-request-id: ", "x-forwarded-for: ", "x-forwarded-proto: http"] {
        let place = lines.iter().position(|l| l.starts_with(ours)).ok_or_else(|| format!("no {ours} in {head}"))?;
        lines.remove(place);
    }
    lines.retain(|l| !l.starts_with("content-length: "));
    ensure(lines == fields, || format!("other fields: {lines:?}, expected {fields:?}"))
}

fn only(replies: &[Reply], statuses: &[u16]) -> Result<(), String> {
    ensure(replies.len() == 1 && replies[0].whole && statuses.contains(&replies[0].status), || {
        format!("expected one answer of {statuses:?}, got {replies:?}")
    })
}

fn untouched(lane: &Lane) -> Result<(), String> {
    ensure(lane.engine.received() == 0, || {
        format!("the engine got {} bytes: {:?}", lane.engine.received(), lane.engine.requests())
    })
}

fn upstream(lane: &Lane, world: &World, case: &Upstream) -> Result<(), String> {
    lane.engine.banner(&case.banner);
    lane.engine.script(case.acts.clone());
    let mut client = Client::new(world.proxy);
    client.send(&lane.own(&case.request));
    let heard = match case.seen {
        Seen::Whole(..) | Seen::BadGateway => {
            let replies = client.replies(1)?;
            // An answer of HTTP/1.0 kind ends with its connection.
            if replies.iter().any(|r| r.until_close) { client.read_to_end()?.0 } else { replies }
        }
        Seen::Cut(..) => {
            let (replies, end) = client.read_to_end()?;
            ensure(end != End::Open, || format!("not cut: {replies:?}"))?;
            replies
        }
    };
    saw(&heard, &case.seen)?;
    lane.engine.banner(b"");
    next_is_own(lane, world, Some(case.reused))
}

fn saw(heard: &[Reply], seen: &Seen) -> Result<(), String> {
    let what = || format!("heard {:?}", heard.iter().map(|r| (r.status, lossy(&r.body), r.whole)).collect::<Vec<_>>());
    match seen {
        Seen::BadGateway => ensure(heard.len() == 1 && heard[0].status == 502 && heard[0].whole, what),
        Seen::Whole(status, body) => {
            ensure(heard.len() == 1 && heard[0].status == *status && heard[0].body == *body && heard[0].whole, what)
        }
        Seen::Cut(status, body) => ensure(
            // A reset may overtake all that was written.
            heard.iter().all(|r| r.status == *status && body.starts_with(&r.body) && !r.whole),
            what,
        ),
    }
}

/// The next client gets its own answer, on the same engine connection or on another as far as that is said.
pub(crate) fn next_is_own(lane: &Lane, world: &World, reused: Option<bool>) -> Result<(), String> {
    let before = lane.engine.requests().last().map_or(0, |r| r.connection);
    let mut next = Client::new(world.proxy);
    next.send(&lane.own(&post("x-token: next\r\n", BODY)));
    let replies = next.replies(1)?;
    ensure(replies.len() == 1 && replies[0].body == br#"{"echo":"next"}"#, || {
        format!("the next client got {:?}", lossy(next.got()))
    })?;
    next.half_close();
    let all = next.read_to_end()?.0;
    ensure(all.len() == 1, || format!("the next client got more: {:?}", lossy(next.got())))?;
    let last = lane.engine.requests().last().map_or(0, |r| r.connection);
    ensure(reused.is_none_or(|reused| (last == before) == reused), || {
        format!("engine connection {before}, then {last}: reuse expected {reused:?}")
    })
}

pub(crate) fn lossy(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into_owned(),
    }
}
