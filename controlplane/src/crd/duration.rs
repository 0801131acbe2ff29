//! Go's durations, as Kubernetes objects carry them: `10s`, `1m30s`, `100ms`, `.5s`, `0`. What `time.ParseDuration` takes is taken,
//! but for what is negative.

use std::time::Duration;

use kube::core::Rule;

/// A digit must stand on one side of the point. There are two characters for micro.
const FORM: &str = "^[+]?(0|(([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";
/// Go counts nanoseconds in 63 bits.
const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);

/// The API server's check of such a field. Whether the number fits is checked by [`parse`].
pub(super) fn rule() -> Rule {
    Rule::new(format!("self.matches('{FORM}')")).message("must be a duration such as 10s, 1m30s or 100ms")
}

/// Its length; none where the text is no duration, is negative, or does not fit.
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty() && total <= LONGEST).then_some(total)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FORM, parse};

    /// What it is in Go, in milliseconds, and for the API server.
    fn check(text: &str, millis: Option<u64>) {
        assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        assert_eq!(regex::Regex::new(FORM).unwrap().is_match(text), millis.is_some(), "{text}");
    }

    #[test]
    fn go_durations_parse() {
        check("10s", Some(10_000));
        check("1m30s", Some(90_000));
        check("100ms", Some(100));
        check("2000us3000µs1000μs", Some(6));
        check("5000000ns", Some(5));
        check("1.5h", Some(5_400_000));
        check(".5s", Some(500));
        check("5.s", Some(5_000));
        check("1s.5s2.m", Some(121_500));
        check("+5s", Some(5_000));
        check("0", Some(0));
        check("+0", Some(0));
        check("0s", Some(0));
    }

    #[test]
    fn what_is_no_duration_in_go_or_negative_is_none_here() {
        for text in
            ["", "+", ".s", ".", "s", "10", "0.", "-5s", "++5s", "5 s", "5d", "1..5s", "1.5.s", "5s+5s", "1e3s", "٣s"]
        {
            check(text, None);
        }
    }

    #[test]
    fn the_longest_duration_is_that_of_go() {
        assert!(parse("2562047h").is_some());
        assert_eq!(parse("2562048h"), None);
        assert_eq!(parse("99999999999999999999h"), None);
    }
}
