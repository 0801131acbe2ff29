//! Certificates for tests of what serves them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use rustls::sign::CertifiedKey;

use super::Contents;
use super::held::Held;
use super::issue::issue;
use super::plan::Step;
use super::tls::certified;

/// A leaf, and what its clients trust.
pub(crate) struct Made {
    pub(crate) bundle: String,
    pub(crate) key: CertifiedKey,
}

/// Of a CA of its own.
pub(crate) fn made(hosts: &BTreeSet<String>) -> Made {
    let contents = issue(Step::BeginAnew, &Contents::default(), &Held::default(), hosts, Timestamp::now()).unwrap();
    Made { key: certified(&contents).unwrap(), bundle: contents.bundle }
}
