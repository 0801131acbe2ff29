//! Request targets: one reading of a path, or none.

use super::error::{Bad, Fault};
use super::field::Span;
use super::grammar;
use super::request::Method;

/// The parts of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) authority: Option<Span>,
    pub(super) encoded_slash: bool,
}

/// Parses the target at `at..end`: origin-form, absolute-form, or `*` for OPTIONS.
pub(super) fn parse(head: &[u8], span: Span, method: Method) -> Result<Target, Bad> {
    let (at, end) = (span.start as usize, span.end as usize);
    match span.of(head) {
        [b'/', ..] => origin(head, at, end, None),
        b"*" if method == Method::Options => {
            Ok(Target { path: span, query: None, authority: None, encoded_slash: false })
        }
        target => match scheme_len(target) {
            Some(scheme) => absolute(head, at + scheme, end),
            None => Err(Bad::new(Fault::BadTarget, at)),
        },
    }
}

fn scheme_len(target: &[u8]) -> Option<usize> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(scheme.len())
    })
}

fn absolute(head: &[u8], at: usize, end: usize) -> Result<Target, Bad> {
    let len = head[at..end].iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(end - at);
    let authority = Span::new(at, at + len);
    if !is_host_and_port(authority.of(head)) {
        return Err(Bad::new(Fault::BadHost, at));
    }
    if head.get(at + len) == Some(&b'/') {
        return origin(head, at + len, end, Some(authority));
    }
    // No path is the path `/`: a slash of `://` stands for it, so that every path is a range of the buffer.
    let query = (at + len < end).then(|| Span::new(at + len + 1, end));
    check_query(head, query)?;
    Ok(Target { path: Span::new(at - 1, at), query, authority: Some(authority), encoded_slash: false })
}

fn origin(head: &[u8], at: usize, end: usize, authority: Option<Span>) -> Result<Target, Bad> {
    let len = memchr::memchr(b'?', &head[at..end]).unwrap_or(end - at);
    let path = Span::new(at, at + len);
    let encoded_slash = check_path(path.of(head)).map_err(|(reason, i)| Bad::new(reason, at + i))?;
    let query = (at + len < end).then(|| Span::new(at + len + 1, end));
    check_query(head, query)?;
    Ok(Target { path, query, authority, encoded_slash })
}

/// Checks a path that starts with `/`; says whether it holds `%2f`. The error has the place within the path.
fn check_path(path: &[u8]) -> Result<bool, (Fault, usize)> {
    let mut encoded_slash = false;
    let mut beyond_ascii = false;
    for (i, &b) in path.iter().enumerate() {
        match b {
            b'/' => check_segment_start(&path[i + 1..]).map_err(|reason| (reason, i + 1))?,
            b'%' => match escaped(&path[i + 1..]) {
                Some(b'/') => encoded_slash = true,
                Some(b) if b >= 0x80 => beyond_ascii = true,
                Some(b) if b != b'\\' && grammar::is_value(b) && b != b'\t' && !grammar::is_unreserved(b) => {}
                _ => return Err((Fault::BadPath, i)),
            },
            b if !grammar::is_path(b) => return Err((Fault::BadPath, i)),
            _ => {}
        }
    }
    if beyond_ascii && !is_utf8_unescaped(path) {
        return Err((Fault::BadPath, 0));
    }
    Ok(encoded_slash)
}

fn check_segment_start(rest: &[u8]) -> Result<(), Fault> {
    match rest {
        [b'/', ..] => Err(Fault::EmptySegment),
        [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..] => Err(Fault::DotSegment),
        _ => Ok(()),
    }
}

fn escaped(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else { return None };
    Some(grammar::hex(*high)? << 4 | grammar::hex(*low)?)
}

/// Overlong and broken UTF-8 is decoded differently by different servers. Rare, so it may take memory (≤ the URI limit).
fn is_utf8_unescaped(path: &[u8]) -> bool {
    let mut plain = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        match escaped(&path[at + 1..]) {
            Some(b) if path[at] == b'%' => {
                plain.push(b);
                at += 3;
            }
            _ => {
                plain.push(path[at]);
                at += 1;
            }
        }
    }
    simdutf8::basic::from_utf8(&plain).is_ok()
}

/// A query is looser than a path, as clients are: `[]{}|\^` and the backtick pass unescaped, `"<>#` do not.
fn check_query(head: &[u8], query: Option<Span>) -> Result<(), Bad> {
    let Some(query) = query else { return Ok(()) };
    match query.of(head).iter().position(|&b| !(0x21..0x7f).contains(&b) || b"\"<>#".contains(&b)) {
        None => Ok(()),
        Some(i) => Err(Bad::new(Fault::BadTarget, query.start as usize + i)),
    }
}

/// Whether this is a host name, IPv4 address or bracketed IPv6 address with an optional port.
pub(super) fn is_host_and_port(authority: &[u8]) -> bool {
    if let [b'[', rest @ ..] = authority {
        let Some(close) = memchr::memchr(b']', rest) else { return false };
        return is_ipv6(&rest[..close]) && is_port(&rest[close + 1..]);
    }
    let host = memchr::memchr(b':', authority).unwrap_or(authority.len());
    host > 0 && authority[..host].iter().all(|&b| grammar::is_host(b)) && is_port(&authority[host..])
}

fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and a number up to 65535.
fn is_port(text: &[u8]) -> bool {
    match text {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && grammar::length(digits).is_some_and(|port| port <= 65_535),
        _ => false,
    }
}
