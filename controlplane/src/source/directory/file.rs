//! One file: what it says, and what of that stays in force while it says nothing usable.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::TICK;
use super::scan::Stamp;
use crate::object::Unknown;
use crate::source::Form;
use crate::source::manifest::{self, Identity, Manifest, Read};

/// Bytes of one file.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The state of one file.
#[derive(Debug, Default)]
pub(super) struct File {
    stamp: Stamp,
    content: Option<u128>,
    /// When it has to be read once more, as it may have changed in the tick in which it was read.
    pub(super) again: Option<Instant>,
    /// In the order of the file.
    pub(super) objects: Vec<Placed>,
    /// Of the file as a whole: its objects are then those of its last good state.
    pub(super) fault: Option<String>,
    /// Objects of kinds that do not count here.
    pub(super) others: usize,
}

/// One object of a file.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// From 0, other kinds counted.
    pub(super) position: u32,
    pub(super) identity: Option<Identity>,
    /// What counts of it.
    pub(super) manifest: Option<Manifest>,
    /// What is wrong with it as it is now.
    pub(super) problems: Vec<String>,
    /// How it was when it was good, in another life of the process.
    pub(super) former: Option<Manifest>,
    digest: u128,
}

impl Placed {
    fn of(form: Form) -> Self {
        let Form { position, identity, manifest } = form;
        let former = Some(manifest.clone());
        Self { position, identity: Some(identity), manifest: Some(manifest), problems: Vec::new(), former, digest: 0 }
    }

    fn form(&self) -> Option<Form> {
        let (identity, manifest) = (self.identity.clone()?, self.manifest.clone()?);
        Some(Form { position: self.position, identity, manifest })
    }
}

impl File {
    /// One that has not been read yet, of which this is known.
    pub(super) fn of(forms: Vec<Form>) -> Self {
        Self { objects: forms.into_iter().map(Placed::of).collect(), ..Self::default() }
    }

    /// What counts though what is written now in its place cannot be taken.
    pub(super) fn former(&self) -> Vec<Form> {
        let is_former = |placed: &&Placed| self.fault.is_some() || !placed.problems.is_empty();
        self.objects.iter().filter(is_former).filter_map(Placed::form).collect()
    }

    /// Whether nothing suggests that the file has changed since it was read.
    pub(super) fn is_current(&self, stamp: &Stamp, now: Instant) -> bool {
        self.stamp == *stamp && self.again.is_none_or(|at| at > now)
    }

    /// Whether it was read with this stamp.
    pub(super) fn is_of(&self, stamp: &Stamp) -> bool {
        self.stamp == *stamp
    }

    /// Reads the file; whether what it says has changed.
    pub(super) fn reread(&mut self, path: &Path, stamp: Stamp, now: Instant) -> bool {
        // Once more, unless this is the once more.
        self.again = (self.stamp != stamp).then(|| now + TICK);
        self.stamp = stamp;
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                self.content = None;
                return self.keep(error.to_string());
            }
        };
        self.say(path, &bytes)
    }

    /// Takes what the file says now; whether that is news.
    pub(super) fn say(&mut self, path: &Path, bytes: &[u8]) -> bool {
        let content = Some(xxh3_128(bytes));
        if self.content == content {
            return false;
        }
        self.content = content;
        if bytes.is_empty() {
            // This is what a file looks like to which somebody is about to write.
            return self.keep("is empty: its objects stay; delete the file to delete them".to_owned());
        }
        match values(path, bytes) {
            Ok(values) => self.take(values),
            Err(sentence) => return self.keep(sentence),
        }
        true
    }

    /// As if this were the stamp that was seen.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, stamp: Stamp) {
        self.stamp = stamp;
    }

    fn keep(&mut self, fault: String) -> bool {
        let news = self.fault.as_ref() != Some(&fault);
        self.fault = Some(fault);
        news
    }

    fn take(&mut self, values: Vec<Value>) {
        let mut held: HashMap<Identity, Placed> =
            self.objects.drain(..).filter_map(|placed| Some((placed.identity.clone()?, placed))).collect();
        (self.fault, self.others) = (None, 0);
        for (position, value) in (0..).zip(values) {
            let digest = xxh3_128(value.to_string().as_bytes());
            let (identity, manifest, problems, former) = match manifest::read(value, Unknown::Refuse) {
                Read::Other => {
                    self.others += 1;
                    continue;
                }
                Read::Object(identity, manifest) => {
                    let old = held.remove(&identity);
                    let former = old.as_ref().and_then(|old| old.former.clone());
                    // The very same value, so that whoever compares by address sees that nothing has changed.
                    let same = old.filter(|old| old.digest == digest && old.problems.is_empty());
                    let manifest = same.and_then(|old| old.manifest).unwrap_or(manifest);
                    (Some(identity), Some(manifest), Vec::new(), former)
                }
                Read::Refused(identity, problems) => {
                    let old = identity.as_ref().and_then(|identity| held.remove(identity));
                    let (manifest, former) = old.map_or((None, None), |old| (old.manifest, old.former));
                    (identity, manifest, problems, former)
                }
            };
            self.objects.push(Placed { position, identity, manifest, problems, former, digest });
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// The objects of a file: its documents, and the items of those that are lists.
fn values(path: &Path, bytes: &[u8]) -> Result<Vec<Value>, String> {
    let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let documents = if is_json { json(bytes)? } else { yaml(bytes)? };
    let mut objects = Vec::with_capacity(documents.len());
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut map) if is_list(&map) => match map.remove("items") {
                Some(Value::Array(items)) => objects.extend(items),
                _ => return Err("a List has `items`".to_owned()),
            },
            other => objects.push(other),
        }
    }
    Ok(objects)
}

fn is_list(map: &serde_json::Map<String, Value>) -> bool {
    map.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) && map.contains_key("items")
}

fn json(bytes: &[u8]) -> Result<Vec<Value>, String> {
    serde_json::Deserializer::from_slice(bytes).into_iter().collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// By way of YAML's own values, which know that a key is given twice.
fn yaml(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("is not UTF-8: {error}"))?;
    let one = |document: serde_norway::Deserializer<'_>| {
        let value = serde_norway::Value::deserialize(document)?;
        serde_json::to_value(value).map_err(serde::de::Error::custom)
    };
    serde_norway::Deserializer::from_str(text)
        .map(one)
        .collect::<Result<_, serde_norway::Error>>()
        .map_err(|e| e.to_string())
}
