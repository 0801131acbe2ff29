//! Names and labels as an API server takes them.

use std::collections::BTreeMap;

use super::Identity;
use crate::naming::{is_label_key, is_label_value, is_subdomain};

/// What is wrong with an object's name, namespace and labels.
pub(super) fn check(identity: &Identity, labels: Option<&BTreeMap<String, String>>) -> Vec<String> {
    let mut problems = Vec::new();
    match &*identity.name {
        "" => problems.push("metadata.name: is missing".to_owned()),
        name if !is_subdomain(name) => problems.push(format!(
            "metadata.name: {name:?} is not usable: lower-case letters, digits, - and ., at most 253, beginning and ending \
             with a letter or digit"
        )),
        _ => {}
    }
    if !identity.namespace.is_empty() && !is_namespace(&identity.namespace) {
        problems.push(format!(
            "metadata.namespace: {:?} is not usable: lower-case letters, digits and -, at most 63, beginning and ending \
             with a letter or digit",
            identity.namespace
        ));
    }
    for (key, value) in labels.into_iter().flatten() {
        if !is_label_key(key) {
            problems.push(format!("metadata.labels: {key:?} is no label's name"));
        }
        if !is_label_value(value) {
            problems.push(format!("metadata.labels[{key:?}]: {value:?} is no label's value"));
        }
    }
    problems
}

/// RFC 1123 label.
fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && is_subdomain(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str, namespace: &str, label: (&str, &str)) -> usize {
        let identity = Identity { kind: "Pod", namespace: namespace.into(), name: name.into() };
        check(&identity, Some(&BTreeMap::from([(label.0.to_owned(), label.1.to_owned())]))).len()
    }

    #[test]
    fn names_are_those_that_an_api_server_takes() {
        assert_eq!(names("llama-3.8b", "default", ("app.kubernetes.io/name", "Llama_3.8")), 0);
        assert_eq!(names("a", "", ("x", "")), 0);
        for bad in ["", "Llama", "-a", "a-", "a..b", "a_b", "a/b", &"a".repeat(254)] {
            assert_eq!(names(bad, "default", ("x", "y")), 1, "{bad}");
        }
        for bad in ["a.b", "A", &"a".repeat(64)] {
            assert_eq!(names("a", bad, ("x", "y")), 1, "{bad}");
        }
        for bad in [("", "y"), ("a/b/c", "y"), ("UP/x", "y"), ("x", "-y"), ("x", "a b"), ("/x", "y")] {
            assert_eq!(names("a", "default", bad), 1, "{bad:?}");
        }
    }
}
