//! What a model's tokens stand for, in bytes.
//!
//! Decoding needs no tokenizer: each token has its bytes, and those of a prompt are those of its tokens in a row. That is
//! its text exactly, unless the tokenizer changes the text before it splits it, by a space in front or by a normal form;
//! such ones are refused, all but NFC, which most texts are in: of what is not, nothing is matched. Special tokens stand
//! for their text, as a chat template has it.

mod find;
mod huggingface;
mod tekken;
mod tiktoken;

pub use find::Vocabularies;
pub(crate) use find::is_model_path;

/// Tokens of a vocabulary; the largest known has 262,144.
const MOST_TOKENS: usize = 1 << 21;
/// Bytes of all of them.
const MOST_BYTES: usize = 64 << 20;

/// The bytes of a model's tokens.
#[derive(Debug, PartialEq, Eq)]
pub struct Vocabulary(Pieces);

#[derive(Debug, PartialEq, Eq)]
enum Pieces {
    /// Where each token's bytes end, and all bytes in a row. A token without bytes is none.
    Table { ends: Box<[u32]>, bytes: Box<[u8]> },
    /// A token is four bytes itself, lowest first, as the simulated engine has it.
    Quads,
}

/// Why what a model's tokens stand for is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VocabularyError {
    /// There is no file for it.
    #[error("no vocabulary of {0} is found in {1}")]
    Missing(String, String),
    /// Nobody said where to look.
    #[error("no folder of vocabularies is given")]
    Nowhere,
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Read(String, String),
    /// It is not of a form that is known.
    #[error("{0}: {1}")]
    Form(String, String),
    /// Text and tokens are not the same.
    #[error("{0}: its tokenizer changes the text: {1}")]
    Changes(String, String),
}

/// What is wrong with a file's content.
#[derive(Debug)]
enum Fault {
    Form(String),
    Changes(String),
}

impl Vocabulary {
    /// The simulated engine's.
    pub fn quads() -> Self {
        Self(Pieces::Quads)
    }

    /// Of these tokens.
    fn of(pieces: impl IntoIterator<Item = (u32, Vec<u8>)>) -> Result<Self, Fault> {
        let mut by_token: Vec<Vec<u8>> = Vec::new();
        let mut sum = 0;
        for (token, bytes) in pieces {
            let token = token as usize;
            sum += bytes.len();
            if token >= MOST_TOKENS || sum > MOST_BYTES {
                return Err(Fault::Form(format!("more than {MOST_TOKENS} tokens, or {MOST_BYTES} bytes of them")));
            }
            if by_token.len() <= token {
                by_token.resize(token + 1, Vec::new());
            }
            by_token[token] = bytes;
        }
        if by_token.is_empty() {
            return Err(Fault::Form("no tokens".to_owned()));
        }
        let mut end = 0;
        let ends = by_token.iter().map(|bytes| {
            end += bytes.len() as u32;
            end
        });
        Ok(Self(Pieces::Table { ends: ends.collect(), bytes: by_token.concat().into() }))
    }

    /// Appends what a token stands for; false where it is none.
    pub fn read(&self, token: u32, text: &mut Vec<u8>) -> bool {
        match &self.0 {
            Pieces::Quads => text.extend_from_slice(&token.to_le_bytes()),
            Pieces::Table { ends, bytes } => {
                let token = token as usize;
                let Some(end) = ends.get(token) else { return false };
                let begin = token.checked_sub(1).map_or(0, |before| ends[before]);
                if begin == *end {
                    return false;
                }
                text.extend_from_slice(&bytes[begin as usize..*end as usize]);
            }
        }
        true
    }

    /// Takes away what a text is filled up with to a whole number of tokens: the simulated engine does that, real ones do not.
    pub fn unpad(&self, text: &mut Vec<u8>) {
        if let Pieces::Quads = self.0 {
            text.truncate(text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
    }

    /// How many tokens there are, up to the last one.
    pub fn tokens(&self) -> usize {
        match &self.0 {
            Pieces::Quads => usize::MAX,
            Pieces::Table { ends, .. } => ends.len(),
        }
    }

    #[cfg(test)]
    pub(crate) fn of_pieces(pieces: &[&[u8]]) -> Self {
        Self::of((0..).zip(pieces.iter().map(|piece| piece.to_vec()))).unwrap_or_else(|_| panic!("they are tokens"))
    }
}

impl Fault {
    fn of(self, path: &std::path::Path) -> VocabularyError {
        let path = path.display().to_string();
        match self {
            Self::Form(why) => VocabularyError::Form(path, why),
            Self::Changes(why) => VocabularyError::Changes(path, why),
        }
    }
}

fn form(error: impl ToString) -> Fault {
    Fault::Form(error.to_string())
}

#[cfg(test)]
mod tests;
