//! Prompt text: made of a seed, the same for the same seed, safe inside a JSON string.

use super::rng::Rng;

const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz      ";

/// Appends `bytes` bytes of the text that `seed` names. A shorter text of a seed is the beginning of a longer one.
pub fn fill(out: &mut Vec<u8>, seed: u64, bytes: usize) {
    let mut rng = Rng::new(seed ^ 0x7465_7874);
    let end = out.len() + bytes;
    out.reserve(bytes);
    while out.len() < end {
        let mut bits = rng.bits();
        for _ in 0..12.min(end - out.len()) {
            out.push(LETTERS[(bits & 31) as usize]);
            bits >>= 5;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_named_by_its_seed_and_needs_no_escapes() {
        let make = |seed, bytes| {
            let mut out = Vec::new();
            fill(&mut out, seed, bytes);
            out
        };
        assert_eq!(make(1, 2048), make(1, 2048));
        assert_eq!(make(1, 100), make(1, 2048)[..100]);
        assert_ne!(make(1, 64), make(2, 64));
        assert!(make(3, 5000).iter().all(|byte| byte.is_ascii_lowercase() || *byte == b' '));
    }
}
