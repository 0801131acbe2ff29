//! A ModelServer's chat template: probed once for each edit, published with what was found.

use std::sync::Arc;

use api::template::{ChatTemplate, ContentForm};

use super::*;

fn with_template(template: &str) -> String {
    let lines: String = template.lines().map(|line| format!("      {line}\n")).collect();
    server("d/m").replace(
        "spec: {inferenceEngine: vLLM, workloadSelector: {matchLabels: {app: m}}, workloadPort: {port: 8000}}",
        &format!(
            "spec:\n  inferenceEngine: vLLM\n  workloadSelector: {{matchLabels: {{app: m}}}}\n  workloadPort: {{port: 8000}}\n  \
             chatTemplate:\n    tokens: {{bos_token: \"<s>\"}}\n    promptPrefix: \"<s>\"\n    template: |-\n{lines}"
        ),
    )
}

fn published(built: &Built) -> Arc<ChatTemplate> {
    assert_decodes(&built.snapshot);
    built.snapshot.backends[0].chat_template.clone().expect("the server has one")
}

fn notes(built: &Built) -> Vec<String> {
    built.verdicts.servers[&name("d/m")].notes.clone()
}

const CHATML: &str = "{{ bos_token }}{% for m in messages %}\n<|im_start|>{{ m.role }}: {{ m.content }}\n{% endfor %}";

#[test]
fn a_template_is_published_with_its_segments() {
    let built = built(&with_template(CHATML));
    let template = published(&built);
    assert_eq!((template.content, &*template.bos), (ContentForm::Text, "<s>"));
    assert!(template.segments.is_some());
    assert_eq!(notes(&built), Vec::<String>::new());
}

#[test]
fn a_template_of_another_form_is_published_and_says_so() {
    // Every message tells how many there are.
    let built = built(&with_template("{% for m in messages %}{{ messages | length }}{{ m.content }}{% endfor %}"));
    assert_eq!(published(&built).segments, None);
    assert!(notes(&built)[0].starts_with("chatTemplate: is rendered for each request, on a helper thread: "));
}

#[test]
fn a_template_that_does_not_parse_costs_only_the_knowledge_of_its_text() {
    let built = built(&with_template("{% if %}"));
    assert_eq!(published(&built).segments, None);
    assert!(built.verdicts.servers[&name("d/m")].accepted.holds);
    assert!(notes(&built)[0].starts_with("chatTemplate: has no effect"), "{:?}", notes(&built));
}

#[test]
fn a_server_whose_engines_write_chats_otherwise_says_so_and_stays_accepted() {
    let yaml = with_template(CHATML) + &pod("d/one", "app: m", "10.0.0.1") + &pod("d/two", "app: m", "10.0.0.2");
    let mut world = reading_of(&[("all.yaml", &*yaml)]).world.clone();
    let key = build(&world, &SETTINGS, &mut Memory::default()).snapshot.backends[0].endpoints[0].key.clone();
    world.differing = Arc::new([(key, Arc::from("it writes X"))].into());
    let built = build(&world, &SETTINGS, &mut Memory::default());
    assert_eq!(notes(&built), ["what 1 of 2 engines cache is only predicted: it writes X"]);
    assert!(built.verdicts.servers[&name("d/m")].accepted.holds);
}

#[test]
fn what_was_probed_is_kept_until_the_server_is_edited() {
    let mut memory = Memory::default();
    let reading = reading_of(&[("all.yaml", &*with_template(CHATML))]);
    let first = published(&build(&reading.world, &SETTINGS, &mut memory));
    assert!(Arc::ptr_eq(&first, &published(&build(&reading.world, &SETTINGS, &mut memory))));
    let other = published(&rebuilt(&with_template("{{ messages[0].content }}"), &mut memory));
    assert_ne!(first, other);
}
