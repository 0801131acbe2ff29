//! Percent escapes in names that stand in paths and queries.

/// The text that is meant; none where an escape is broken or the result is not UTF-8.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_are_unescaped() {
        let check = |text, expected: Option<&str>| assert_eq!(unescaped(text).as_deref(), expected, "{text}");
        check("meta%2Fllama", Some("meta/llama"));
        check("meta/llama", Some("meta/llama"));
        check("a%2", None);
        check("%ff", None);
    }
}
