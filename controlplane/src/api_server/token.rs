//! The token of our service account, which the kubelet puts anew into its file before the old one expires.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;

/// Of the file: a token has one or two KB.
const MOST_BYTES: u64 = 64 << 10;

/// Where it lies, and what it said last.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Mutex<Option<HeaderValue>>,
}

/// There is no token, and never was.
#[derive(Debug, thiserror::Error)]
#[error("the token {}: {why}", path.display())]
pub(super) struct NoToken {
    path: PathBuf,
    why: String,
}

impl TokenFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::default() }
    }

    /// The authorization for one request. The file is small and in memory, so that it may be read on the way. Where it cannot be, what
    /// it said last still counts: it may just be replaced.
    pub(super) fn read(&self) -> Result<HeaderValue, NoToken> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.text().map_err(|error| error.to_string()).and_then(|text| bearer(&text)), &*last) {
            (Ok(bearer), _) => Ok(last.insert(bearer).clone()),
            (Err(_), Some(last)) => Ok(last.clone()),
            (Err(why), None) => Err(NoToken { path: self.path.clone(), why }),
        }
    }

    fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        File::open(&self.path)?.take(MOST_BYTES).read_to_string(&mut text)?;
        Ok(text)
    }
}

fn bearer(text: &str) -> Result<HeaderValue, String> {
    let token = text.trim();
    if token.is_empty() {
        return Err("it is empty".to_owned());
    }
    let value = format!("Bearer {token}").parse::<HeaderValue>();
    let mut value = value.map_err(|_| "it is no token".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
