//! Which of a model's files is its template, and what of them its variables.

use serde_json::{Value, json};

use super::files::Files;
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

    fn path(&self) -> Option<PathBuf> {
        Some(self.0.path().to_owned())
    }
}

/// With what is found when it is looked for.
fn looked(files: &mut Files, folder: Option<PathBuf>, world: World) -> World {
    let wanted = Wanted::of(&world, folder);
    completed(world, &files.look(&wanted), &wanted)
}

/// What a server of this model has after that.
fn found(files: &mut Files, folder: Option<PathBuf>, spec: Value) -> Option<ChatTemplate> {
    template(looked(files, folder, server(spec)))
}

fn server(spec: Value) -> World {
    let mut server = json!({"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "x"}}, "workloadPort": {"port": 1}});
    server.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut world = world(&[("s".to_owned(), server)], &[]);
    let held = world.servers.get_mut(&ObjectName::new("default", "s")).unwrap();
    held.last_good = Some(Arc::new(LastGood { generation: 1, spec: held.spec.clone().unwrap() }));
    world
}

/// Of that server.
fn template(mut world: World) -> Option<ChatTemplate> {
    let completed = world.servers.remove(&ObjectName::new("default", "s")).unwrap();
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
    let mut files = Files::default();
    let mut count = |models: &[String]| {
        let spec = |model: &String| {
            json!({"inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "x"}}, "workloadPort": {"port": 1},
                "model": model})
        };
        let servers: Vec<_> = models.iter().map(|model| (model.replace('/', "-"), spec(model))).collect();
        let found = looked(&mut files, folder.path(), world(&servers, &[])).servers;
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
    let found = found(&mut Files::default(), Folder::with(files).path(), json!({"model": "org/name"}));
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
    assert_eq!(found(&mut Files::default(), folder.path(), own).unwrap().template, "own");
    assert_eq!(
        found(&mut Files::default(), folder.path(), json!({"model": "org/name", "inferenceEngine": "Triton"})),
        None
    );
    assert_eq!(found(&mut Files::default(), folder.path(), json!({})), None, "no model is named");
    let inside = Folder::with(&[("inside/x/chat_template.jinja", "J"), ("secret/chat_template.jinja", "S")]);
    let inside = Some(inside.0.path().join("inside"));
    assert_eq!(found(&mut Files::default(), inside, json!({"model": "../secret"})), None, "it leads out of the folder");
    assert_eq!(found(&mut Files::default(), None, json!({"model": "org/name"})), None, "there is no folder");
}

#[test]
fn a_file_that_is_edited_is_read_again_once_it_is_looked_at() {
    let folder = Folder::with(&[("org/name/chat_template.jinja", "J")]);
    let (mut files, wanted) = (Files::default(), Wanted::of(&server(json!({"model": "org/name"})), folder.path()));
    let first = files.look(&wanted);
    assert_eq!(first.template("org/name").unwrap().template, "J");
    assert_eq!(files.look(&wanted), first, "nothing has changed");
    folder.write("org/name/chat_template.jinja", "K+");
    assert_eq!(files.look(&wanted).template("org/name").unwrap().template, "K+");
}

#[tokio::test]
async fn the_first_tables_have_the_templates() {
    let folder = Folder::with(&[("org/name/chat_template.jinja", "J")]);
    let mut templates = Templates::start().unwrap();
    let world = templates.complete(server(json!({"model": "org/name"})), folder.path()).await;
    assert_eq!(template(world).unwrap().template, "J");
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_does_not_answer_is_waited_for_once() {
    let folder = Folder::with(&[("org/name/chat_template.jinja", "J")]);
    let (answer, hangs) = std::sync::mpsc::channel::<()>();
    let mut files = Files::default();
    let slow = move |wanted: &Wanted| {
        // Ends with the test where nothing comes.
        let _ = hangs.recv();
        files.look(wanted)
    };
    let mut templates = Templates::looked_for_by(slow).unwrap();
    let world = || server(json!({"model": "org/name"}));
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(template(templates.complete(world(), folder.path()).await), None);
    }
    assert_eq!(begun.elapsed(), PATIENCE, "the second build and the third did not wait");

    answer.send(()).unwrap();
    tokio::time::resume();
    timeout(Duration::from_secs(30), templates.changed()).await.expect("it is said that there is an answer");
    assert_eq!(template(templates.complete(world(), folder.path()).await).unwrap().template, "J");
    assert!(!templates.late, "the next one is waited for again");
}
