//! The folder on disk: one entry for each file of manifests that has objects to be kept. An entry is written to another file, synced
//! and renamed, so that there is always a whole one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_128;

use super::format::{self, Entry, Object};
use super::wanted::Wanted;
use crate::object::Unknown;
use crate::source::manifest::{self, Read};
use crate::source::{Form, Forms};

/// Bytes of all entries together.
const MAX_BYTES: u64 = 64 << 20;
/// Entries that are read.
const MAX_ENTRIES: usize = 100_000;
const ENDING: &str = ".last-good";
const UNFINISHED: &str = ".last-good.new";

/// A folder of entries.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Of the manifests.
    root: String,
    /// Bytes of all entries together.
    pub(super) room: u64,
    /// Digests of the entries that are there, by name; none of one that is of no use.
    held: BTreeMap<String, Option<u128>>,
}

impl Folder {
    /// Makes it where it is missing, and reads what was kept for the manifests at `root`. What is damaged, or good no more, is said in
    /// the log and counts for nothing. An error is one of the folder itself, as a sentence.
    pub(crate) fn open(path: &Path, root: &Path) -> Result<(Self, Forms), String> {
        let said = |error: io::Error| format!("{}: {error}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(said)?;
        // However it was typed.
        // Not what it leads to: a link that turns, as those of checkouts and ConfigMaps do, is the same place all the time.
        let root = std::path::absolute(root).map_err(said)?.to_string_lossy().into_owned();
        let mut folder = Self { path: path.to_owned(), root, room: MAX_BYTES, held: BTreeMap::new() };
        let (mut forms, mut room) = (Forms::new(), MAX_BYTES);
        for listed in fs::read_dir(path).map_err(said)?.take(MAX_ENTRIES) {
            let Ok(name) = listed.map_err(said)?.file_name().into_string() else { continue };
            if name.ends_with(UNFINISHED) {
                // Whoever wrote it has ended.
                let _ = fs::remove_file(path.join(&name));
            } else if name.ends_with(ENDING) {
                folder.take(name, &mut room, &mut forms);
            }
        }
        Ok((folder, forms))
    }

    fn take(&mut self, name: String, room: &mut u64, forms: &mut Forms) {
        let path = self.path.join(&name);
        let read = read(&path, *room)
            .map_err(|error| error.to_string())
            .and_then(|bytes| Ok((format::decode(&bytes)?, xxh3_128(&bytes), bytes.len() as u64)));
        match read {
            Ok((Entry { root, .. }, ..)) if root != self.root => {}
            Ok((Entry { root: _, file, objects }, digest, size)) => {
                *room -= size;
                self.held.insert(name, Some(digest));
                let read = objects.into_iter().filter_map(|object| form(&file, object)).collect();
                forms.insert(file.into(), read);
            }
            Err(error) => {
                tracing::warn!(entry = %path.display(), error, "what was kept here counts for nothing");
                self.held.insert(name, None);
            }
        }
    }

    /// Writes what is wanted and not there, and removes what is there and not wanted. All that can be done is done; the error is the
    /// first one.
    pub(crate) fn bring(&mut self, wanted: &Wanted) -> io::Result<()> {
        let (mut names, mut room, mut done, mut changed) = (BTreeSet::new(), self.room, Ok(()), false);
        for (file, objects) in wanted {
            let Some(bytes) = format::encode(&self.root, file, objects) else { continue };
            if bytes.len() as u64 > room {
                let error = format!("more than {} bytes: nothing is kept of {}", self.room, file.display());
                done = done.and(Err(io::Error::other(error)));
                continue;
            }
            room -= bytes.len() as u64;
            let (name, digest) = (name(&self.root, file), xxh3_128(&bytes));
            if self.held.get(&name) != Some(&Some(digest)) {
                let written = write(&self.path, &name, &bytes);
                changed |= written.is_ok();
                // Half of it may be there.
                self.held.insert(name.clone(), written.is_ok().then_some(digest));
                done = done.and(written);
            }
            names.insert(name);
        }
        let gone: Vec<String> = self.held.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            match fs::remove_file(self.path.join(&name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => done = done.and(Err(error)),
                _ => {
                    self.held.remove(&name);
                    changed = true;
                }
            }
        }
        if changed { done.and(File::open(&self.path)?.sync_all()) } else { done }
    }
}

/// None where it is no good any more.
fn form(file: &Path, object: Object) -> Option<Form> {
    let Object { position, object } = object;
    match manifest::read(object, Unknown::Drop) {
        Read::Object(identity, manifest) => Some(Form { position, identity, manifest }),
        Read::Refused(object, problems) => {
            let object = object.map(|object| object.to_string());
            tracing::warn!(file = %file.display(), object, ?problems, "its last good form is good no more and counts for nothing");
            None
        }
        Read::Other => None,
    }
}

/// Of the entry of a file.
fn name(root: &str, file: &Path) -> String {
    format!("{:032x}{ENDING}", xxh3_128(format!("{root}\n{}", file.display()).as_bytes()))
}

fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("with it there are more than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let stem = name.strip_suffix(ENDING).unwrap_or(name);
    let new = folder.join(format!("{stem}{UNFINISHED}"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))
}
