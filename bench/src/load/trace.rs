//! Mooncake's request traces: one JSON object a line. Each hash id stands for 512 tokens; its text is made of the id, so
//! equal ids give equal blocks of 2 KiB and prefixes are shared as they were.

use std::io::BufRead;

use serde::{Deserialize, Serialize};

use super::text;

/// Tokens that one hash id stands for.
pub const BLOCK_TOKENS: usize = 512;
/// Bytes of text for a token.
pub const TOKEN_BYTES: usize = 4;
/// Lines read of one trace.
const MAX_LINES: usize = 1_000_000;

/// One request of a trace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Milliseconds since the start of the trace.
    pub timestamp: u64,
    /// Tokens of the prompt.
    pub input_length: usize,
    /// Tokens of the answer.
    pub output_length: u32,
    /// The prompt's blocks of 512 tokens, the last one perhaps cut.
    pub hash_ids: Vec<u64>,
}

/// Reads a trace; an error names the line.
pub fn read(lines: impl BufRead) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for (index, line) in lines.lines().take(MAX_LINES).enumerate() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let entry = serde_json::from_str(&line).map_err(|error| anyhow::anyhow!("line {}: {error}", index + 1))?;
        entries.push(entry);
    }
    entries.sort_by_key(|entry: &Entry| entry.timestamp);
    anyhow::ensure!(!entries.is_empty(), "the trace has no requests");
    Ok(entries)
}

/// Appends the prompt of an entry: `input_length` tokens of text, block by block.
pub fn prompt(out: &mut Vec<u8>, entry: &Entry) {
    let mut left = entry.input_length * TOKEN_BYTES;
    for &id in &entry.hash_ids {
        let bytes = left.min(BLOCK_TOKENS * TOKEN_BYTES);
        text::fill(out, id, bytes);
        left -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"timestamp": 30, "input_length": 1000, "output_length": 4, "hash_ids": [5, 9]}

{"timestamp": 0, "input_length": 600, "output_length": 6, "hash_ids": [5, 7], "more": 1}
"#;

    #[test]
    fn a_trace_is_read_in_order_of_time() {
        let entries = read(LINES.as_bytes()).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.timestamp).collect::<Vec<_>>(), [0, 30]);
        let error = read("{}".as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 1: missing field"), "{error}");
        assert!(read("\n".as_bytes()).is_err());
    }

    #[test]
    fn equal_ids_give_equal_blocks() {
        let entries = read(LINES.as_bytes()).unwrap();
        let made = |entry| {
            let mut out = Vec::new();
            prompt(&mut out, entry);
            out
        };
        let (short, long) = (made(&entries[0]), made(&entries[1]));
        assert_eq!((short.len(), long.len()), (2400, 4000));
        assert_eq!(short[..2048], long[..2048]);
        assert_ne!(short[2048..2400], long[2048..2400]);
    }
}
