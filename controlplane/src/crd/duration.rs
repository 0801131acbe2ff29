//! Go's durations, as Kubernetes objects carry them: `10s`, `1m30s`, `100ms`, `0`.

use std::time::Duration;

use kube::core::Rule;

/// The API server's check of such a field. Whether the number fits is checked by [`parse`].
pub(super) fn rule() -> Rule {
    Rule::new("self.matches('^([0-9]+([.][0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$')")
        .message("must be a duration such as 10s, 1m30s or 100ms")
}

/// Its length; none where the text is no duration, is negative, or does not fit.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
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
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse;

    #[test]
    fn go_durations_parse() {
        let check =
            |text: &str, millis: Option<u64>| assert_eq!(parse(text), millis.map(Duration::from_millis), "{text}");
        check("10s", Some(10_000));
        check("1m30s", Some(90_000));
        check("100ms", Some(100));
        check("1.5h", Some(5_400_000));
        check("0", Some(0));
        check("0s", Some(0));
        check("", None);
        check("10", None);
        check("-5s", None);
        check("5 s", None);
        check("5d", None);
        check("1..5s", None);
        check("99999999999999999999h", None);
    }
}
