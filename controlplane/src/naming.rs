//! What Kubernetes takes as names, labels and header names.

/// RFC 1123 subdomain: the name of most objects.
pub fn is_subdomain(name: &str) -> bool {
    (1..=253).contains(&name.len()) && name.split('.').all(|part| is_label(part, false))
}

/// RFC 1035 label: the name of a Service, and of a pod's host.
pub fn is_dns_label(name: &str) -> bool {
    name.len() <= 63 && is_label(name, true)
}

fn is_label(text: &str, letter_first: bool) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let [first, .., last] = text.as_bytes() else {
        return text.bytes().all(|b| inner(b) && b != b'-' && !(letter_first && b.is_ascii_digit()))
            && !text.is_empty();
    };
    text.bytes().all(inner) && *first != b'-' && *last != b'-' && !(letter_first && first.is_ascii_digit())
}

/// The key of a label or annotation: a name of up to 63 bytes, with an optional subdomain and `/` before it.
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_qualified(name),
        None => is_qualified(key),
    }
}

/// The value of a label.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified(value)
}

fn is_qualified(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let outer = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 63 && bytes.iter().copied().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

/// RFC 9110 token.
pub fn is_header_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subdomains() {
        let check = |name: &str, expected| assert_eq!(is_subdomain(name), expected, "{name}");
        check("a", true);
        check("a.b-c.9", true);
        check("", false);
        check("-a", false);
        check("a-", false);
        check("A", false);
        check("a..b", false);
        check(&"a".repeat(254), false);
    }

    #[test]
    fn dns_labels_begin_with_a_letter() {
        let check = |name: &str, expected| assert_eq!(is_dns_label(name), expected, "{name}");
        check("a", true);
        check("a-9", true);
        check("9a", false);
        check("9", false);
        check("-", false);
        check("", false);
        check(&"a".repeat(64), false);
    }

    #[test]
    fn labels() {
        let check = |key: &str, expected| assert_eq!(is_label_key(key), expected, "{key}");
        check("app", true);
        check("modelinfer/rolename", true);
        check("app.kubernetes.io/name_x", true);
        check("", false);
        check("a/b/c", false);
        check("a b", false);
        check("/a", false);
        assert!(is_label_value("") && is_label_value("P-instance") && !is_label_value("-x") && !is_label_value("a b"));
    }
}
