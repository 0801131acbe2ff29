//! What models' files say: which of them is the template, and what of them its variables. It waits for a file system, which
//! may be one that does not answer.

use std::collections::{BTreeMap, HashMap};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use super::{Found, Wanted};
use crate::crd::ChatTemplate;

/// Bytes of a file; large vocabularies list some thousand special tokens in it.
const MOST_FILE_BYTES: u64 = 16 << 20;
/// Bytes of a template and of one of its variables, as the definition of ModelServer has them.
const MOST: (usize, usize) = (131_072, 256);
/// Variables of a template.
const MOST_TOKENS: usize = 64;
const FILES: [&str; 2] = ["chat_template.jinja", "tokenizer_config.json"];

/// Of both files: when each was written, and its bytes.
type Stamp = [Option<(Option<SystemTime>, u64)>; 2];

/// Reads files anew only when they were written since.
#[derive(Debug, Default)]
pub(super) struct Files {
    folder: Option<PathBuf>,
    known: HashMap<String, (Stamp, Option<Arc<ChatTemplate>>)>,
}

impl Files {
    pub(super) fn look(&mut self, wanted: &Wanted) -> Found {
        if self.folder != wanted.folder {
            *self = Self { folder: wanted.folder.clone(), known: HashMap::new() };
        }
        self.known.retain(|model, _| wanted.models.contains(model));
        for model in wanted.folder.iter().flat_map(|_| &wanted.models) {
            self.look_at(model);
        }
        let templates = self.known.iter().map(|(model, (_, found))| (model.clone(), found.clone())).collect();
        Found { folder: self.folder.clone(), templates }
    }

    fn look_at(&mut self, model: &str) {
        let Some(folder) = &self.folder else { return };
        let now = stamp(folder, model);
        if self.known.get(model).is_none_or(|(then, _)| *then != now) {
            self.known.insert(model.to_owned(), (now, read(folder, model)));
        }
    }
}

/// The two places of a file.
fn places(folder: &Path, model: &str, file: &str) -> [PathBuf; 2] {
    [folder.join(model).join(file), folder.join(format!("{}.{file}", model.replace('/', "--")))]
}

fn facts(folder: &Path, model: &str, file: &str) -> Option<(PathBuf, Metadata)> {
    let facts = |path: PathBuf| std::fs::metadata(&path).ok().filter(Metadata::is_file).map(|facts| (path, facts));
    places(folder, model, file).into_iter().find_map(facts)
}

fn stamp(folder: &Path, model: &str) -> Stamp {
    FILES.map(|file| facts(folder, model, file).map(|(_, facts)| (facts.modified().ok(), facts.len())))
}

fn read(folder: &Path, model: &str) -> Option<Arc<ChatTemplate>> {
    let text = |file| -> Result<Option<String>, String> {
        let Some((path, facts)) = facts(folder, model, file) else { return Ok(None) };
        if facts.len() > MOST_FILE_BYTES {
            return Err(format!("{}: it is larger than {MOST_FILE_BYTES} bytes", path.display()));
        }
        std::fs::read_to_string(&path).map(Some).map_err(|error| format!("{}: {error}", path.display()))
    };
    let [template, config] = FILES.map(text);
    match template.and_then(|template| of_texts(template, config?)) {
        Ok(found) => found.map(Arc::new),
        Err(why) => {
            tracing::warn!(model, "the model's chat template cannot be read: {why}");
            None
        }
    }
}

/// From what the files say; none where they have no template.
fn of_texts(template: Option<String>, config: Option<String>) -> Result<Option<ChatTemplate>, String> {
    let config: Value = match config {
        Some(text) => serde_json::from_str(&text).map_err(|error| format!("tokenizer_config.json: {error}"))?,
        None => Value::Null,
    };
    let Some(template) = template.or_else(|| in_config(&config)) else { return Ok(None) };
    if template.is_empty() || template.len() > MOST.0 {
        return Err(format!("a template of {} bytes, from 1 to {} are allowed", template.len(), MOST.0));
    }
    let members = config.as_object().into_iter().flatten();
    let token = |(name, value): (&String, &Value)| Some((name.clone(), token_text(value)?));
    let tokens: BTreeMap<String, String> =
        members.filter(|(name, _)| name.ends_with("_token")).filter_map(token).collect();
    let adds_bos = config.get("add_bos_token").and_then(Value::as_bool) == Some(true);
    if tokens.len() > MOST_TOKENS {
        return Err(format!(
            "tokenizer_config.json: {} texts of tokens, up to {MOST_TOKENS} are allowed",
            tokens.len()
        ));
    }
    let prompt_prefix = tokens.get("bos_token").filter(|_| adds_bos).cloned().unwrap_or_default();
    Ok(Some(ChatTemplate { template, tokens, prompt_prefix }))
}

/// One text, or several by name.
fn in_config(config: &Value) -> Option<String> {
    let given = config.get("chat_template")?;
    let default = |list: &Vec<Value>| list.iter().find(|one| one["name"] == "default")?.get("template").cloned();
    let template = given.as_array().map_or(Some(given.clone()), default)?;
    template.as_str().map(str::to_owned)
}

/// A text, or an object that has one.
fn token_text(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
    (text.len() <= MOST.1).then(|| text.to_owned())
}
