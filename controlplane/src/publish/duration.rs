//! Go's durations, as Kubernetes objects carry them: `10s`, `1m30s`, `100ms`, `0`.

use std::time::Duration;

/// The duration that a text stands for.
pub(super) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut sum) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let digits = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(digits);
        sum = sum.checked_add(part(number, unit)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(sum)
}

/// Exact to the nanosecond: `0.1` is no binary fraction.
fn part(number: &str, unit: &str) -> Option<Duration> {
    let unit_ns: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // More digits than 18 say nothing that a nanosecond could show.
    let fraction = &fraction[..fraction.len().min(18)];
    if whole.is_empty() || fraction.is_empty() || whole.len() > 18 {
        return None;
    }
    let whole = whole.parse::<u128>().ok()? * unit_ns;
    let fraction = fraction.parse::<u128>().ok()? * unit_ns / 10u128.pow(fraction.len() as u32);
    u64::try_from(whole + fraction).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let ms = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(ms("10s"), Some(10_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("1.5h"), Some(5_400_000));
        assert_eq!(ms("0.1s"), Some(100));
        assert_eq!(ms("100ms"), Some(100));
        assert_eq!(ms("0"), Some(0));
        assert_eq!(ms("0s"), Some(0));
        assert_eq!(parse("250µs"), Some(Duration::from_micros(250)));
        for bad in
            ["", "10", "s", "-1s", "1 s", "1d", "1..5s", ".5s", "1.s", "10s5", "99999999999999999999h", "9999999h"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
