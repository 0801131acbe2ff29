//! One object of a list, read and trimmed.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::kept;
use super::watched::Watched;
use crate::object::Unknown;
use crate::source::manifest::{self, Identity, Manifest, Read};

/// An object as it counts.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) identity: Identity,
    /// `metadata.uid`.
    pub(super) uid: Arc<str>,
    /// `metadata.generation`; of a ConfigMap, which has none, its `metadata.resourceVersion`, which grows with what it says, too; 0 where
    /// there is none.
    pub(super) generation: i64,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub(super) created: i64,
    /// What it says, or in sentences why that cannot be read; of a kind that is not published nothing but that it is valid.
    pub(super) says: Result<Option<Manifest>, Vec<String>>,
    /// What its status keeps: a form that was good before the newest one.
    pub(super) last_good: Option<Manifest>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Head {
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: Option<String>,
    generation: Option<i64>,
    resource_version: Option<String>,
    creation_timestamp: Option<jiff::Timestamp>,
}

/// What an object is called, whatever else it says.
pub(super) fn identity(watched: &Watched, value: &Value) -> Option<Identity> {
    let text = |field: &str| value["metadata"][field].as_str();
    let namespace = text("namespace").unwrap_or_default().into();
    Some(Identity { kind: watched.kind(), namespace, name: text("name")?.into() })
}

/// None where the object does not count. Items of a list do not say what they are, and what metadata is of says it wrongly.
pub(super) fn entry(watched: &Watched, mut value: Value) -> Option<Entry> {
    let fields = value.as_object_mut()?;
    fields.insert("apiVersion".to_owned(), watched.api_version().into());
    fields.insert("kind".to_owned(), watched.kind().into());
    let Head { metadata } = Head::deserialize(&value).unwrap_or_default();
    let last_good = kept::last_good(&value);
    let named = identity(watched, &value);
    let (identity, says) = match manifest::read(value, Unknown::Drop) {
        Read::Object(identity, manifest) => (identity, Ok(Some(manifest))),
        Read::Refused(Some(identity), problems) => (identity, Err(problems)),
        Read::Refused(None, problems) => {
            tracing::error!(list = %watched, ?problems, "an object without a name is passed over");
            return None;
        }
        Read::Other if !watched.is_published() => (named?, Ok(None)),
        Read::Other => return None,
    };
    let created = metadata.creation_timestamp.map_or(0, jiff::Timestamp::as_second);
    let generation = match identity.kind {
        "ConfigMap" => kept::order(metadata.resource_version.as_deref()),
        _ => metadata.generation.unwrap_or_default(),
    };
    let uid = metadata.uid.unwrap_or_default().into();
    Some(Entry { identity, uid, generation, created, says, last_good })
}
