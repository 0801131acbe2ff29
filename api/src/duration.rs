//! The wire's durations. The message is google.protobuf.Duration; its JSON form is read here and not by pbjson-types, which
//! overflows on `--9223372036854775808s` and takes `--1s` and `1.+5s` for durations.

use std::fmt;
use std::time;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

#[cfg(test)]
mod tests;

/// A span of time as the wire has it. In a good one both parts have the same sign and nanoseconds stay below a second;
/// `decode` checks that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Duration {
    /// Whole seconds.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// The rest.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<time::Duration> for Duration {
    /// Of what does not fit, some 292 billion years, the most that does.
    fn from(value: time::Duration) -> Self {
        let nanos = value.subsec_nanos().try_into().expect("less than a second has less than 2^31 nanoseconds");
        Self { seconds: value.as_secs().try_into().unwrap_or(i64::MAX), nanos }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { seconds, nanos } = *self;
        if nanos.unsigned_abs() >= 1_000_000_000 || seconds.signum() * i64::from(nanos.signum()) < 0 {
            return Err(ser::Error::custom(format_args!("{seconds}s and {nanos}ns are no duration")));
        }
        let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
        let (seconds, nanos) = (seconds.unsigned_abs(), nanos.unsigned_abs());
        match (nanos % 1_000_000, nanos % 1_000) {
            _ if nanos == 0 => serializer.collect_str(&format_args!("{sign}{seconds}s")),
            (0, _) => serializer.collect_str(&format_args!("{sign}{seconds}.{:03}s", nanos / 1_000_000)),
            (_, 0) => serializer.collect_str(&format_args!("{sign}{seconds}.{:06}s", nanos / 1_000)),
            _ => serializer.collect_str(&format_args!("{sign}{seconds}.{nanos:09}s")),
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"1.5s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).map_err(|wanted| E::custom(format_args!("{text:?} is no duration: {wanted}, as in \"1.5s\"")))
    }
}

/// `-?digits[.digits]s`; otherwise what is wanted.
fn parse(text: &str) -> Result<Duration, &'static str> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let number = text.strip_suffix('s').ok_or("it is in seconds and ends in `s`")?;
    let (whole, part) = number.split_once('.').map_or((number, None), |(whole, part)| (whole, Some(part)));
    if !is_digits(whole) || !part.is_none_or(is_digits) {
        return Err("digits stand before the `s`, and on both sides of a point");
    }
    let seconds: i64 = whole.parse().map_err(|_| "the seconds fit in 64 bits")?;
    let part = part.unwrap_or_default();
    if part.len() > 9 {
        return Err("it has at most nine decimals");
    }
    let nanos = part.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |sum, b| sum * 10 + i32::from(b - b'0'));
    Ok(if negative { Duration { seconds: -seconds, nanos: -nanos } } else { Duration { seconds, nanos } })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}
