use super::*;

/// Shows everything that a template is given.
const SHOWS: &str = "{{ messages | tojson }}|{{ tools | tojson }}|{{ documents | tojson }}|{{ add_generation_prompt }}|\
    {{ enable_thinking }}|{{ reasoning_effort }}";

fn rendered(source: &str, body: &str) -> Result<String, RenderError> {
    let template = ChatTemplate::new(source);
    Renderer::new(&template).unwrap().render_body(&template, body.as_bytes(), 0)
}

fn check(body: &str, expected: &str) {
    assert_eq!(rendered(SHOWS, body).as_deref(), Ok(expected), "{body}");
}

#[test]
fn bodies_reach_the_template_as_vllm_hands_them_on() {
    check(r#"{"messages":[],"model":"m"}"#, "[]|null|null|True||");
    check(
        r#"{"messages":[{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"role":"user","name":"n","more":1}]}"#,
        r#"[{"role": "user", "content": "a\nb", "name": "n"}]|null|null|True||"#,
    );
    check(
        r#"{"messages":[{"role":"assistant","content":null,"reasoning":"r","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{\"b\": 1, \"a\": [2.0]}"}}]},
            {"role":"tool","tool_call_id":"1","content":"x"}],"add_generation_prompt":false}"#,
        r#"[{"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"b": 1, "a": [2.0]}}}], "reasoning_content": "r", "reasoning": "r", "thinking": "r"}, {"role": "tool", "content": "x", "tool_call_id": "1"}]|null|null|False||"#,
    );
    check(
        r#"{"messages":[],"tools":[{"type":"function","function":{"parameters":{"z":1,"a":2},"name":"f","strict":true}}],
            "documents":[{"text":"d"}],"chat_template_kwargs":{"enable_thinking":false},"reasoning_effort":"low"}"#,
        r#"[]|[{"type": "function", "function": {"name": "f", "description": null, "parameters": {"z": 1, "a": 2}, "strict": true}}]|[{"text": "d"}]|True|False|low"#,
    );
    for bad in [
        r#"{"messages":[],"chat_template":"own"}"#,
        "{}",
        "[]",
        r#"{"messages":[{"content":"a"}]}"#,
        r#"{"messages":[{"role":"u","content":[{"type":"image_url"}]}]}"#,
    ] {
        assert!(matches!(rendered(SHOWS, bad), Err(RenderError::Failed(_))), "{bad}");
    }
}

#[test]
fn a_message_that_goes_on_is_cut_where_it_ends() {
    let source =
        "{% for m in messages %}<{{ m.content | trim }}>{% endfor %}{% if add_generation_prompt %}G{% endif %}";
    let body = |last: &str| {
        format!(
            r#"{{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant","content":"{last}"}}],"continue_final_message":true}}"#
        )
    };
    assert_eq!(rendered(source, &body(" and \\n")).as_deref(), Ok("<a><and"));
    assert_eq!(rendered("{{ messages[1].content }}!", &body("and \\n")).as_deref(), Ok("and \n"));
    assert!(rendered("nothing", &body("and")).is_err());
}

#[test]
fn work_depth_and_output_are_bounded() {
    let hi = r#"{"messages":[]}"#;
    let endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    assert_eq!(rendered(endless, hi), Err(RenderError::Bound));
    assert!(rendered("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", hi).is_err());
    assert_eq!(rendered("{{ 'x' * 100000000000 }}", hi), Err(RenderError::Bound));
    let much = rendered("{% for a in range(5000) %}{{ 'é' * 999 }}{% endfor %}", hi).unwrap();
    assert_eq!(much.len(), 4 << 20);
    // A value that is two of another one, and so on: small, and endless as a text.
    let twice =
        "{% set n = namespace(a=[]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% endfor %}{{ n.a | tojson }}";
    assert_eq!(rendered(twice, hi), Err(RenderError::Bound));
    let strips = "{{ ('a' * 9000) | trim('b' * 9000 ~ 'a') }}";
    assert!(matches!(rendered(strips, hi), Err(RenderError::Failed(_))));
    let raised = rendered("{{ raise_exception('roles must alternate') }}", hi);
    assert_eq!(raised, Err(RenderError::Raised("roles must alternate".into())));
    assert!(matches!(Renderer::new(&ChatTemplate::new("{% if %}")), Err(RenderError::Syntax(_))));
    let long = "x".repeat(crate::limits::MAX_TEMPLATE_BYTES + 1);
    assert!(matches!(Renderer::new(&ChatTemplate::new(&long)), Err(RenderError::Syntax(_))));
}
