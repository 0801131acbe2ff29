//! `tekken.json`, Mistral's: tokens in base64 by rank, behind a number of special ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Fault, Vocabulary, form};

#[derive(Debug, Deserialize)]
struct Tekken {
    config: Config,
    vocab: Vec<Piece>,
    /// Older files leave them to the program.
    #[serde(default)]
    special_tokens: Option<Vec<Special>>,
}

#[derive(Debug, Deserialize)]
struct Config {
    default_vocab_size: u32,
    default_num_special_tokens: u32,
}

#[derive(Debug, Deserialize)]
struct Piece {
    rank: u32,
    token_bytes: String,
}

#[derive(Debug, Deserialize)]
struct Special {
    rank: u32,
    token_str: String,
}

pub(super) fn read(text: &[u8]) -> Result<Vocabulary, Fault> {
    let Tekken { config, vocab, special_tokens } = serde_json::from_slice(text).map_err(form)?;
    let Some(special) = special_tokens else {
        return Err(Fault::Form("it does not name its special tokens, as newer files do".to_owned()));
    };
    let Config { default_vocab_size: size, default_num_special_tokens: first } = config;
    // A file has more tokens than the model.
    let pieces = vocab.into_iter().filter(|piece| piece.rank < size.saturating_sub(first));
    let pieces = pieces.map(|Piece { rank, token_bytes }| {
        Ok((first + rank, STANDARD.decode(&token_bytes).map_err(|error| form(format!("token {rank}: {error}")))?))
    });
    let pieces: Vec<(u32, Vec<u8>)> = pieces.collect::<Result<_, Fault>>()?;
    let special = special.into_iter().filter(|special| special.rank < first);
    let special = special.map(|Special { rank, token_str }| (rank, token_str.into_bytes()));
    Vocabulary::of(special.chain(pieces))
}
