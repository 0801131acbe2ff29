//! Finds the end of a head in a buffer that grows, looking at every byte once. What it finds wrong does not depend on how
//! the bytes were cut, because the first wrong byte decides.

use super::error::{Bad, BadRequest, BadResponse, Fault};
use super::field::HeadLimits;
use super::grammar;
use super::request::{self, RequestHead};
use super::response::{self, ResponseHead};

/// The longest method; beyond it nobody speaks HTTP.
const METHOD_BYTES: usize = 24;
/// What a request line holds beside method and target: two spaces, the version, CR.
const LINE_REST: usize = 11;

/// How far one growing buffer was looked at. Start a new one (`default()`) for each head; the buffer must keep the bytes
/// that were shown before and only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScanner {
    /// Everything before this byte was looked at.
    at: u32,
    /// The CR that ends the first line; 0 before it was seen.
    line_end: u32,
}

/// Where the parts of a whole head are.
pub(super) struct HeadParts {
    pub(super) start: usize,
    pub(super) line_end: usize,
    pub(super) len: usize,
}

impl HeadScanner {
    /// Bytes that need no second look.
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> usize {
        self.at as usize
    }

    /// As [`parse_request`](super::parse_request), without looking again at what earlier calls looked at.
    pub fn request(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, BadRequest> {
        let Some(start) = skip_empty_line(buf)? else { return Ok(None) };
        if self.line_end == 0 {
            check_method(buf, start)?;
        }
        let longest = start + METHOD_BYTES + limits.uri_bytes as usize + LINE_REST;
        match self.find_end(buf, limits, (start, longest), request::check_line)? {
            Some(parts) => Ok(Some(request::parse(buf, &parts, limits)?)),
            None => Ok(None),
        }
    }

    /// As [`parse_response`](super::parse_response), without looking again at what earlier calls looked at.
    pub fn response(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        to_head: bool,
    ) -> Result<Option<ResponseHead>, BadResponse> {
        if self.line_end == 0 {
            response::check_version(buf)?;
        }
        match self.find_end(buf, limits, (0, limits.head_bytes as usize), |_, _| Ok(()))? {
            Some(parts) => Ok(Some(response::parse(buf, &parts, limits, to_head)?)),
            None => Ok(None),
        }
    }

    /// `line`: where the first line starts and the last place where its LF may be. `check` sees it once it is complete.
    fn find_end(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        line: (usize, usize),
        check: impl Fn(&[u8], usize) -> Result<(), Bad>,
    ) -> Result<Option<HeadParts>, Bad> {
        let (start, longest) = line;
        let limit = limits.head_bytes as usize;
        let window = &buf[..buf.len().min(limit)];
        let from = start.max(self.at as usize).min(window.len());
        for lf in memchr::memchr_iter(b'\n', &window[from..]).map(|i| from + i) {
            if self.line_end == 0 && lf > longest {
                break;
            }
            if lf == 0 || window[lf - 1] != b'\r' {
                return Err(Bad::new(Fault::BareLf, lf));
            }
            if self.line_end == 0 {
                check(&window[start..lf - 1], start)?;
                self.line_end = lf as u32 - 1;
            } else if lf >= self.line_end as usize + 3 && window[lf - 2] == b'\n' {
                self.at = lf as u32;
                return Ok(Some(HeadParts { start, line_end: self.line_end as usize, len: lf + 1 }));
            }
        }
        self.at = window.len() as u32;
        if self.line_end == 0 && window.len() > longest {
            return Err(Bad::new(Fault::UriTooLong, longest));
        }
        if buf.len() >= limit {
            return Err(Bad::new(Fault::HeadTooLarge, limit));
        }
        Ok(None)
    }
}

/// Where the request line starts: one CRLF before it is skipped. `None`: not known yet.
fn skip_empty_line(buf: &[u8]) -> Result<Option<usize>, Bad> {
    match buf {
        [] | [b'\r'] | [b'\r', b'\n'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(Bad::new(Fault::EmptyLines, 2)),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\n', ..] => Err(Bad::new(Fault::BareLf, 0)),
        _ => Ok(Some(0)),
    }
}

/// Refuses bytes that no request starts with (TLS, other protocols, noise) without waiting for a line end.
fn check_method(buf: &[u8], start: usize) -> Result<(), Bad> {
    for (i, &b) in buf[start..].iter().take(METHOD_BYTES + 1).enumerate() {
        if b == b' ' && i > 0 {
            return Ok(());
        }
        if !grammar::is_token(b) || i == METHOD_BYTES {
            return Err(Bad::new(Fault::BadMethod, start + i));
        }
    }
    Ok(())
}
