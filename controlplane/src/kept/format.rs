//! The bytes of one entry: a line with the name of the format, its version and a checksum, and JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &str = "kthena-last-good 1 ";

/// Objects of one file as they were when they were good.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Of the manifests; another directory may have a file of the same name.
    pub(super) root: String,
    /// Relative to the root.
    pub(super) file: PathBuf,
    pub(super) objects: Vec<Object>,
}

/// One of them.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Object {
    /// Its place in the file, from 0.
    pub(super) position: u32,
    pub(super) object: Value,
}

/// None where the file's name is no UTF-8: JSON cannot say it.
pub(super) fn encode(root: &str, file: &Path, objects: &BTreeMap<u32, Value>) -> Option<Vec<u8>> {
    let objects = objects.iter().map(|(position, object)| Object { position: *position, object: object.clone() });
    let entry = Entry { root: root.to_owned(), file: file.to_owned(), objects: objects.collect() };
    let body = serde_json::to_vec(&entry).ok()?;
    let mut bytes = format!("{MAGIC}{:032x}\n", xxh3_128(&body)).into_bytes();
    bytes.extend(body);
    Some(bytes)
}

/// The error is a sentence.
pub(super) fn decode(bytes: &[u8]) -> Result<Entry, String> {
    let rest = bytes.strip_prefix(MAGIC.as_bytes()).ok_or("it is no such entry, or one of another version")?;
    let (sum, body) = rest.split_at_checked(32).ok_or("it is cut short")?;
    let body = body.strip_prefix(b"\n").ok_or("it is damaged")?;
    if sum != format!("{:032x}", xxh3_128(body)).as_bytes() {
        return Err("its checksum is wrong: it was cut short or damaged".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}
