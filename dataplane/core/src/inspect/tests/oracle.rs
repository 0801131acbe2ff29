//! serde_json as the oracle. We differ, on purpose, in these: a body must be an object; numbers out of f64's range are
//! accepted (they pass as bytes); 128 levels are allowed where serde_json allows 127; duplicates of our keys and wrong
//! types of `model`, `stream` and `cache_salt` are refused.

use super::*;

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[a-z\"\\\\\n\u{e9}\u{1f600} ]{0,90}", Just("model".to_owned()), Just("x".repeat(200))];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    let key = prop_oneof![
        "[a-z\"\\\\\u{e9}]{0,9}",
        Just("role".to_owned()),
        Just("content".to_owned()),
        Just("text".to_owned())
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn request() -> impl Strategy<Value = Value> {
    let options =
        prop_oneof![Just(json!(null)), Just(json!({})), Just(json!({"include_usage": false})), Just(json!({"x": 1}))];
    ("[a-z\"\\\\\u{e9}]{0,80}", any::<bool>(), options, value(), value(), value()).prop_map(
        |(model, stream, options, messages, input, other)| {
            json!({"model": model, "stream": stream, "stream_options": options, "messages": messages, "input": input, "zother": other})
        },
    )
}

/// Whether serde_json accepts the bytes as an object and none of our stricter rules forbids it.
fn oracle(body: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(body).ok().filter(Value::is_object).filter(|_| !body.starts_with(b"\xef\xbb\xbf"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn values_agree(request in request(), pretty in any::<bool>()) {
        let body = if pretty { serde_json::to_string_pretty(&request) } else { serde_json::to_string(&request) }.unwrap();
        let out = inspected(&body);
        prop_assert_eq!(out.model.map(|model| model.decode(body.as_bytes()).into_owned()), request["model"].as_str().map(str::to_owned));
        prop_assert_eq!(out.stream, request["stream"].as_bool());
    }

    #[test]
    fn mutations_are_judged_alike(request in request(), at in any::<prop::sample::Index>(), byte in prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\\ u0e-+.\n".to_vec())], how in 0..3) {
        let mut body = serde_json::to_vec(&request).unwrap();
        let at = at.index(body.len());
        match how {
            0 => body[at] = byte,
            1 => body.insert(at, byte),
            _ => body.truncate(at),
        }
        match (inspect_json(&body, &mut Inspected::default()), oracle(&body)) {
            (Ok(()), None) => {
                // Only a number that is out of range may make the difference.
                let error = serde_json::from_slice::<Value>(&body).unwrap_err();
                prop_assert!(error.to_string().contains("out of range"), "{}: {}", error, String::from_utf8_lossy(&body));
            }
            (Err(error), Some(_)) => prop_assert!(matches!(error.kind, ErrorKind::Duplicate | ErrorKind::WrongType), "{}", error),
            _ => {}
        }
    }

    #[test]
    fn splices_change_only_what_they_say(request in request(), name in "[a-z\"\\\\\u{1}\u{e9}]{1,80}") {
        let body = serde_json::to_string(&request).unwrap();
        let (text, injected) = spliced(&body, Some(&name), true);
        // serde_json's floats do not survive printing and reading: both sides are read from text.
        let mut request: Value = serde_json::from_str(&body).unwrap();
        request["model"] = name.into();
        prop_assert_eq!(injected, request["stream"] == true);
        if injected {
            let mut options = request["stream_options"].as_object().cloned().unwrap_or_default();
            options.insert("include_usage".into(), true.into());
            request["stream_options"] = options.into();
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), request);
    }

    #[test]
    fn garbage_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let accepted = inspect_json(&body, &mut Inspected::default()).is_ok();
        prop_assert!(!accepted || oracle(&body).is_some());
        let _ = inspect_multipart(&body, b"multipart/form-data; boundary=B", &mut Inspected::default());
    }
}
