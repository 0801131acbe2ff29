//! Which of a model's files is its template, and what of them its variables.

use serde_json::json;

use super::*;
use crate::engine::tests::world;
use crate::world::ObjectName;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        files.iter().for_each(|(path, text)| folder.write(path, text));
        folder
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn templates(&self) -> Templates {
        Templates::new(Some(self.0.path().to_owned()))
    }
}

/// What a server of this model has after that.
fn found(templates: &mut Templates, spec: Value) -> Option<ChatTemplate> {
    let mut server = json!({"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "x"}}, "workloadPort": {"port": 1}});
    server.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let name = ObjectName::new("default", "s");
    let mut world = world(&[("s".to_owned(), server)], &[]);
    let held = world.servers.get_mut(&name).unwrap();
    held.last_good = Some(Arc::new(LastGood { generation: 1, spec: held.spec.clone().unwrap() }));
    let completed = templates.complete(world).servers.remove(&name).unwrap();
    let spec = completed.spec.unwrap();
    assert_eq!(completed.last_good.unwrap().spec, spec, "a form that is kept finds it, too");
    if let Some(found) = &spec.found_template {
        let written = serde_json::to_string(&*spec).unwrap();
        assert!(
            !written.contains(&format!("{:?}", found.template)),
            "what was found is no part of the object: {written}"
        );
    }
    spec.chat_template.clone().or_else(|| spec.found_template.as_deref().cloned())
}

#[test]
fn models_beyond_the_bound_have_no_template_until_others_are_gone() {
    let models: Vec<String> = (0..=MOST_MODELS).map(|n| format!("m{n:05}/x")).collect();
    let folder = Folder::with(&[]);
    models.iter().for_each(|model| folder.write(&format!("{model}/chat_template.jinja"), "J"));
    let mut templates = folder.templates();
    let mut count = |models: &[String]| {
        let spec = |model: &String| {
            json!({"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "x"}}, "workloadPort": {"port": 1},
                "model": model})
        };
        let servers: Vec<_> = models.iter().map(|model| (model.replace('/', "-"), spec(model))).collect();
        let found = templates.complete(world(&servers, &[])).servers;
        found.values().filter(|held| held.spec.as_ref().unwrap().found_template.is_some()).count()
    };
    assert_eq!(count(&models), MOST_MODELS);
    // All of these at once are others than before but for one.
    assert_eq!(count(&models[MOST_MODELS..]), 1);
}

/// A template, its variables and its prompt's prefix.
type Expected<'e> = (&'e str, &'e [(&'e str, &'e str)], &'e str);

#[track_caller]
fn check(files: &[(&str, &str)], expected: Option<Expected<'_>>) {
    let found = found(&mut Folder::with(files).templates(), json!({"model": "org/name"}));
    let expected = expected.map(|(template, tokens, prefix)| ChatTemplate {
        template: template.to_owned(),
        tokens: tokens.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        prompt_prefix: prefix.to_owned(),
    });
    assert_eq!(found, expected);
}

#[test]
fn a_template_is_its_own_file_or_the_configurations() {
    let config = r#"{"chat_template": "C", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "pad_token": null,
                     "add_bos_token": true, "additional_special_tokens": ["x"]}"#;
    let tokens: &[_] = &[("bos_token", "<s>"), ("eos_token", "</s>")];
    check(&[("org/name/tokenizer_config.json", config)], Some(("C", tokens, "<s>")));
    let both = [("org/name/tokenizer_config.json", config), ("org/name/chat_template.jinja", "J")];
    check(&both, Some(("J", tokens, "<s>")));
    check(&[("org/name/chat_template.jinja", "J")], Some(("J", &[], "")));
    let flat = [("org--name.tokenizer_config.json", config), ("org--name.chat_template.jinja", "J")];
    check(&flat, Some(("J", tokens, "<s>")));
    let named = r#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}"#;
    check(&[("org/name/tokenizer_config.json", named)], Some(("D", &[], "")));
}

#[test]
fn files_without_a_template_or_that_cannot_be_read_give_none() {
    check(&[], None);
    check(&[("org/name/tokenizer_config.json", r#"{"bos_token": "<s>"}"#)], None);
    check(&[("org/name/tokenizer_config.json", "no JSON")], None);
    check(&[("org/name/tokenizer_config.json", r#"{"chat_template": 7}"#)], None);
    check(&[("org/name/chat_template.jinja", "")], None);
    let tokens: Vec<String> = (0..65).map(|n| format!(r#""t{n}_token": "x""#)).collect();
    let too_many = format!(r#"{{"chat_template": "C", {}}}"#, tokens.join(", "));
    check(&[("org/name/tokenizer_config.json", &too_many)], None);
    check(&[("org/name/chat_template.jinja", &"x".repeat(131_073))], None);
    check(&[("org/other/chat_template.jinja", "J")], None);
}

#[test]
fn a_servers_own_template_and_one_that_is_of_no_use_stay_as_they_are() {
    let folder = Folder::with(&[("org/name/chat_template.jinja", "J"), ("outside.chat_template.jinja", "O")]);
    let own = json!({"model": "org/name", "chatTemplate": {"template": "own"}});
    assert_eq!(found(&mut folder.templates(), own).unwrap().template, "own");
    assert_eq!(found(&mut folder.templates(), json!({"model": "org/name", "inferenceEngine": "Triton"})), None);
    assert_eq!(found(&mut folder.templates(), json!({})), None, "no model is named");
    let inside = Folder::with(&[("inside/x/chat_template.jinja", "J"), ("secret/chat_template.jinja", "S")]);
    let mut templates = Templates::new(Some(inside.0.path().join("inside")));
    assert_eq!(found(&mut templates, json!({"model": "../secret"})), None, "it leads out of the folder");
    assert_eq!(found(&mut Templates::default(), json!({"model": "org/name"})), None, "there is no folder");
}

#[test]
fn a_file_that_is_edited_is_read_again_once_it_is_looked_at() {
    let folder = Folder::with(&[("org/name/chat_template.jinja", "J")]);
    let (mut templates, spec) = (folder.templates(), json!({"model": "org/name"}));
    assert_eq!(found(&mut templates, spec.clone()).unwrap().template, "J");
    assert!(!templates.look_again(), "nothing has changed");
    folder.write("org/name/chat_template.jinja", "K+");
    assert_eq!(found(&mut templates, spec.clone()).unwrap().template, "J", "nobody has looked");
    assert!(templates.look_again());
    assert_eq!(found(&mut templates, spec).unwrap().template, "K+");
}
