//! Failures on command: by the request header `x-sim-fail`, or armed for the next requests.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

/// Ways to fail. The number in `x-sim-fail: die:3` is how many events go out before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailMode {
    /// `die:N`: after the head and N events the connection is closed without a last chunk (unary: half the body).
    Die(u32),
    /// `rst:N`: the same, by RST. `rst` is `rst:0`: before any byte.
    Reset(u32),
    /// `stall:N`: head and N events, then silence until the client leaves.
    Stall(u32),
    /// `hang`: silence before the head, until the client leaves.
    Hang,
    /// `drop`: the connection is closed without a byte.
    Drop,
    /// `500`, `503`, `429`: an error answer with a body; the connection stays open.
    Status(u16),
    /// `close`: a whole answer without `connection: close`, then the connection is closed.
    CloseAfter,
    /// `garbage`: bytes that are not HTTP, then close.
    Garbage,
    /// `length`: a content-length larger than the body, then close.
    LongLength,
    /// `extra`: bytes after a complete answer; the connection stays open.
    Extra,
    /// `error-event:N`: N events, then an error inside the 200 stream, then its proper end.
    ErrorEvent(u32),
}

/// Text that names no failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown failure `{0}`: die:N rst:N stall:N hang drop STATUS close garbage length extra error-event:N")]
pub struct UnknownFail(String);

impl FromStr for FailMode {
    type Err = UnknownFail;

    fn from_str(text: &str) -> Result<Self, UnknownFail> {
        let unknown = || UnknownFail(text.to_owned());
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count.parse().map_err(|_| unknown())?)),
            None => (text, None),
        };
        Ok(match name {
            "die" => Self::Die(count.unwrap_or(1)),
            "rst" => Self::Reset(count.unwrap_or(0)),
            "stall" => Self::Stall(count.unwrap_or(1)),
            "hang" => Self::Hang,
            "drop" => Self::Drop,
            "close" => Self::CloseAfter,
            "garbage" => Self::Garbage,
            "length" => Self::LongLength,
            "extra" => Self::Extra,
            "error-event" => Self::ErrorEvent(count.unwrap_or(1)),
            status => match status.parse() {
                Ok(status @ 400..=599) => Self::Status(status),
                _ => return Err(unknown()),
            },
        })
    }
}

/// Failures armed for the requests to come, first armed first used.
#[derive(Debug, Default)]
pub(crate) struct Armed(Mutex<VecDeque<(FailMode, u32)>>);

impl Armed {
    /// At most this many arrangements are kept; the oldest goes first.
    const KEPT: usize = 64;

    pub(crate) fn arm(&self, mode: FailMode, count: u32) {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if armed.len() == Self::KEPT {
            armed.pop_front();
        }
        if count > 0 {
            armed.push_back((mode, count));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Uses up one armed failure.
    pub(crate) fn take(&self) -> Option<FailMode> {
        let mut armed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mode, count) = armed.front_mut()?;
        let mode = *mode;
        *count -= 1;
        if *count == 0 {
            armed.pop_front();
        }
        Some(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_modes() {
        let check = |text: &str, expected: Option<FailMode>| assert_eq!(text.parse().ok(), expected, "{text}");
        check("die", Some(FailMode::Die(1)));
        check("die:3", Some(FailMode::Die(3)));
        check("rst", Some(FailMode::Reset(0)));
        check("503", Some(FailMode::Status(503)));
        check("200", None);
        check("die:x", None);
        check("nap", None);
    }

    #[test]
    fn armed_failures_are_used_in_order() {
        let armed = Armed::default();
        armed.arm(FailMode::Hang, 2);
        armed.arm(FailMode::Drop, 1);
        let taken: Vec<_> = (0..4).map(|_| armed.take()).collect();
        assert_eq!(taken, [Some(FailMode::Hang), Some(FailMode::Hang), Some(FailMode::Drop), None]);
    }
}
