//! tiktoken's files: a line for each token, its bytes in base64 and its number. Special tokens are in
//! `tokenizer_config.json` beside it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Fault, Vocabulary, form};

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    added_tokens_decoder: BTreeMap<u32, Added>,
}

#[derive(Debug, Deserialize)]
struct Added {
    content: String,
}

/// Without a configuration no special token is known, and the text of most prompts ends where it begins.
pub(super) fn read(text: &[u8], config: Option<&[u8]>) -> Result<Vocabulary, Fault> {
    let text = std::str::from_utf8(text).map_err(|_| form("it is not tiktoken's, which is text"))?;
    let config: Config = config.map(serde_json::from_slice).transpose().map_err(form)?.unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty());
    let pieces: Vec<(u32, Vec<u8>)> = lines.map(line).collect::<Result<_, Fault>>()?;
    let special = config.added_tokens_decoder.into_iter().map(|(token, added)| (token, added.content.into_bytes()));
    Vocabulary::of(pieces.into_iter().chain(special))
}

fn line(line: &str) -> Result<(u32, Vec<u8>), Fault> {
    let fault = || Fault::Form(format!("{line:?} is not a token in base64 and its number"));
    let (piece, token) = line.split_once(' ').ok_or_else(fault)?;
    Ok((token.parse().map_err(|_| fault())?, STANDARD.decode(piece).map_err(|_| fault())?))
}
