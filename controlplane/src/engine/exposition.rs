//! Reads Prometheus's text format, as far as engines write it. Labels are checked and passed over: what an endpoint says
//! is wanted as a whole. A line that is not of the format makes all of the text unbelievable.

/// One value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample<'t> {
    pub(super) name: &'t str,
    pub(super) value: f64,
}

/// Why a text is not an exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not of Prometheus's text format: {what}")]
pub(super) struct Fault {
    line: usize,
    what: &'static str,
}

/// All samples, in the text's order.
pub(super) fn samples(text: &str) -> impl Iterator<Item = Result<Sample<'_>, Fault>> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_ascii()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(line, text)| sample(text).map_err(|what| Fault { line, what }))
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let (name, rest) = word(line, |byte| byte == b':');
    if name.is_empty() {
        return Err("it does not begin with a metric's name");
    }
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix('{').map_or(Ok(rest), past_labels)?;
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("its value is not a number")?;
    if words.next().is_some_and(|time| time.parse::<i64>().is_err()) {
        return Err("its time stamp is not a number of milliseconds");
    }
    if words.next().is_some() {
        return Err("something comes after its time stamp");
    }
    Ok(Sample { name, value })
}

/// A name, and what comes after it.
fn word(text: &str, also: impl Fn(u8) -> bool) -> (&str, &str) {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte);
    let end = text.bytes().position(|byte| !of_name(byte)).unwrap_or(text.len());
    let digit = text.bytes().next().is_some_and(|first| first.is_ascii_digit());
    text.split_at(if digit { 0 } else { end })
}

/// What comes after the labels. The last one may end with a comma, too.
fn past_labels(text: &str) -> Result<&str, &'static str> {
    let mut rest = text.trim_ascii_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = word(rest, |_| false);
        let value = after.trim_ascii_start().strip_prefix('=').filter(|_| !name.is_empty());
        let value = value.ok_or("a label is not of the form name=\"value\"")?;
        let value = value.trim_ascii_start().strip_prefix('"').ok_or("a label's value is not in quotes")?;
        rest = past_quoted(value).ok_or("a label's value does not end")?.trim_ascii_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_ascii_start(),
            None if rest.starts_with('}') => {}
            None => return Err("labels are not separated by commas"),
        }
    }
}

fn past_quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(&text[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(&str, f64)>, String> {
        samples(text).map(|s| s.map(|s| (s.name, s.value)).map_err(|fault| fault.to_string())).collect()
    }

    #[test]
    fn names_labels_values_and_time_stamps() {
        let text = concat!(
            "# HELP a:b What { it \"is\n\na:b 1\n",
            "b{x=\"1\",y=\"a } \\\" \\\\\",} 2.5e3 1700000000000\r\n",
            "c { x = \"ü\" , y=\"\" } -Inf\nd{} +Inf",
        );
        let expected = [("a:b", 1.0), ("b", 2_500.0), ("c", f64::NEG_INFINITY), ("d", f64::INFINITY)];
        assert_eq!(read(text), Ok(expected.to_vec()));
        assert!(read("a NaN").unwrap()[0].1.is_nan());
    }

    #[test]
    fn what_is_not_of_the_format_is_refused_with_its_line() {
        for (line, why) in [
            ("{x=\"1\"} 1", "name"),
            ("1a 1", "name"),
            ("<html>", "name"),
            ("a", "value"),
            ("a one", "value"),
            ("a 1 now", "time stamp"),
            ("a 1 2 3", "after"),
            ("a{x} 1", "form"),
            ("a{,} 1", "form"),
            ("a{x=1} 1", "quotes"),
            ("a{x=\"1} 1", "end"),
            ("a{x=\"1\" y=\"2\"} 1", "commas"),
            ("a{x=\"1\"", "commas"),
        ] {
            let fault = read(&format!("ok 1\n{line}\n")).unwrap_err();
            assert!(fault.starts_with("line 2 ") && fault.contains(why), "{line}: {fault}");
        }
    }

    #[test]
    fn what_engines_wrote_is_read_to_the_last_line() {
        let vllm = include_str!("../../tests/recorded/vllm-0.32.0.prom");
        let triton = include_str!("../../tests/recorded/triton-2.51.0.prom");
        let torchserve = include_str!("../../tests/recorded/torchserve-0.12.0.prom");
        for text in [vllm, triton, torchserve] {
            let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
            assert_eq!(read(text).map(|samples| samples.len()), Ok(series));
        }
    }
}
