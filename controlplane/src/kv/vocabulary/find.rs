//! Which file has a model's vocabulary: a folder that is mounted, by the model's name.
//!
//! `FOLDER/org/name/tokenizer.json` as models are stored, with `tekken.json`, or tiktoken's `tokenizer.model` and
//! `tokenizer_config.json`; or, as in a ConfigMap, `FOLDER/org--name.json`.

use std::collections::HashMap;
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

/// All that are found in a folder; each is read once for as long as its file stays the same.
#[derive(Debug, Default)]
pub struct Vocabularies {
    folder: Option<PathBuf>,
    known: Mutex<HashMap<PathBuf, (Stamp, Arc<Vocabulary>)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<SystemTime>, u64);

impl Vocabularies {
    /// In this folder.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, known: Mutex::default() }
    }

    /// A model's; reads files.
    pub fn of(&self, model: &str) -> Result<Arc<Vocabulary>, VocabularyError> {
        let folder = self.folder.as_deref().ok_or(VocabularyError::Nowhere)?;
        let missing = || VocabularyError::Missing(model.to_owned(), folder.display().to_string());
        let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
        if !model.split('/').all(plain) {
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
        let stamp = Stamp(facts.modified().ok(), facts.len());
        let mut known = self.known.lock().expect("no thread panics while it reads a vocabulary");
        if let Some((_, vocabulary)) = known.get(path).filter(|(known, _)| *known == stamp) {
            return Ok(Arc::clone(vocabulary));
        }
        if facts.len() > MOST_FILE_BYTES {
            return Err(failed(&format!("it is larger than {MOST_FILE_BYTES} bytes")));
        }
        let text = std::fs::read(path).map_err(|error| failed(&error))?;
        let vocabulary = Arc::new(read(path, &text).map_err(|fault| fault.of(path))?);
        known.insert(path.to_owned(), (stamp, Arc::clone(&vocabulary)));
        Ok(vocabulary)
    }
}

fn of_tiktoken(path: &Path, text: &[u8]) -> Result<Vocabulary, Fault> {
    let config = std::fs::read(path.with_file_name("tokenizer_config.json")).ok();
    tiktoken::read(text, config.as_deref())
}
