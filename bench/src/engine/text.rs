//! The stand-in tokenizer: four bytes of rendered text are a token, sixteen tokens a block.

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::model::Job;

/// Tokens in a cache block.
pub const BLOCK_TOKENS: u32 = 16;
/// Bytes in a token.
pub const TOKEN_BYTES: usize = 4;
const BLOCK_BYTES: usize = BLOCK_TOKENS as usize * TOKEN_BYTES;

/// Renders chat messages as ChatML, raw `tools` first, ready for the assistant's turn.
pub fn render_chat(body: &Value) -> String {
    let mut text = String::new();
    if let Some(tools) = body.get("tools").filter(|tools| !tools.is_null()) {
        text.push_str(&tools.to_string());
    }
    for message in body.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("user");
        text.push_str("<|im_start|>");
        text.push_str(role);
        text.push('\n');
        push_content(&mut text, message.get("content").unwrap_or(&Value::Null));
        text.push_str("<|im_end|>\n");
    }
    text.push_str("<|im_start|>assistant\n");
    text
}

/// Bytes of a completion prompt: text, the first of a list of texts, or token ids (four bytes each).
pub fn prompt_bytes(prompt: &Value) -> Vec<u8> {
    match prompt {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(items) => match items.first() {
            Some(Value::Number(_)) => token_bytes(items),
            Some(first) => prompt_bytes(first),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Tokens in so many bytes.
pub fn token_count(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len().div_ceil(TOKEN_BYTES)).unwrap_or(u32::MAX)
}

/// The tokens of a text: its four-byte pieces, little endian.
pub fn tokenize(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks(TOKEN_BYTES)
        .map(|piece| piece.iter().rev().fold(0, |token, byte| token << 8 | u32::from(*byte)))
        .collect()
}

/// The text of tokens that [`tokenize`] made; other numbers give replacement characters.
pub fn detokenize(tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).filter(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the model needs to know of a prompt. `salt` separates models, adapters and cache salts.
pub fn job(bytes: &[u8], salt: &str, output_tokens: u32) -> Job {
    let mut previous = xxh3_64_with_seed(salt.as_bytes(), 0);
    let blocks = bytes
        .chunks_exact(BLOCK_BYTES)
        .map(|block| {
            previous = xxh3_64_with_seed(block, previous);
            previous
        })
        .collect();
    Job { blocks, prompt_tokens: token_count(bytes).max(1), output_tokens: output_tokens.max(1) }
}

fn push_content(text: &mut String, content: &Value) {
    match content {
        Value::String(content) => text.push_str(content),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text")?.as_str()).for_each(|part| text.push_str(part));
        }
        _ => {}
    }
}

fn token_bytes(items: &[Value]) -> Vec<u8> {
    items.iter().flat_map(|item| (item.as_u64().unwrap_or(0) as u32).to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chat_is_rendered_as_chatml() {
        let body = json!({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]});
        assert_eq!(
            render_chat(&body),
            "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn prompts_of_every_form_become_bytes() {
        let check = |prompt: Value, expected: &[u8]| assert_eq!(prompt_bytes(&prompt), expected);
        check(json!("ab"), b"ab");
        check(json!(["ab", "cd"]), b"ab");
        check(json!([1, 2]), &[1, 0, 0, 0, 2, 0, 0, 0]);
        check(json!([[3], [4]]), &[3, 0, 0, 0]);
        check(json!(null), b"");
    }

    #[test]
    fn tokens_go_there_and_back() {
        let check = |text: &str| assert_eq!(detokenize(&tokenize(text.as_bytes())), text);
        check("");
        check("the quick brown fox");
        check("漢字 and £");
    }

    #[test]
    fn chains_share_a_prefix_and_no_salt() {
        let long = "x".repeat(200);
        let (a, b, c) =
            (job(long.as_bytes(), "m", 1), job(&long.as_bytes()[..130], "m", 1), job(long.as_bytes(), "n", 1));
        assert_eq!((a.blocks.len(), a.prompt_tokens, b.blocks.len()), (3, 50, 2));
        assert_eq!(a.blocks[..2], b.blocks[..]);
        assert_ne!(a.blocks[0], c.blocks[0]);
        assert_ne!(a.blocks[0], a.blocks[1], "equal blocks at different places differ");
    }
}
