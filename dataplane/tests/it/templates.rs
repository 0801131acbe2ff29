//! The prompt's text as engines with a known chat template see it: what is hashed shows in the number of blocks.

use std::sync::Arc;

use api::json::{snapshot_from_json, snapshot_to_json};
use dataplane::config::Config;
use serde_json::{Value, json};

use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::serving_with;
use crate::support::until;
use crate::support::wire::{CHAT, post_with};

on_every_driver!(
    a_prompt_is_hashed_by_its_segments,
    a_prompt_is_rendered_where_there_are_no_segments,
    a_template_that_fails_refuses_no_request,
);

/// Ten blocks before the first message, ten more where there are tools.
const TEMPLATE: &str = "{{ 'S' * 640 }}{% if tools %}{{ 'T' * 640 }}{% endif %}{% for m in messages %}\
    {% if m.content == 'no' %}{{ raise_exception('not that') }}{% endif %}{{ m.content }}{% endfor %}";

fn proxy(leg: Leg, engine: &Engine, template: Value) -> Proxy {
    start(leg, &serving_with(&[engine.address], json!({ "chatTemplate": template })))
}

fn start(leg: Leg, snapshot: &Value) -> Proxy {
    Proxy::with(leg, snapshot, |config: &mut Config, _| config.expose.decision = true)
}

/// How many blocks of this body were hashed.
fn blocks(proxy: &Proxy, id: &str, fields: Value) -> u64 {
    let mut body = json!({"model": "m"});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let reply = proxy.ask(post_with(CHAT, &format!("X-Request-ID: {id}\r\n"), body.to_string()));
    assert_eq!(reply.status(), 200, "{}", reply.text());
    let mut told = Value::Null;
    until("the decision is on record", || {
        let reply = proxy.debug(&format!("/debug/decision?id={id}"));
        told = reply.json();
        reply.status() == 200
    });
    told["blocks"].as_u64().unwrap_or_else(|| panic!("{told}"))
}

fn user(content: &str) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

fn with_tools() -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}], "tools": [{"type": "function", "function": {"name": "f"}}]})
}

fn a_prompt_is_hashed_by_its_segments(leg: Leg) {
    let engine = Engine::named("e");
    let whole = serving_with(&[engine.address], json!({"chatTemplate": {"source": TEMPLATE}}));
    let mut whole = snapshot_from_json(whole.to_string().as_bytes()).unwrap();
    let template = whole.backends[0].chat_template.as_mut().unwrap();
    let segments = api::template::probe(template).unwrap().segments.unwrap();
    Arc::make_mut(template).segments = Some(segments);
    let proxy = start(leg, &serde_json::from_str(&snapshot_to_json(&whole)).unwrap());
    assert_eq!(blocks(&proxy, "plain", user("hi")), 10);
    // The segments do not know what the template refuses: this tells that it was not asked.
    assert_eq!(blocks(&proxy, "refused", user("no")), 10);
    assert_eq!(blocks(&proxy, "tools", with_tools()), 20);
    let kwargs = json!({"messages": [{"role": "user", "content": "no"}], "chat_template_kwargs": {"x": 1}});
    assert_eq!(blocks(&proxy, "kwargs", kwargs), 0, "refused by the template, so in the plain form");
    let count = |text: &str| proxy.metric("kthena_router_templated_prompts_total", &[&format!("text=\"{text}\"")]);
    assert_eq!((count("segments"), count("template"), count("plain")), (2.0, 1.0, 1.0));
}

fn a_prompt_is_rendered_where_there_are_no_segments(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = proxy(leg, &engine, json!({"source": TEMPLATE}));
    assert_eq!(blocks(&proxy, "plain", user("hi")), 10);
    assert_eq!(blocks(&proxy, "tools", with_tools()), 20);
    // Large enough for all of the work to be a helper thread's.
    assert_eq!(blocks(&proxy, "large", user(&"x".repeat(640_000))), 10_010);
    assert_eq!(blocks(&proxy, "refused", user("no")), 0);
    let own = json!({"messages": [{"role": "user", "content": "hi"}], "chat_template": "{{ 'x' * 128 }}"});
    assert_eq!(blocks(&proxy, "own", own), 0, "a client's program is not run: in the plain form");
}

fn a_template_that_fails_refuses_no_request(leg: Leg) {
    let engine = Engine::named("e");
    let long = "x".repeat(128);
    // Not a template; one that never ends; one that calls itself.
    for (n, source) in [
        "{% if %}",
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ]
    .into_iter()
    .enumerate()
    {
        let proxy = proxy(leg, &engine, json!({ "source": source }));
        assert_eq!(blocks(&proxy, &format!("bad-{n}"), user(&long)), 2, "{source}");
    }
}
