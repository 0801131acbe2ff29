use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::Value;
use serde::Deserialize;

use super::probe::render_by_segments;
use super::*;

mod body;

/// What golden.py rendered.
#[derive(Debug, Deserialize)]
struct Golden {
    tokens: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    messages: Vec<Value>,
    add_generation_prompt: bool,
    now: i64,
    tools: Option<Value>,
    #[serde(default)]
    variables: BTreeMap<String, Value>,
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/template/tests")
}

fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(here().join("cases.json")).unwrap()).unwrap()
}

/// The templates of a folder, by name.
fn templates(folder: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "jinja")).collect();
    files.sort();
    let named = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    files.into_iter().map(named).collect()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate { tokens: golden().tokens, ..ChatTemplate::new(source) }
}

/// How many cases of a template are rendered otherwise than by transformers, and the first of them.
fn differences(source: &str, golden: &Golden, answers: &Path) -> (usize, String) {
    let expected: Vec<Option<String>> = serde_json::from_str(&std::fs::read_to_string(answers).unwrap()).unwrap();
    assert_eq!(expected.len(), golden.cases.len());
    let renderer = Renderer::new(&ChatTemplate { tokens: golden.tokens.clone(), ..ChatTemplate::new(source) });
    let (mut count, mut first) = (0, String::new());
    for (number, (case, expected)) in golden.cases.iter().zip(expected).enumerate() {
        let mut variables = case.variables.clone();
        variables.extend(case.tools.clone().map(|tools| ("tools".to_owned(), tools)));
        let messages = case.messages.clone();
        let request = Request { messages, generate: case.add_generation_prompt, variables, clock: Clock::At(case.now) };
        let found = renderer.as_ref().map_err(Clone::clone).and_then(|renderer| renderer.render(&request));
        if found.as_ref().ok() != expected.as_ref() {
            count += 1;
            if first.is_empty() {
                first = format!("case {number}\nfound    {found:?}\nexpected {expected:?}");
            }
        }
    }
    (count, first)
}

#[test]
fn templates_render_as_transformers_renders_them() {
    let golden = golden();
    for (name, source) in templates(&here().join("models")) {
        let (count, first) = differences(&source, &golden, &here().join(format!("golden/{name}.json")));
        assert_eq!(count, 0, "{name}: {count} cases differ, first {first}");
    }
}

/// What a template is found to be.
fn kind(probed: &Probed) -> String {
    match &probed.segments {
        Ok(segments) => {
            let dated = if segments.is_dated() { ", dated" } else { "" };
            format!("segments of {:?} but {:06b}{dated}", probed.content, segments.apart().bits())
        }
        Err(unfit) => format!("{:?}: {unfit}", probed.content),
    }
}

/// Segments are equal to the template on conversations that the probe did not see.
fn check_unseen(name: &str, template: &ChatTemplate, probed: &Probed) {
    let Ok(segments) = &probed.segments else { return };
    let renderer = Renderer::new(template).unwrap();
    for number in 1_000_000..1_000_500 {
        let conversation = conversation(number);
        let request = conversation.request(probed.content, Clock::At(conversation.unix_s));
        if let (Ok(by_segments), Ok(expected)) =
            (render_by_segments(segments, &conversation), renderer.render(&request))
        {
            assert_eq!(by_segments, expected, "{name}, conversation {number}");
        }
    }
}

/// By name: what a content is to the template, whether it writes the date, and the least share, in percent, of the
/// conversations that it renders which its segments render.
const MODELS: [(&str, ContentForm, bool, usize); 16] = [
    ("deepseek-r1-distill-qwen-32b", ContentForm::Text, false, 70),
    ("deepseek-v3.1", ContentForm::Text, false, 48),
    ("deepseek-v3.2", ContentForm::Text, false, 71),
    ("glm-4.6", ContentForm::Parts, false, 48),
    ("gpt-oss-120b", ContentForm::Text, true, 75),
    ("granite-3.3-2b-instruct", ContentForm::Text, true, 100),
    ("granite-4.0", ContentForm::Parts, false, 73),
    // It puts the system message before the last message.
    ("mistral-nemo-instruct-2407", ContentForm::Text, false, 53),
    ("mistral-small-3.2-24b", ContentForm::Parts, true, 100),
    ("phi-3.5-mini-instruct", ContentForm::Text, false, 62),
    ("qwen2.5-7b-instruct", ContentForm::Text, false, 91),
    ("qwen3-0.6b", ContentForm::Text, false, 63),
    ("qwen3-coder", ContentForm::Text, false, 50),
    ("qwq-32b", ContentForm::Text, false, 91),
    ("seed-oss", ContentForm::Text, false, 74),
    ("smollm3-3b", ContentForm::Text, false, 66),
];

#[test]
fn well_known_templates_become_segments() {
    let sources = templates(&here().join("models"));
    assert_eq!(sources.len(), MODELS.len());
    for ((name, source), (expected, content, dated, share)) in sources.iter().zip(MODELS) {
        let template = template(source);
        let probed = probe(&template).unwrap();
        println!("{name}: {}, {} of {}", kind(&probed), probed.alike, probed.rendered);
        let segments = probed.segments.as_ref().unwrap_or_else(|unfit| panic!("{name}: {unfit}"));
        assert_eq!((name.as_str(), probed.content, segments.is_dated()), (expected, content, dated));
        assert!(probed.alike * 100 >= probed.rendered * share, "{name}: {} of {}", probed.alike, probed.rendered);
        check_unseen(name, &template, &probed);
    }
}

#[test]
fn templates_of_another_form_fall_back() {
    let unfit = |source: &str| probe(&ChatTemplate::new(source)).unwrap().segments.unwrap_err();
    let counts = "{% for m in messages %}{{ messages | length }}{{ m.content }}{% endfor %}";
    assert!(matches!(unfit(counts), Unfit::Different(_) | Unfit::Rare { .. }), "it tells how many there are");
    let backwards = "{% for m in messages[::-1] %}{{ m.content }}{% endfor %}";
    assert!(matches!(unfit(backwards), Unfit::Rare { .. } | Unfit::Different(_)), "the last one comes first");
    let upper = "{% for m in messages %}{{ m.content | upper }}{% endfor %}";
    assert!(matches!(unfit(upper), Unfit::Rare { .. } | Unfit::Different(_)), "contents are changed");
    assert_eq!(unfit("{{ raise_exception('never') }}"), Unfit::Refuses(0));
    let slow = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
    assert_eq!(unfit(slow), Unfit::Slow);
    let long = "{% for m in messages %}{{ m.role * 9999 }}{{ m.content }}{% endfor %}";
    assert_eq!(unfit(long), Unfit::Long);
}

/// Templates that cannot lie here: see models/README.md.
#[test]
fn templates_of_a_folder() {
    let Some(folder) = std::env::var_os("KTHENA_TEMPLATES").map(PathBuf::from) else {
        println!("SKIPPED: KTHENA_TEMPLATES names no folder with further templates");
        return;
    };
    let golden = golden();
    for (name, source) in templates(&folder) {
        let answers = folder.join(format!("golden/{name}.json"));
        let (count, first) = differences(&source, &golden, &answers);
        println!("{name}: {count} of {} cases differ {first}", golden.cases.len());
        match probe(&template(&source)) {
            Ok(probed) => {
                println!("    {}, {} of {}", kind(&probed), probed.alike, probed.rendered);
                check_unseen(&name, &template(&source), &probed);
            }
            Err(error) => println!("    {error}"),
        }
    }
}
