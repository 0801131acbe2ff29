//! Reads Prometheus's text format, as far as engines write it. What an endpoint says is wanted as a whole, so labels are checked and passed over
//! but where they are what is said. A line that is not of the format makes all of the text unbelievable.

/// One value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample<'t> {
    pub(super) name: &'t str,
    /// As they are written, from the first one to the brace.
    labels: &'t str,
    pub(super) value: f64,
}

impl<'t> Sample<'t> {
    /// A label's value, as it is written.
    pub(super) fn label(&self, wanted: &str) -> Option<&'t str> {
        let mut rest = self.labels;
        while let Ok((name, value, after)) = label(rest.trim_ascii_start()) {
            if name == wanted {
                return Some(value);
            }
            rest = after.strip_prefix(',').unwrap_or_default();
        }
        None
    }
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
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(within) => past_labels(within).map(|rest| (&within[..within.len() - rest.len()], rest))?,
        None => ("", rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse().ok()).ok_or("its value is not a number")?;
    if words.next().is_some_and(|time| time.parse::<i64>().is_err()) {
        return Err("its time stamp is not a number of milliseconds");
    }
    if words.next().is_some() {
        return Err("something comes after its time stamp");
    }
    Ok(Sample { name, labels, value })
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
        rest = label(rest)?.2;
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_ascii_start(),
            None if rest.starts_with('}') => {}
            None => return Err("labels are not separated by commas"),
        }
    }
}

/// Its name, its value, and what comes after it.
fn label(text: &str) -> Result<(&str, &str, &str), &'static str> {
    let (name, after) = word(text, |_| false);
    let value = after.trim_ascii_start().strip_prefix('=').filter(|_| !name.is_empty());
    let value = value.ok_or("a label is not of the form name=\"value\"")?;
    let value = value.trim_ascii_start().strip_prefix('"').ok_or("a label's value is not in quotes")?;
    let (value, after) = quoted(value).ok_or("a label's value does not end")?;
    Ok((name, value, after.trim_ascii_start()))
}

fn quoted(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let end = text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some((&text[..end], &text[end + 1..]))
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
    fn a_label_is_found_by_its_name() {
        let text = "a{x=\"1\" , of_x=\"a=\\\"x\\\"}\", last=\"\" ,} 1\nb 1";
        let [a, b] = samples(text).map(Result::unwrap).collect::<Vec<_>>()[..] else { panic!("two samples") };
        assert_eq!((a.label("x"), a.label("of_x"), a.label("last")), (Some("1"), Some("a=\\\"x\\\"}"), Some("")));
        assert_eq!((a.label("y"), b.label("x")), (None, None));
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
