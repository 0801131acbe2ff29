//! Makes the Secret's next contents.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::Contents;
use super::held::Held;
use super::plan::{Step, Wanted, next_hosts};
use super::times::backdated;

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    /// As where a host is no name.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was said to be usable cannot be read.
    #[error("cannot read our own certificate: {0}")]
    Read(#[from] rustls::pki_types::pem::Error),
    /// A time beyond what certificates can say.
    #[error("cannot make a certificate: {0}")]
    Time(#[from] time::error::ComponentRange),
}

/// Carries a step out. `held` is what `contents` holds.
pub(super) fn issue(
    step: Step,
    contents: &Contents,
    held: &Held,
    wanted: Wanted<'_>,
    now: Timestamp,
) -> Result<Contents, IssueError> {
    let times = wanted.times;
    let hosts = next_hosts(held.leaf.as_ref(), wanted.hosts, now);
    let signer = held.signer().map(|ca| ca.pem.clone()).unwrap_or_default();
    Ok(match step {
        Step::BeginAnew => {
            let (pem, ca_key) = make_ca(Valid::from(now, times.ca_life)?)?;
            let (chain, key) = make_leaf(&pem, &ca_key, &hosts, Valid::from(now, times.leaf_life)?)?;
            Contents { bundle: pem, ca_key, chain, key }
        }
        Step::AddCa => {
            let (pem, ca_key) = make_ca(Valid::from(now, times.ca_life)?)?;
            // Of the others only the one that is needed until the leaf changes: the bundle stays small whatever happens.
            let needed = held.leaf.as_ref().map(|leaf| held.cas[leaf.issuer].pem.as_str()).unwrap_or_default();
            Contents { bundle: format!("{needed}{pem}"), ca_key, ..contents.clone() }
        }
        Step::MakeLeaf => {
            let (chain, key) = make_leaf(&signer, &contents.ca_key, &hosts, Valid::from(now, times.leaf_life)?)?;
            Contents { chain, key, ..contents.clone() }
        }
        Step::DropOldCa => Contents { bundle: signer, ..contents.clone() },
    })
}

fn make_ca(valid: Valid) -> Result<(String, String), IssueError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // Two of them in one bundle are told apart by name.
    params.distinguished_name.push(DnType::CommonName, format!("kthena-controlplane CA {}", valid.made));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (valid.from, valid.until);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn make_leaf(ca: &str, ca_key: &str, hosts: &BTreeSet<String>, valid: Valid) -> Result<(String, String), IssueError> {
    let ca = Issuer::from_ca_cert_der(&CertificateDer::from_pem_slice(ca.as_bytes())?, KeyPair::from_pem(ca_key)?)?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts.iter().cloned().collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "kthena-controlplane");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (valid.from, valid.until);
    Ok((params.signed_by(&key, &ca)?.pem(), key.serialize_pem()))
}

/// When a certificate is to be valid.
#[derive(Debug, Clone, Copy)]
struct Valid {
    /// The second in which it is made.
    made: i64,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

impl Valid {
    fn from(now: Timestamp, life: Duration) -> Result<Self, time::error::ComponentRange> {
        let date = |instant: Timestamp| OffsetDateTime::from_unix_timestamp(instant.as_second());
        Ok(Self { made: now.as_second(), from: date(now - backdated(life))?, until: date(now + life)? })
    }
}
