//! Secrets: which keys they have is read, what these hold is judged and let go. No sentence here repeats any of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::world::{Credential, Credentials};

/// `data` in base64, and what `stringData` says beside it and in its place.
pub(super) fn trim(value: &Value) -> Result<Credentials, Vec<String>> {
    let (mut keys, mut problems) = (BTreeMap::new(), Vec::new());
    let fields = |name: &str| value[name].as_object().into_iter().flatten();
    for (key, held) in fields("data") {
        match ByteString::deserialize(held) {
            Ok(ByteString(bytes)) => drop(keys.insert(Arc::from(key.as_str()), Credential::of(&bytes))),
            Err(_) => problems.push(format!("data.{key}: must be base64; write it as it is into stringData")),
        }
    }
    for (key, held) in fields("stringData") {
        match held {
            Value::String(text) => drop(keys.insert(Arc::from(key.as_str()), Credential::of(text.as_bytes()))),
            _ => problems.push(format!("stringData.{key}: must be a string")),
        }
    }
    let held = keys.into_iter().filter_map(|(key, credential)| Some((key, credential?)));
    if problems.is_empty() { Ok(Arc::new(held.collect())) } else { Err(problems) }
}

/// `data` of which the same is read, with something that says nothing in the place of what was held.
pub(super) fn stand_ins(credentials: &Credentials) -> Value {
    let stand_in = |credential: &Credential| match credential {
        Credential::Usable => ByteString(b"x".to_vec()),
        Credential::Invalid => ByteString(b" ".to_vec()),
    };
    let each = credentials.iter().map(|(key, credential)| (key.to_string(), json!(stand_in(credential))));
    Value::Object(each.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_its_keys_and_not_what_they_hold() {
        let read =
            trim(&json!({"data": {"a": "aHVzaA==", "b": "", "c": "Cg==", "d": "Cg=="}, "stringData": {"d": "hush"}}));
        let expected = [("a", Credential::Usable), ("c", Credential::Invalid), ("d", Credential::Usable)];
        let expected = BTreeMap::from(expected.map(|(key, credential)| (Arc::<str>::from(key), credential)));
        assert_eq!(*read.unwrap(), expected);
        assert!(trim(&json!({"metadata": {}})).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_said_without_what_it_was() {
        let problems = trim(&json!({"data": {"a": "hush!"}, "stringData": {"b": 1234}})).unwrap_err().join("; ");
        assert!(problems.contains("data.a: must be base64") && problems.contains("stringData.b:"), "{problems}");
        assert!(!problems.contains("hush") && !problems.contains("1234"), "{problems}");
    }
}
