//! Regexes, compiled in one place: what the decoder accepts, the table compiles alike.

use regex::bytes::{Regex, RegexBuilder};

use crate::limits::MAX_REGEX_BYTES;

/// Compiles a `StringMatch::Regex` within `MAX_REGEX_BYTES`, to be matched with bytes: header values need not be UTF-8. It
/// cannot fail on a pattern of a decoded snapshot.
pub fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build()
}
