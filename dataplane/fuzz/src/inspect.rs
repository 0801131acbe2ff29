//! Inspection: what we accept serde_json reads alike, and an edit changes what it says and nothing else.

use api::prefix;
use dataplane_core::inspect::{
    ErrorKind, IncludeUsage, Inspected, Part, PromptSource, Role, StreamOptions, Text, apply, apply_in_place,
    inspect_json, inspect_multipart, plan_splices, segments, spliced_len,
};
use serde_json::Value;

const FORM: &[u8] = b"multipart/form-data; boundary=B";
const NAME: &str = "other \"model\\\u{1}\u{e9}";

/// Everything that must hold for these bytes as a body.
pub fn check(body: &[u8]) {
    form(body);
    let mut found = Inspected::default();
    let answer = inspect_json(body, &mut found);
    let other = serde_json::from_slice::<Value>(body);
    match (&answer, &other) {
        (Ok(()), Ok(value)) => {
            same_values(body, &found, value);
            prompt(body, &found);
            for (rename, usage) in [(None, true), (Some(NAME), false), (Some(NAME), true)] {
                edited(body, &found, (value, rename, usage));
            }
        }
        // Numbers out of range pass as bytes, and one level more is allowed than there.
        (Ok(()), Err(error)) => {
            let text = error.to_string();
            assert!(text.contains("out of range") || text.contains("recursion limit"), "serde_json refuses: {text}");
        }
        (Err(error), Ok(value)) if value.is_object() => {
            assert!(matches!(error.kind, ErrorKind::Duplicate | ErrorKind::WrongType), "only we refuse: {error}");
        }
        (Err(error), _) => assert!(error.position <= body.len(), "{error}"),
    }
    let mut reused = found.clone();
    assert_eq!(inspect_json(body, &mut reused), answer);
    assert_eq!(format!("{reused:?}"), format!("{found:?}"), "what was there before shows");
}

fn text(body: &[u8], text: Option<Text>) -> Option<String> {
    let decoded = text.map(|text| (text.decode(body).into_owned(), text.chars));
    decoded.map(|(value, chars)| {
        assert_eq!(value.chars().count(), chars as usize, "{value:?}");
        value
    })
}

fn same_values(body: &[u8], found: &Inspected, value: &Value) {
    let string = |key: &str| value[key].as_str().map(str::to_owned);
    assert_eq!(text(body, found.model), string("model"));
    assert_eq!(found.stream, value["stream"].as_bool());
    assert_eq!(text(body, found.cache_salt), string("cache_salt"));
    assert_eq!(text(body, found.user), string("user"));
    assert_eq!(text(body, found.session), string("session_id").or_else(|| string("prompt_cache_key")));
    assert_eq!(text(body, found.previous_response), string("previous_response_id"));
    let raw =
        |range: std::ops::Range<usize>| serde_json::from_slice::<Value>(&body[range]).expect("a span is one value");
    match found.tools {
        Some(span) => assert_eq!(raw(span.range()), value["tools"]),
        None => assert_eq!(value["tools"], Value::Null),
    }
    let most = ["max_completion_tokens", "max_tokens", "max_output_tokens"].map(|key| value[key].as_u64());
    // A count over 2^64 is clamped here and a float there; `-0` and `1e3` are whole only for some readers.
    if let Some(count) = most.into_iter().flatten().next() {
        assert!(found.max_tokens.is_some_and(|found| found == count || most.iter().any(Option::is_none)));
    }
    if let Some(count) = value["n"].as_u64() {
        assert_eq!(found.n, Some(count));
    }
    let options = &value["stream_options"];
    match found.stream_options {
        StreamOptions::Absent => assert!(value.get("stream_options").is_none()),
        StreamOptions::Null(span) => assert!(span.of(body) == b"null" && options.is_null()),
        StreamOptions::Other => assert!(!options.is_null() && !options.is_object()),
        StreamOptions::Object { span, empty, include_usage } => {
            assert_eq!(raw(span.range()), *options);
            assert_eq!(options.as_object().map(|all| all.is_empty()), Some(empty));
            let asked = options.get("include_usage");
            match include_usage {
                IncludeUsage::Absent => assert_eq!(asked, None),
                IncludeUsage::On => assert_eq!(asked, Some(&Value::Bool(true))),
                IncludeUsage::Off(span) => assert_eq!(asked, Some(&raw(span.range()))),
                IncludeUsage::Other => assert!(asked.is_some_and(|v| !v.is_boolean() && !v.is_null())),
            }
        }
    }
}

/// The hashes are those of the rendered text.
fn prompt(body: &[u8], found: &Inspected) {
    let (mut blocks, mut expected) = (vec![7], Vec::new());
    let bytes = found.hash_prompt(body, 5, &mut blocks);
    assert!(blocks.len() <= bytes / api::limits::BLOCK_BYTES);
    if !matches!(found.source, PromptSource::Messages | PromptSource::Input) {
        return;
    }
    let mut rendered = found.tools.map(|span| span.of(body).to_vec()).unwrap_or_default();
    'all: for message in found.messages() {
        rendered.extend_from_slice(b"<|im_start|>");
        match message.role {
            Role::Given(role) => rendered.extend_from_slice(role.decode(body).as_bytes()),
            Role::Implied(role) => rendered.extend_from_slice(role.as_bytes()),
        }
        rendered.push(b'\n');
        for (i, part) in message.parts.iter().enumerate() {
            let Part::Text(text) = part else { break 'all };
            rendered.extend_from_slice(if i > 0 { b"\n" } else { b"" });
            rendered.extend_from_slice(text.decode(body).as_bytes());
        }
        rendered.extend_from_slice(b"<|im_end|>\n");
    }
    prefix::chain(5, &rendered, &mut expected);
    assert_eq!((bytes, blocks), (rendered.len(), expected));
}

fn edited(body: &[u8], found: &Inspected, asked: (&Value, Option<&str>, bool)) {
    let (value, rename, usage) = asked;
    let plan = plan_splices(found, body, rename, usage);
    let mut out = Vec::new();
    apply(body, &plan, &mut out);
    assert_eq!(out.len(), spliced_len(body, &plan));
    assert_eq!(segments(body, &plan).collect::<Vec<_>>().concat(), out);
    for floor in [0, 64, 128] {
        let mut bytes = [&[0; 128], body].concat();
        let end = bytes.len();
        let at = apply_in_place(&mut bytes, 128..end, floor, &plan);
        assert_eq!(bytes[at], out);
    }
    let mut expected = value.clone();
    if let Some(name) = rename.filter(|_| found.model.is_some()) {
        expected["model"] = name.into();
    }
    if plan.usage_injected() {
        assert!(usage && found.stream == Some(true));
        let mut options = value["stream_options"].as_object().cloned().unwrap_or_default();
        options.insert("include_usage".into(), true.into());
        expected["stream_options"] = options.into();
    } else if usage && found.stream == Some(true) {
        let own = matches!(
            found.stream_options,
            StreamOptions::Other | StreamOptions::Object { include_usage: IncludeUsage::On | IncludeUsage::Other, .. }
        );
        assert!(own, "usage was not asked for");
    }
    assert_eq!(serde_json::from_slice::<Value>(&out).expect("an edit keeps it JSON"), expected);
    let mut again = Inspected::default();
    inspect_json(&out, &mut again).expect("an edit keeps it acceptable");
    same_values(&out, &again, &expected);
    let second = plan_splices(&again, &out, rename, usage);
    assert!(second.is_empty() && !second.usage_injected(), "editing twice is editing once");
}

fn form(body: &[u8]) {
    let mut found = Inspected::default();
    if let Err(error) = inspect_multipart(body, FORM, &mut found) {
        assert!(error.position <= body.len(), "{error}");
        return;
    }
    assert!(body.starts_with(b"--B") && (body.ends_with(b"--B--") || body.ends_with(b"--B--\r\n")));
    let plan = plan_splices(&found, body, Some("other"), true);
    assert!(!plan.usage_injected());
    let mut out = Vec::new();
    apply(body, &plan, &mut out);
    let mut again = Inspected::default();
    inspect_multipart(&out, FORM, &mut again).expect("an edit keeps the form");
    assert_eq!(again.stream, found.stream);
    let Some(model) = found.model else {
        assert_eq!(out, body);
        return;
    };
    let range = model.span.range();
    assert!(!model.span.of(body).windows(3).any(|w| w == b"--B" && range.start == 0));
    assert_eq!(out, [&body[..range.start], b"other", &body[range.end..]].concat());
    assert_eq!(again.model.map(|m| m.span.of(&out).to_vec()), Some(b"other".to_vec()));
}
