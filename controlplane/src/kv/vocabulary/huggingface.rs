//! `tokenizer.json`, as Hugging Face's tokenizers write it. Only what decoding needs is read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Fault, Pieces, Vocabulary, form};

#[derive(Debug, Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Debug, Deserialize)]
struct Added {
    id: u32,
    content: String,
}

#[derive(Debug, Deserialize)]
struct Model {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    vocab: Vocab,
    #[serde(default)]
    byte_fallback: bool,
}

/// BPE's is a map; Unigram's a list of tokens with their weights.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Vocab {
    Map(BTreeMap<String, u32>),
    List(Vec<(String, f64)>),
}

impl Default for Vocab {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// How a token is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// A character for each byte.
    Bytes,
    /// As text, with a sign for the space; with names for bytes that are no text.
    Signs { fallback: bool },
}

const SPACE: char = '▁';

pub(super) fn read(text: &[u8]) -> Result<Vocabulary, Fault> {
    let tokenizer: Tokenizer = serde_json::from_slice(text).map_err(form)?;
    if tokenizer.model.r#type.as_deref() == Some("Quads") {
        return Ok(Vocabulary(Pieces::Quads));
    }
    changes(&tokenizer)?;
    let writing = writing(&tokenizer)?;
    let Tokenizer { added_tokens, model, .. } = tokenizer;
    let pieces: Vec<(String, u32)> = match model.vocab {
        Vocab::Map(map) => map.into_iter().collect(),
        Vocab::List(list) => list.into_iter().zip(0..).map(|((piece, _), token)| (piece, token)).collect(),
    };
    let special: BTreeMap<u32, String> = added_tokens.into_iter().map(|added| (added.id, added.content)).collect();
    let ordinary = pieces.into_iter().filter(|(_, token)| !special.contains_key(token));
    let ordinary = ordinary.map(|(piece, token)| Ok((token, bytes(&piece, writing)?)));
    let ordinary: Vec<(u32, Vec<u8>)> = ordinary.collect::<Result<_, Fault>>()?;
    let special = special.iter().map(|(token, content)| (*token, content.clone().into_bytes()));
    Vocabulary::of(ordinary.into_iter().chain(special))
}

/// All steps of a kind that may be one or a row of them.
fn steps(step: &Value) -> Vec<&Value> {
    let row = ["normalizers", "pretokenizers", "decoders"].iter().find_map(|name| step.get(name)?.as_array());
    match row {
        Some(row) => row.iter().flat_map(steps).collect(),
        None if step.is_null() => Vec::new(),
        None => vec![step],
    }
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn replaces(step: &Value, from: &str, to: &str) -> bool {
    let pattern = step.get("pattern").and_then(|pattern| pattern.get("String"));
    kind(step) == "Replace"
        && pattern.and_then(Value::as_str) == Some(from)
        && step.get("content").and_then(Value::as_str) == Some(to)
}

/// Whatever makes the text that tokens stand for another than the prompt.
fn changes(tokenizer: &Tokenizer) -> Result<(), Fault> {
    let changes = |what: String| Err(Fault::Changes(what));
    for step in steps(&tokenizer.normalizer) {
        if kind(step) != "NFC" && !replaces(step, " ", "▁") {
            return changes(format!("normalizer {}", kind(step)));
        }
    }
    let set = |step: &Value, name: &str, default: bool| step.get(name).and_then(Value::as_bool).unwrap_or(default);
    for step in steps(&tokenizer.pre_tokenizer) {
        let in_front = match kind(step) {
            "ByteLevel" => set(step, "add_prefix_space", true),
            "Metaspace" => match step.get("prepend_scheme").and_then(Value::as_str) {
                Some(scheme) => scheme != "never",
                None => set(step, "add_prefix_space", true),
            },
            _ => false,
        };
        if in_front {
            return changes(format!("{} puts a space in front", kind(step)));
        }
    }
    Ok(())
}

fn writing(tokenizer: &Tokenizer) -> Result<Writing, Fault> {
    let decoders = steps(&tokenizer.decoder);
    let has = |name: &str| decoders.iter().any(|step| kind(step) == name);
    let splits = steps(&tokenizer.pre_tokenizer);
    if has("ByteLevel") || splits.iter().any(|step| kind(step) == "ByteLevel") {
        return Ok(Writing::Bytes);
    }
    if has("Metaspace") || decoders.iter().any(|step| replaces(step, "▁", " ")) {
        return Ok(Writing::Signs { fallback: tokenizer.model.byte_fallback || has("ByteFallback") });
    }
    let names: Vec<&str> = decoders.iter().map(|step| kind(step)).collect();
    Err(Fault::Form(format!("its decoder ({}) is of no form that is known", names.join(", "))))
}

fn bytes(piece: &str, writing: Writing) -> Result<Vec<u8>, Fault> {
    match writing {
        Writing::Bytes => {
            let all: Option<Vec<u8>> = piece.chars().map(byte_of).collect();
            all.ok_or_else(|| Fault::Form(format!("the token {piece:?} has a character that stands for no byte")))
        }
        Writing::Signs { fallback } => {
            let byte = named_byte(piece).filter(|_| fallback);
            Ok(byte.map_or_else(|| piece.replace(SPACE, " ").into_bytes(), |byte| vec![byte]))
        }
    }
}

/// `<0x0A>`.
fn named_byte(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>').filter(|digits| digits.len() == 2)?;
    u8::from_str_radix(digits, 16).ok()
}

/// GPT-2's alphabet: a byte that can be printed is its own character; the others, in order, are those from 256 on.
fn byte_of(character: char) -> Option<u8> {
    let prints = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => prints(byte).then_some(byte),
        Err(_) => (0..=u8::MAX).filter(|byte| !prints(*byte)).nth((code - 256) as usize),
    }
}
