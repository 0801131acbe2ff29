use api::prefix;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn inspected(body: &str) -> Inspected {
    let mut out = Inspected::default();
    inspect_json(body.as_bytes(), &mut out).unwrap_or_else(|error| panic!("{error}: {body}"));
    out
}

fn refused(body: &[u8]) -> (ErrorKind, usize) {
    let error = inspect_json(body, &mut Inspected::default()).expect_err("must be refused");
    (error.kind, error.position)
}

#[test]
fn refusals_name_kind_and_position() {
    let check = |body: &[u8], expected| assert_eq!(refused(body), expected, "{}", String::from_utf8_lossy(body));
    check(b"", (ErrorKind::Empty, 0));
    check(b" \n", (ErrorKind::Empty, 2));
    check(b"[]", (ErrorKind::NotAnObject, 0));
    check(b"\xef\xbb\xbf{}", (ErrorKind::Bom, 0));
    check(b"{\"a\":\"\xff\"}", (ErrorKind::Utf8, 6));
    check(b"{}{}", (ErrorKind::Trailing, 2));
    check(b"{\"a\":NaN}", (ErrorKind::Syntax, 5));
    check(b"{\"a\":01}", (ErrorKind::Number, 6));
    check(b"{\"a\":tru", (ErrorKind::Truncated, 8));
    check(b"{\"a\":\"\\x\"}", (ErrorKind::Escape, 6));
    check(b"{\"a\":\"\\ud800\"}", (ErrorKind::Surrogate, 6));
    check(b"{\"a\":\"\\ude00\"}", (ErrorKind::Surrogate, 6));
    check(b"{\"a\":\"x\n\"}", (ErrorKind::Control, 7));
    check(b"{\"a\":1,}", (ErrorKind::Syntax, 7));
    check(br#"{"model":"a","model":"b"}"#, (ErrorKind::Duplicate, 13));
    check(br#"{"model":"a","mod\u0065l":"b"}"#, (ErrorKind::Duplicate, 13));
    check(br#"{"stream":"true"}"#, (ErrorKind::WrongType, 10));
    check(br#"{"messages":[{"role":"u","role":"v"}]}"#, (ErrorKind::Duplicate, 25));
    check(br#"{"stream_options":{"include_usage":true,"include_usage":false}}"#, (ErrorKind::Duplicate, 40));
    let long = format!("{{\"a\":\"{}\t\"}}", "x".repeat(500));
    check(long.as_bytes(), (ErrorKind::Control, 506));
}

#[test]
fn nesting_is_bounded_without_recursion() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
    inspected(&nested(MAX_DEPTH));
    assert_eq!(refused(nested(MAX_DEPTH + 1).as_bytes()), (ErrorKind::Depth, 5 + MAX_DEPTH - 1));
    assert_eq!(refused("{\"a\":".repeat(1_000_000).as_bytes()).0, ErrorKind::Depth);
    let inside = format!(r#"{{"messages":[{{"content":[{{"x":{}}}]}}]}}"#, "[".repeat(500));
    assert_eq!(refused(inside.as_bytes()).0, ErrorKind::Depth);
}

#[test]
fn fields() {
    let body = r#"{ "mod\u0065l" : "a\"b", "stream":true, "max_tokens":5, "max_completion_tokens":7, "n":2, "user":"u",
        "prompt_cache_key":"k", "cache_salt":"s", "tools":[{"x": 1}], "big": 1e999, "Model":"other",
        "stream_options":{"include_usage":false} }"#;
    let out = inspected(body);
    let text = |text: Option<Text>| text.map(|text| text.decode(body.as_bytes()).into_owned());
    assert_eq!(text(out.model).as_deref(), Some("a\"b"));
    assert_eq!((out.stream, out.max_tokens, out.n), (Some(true), Some(7), Some(2)));
    assert_eq!(
        (text(out.user), text(out.session), text(out.cache_salt)),
        (Some("u".into()), Some("k".into()), Some("s".into()))
    );
    assert_eq!(out.tools.map(|span| span.of(body.as_bytes())), Some(&br#"[{"x": 1}]"#[..]));
    let mut reused = out;
    inspect_json(b"{}", &mut reused).unwrap();
    assert!(reused.model.is_none() && reused.stream.is_none() && reused.tools.is_none());
    assert_eq!(inspected(r#"{"model":null,"stream":null}"#).model, None);
}

/// The text that the body must be hashed as, with its estimate.
fn check_prompt(body: &str, text: &str, tokens: u64) {
    let out = inspected(body);
    let (mut got, mut expected) = (vec![1], Vec::new());
    let bytes = out.hash_prompt(body.as_bytes(), 7, &mut got);
    prefix::chain(7, text.as_bytes(), &mut expected);
    assert_eq!((bytes, got, out.token_estimate()), (text.len(), expected, tokens), "{body}");
}

#[test]
fn prompts() {
    let filler = "long enough for several blocks of sixty-four bytes \u{e9}\u{1f600} ".repeat(8);
    let escaped = filler.replace(' ', "\\u0020").replace('\u{1f600}', "\\ud83d\\ude00");
    for content in [&filler, &escaped] {
        let chars = filler.chars().count() as u64;
        let body = format!(r#"{{"messages":[{{"content":"{content}","role":"user"}}],"tools":[1]}}"#);
        check_prompt(&body, &format!("[1]<|im_start|>user\n{filler}<|im_end|>\n"), (chars + 28).div_ceil(4));
        check_prompt(&format!(r#"{{"prompt":["{content}","b"]}}"#), &filler, chars.div_ceil(4));
    }
    for (content, tokens) in [("hi", 8), ("Hello", 9), ("hello world", 10)] {
        let text = format!("<|im_start|>user\n{content}<|im_end|>\n");
        check_prompt(&format!(r#"{{"messages":[{{"role":"user","content":"{content}"}}]}}"#), &text, tokens);
        check_prompt(&format!(r#"{{"input":"{content}"}}"#), &text, tokens);
    }
    let parts = r#"{"messages":[{"role":"u","content":[{"type":"text","text":"a"},{"text":"b"},{"type":"tool_use","text":"z"}]},
        {"role":"x","content":null},{"role":5,"content":"y"},7],"system":[{"type":"text","text":"s"}]}"#;
    check_prompt(parts, "<|im_start|>system\ns<|im_end|>\n<|im_start|>u\na\nb<|im_end|>\n", 15);
    let input = r#"{"input":[{"type":"message","role":"u","content":"a"},{"type":"reasoning","role":"u","content":"z"}],"instructions":"i"}"#;
    check_prompt(input, "<|im_start|>developer\ni<|im_end|>\n<|im_start|>u\na<|im_end|>\n", 15);
    let media = r#"{"messages":[{"role":"u","content":[{"type":"text","text":"a"},{"type":"image_url"},{"type":"text","text":"b"}]}]}"#;
    check_prompt(media, "<|im_start|>u\na", 7);
    for body in [r#"{"prompt":[1,2]}"#, r#"{"prompt":[[1],[2]]}"#, r#"{"prompt":null}"#, "{}"] {
        check_prompt(body, "", 0);
    }
}

mod chat;

fn spliced(body: &str, rename: Option<&str>, usage: bool) -> (String, bool) {
    let plan = plan_splices(&inspected(body), body.as_bytes(), rename, usage);
    let mut out = Vec::new();
    apply(body.as_bytes(), &plan, &mut out);
    assert_eq!(out.len(), spliced_len(body.as_bytes(), &plan));
    for floor in [0, 90, 100, 150] {
        let mut bytes = [&[b'#'; 100], body.as_bytes()].concat();
        let end = bytes.len();
        let at = apply_in_place(&mut bytes, 100..end, floor, &plan);
        assert_eq!(at.end, bytes.len());
        assert_eq!(bytes[at.clone()], out, "{floor}");
        assert!(
            at.start >= floor.min(100) && bytes[..floor.min(100).min(at.start)].iter().all(|byte| *byte == b'#'),
            "{at:?}"
        );
    }
    assert!(plan.usage_injected() || rename.is_some() || plan.is_empty());
    (String::from_utf8(out).unwrap(), plan.usage_injected())
}

#[test]
fn of_a_large_body_only_what_is_on_the_shorter_side_of_an_edit_moves() {
    let text = "x".repeat(1 << 20);
    let first = format!(r#"{{"model":"m","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let last = format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"model":"m","stream":true}}"#);
    let spliced = |body: &str| {
        let plan = plan_splices(&inspected(body), body.as_bytes(), Some("another"), true);
        let mut bytes = [&[0; 100], body.as_bytes()].concat();
        bytes.reserve_exact(256);
        let (place, end) = (bytes.as_ptr(), bytes.len());
        let at = apply_in_place(&mut bytes, 100..end, 10, &plan);
        assert_eq!(bytes.as_ptr(), place);
        let text = at.start + bytes[at.clone()].windows(2).position(|two| two == b"xx").unwrap();
        (text as isize - 100, at.end as isize - end as isize)
    };
    let place = |body: &str| body.find("xx").unwrap() as isize;
    // In either the text is where it was, and so is the end that is further away.
    assert_eq!(spliced(&first), (place(&first), 0));
    let grown = r#""another,"stream_options":{"include_usage":true}"#.len() as isize - r#""m"#.len() as isize;
    assert_eq!(spliced(&last), (place(&last), grown));
}

#[test]
fn splices() {
    let check = |body: &str, expected: &str| {
        assert_eq!(spliced(body, Some("n\"w"), true), (expected.into(), body != expected.replace(r#"n\"w"#, "m")))
    };
    check(
        r#"{"model":"m","stream":true}"#,
        r#"{"model":"n\"w","stream":true,"stream_options":{"include_usage":true}}"#,
    );
    check(
        r#"{"stream":true ,"model":"m","stream_options":{}}"#,
        r#"{"stream":true ,"model":"n\"w","stream_options":{"include_usage":true}}"#,
    );
    check(
        r#"{"stream":true,"stream_options":{ "a":1}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true, "a":1}}"#,
    );
    check(
        r#"{"stream":true,"stream_options":{"include_usage":false,"a":1}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true,"a":1}}"#,
    );
    check(r#"{"stream":true,"stream_options":null}"#, r#"{"stream":true,"stream_options":{"include_usage":true}}"#);
    check(
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
    );
    check(r#"{"model":"m","stream":false}"#, r#"{"model":"n\"w","stream":false}"#);
    assert_eq!(spliced(r#"{"model":"m"}"#, Some("m"), false).0, r#"{"model":"m"}"#);
}

#[test]
fn paths() {
    let check = |path: &str, expected: Option<(&str, ApiKind)>| {
        let got = model_in_path(path);
        assert_eq!(got.as_ref().map(|found| (&*found.model, found.api)), expected, "{path}");
    };
    check("/v2/models/M/infer", Some(("M", ApiKind::Infer)));
    check("/v2/models/M/versions/3/generate_stream?x=/", Some(("M", ApiKind::GenerateStream)));
    check("/v2/models/a%20b/generate", Some(("a b", ApiKind::Generate)));
    check("/predictions/M/1.0", Some(("M", ApiKind::Predictions)));
    // Recorded: what follows the version is the handler's, and a slash at the end is taken.
    check("/predictions/gen/1.0/v1/chat/completions", Some(("gen", ApiKind::Predictions)));
    check("/predictions/M/", Some(("M", ApiKind::Predictions)));
    check("/v1/models/a:b:predict", Some(("a:b", ApiKind::Predict)));
    for path in [
        "/v2/models/a%2fb/infer",
        "/v2/models/a%0/infer",
        "/v2/models/%00/infer",
        "/v2/models//infer",
        "/v2/models/../infer",
        "/v2/models/M/infer/",
        "/v2/models/M/ready",
        "/v1/models/M",
        "/predictions/",
        "/predictions/M/1.0/../../N",
        "/predictions/M/1.0/%2E./N",
        "/predictions/M/.",
        "/v2/models/%ff/infer",
    ] {
        check(path, None);
    }
    assert_eq!(api_kind("/v1/chat/completions?a=b"), ApiKind::Chat);
    assert_eq!(api_kind("/v1/anything"), ApiKind::Other);
    assert_eq!(body_kind("/predictions/M", None), BodyKind::Opaque);
    assert_eq!(body_kind("/predictions/M/1.0/v1/x", None), BodyKind::Opaque);
    assert_eq!(body_kind("/v1/x", Some(b"Multipart/Form-Data; boundary=a")), BodyKind::Multipart);
    assert_eq!(body_kind("/v1/x", None), BodyKind::Json);
}

#[test]
fn forms() {
    const TYPE: &[u8] = b"multipart/form-data; boundary=\"B\"";
    let part =
        |name: &str, value: &str| format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let mut out = Inspected::default();
    let body = part("file", "\r\n--A\0") + &part("model", "whisper") + &part("stream", "true") + "--B--\r\n";
    inspect_multipart(body.as_bytes(), TYPE, &mut out).unwrap();
    assert_eq!(
        (out.model.map(|model| model.decode(body.as_bytes()).into_owned()), out.stream),
        (Some("whisper".into()), Some(true))
    );
    let (plan, mut renamed) = (plan_splices(&out, body.as_bytes(), Some("w2"), true), Vec::new());
    apply(body.as_bytes(), &plan, &mut renamed);
    assert_eq!(String::from_utf8(renamed).unwrap(), body.replace("whisper", "w2"));
    let empty = "--B\r\nContent-Disposition: form-data; name=model\r\n\r\n\r\n--B--";
    inspect_multipart(empty.as_bytes(), TYPE, &mut out).unwrap();
    assert_eq!(out.model.map(|model| model.chars), Some(0));
    for (body, kind) in [
        (part("model", "a") + &part("model", "b") + "--B--", ErrorKind::Duplicate),
        (part("model", "a"), ErrorKind::Truncated),
        (part("model", "a") + "--B--x", ErrorKind::Form),
        (part("model", "a") + "--Bx\r\n", ErrorKind::Form),
        ("x\r\n".to_owned() + &part("model", "a") + "--B--", ErrorKind::Form),
        (part("model", "a\nb") + "--B--", ErrorKind::WrongType),
        (part("a\"; name=\"model", "a") + "--B--", ErrorKind::Form),
        (part("model", "\0").replace("\0\r\n", "") + &part("file", "a") + "--B--", ErrorKind::Form),
        (part("file", "\0").replace("\0\r\n", "") + "--B--", ErrorKind::Form),
    ] {
        assert_eq!(inspect_multipart(body.as_bytes(), TYPE, &mut out).map_err(|error| error.kind), Err(kind), "{body}");
    }
    for bad in [
        "multipart/form-data",
        "m/f; boundary=",
        "m/f; boundary=a; boundary=b",
        "m/f; boundary=\"a",
        "m/f; boundary=a@",
    ] {
        assert_eq!(boundary_of(bad.as_bytes()), None, "{bad}");
    }
}

mod oracle;
