//! What is wrong with what a source says, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::source::manifest::Identity;

/// One fault of a source. Displayed as `file: object 2 (ModelRoute default/chat): sentence`, in a cluster without file and place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Relative to the directory; empty where the directory itself is meant, and in a cluster.
    pub file: Arc<Path>,
    /// The object's place in the file, from 1; none where the whole file is meant.
    pub position: Option<u32>,
    /// The object, where it has a name.
    pub object: Option<Identity>,
    /// What is wrong and what to do.
    pub sentence: String,
}

impl Fault {
    pub(super) fn of_object(object: &Identity, sentence: &str) -> Self {
        let object = Some(object.clone());
        Self { file: Path::new("").into(), position: None, object, sentence: sentence.to_owned() }
    }

    pub(super) fn of_part(part: &Arc<Path>, sentence: &str) -> Self {
        Self { file: Arc::clone(part), position: None, object: None, sentence: sentence.to_owned() }
    }

    pub(super) fn of_root(sentence: &str) -> Self {
        Self { file: Path::new("").into(), position: None, object: None, sentence: sentence.to_owned() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}: ", self.file.display())?;
        }
        match (&self.position, &self.object) {
            (Some(position), Some(object)) => write!(f, "object {position} ({object}): ")?,
            (Some(position), None) => write!(f, "object {position}: ")?,
            (None, Some(object)) => write!(f, "{object}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.sentence)
    }
}
