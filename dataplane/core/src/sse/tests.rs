use super::*;
use crate::inspect::ApiKind;

const CHAT: &str = include_str!("recorded/vllm_chat_stream.sse");
const CONTINUOUS: &str = include_str!("recorded/vllm_chat_stream_continuous_usage.sse");
const COMPLETION: &str = include_str!("recorded/vllm_completion_stream.sse");
const TRITON: &str = include_str!("recorded/triton_generate_stream.sse");
const TRITON_ERROR: &str = include_str!("recorded/triton_generate_stream_midstream_error.sse");
const RECORDED: [&str; 5] = [CHAT, CONTINUOUS, COMPLETION, TRITON, TRITON_ERROR];

fn watched<'a>(watch: Watch, slices: impl IntoIterator<Item = &'a [u8]>) -> Tap {
    let mut tap = Tap::new(watch);
    let (mut events, mut firsts) = (0, 0);
    for slice in slices {
        let seen = tap.push(slice);
        events += u64::from(seen.events);
        firsts += u32::from(seen.first_event);
    }
    assert_eq!(events, tap.events());
    assert_eq!(firsts, u32::from(events > 0));
    tap
}

fn usage(prompt: u64, completion: u64) -> Option<Usage> {
    Some(Usage { prompt: Some(prompt), completion: Some(completion), cached: None })
}

type Facts = (u64, bool, bool, Option<Usage>, Place);

fn facts(tap: &Tap) -> Facts {
    (tap.events(), tap.is_done(), tap.has_error(), tap.usage(), tap.place())
}

fn check(text: &str, expected: Facts) {
    assert_eq!(facts(&watched(Watch::Events, [text.as_bytes()])), expected, "{text:?}");
    for at in 0..=text.len() {
        let (before, after) = text.as_bytes().split_at(at);
        assert_eq!(facts(&watched(Watch::Events, [before, after])), expected, "{text:?} cut at {at}");
    }
    assert_eq!(facts(&watched(Watch::Events, text.as_bytes().chunks(1))), expected, "{text:?} by bytes");
}

#[test]
fn recorded_streams() {
    check(CHAT, (7, true, false, usage(17, 5), Place::Boundary));
    check(CONTINUOUS, (6, true, false, usage(17, 4), Place::Boundary));
    check(COMPLETION, (5, true, false, None, Place::Boundary));
    check(TRITON, (3, false, false, None, Place::Boundary));
    check(TRITON_ERROR, (3, false, true, None, Place::Boundary));
}

#[test]
fn carriage_returns_comments_and_garbage() {
    check("data: {}\r\n\r\ndata: {}\r\n\r\n", (2, false, false, None, Place::Boundary));
    check(": ping\n\ndata:{}\n\n", (1, false, false, None, Place::Boundary));
    check("data: {}\n", (1, false, false, None, Place::Line));
    check("data: {\"a\"", (0, false, false, None, Place::Inside));
    check("event: error\ndata: {\"type\":\"error\"}\n\n", (0, false, true, None, Place::Boundary));
    check("data: {\"error\":null,\"choices\":[]}\n\n", (1, false, false, None, Place::Boundary));
    check(
        "data: {\"content\":\"{\\\"usage\\\":{\\\"prompt_tokens\\\":9}}\"}\n\n",
        (1, false, false, None, Place::Boundary),
    );
    check("\0\u{fffd}}}]]\n\r\"usage\":{\"usage\":[", (0, false, false, None, Place::Inside));
}

#[test]
fn anthropic_counts_come_from_both_ends() {
    let mut stream = String::from(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":16,\"output_tokens\":1}}}\n\n",
    );
    stream.push_str(&"event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n".repeat(100));
    stream.push_str("event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    let tap = watched(Watch::AnthropicEvents, stream.as_bytes().chunks(7));
    assert_eq!(tap.usage(), Some(Usage { prompt: Some(25), completion: Some(15), cached: Some(16) }));
    assert!(tap.is_done());
}

#[test]
fn unary_answers() {
    let of = |text: &str| {
        let tap = watched(Watch::Json, text.as_bytes().chunks(3));
        (tap.has_error(), tap.usage())
    };
    assert_eq!(of(include_str!("recorded/vllm_chat.json")), (false, usage(288, 8)));
    assert_eq!(of(include_str!("recorded/vllm_messages_anthropic.json")), (false, usage(17, 8)));
    let cached = Usage { prompt: Some(17), completion: Some(16), cached: Some(0) };
    assert_eq!(of(include_str!("recorded/vllm_responses.json")), (false, Some(cached)));
    assert_eq!(of(include_str!("recorded/triton_generate_decoupled_many.json")), (true, None));
    assert_eq!(of("{\"errors\":1}"), (false, None));
}

#[test]
fn a_tap_that_is_reset_is_new() {
    let mut tap = watched(Watch::Events, [CHAT.as_bytes()]);
    tap.reset(Watch::Events);
    assert_eq!(facts(&tap), (0, false, false, None, Place::Boundary));
}

fn filtered<'a>(slices: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, UsageFilter) {
    let (mut filter, mut all) = (UsageFilter::new(), Vec::new());
    for slice in slices {
        let mut out = Vec::new();
        match filter.push(slice, &mut out) {
            Passed::Whole => {
                assert!(out.is_empty());
                all.extend_from_slice(slice);
            }
            Passed::Edited => all.extend_from_slice(&out),
        }
    }
    filter.finish(&mut all);
    (all, filter)
}

fn without_usage_event(text: &str) -> String {
    text.split_inclusive("\n\n").filter(|event| !event.contains("\"choices\":[],\"usage\":{")).collect()
}

fn check_filter(text: &str, expected: &str) {
    let expect = |slices: &mut dyn Iterator<Item = &[u8]>, how: &str| {
        let (out, filter) = filtered(slices);
        assert_eq!(String::from_utf8_lossy(&out), expected, "{how}");
        assert_eq!(filter.removed() > 0, text != expected, "{how}");
        assert_eq!(filter.usage().is_some(), text != expected, "{how}");
    };
    expect(&mut [text.as_bytes()].into_iter(), "whole");
    expect(&mut text.as_bytes().chunks(1), "by bytes");
    for at in 0..=text.len() {
        let (before, after) = text.as_bytes().split_at(at);
        expect(&mut [before, after].into_iter(), &format!("cut at {at}"));
    }
}

#[test]
fn the_usage_event_and_nothing_else_goes() {
    for text in RECORDED {
        check_filter(text, &without_usage_event(text));
    }
    assert_ne!(CHAT, without_usage_event(CHAT));
    let usage = "data:{\"usage\" : {\"prompt_tokens\":1}, \"choices\" : [ ]}";
    check_filter(&format!("{usage}\r\n\r\ndata: [DONE]\r\n\r\n"), "data: [DONE]\r\n\r\n");
    check_filter(&format!("data: a\r\r{usage}\r\rdata: [DONE]\r\r"), "data: a\r\rdata: [DONE]\r\r");
}

#[test]
fn what_only_looks_like_the_usage_event_stays() {
    for text in [
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"a\":{\"choices\":[],\"usage\":{}}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\ndata: more\n\n",
        "event: x\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}} x\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}",
        "\n\n\r\n: c\n\ndat\n\ndata\n\ndata: \n\n\u{fffd}{[\"",
    ] {
        check_filter(text, text);
    }
}

#[test]
fn only_what_may_be_the_usage_event_is_held_back() {
    let passes = |slice: &str, expected: &str| {
        let (mut filter, mut out) = (UsageFilter::new(), Vec::new());
        if filter.push(slice.as_bytes(), &mut out) == Passed::Whole {
            out.extend_from_slice(slice.as_bytes());
        }
        assert_eq!(String::from_utf8_lossy(&out), expected);
    };
    passes("data: x", "data: x");
    passes("data: {\"id\":1,\"choices\":[{\"in", "data: {\"id\":1,\"choices\":[{\"in");
    passes("data: x\n\ndata: {\"id\":1,\"cho", "data: x\n\n");
    let long = format!("data: {{\"a\":\"{}", "x".repeat(MAX_HELD_BYTES));
    passes(&long, &long);
}

#[test]
fn cut_events_are_of_the_api_s_form() {
    let error = CutError { message: "the \"engine\" left", kind: "upstream_error", code: "stream_cut" };
    let written = |api, place| {
        let mut out = Vec::new();
        write_cut_event(api, place, &error, &mut out);
        String::from_utf8(out).unwrap()
    };
    for api in [ApiKind::Chat, ApiKind::Messages, ApiKind::Responses, ApiKind::GenerateStream] {
        let text = written(api, Place::Boundary);
        let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let value: serde_json::Value = serde_json::from_str(data).unwrap();
        assert!(value.to_string().contains(r#"the \"engine\" left"#), "{text}");
        assert!(text.ends_with("\n\n"));
        assert!(watched(Watch::Events, [text.as_bytes()]).has_error(), "{text}");
    }
    assert!(written(ApiKind::Chat, Place::Inside).starts_with("\n\ndata: {\"error\":{\"message\":"));
    assert!(written(ApiKind::Chat, Place::Line).starts_with("\ndata: "));
}

#[test]
fn an_event_that_begins_like_those_before_it_is_the_usage_event_all_the_same() {
    let begun = r#"data: {"id":"a","choices":["#;
    let usage = r#"],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let word = format!("{begun}{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}]}}\n\n");
    let stream = format!("{word}{word}{begun}{usage}\n\n{word}data: [DONE]\n\n");
    let mut filter = UsageFilter::new();
    let mut out = Vec::new();
    if filter.push(stream.as_bytes(), &mut out) == Passed::Whole {
        out.extend_from_slice(stream.as_bytes());
    }
    filter.finish(&mut out);
    assert_eq!(String::from_utf8(out).unwrap(), format!("{word}{word}{word}data: [DONE]\n\n"));
    assert_eq!(filter.removed(), 1);
}
