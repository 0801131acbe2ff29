//! Durations as Go writes them (`1m30s`, `250ms`), because that is what the manifests and variables of users hold.

use std::time::Duration;

/// Parses a duration; the error is a sentence.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration; write it like 10s, 1m30s or 250ms");
    let mut rest = text.trim();
    let mut total = 0f64;
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let value: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        total += value * seconds_in(&rest[digits..unit_end]).ok_or_else(bad)?;
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| bad())
}

fn seconds_in(unit: &str) -> Option<f64> {
    match unit {
        "ns" => Some(1e-9),
        "us" | "µs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse_duration(text).ok().map(|d| d.as_millis() as u64), expected, "{text}");
    }

    #[test]
    fn reads_go_durations() {
        check("10s", Some(10_000));
        check("1m30s", Some(90_000));
        check("250ms", Some(250));
        check("1.5h", Some(5_400_000));
        check("0s", Some(0));
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in ["", "10", "s", "1x", "-1s", "1..5s", "10 s", "1e3s"] {
            check(text, None);
        }
    }
}
