//! Chat templates as models' files have them, for ModelServers that bring none.
//!
//! The files lie where vocabularies do: `FOLDER/org/name/chat_template.jinja` and `tokenizer_config.json` as models are
//! stored, or, as in a ConfigMap, `FOLDER/org--name.chat_template.jinja` and `org--name.tokenizer_config.json`. The first of
//! them is the template where both have one, as in transformers. Variables such as `bos_token` are the configuration's.
//!
//! Files are read when a model is first asked for and looked at again by [`Templates::look_again`], so a build costs no
//! system call.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::Value;

use crate::crd::{ChatTemplate, InferenceEngine, ModelServerSpec};
use crate::kv::vocabulary::is_model_path;
use crate::world::{LastGood, World};

/// Bytes of a file; large vocabularies list some thousand special tokens in it.
const MOST_FILE_BYTES: u64 = 16 << 20;
/// Bytes of a template and of one of its variables, as the definition of ModelServer has them.
const MOST: (usize, usize) = (131_072, 256);
/// Variables of a template.
const MOST_TOKENS: usize = 64;
/// Models that are looked for at a time: looking is done between two builds.
const MOST_MODELS: usize = 1_024;
const FILES: [&str; 2] = ["chat_template.jinja", "tokenizer_config.json"];

/// Of both files: when each was written, and its bytes.
type Stamp = [Option<(Option<SystemTime>, u64)>; 2];

/// What is found in a folder.
#[derive(Debug, Default)]
pub struct Templates {
    folder: Option<PathBuf>,
    known: HashMap<String, (Stamp, Option<Arc<ChatTemplate>>)>,
}

impl Templates {
    /// In this folder.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, known: HashMap::new() }
    }

    /// Whether this is their folder.
    pub fn are_in(&self, folder: Option<&Path>) -> bool {
        self.folder.as_deref() == folder
    }

    /// The world with the templates that its servers leave to their models' files.
    pub fn complete(&mut self, mut world: World) -> World {
        let Some(folder) = self.folder.clone() else { return world };
        let mut asked = HashSet::new();
        for held in world.servers.values_mut() {
            if let Some(spec) = held.spec.as_ref().ok().and_then(|spec| self.completed(&folder, spec, &mut asked)) {
                held.spec = Ok(spec);
            }
            let Some(kept) = &held.last_good else { continue };
            if let Some(spec) = self.completed(&folder, &kept.spec, &mut asked) {
                held.last_good = Some(Arc::new(LastGood { generation: kept.generation, spec }));
            }
        }
        self.known.retain(|model, _| asked.contains(model));
        world
    }

    /// None where there is nothing to add.
    fn completed(
        &mut self,
        folder: &Path,
        spec: &ModelServerSpec,
        asked: &mut HashSet<String>,
    ) -> Option<Arc<ModelServerSpec>> {
        let model = wanting(spec)?;
        if !asked.contains(model) && asked.len() >= MOST_MODELS {
            return None;
        }
        asked.insert(model.to_owned());
        let look = || (stamp(folder, model), read(folder, model));
        let (_, found) = self.known.entry(model.to_owned()).or_insert_with(look);
        let found_template = Some(Arc::clone(found.as_ref()?));
        Some(Arc::new(ModelServerSpec { found_template, ..spec.clone() }))
    }

    /// Forgets what files no longer say; whether there was anything of that.
    pub fn look_again(&mut self) -> bool {
        let Some(folder) = &self.folder else { return false };
        let before = self.known.len();
        self.known.retain(|model, (known, _)| *known == stamp(folder, model));
        self.known.len() < before
    }
}

/// The model of a server that brings no template and could use one.
fn wanting(spec: &ModelServerSpec) -> Option<&str> {
    let chats = matches!(spec.inference_engine, InferenceEngine::Vllm | InferenceEngine::Sglang);
    spec.model.as_deref().filter(|model| chats && spec.chat_template.is_none() && is_model_path(model))
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

#[cfg(test)]
mod tests;
