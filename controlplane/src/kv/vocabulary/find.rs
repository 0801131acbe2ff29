//! Which file has a model's vocabulary: a folder that is mounted, by the model's name.
//!
//! `FOLDER/org/name/tokenizer.json` as models are stored, with `tekken.json`, or tiktoken's `tokenizer.model` and
//! `tokenizer_config.json`; or, as in a ConfigMap, `FOLDER/org--name.json`.

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::{Fault, Vocabulary, VocabularyError, huggingface, tekken, tiktoken};

/// Bytes of a file; the largest known has 35 MB.
const MOST_FILE_BYTES: u64 = 128 << 20;

type Read = fn(&Path, &[u8]) -> Result<Vocabulary, Fault>;

const IN_FOLDER: [(&str, Read); 4] = [
    ("tokenizer.json", |_, text| huggingface::read(text)),
    ("tekken.json", |_, text| tekken::read(text)),
    ("tokenizer.model", of_tiktoken),
    ("tokenizer.tiktoken", of_tiktoken),
];

/// All that are found in a folder; each is read once for as long as its files stay the same, also one that cannot be used.
#[derive(Debug, Default)]
pub struct Vocabularies {
    folder: Option<PathBuf>,
    known: Mutex<HashMap<PathBuf, (Stamp, Known)>>,
}

type Known = Result<Arc<Vocabulary>, VocabularyError>;

/// Of the file, and of `tokenizer_config.json` beside it where there is one: when it was written, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([Option<(Option<SystemTime>, u64)>; 2]);

impl Vocabularies {
    /// In this folder.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, known: Mutex::default() }
    }

    /// A model's; reads files.
    pub fn of(&self, model: &str) -> Result<Arc<Vocabulary>, VocabularyError> {
        let folder = self.folder.as_deref().ok_or(VocabularyError::Nowhere)?;
        let missing = || VocabularyError::Missing(model.to_owned(), folder.display().to_string());
        if !is_model_path(model) {
            return Err(missing());
        }
        let flat = folder.join(format!("{}.json", model.replace('/', "--")));
        let flat = (flat, IN_FOLDER[0].1);
        let in_folder = IN_FOLDER.iter().map(|(name, read)| (folder.join(model).join(name), *read));
        let (path, read) = in_folder.chain([flat]).find(|(path, _)| path.is_file()).ok_or_else(missing)?;
        self.read(&path, read)
    }

    fn read(&self, path: &Path, read: Read) -> Result<Arc<Vocabulary>, VocabularyError> {
        let failed =
            |error: &dyn std::fmt::Display| VocabularyError::Read(path.display().to_string(), error.to_string());
        let facts = std::fs::metadata(path).map_err(|error| failed(&error))?;
        let of = |facts: &Metadata| (facts.modified().ok(), facts.len());
        let beside = std::fs::metadata(config_of(path)).ok();
        let stamp = Stamp([Some(of(&facts)), beside.as_ref().map(of)]);
        let mut known = self.known.lock().expect("no thread panics while it reads a vocabulary");
        if let Some((_, vocabulary)) = known.get(path).filter(|(known, _)| *known == stamp) {
            return vocabulary.clone();
        }
        if facts.len().max(beside.map_or(0, |facts| facts.len())) > MOST_FILE_BYTES {
            return Err(failed(&format!("it is larger than {MOST_FILE_BYTES} bytes")));
        }
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        let vocabulary = read(path, &text).map(Arc::new).map_err(|fault| fault.of(path));
        known.insert(path.to_owned(), (stamp, vocabulary.clone()));
        vocabulary
    }
}

/// Whether a model's name is a path that leads nowhere but down.
pub(crate) fn is_model_path(model: &str) -> bool {
    model.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']))
}

fn config_of(path: &Path) -> PathBuf {
    path.with_file_name("tokenizer_config.json")
}

fn of_tiktoken(path: &Path, text: &[u8]) -> Result<Vocabulary, Fault> {
    let config = std::fs::read(config_of(path)).ok();
    tiktoken::read(text, config.as_deref())
}
