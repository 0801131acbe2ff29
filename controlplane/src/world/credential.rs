//! What is remembered of a Secret: which keys it has, and whether what they hold can be a credential. Not what they hold.

use std::collections::BTreeMap;
use std::sync::Arc;

/// By key. One that holds nothing is not here.
pub type Credentials = Arc<BTreeMap<Arc<str>, Credential>>;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credential {
    /// It can be sent in a header.
    Usable,
    /// White space alone, or something that no header can carry.
    Invalid,
}

impl Credential {
    /// Of what a key holds; none where that is nothing. White space around it counts for nothing, for editors leave it there.
    pub fn of(held: &[u8]) -> Option<Self> {
        let trimmed = held.trim_ascii();
        let carried = |b: &u8| *b == b'\t' || (*b >= b' ' && *b != 0x7f);
        match held {
            [] => None,
            _ if !trimmed.is_empty() && trimmed.iter().all(carried) => Some(Self::Usable),
            _ => Some(Self::Invalid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_what_a_header_can_carry() {
        let check = |held: &str, expected| assert_eq!(Credential::of(held.as_bytes()), expected, "{held:?}");
        check("sk-1", Some(Credential::Usable));
        check(" sk-1\n", Some(Credential::Usable));
        check("a\tb", Some(Credential::Usable));
        check("", None);
        check(" \n", Some(Credential::Invalid));
        check("a\nb", Some(Credential::Invalid));
        check("a\u{7f}", Some(Credential::Invalid));
    }
}
