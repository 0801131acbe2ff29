//! Bytes that pass: bodies, events, heads.

use std::hint::black_box;

use api::template::{ChatTemplate, Renderer};
use bench::load::text;
use dataplane_core::http::{HeadLimits, RequestEdits, RequestFraming, parse_request, write_request_head};
use dataplane_core::inspect::{Chat, Inspected, inspect_json};
use dataplane_core::sse::{Tap, UsageFilter, Watch};

use super::timing::{Beside, Page};

pub(crate) fn all(page: &Page) {
    for kib in [1, 64, 400] {
        inspect(page, kib, Text::Plain);
        inspect(page, kib, Text::Escaped);
    }
    event(page);
    head(page);
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Text {
    Plain,
    /// A line end about every 60 bytes, as prose and code have.
    Escaped,
}

fn body(bytes: usize, text: Text) -> Vec<u8> {
    let mut content = Vec::new();
    text::fill(&mut content, 7, bytes);
    if text == Text::Escaped {
        for line in content.chunks_exact_mut(60) {
            line[58..].copy_from_slice(b"\\n");
        }
    }
    let mut body = br#"{"model":"sim","stream":true,"max_tokens":16,"messages":[{"role":"user","content":""#.to_vec();
    body.extend_from_slice(&content);
    body.extend_from_slice(br#""}]}"#);
    body
}

fn inspect(page: &Page, kib: usize, text: Text) {
    let body = body(kib << 10, text);
    let calls = (200 / kib).max(1);
    let mut blocks = Vec::new();
    let yardstick = page.least(calls, |_| {
        blocks.clear();
        api::prefix::chain(1, black_box(&body), &mut blocks);
        blocks.len()
    });
    let mut inspected = Inspected::default();
    let parse = page.least(calls, |_| inspect_json(black_box(&body), &mut inspected));
    page.row(&format!("inspect_json, {kib} KB, {text:?}"), parse, Beside::Yardstick(yardstick));
    inspect_json(&body, &mut inspected).expect("it is a JSON object with a model");
    let hash = page.least(calls, |_| inspected.hash_prompt(black_box(&body), 1, &mut blocks));
    page.row(&format!("hash_prompt, {kib} KB, {text:?}"), hash, Beside::Yardstick(yardstick));
    page.row(&format!("both, {kib} KB, {text:?}"), parse + hash, Beside::Yardstick(yardstick));
    for (name, source) in [("verbatim", CHATML.to_owned()), ("trimmed", CHATML.replace(".content", ".content | trim"))]
    {
        let template = probed(&source);
        let chat = Chat { template: &template, seed: 1, unix_s: 0 };
        let hash = page.least(calls, |_| inspected.hash_chat(black_box(&body), &chat, &mut blocks));
        page.row(&format!("hash_chat {name}, {kib} KB, {text:?}"), hash, Beside::Yardstick(yardstick));
    }
    let template = ChatTemplate::new(CHATML);
    let renderer = Renderer::new(&template).expect("it parses");
    let rendered = page.least(1, |_| renderer.render_body(&template, black_box(&body), 0).map(|text| text.len()));
    page.row(&format!("by the template, {kib} KB, {text:?}"), rendered, Beside::Yardstick(yardstick));
}

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{{ m.content }}{{ '<|im_end|>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

fn probed(source: &str) -> ChatTemplate {
    let template = ChatTemplate::new(source);
    let probed = api::template::probe(&template).expect("it parses");
    ChatTemplate { segments: Some(probed.segments.expect("it is of the form")), ..template }
}

fn event(page: &Page) {
    let mut event = br#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"sim","choices":[{"index":0,"delta":{"content":"word"},"logprobs":null,"finish_reason":null}],"pad":""#.to_vec();
    event.resize(216, b'x');
    event.extend_from_slice(b"\"}\n\n");
    let mut out = Vec::new();
    let (mut tap, mut filter) = (Tap::new(Watch::Events), UsageFilter::new());
    let yardstick = page.least(1_000, |_| memchr::memchr(b'\n', black_box(&event)));
    let tapped = page.least(1_000, |_| tap.push(black_box(&event)));
    page.row("Tap, event of 220 B", tapped, Beside::Yardstick(yardstick));
    let filtered = page.least(1_000, |_| {
        out.clear();
        filter.push(black_box(&event), &mut out)
    });
    page.row("UsageFilter, event of 220 B", filtered, Beside::Yardstick(yardstick));
}

fn head(page: &Page) {
    let head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: OpenAI/Python 1.99.1\r\n\
        Accept: application/json\r\nAccept-Encoding: gzip, deflate\r\nContent-Type: application/json\r\n\
        Authorization: Bearer sk-0123456789abcdef0123456789abcdef\r\nContent-Length: 1024\r\n\r\n";
    let limits = HeadLimits::default();
    let mut out = Vec::new();
    let yardstick = page.least(1_000, |_| {
        out.clear();
        out.extend_from_slice(black_box(head));
        memchr::memmem::find(&out, b"\r\n\r\n")
    });
    let both = page.least(1_000, |_| {
        let parsed = parse_request(black_box(head), &limits).expect("it is valid").expect("it is whole");
        out.clear();
        let edits = RequestEdits {
            framing: RequestFraming::Length(1024),
            request_id: Some(b"0123456789abcdef"),
            forwarded_for: Some(b"127.0.0.1"),
            ..RequestEdits::default()
        };
        write_request_head(&mut out, &parsed, head, &edits);
        out.len()
    });
    page.row("head parsed and written", both, Beside::Yardstick(yardstick));
}
