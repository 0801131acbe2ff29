//! Time stamps of log lines. Lines come in order, so the text of a second is made once.

use std::time::{SystemTime, UNIX_EPOCH};

/// The text of the last second that was asked for, without its fraction.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: String,
}

impl Stamp {
    /// Appends a time in the form of RFC 3339 with nanoseconds.
    pub(super) fn write(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            let second = i64::try_from(since.as_secs()).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
            self.text = second.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string();
            self.text.pop(); // The Z, which follows the fraction.
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut fraction = *b".000000000Z";
        let mut left = since.subsec_nanos();
        for digit in fraction[1..10].iter_mut().rev() {
            *digit += (left % 10) as u8;
            left /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_same_and_the_next_second_are_right() {
        let mut stamp = Stamp::default();
        let mut check = |seconds, nanos, expected: &str| {
            let mut out = Vec::new();
            stamp.write(UNIX_EPOCH + Duration::new(seconds, nanos), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check(1_700_000_000, 120_000_001, "2023-11-14T22:13:20.120000001Z");
        check(1_700_000_000, 999_999_999, "2023-11-14T22:13:20.999999999Z");
        check(1_700_000_001, 0, "2023-11-14T22:13:21.000000000Z");
    }
}
