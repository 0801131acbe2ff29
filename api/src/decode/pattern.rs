//! Regexes, compiled in one place: what the decoder accepts, the table can compile.

use crate::limits::MAX_REGEX_BYTES;

/// Compiles a `StringMatch::Regex` within `MAX_REGEX_BYTES`. It cannot fail on a pattern of a decoded snapshot.
pub fn compile(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build()
}
