use std::sync::LazyLock;

use api::template::{self, ChatTemplate, Clock, ContentForm, Renderer, conversation};

use super::*;

const NOW: i64 = 1_700_000_000;

/// ChatML that leaves out what answers thought, trims what tools say, and dates a system message.
const TEMPLATE: &str = "{{ bos_token }}{% for m in messages %}\
    {% if m.role == 'assistant' %}{% set c = m.content.split('</think>')[-1].lstrip('\\n') %}\
    {% elif m.role == 'system' %}{% set c = strftime_now('%d %b %Y') + m.content | trim %}\
    {% else %}{% set c = m.content %}{% endif %}\
    {{ '<|im_start|>' + m.role + '\\n' + c + '<|im_end|>\\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

fn template() -> &'static ChatTemplate {
    static PROBED: LazyLock<ChatTemplate> = LazyLock::new(|| {
        let tokens = [("bos_token".to_owned(), "<s>".to_owned())].into();
        let plain = ChatTemplate { tokens, bos: "<s>".into(), ..ChatTemplate::new(TEMPLATE) };
        let probed = template::probe(&plain).unwrap();
        let segments = probed.segments.unwrap();
        assert!(segments.is_dated());
        ChatTemplate { content: probed.content, segments: Some(segments), ..plain }
    });
    &PROBED
}

/// What the body is hashed as; nothing where the template has to render it.
fn hashed(body: &str) -> Option<(usize, Vec<u64>)> {
    let mut blocks = vec![1];
    let chat = Chat { template: template(), seed: 7, unix_s: NOW };
    let bytes = inspected(body).hash_chat(body.as_bytes(), &chat, &mut blocks)?;
    Some((bytes, blocks))
}

fn check(body: &str, text: &str) {
    let mut blocks = Vec::new();
    prefix::chain(7, text.as_bytes(), &mut blocks);
    assert_eq!(hashed(body), Some((text.len(), blocks)), "{body}");
}

/// As a client writes it, with every character that may be escaped escaped, if so wished.
fn body_of(conversation: &template::Conversation, escaped: bool) -> String {
    let messages = conversation.messages.iter().map(|m| json!({"role": m.speaker.role(), "content": m.content}));
    let body = json!({
        "model": "m", "messages": messages.collect::<Vec<_>>(), "add_generation_prompt": conversation.generate,
    });
    let text = body.to_string();
    if !escaped {
        return text;
    }
    let unit = |unit: &mut u16| format!("\\u{unit:04x}");
    let escape = |c: char| {
        let mut units = [0; 2];
        if c.is_ascii() { c.to_string() } else { c.encode_utf16(&mut units).iter_mut().map(unit).collect() }
    };
    text.chars().map(escape).collect()
}

#[test]
fn bodies_are_hashed_as_the_template_renders_them() {
    let renderer = Renderer::new(template()).unwrap();
    let mut by_segments = 0;
    for number in 0..600 {
        let conversation = conversation(number);
        let expected = renderer.render(&conversation.request(template().content, Clock::At(NOW))).unwrap();
        for escaped in [false, true] {
            let body = body_of(&conversation, escaped);
            if hashed(&body).is_some() {
                by_segments += 1;
                check(&body, &expected);
            }
            let text = renderer.render_body(template(), body.as_bytes(), NOW).unwrap();
            assert_eq!(text, expected, "{body}");
        }
    }
    assert!(by_segments > 1_000, "{by_segments} of 1,200");
}

#[test]
fn parts_prompts_and_pictures() {
    assert_eq!(template().content, ContentForm::Text);
    let user = |text: &str| format!("<s><|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
    check(
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b\n"}]}]}"#,
        &user("a\nb\n"),
    );
    check(r#"{"messages":[{"role":"user","content":"","name":null}]}"#, &user(""));
    check(r#"{"prompt":"once"}"#, "<s>once");
    // The chain ends where the picture may stand.
    check(
        r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"}]}]}"#,
        "<s><|im_start|>user\n",
    );
    check(r#"{"input":"hi","instructions":" be brief "}"#, {
        "<s><|im_start|>system\n14 Nov 2023be brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    });
    let trimmed = r#"{"messages":[{"role":"system","content":[{"type":"text","text":"\u001c a"},{"text":"b \n"}]}],"add_generation_prompt":false}"#;
    check(trimmed, "<s><|im_start|>system\n14 Nov 2023a\nb<|im_end|>\n");
}

#[test]
fn what_says_something_to_the_template_is_the_templates() {
    let message = |rest: &str| format!(r#"{{"messages":[{{"role":"user","content":"a"{rest}}}]}}"#);
    let with = |rest: &str| format!(r#"{{"messages":[{{"role":"user","content":"a"}}],{rest}}}"#);
    for body in [
        message(r#","tool_calls":[]"#),
        message(r#","name":"n""#),
        with(r#""tools":[{"type":"function"}]"#),
        with(r#""documents":[]"#),
        with(r#""chat_template":"x""#),
        with(r#""chat_template_kwargs":{"enable_thinking":false}"#),
        with(r#""continue_final_message":true"#),
        with(r#""reasoning_effort":"low""#),
        r#"{"messages":[{"role":"critic","content":"a"}]}"#.to_owned(),
        r#"{"messages":[{"role":"user","content":7}]}"#.to_owned(),
        r#"{"messages":[{"role":"user","content":[{"type":"thinking","text":"a"}]}]}"#.to_owned(),
        r#"{"messages":[{"content":"a"}]}"#.to_owned(),
    ] {
        assert_eq!(hashed(&body), None, "{body}");
    }
    let nothing = r#""tools":null,"documents":null,"chat_template":null,"continue_final_message":false"#;
    check(&with(nothing), "<s><|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n");
    assert!(inspect_json(br#"{"documents":1,"documents":2}"#, &mut Inspected::default()).is_err());
}
