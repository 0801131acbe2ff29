//! What the API server says that tokens are verified by.

use std::collections::BTreeMap;

use super::Keys;

/// All of it, as of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Who issues its tokens.
    pub issuer: String,
    /// What it signs them by.
    pub keys: Keys,
    /// Whom it issues them to.
    pub accounts: Accounts,
}

/// The service accounts that data planes may run as: the UID of each that exists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts(pub BTreeMap<String, String>);

impl Accounts {
    /// Whether this very account exists, and not another of its name.
    pub(super) fn is_now(&self, name: &str, uid: Option<&str>) -> bool {
        self.0.get(name).map(String::as_str) == uid && uid.is_some()
    }
}
