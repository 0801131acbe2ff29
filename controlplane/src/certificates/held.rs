//! What the Secret holds, as facts. Whatever cannot be used is as if it were not there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::Contents;

/// The facts that matter to the plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub(super) cas: Vec<Ca>,
    /// Which of them can sign: the one whose key is here.
    pub(super) signer: Option<usize>,
    pub(super) leaf: Option<Leaf>,
}

/// One CA of the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ca {
    pub(super) pem: String,
    pub(super) life: Life,
}

/// A certificate whose key is here, and that somebody who trusts the bundle can verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) life: Life,
    pub(super) hosts: BTreeSet<String>,
    /// Which CA signed it.
    pub(super) issuer: usize,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Held {
    pub(super) fn read(contents: &Contents) -> Self {
        let ders: Vec<(String, CertificateDer<'static>)> = blocks(&contents.bundle);
        let parsed: Vec<(&str, X509Certificate<'_>)> = ders
            .iter()
            .filter_map(|(pem, der)| Some((pem.as_str(), parse(der)?)))
            .filter(|(_, ca)| ca.is_ca())
            .collect();
        let ca = |(pem, ca): &(&str, X509Certificate<'_>)| {
            Some(Ca { pem: (*pem).to_owned(), life: Life::of(ca.validity())? })
        };
        let Some(cas) = parsed.iter().map(ca).collect::<Option<Vec<_>>>() else { return Self::default() };
        let signer = public_key(&contents.ca_key)
            .and_then(|key| parsed.iter().position(|(_, ca)| ca.tbs_certificate.subject_pki.raw == key));
        Self { cas, signer, leaf: leaf(contents, &parsed) }
    }

    pub(super) fn signer(&self) -> Option<&Ca> {
        self.signer.map(|index| &self.cas[index])
    }
}

impl Life {
    fn of(validity: &Validity) -> Option<Self> {
        let instant = |seconds| Timestamp::from_second(seconds).ok();
        Some(Self { from: instant(validity.not_before.timestamp())?, until: instant(validity.not_after.timestamp())? })
    }
}

/// The certificates of a bundle, each with its text.
fn blocks(bundle: &str) -> Vec<(String, CertificateDer<'static>)> {
    const END: &str = "-----END CERTIFICATE-----";
    let pems = bundle
        .split_inclusive(END)
        .filter_map(|text| Some(text[text.find("-----BEGIN CERTIFICATE")?..].to_owned() + "\n"));
    pems.filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| (pem, der))).collect()
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, certificate)| certificate)
}

fn public_key(pem: &str) -> Option<Vec<u8>> {
    KeyPair::from_pem(pem).ok().map(|key| key.subject_public_key_info())
}

fn leaf(contents: &Contents, cas: &[(&str, X509Certificate<'_>)]) -> Option<Leaf> {
    let der = CertificateDer::from_pem_slice(contents.chain.as_bytes()).ok()?;
    let leaf = parse(&der)?;
    if leaf.tbs_certificate.subject_pki.raw != public_key(&contents.key)? {
        return None;
    }
    let issuer = cas
        .iter()
        .position(|(_, ca)| leaf.issuer() == ca.subject() && leaf.verify_signature(Some(ca.public_key())).is_ok())?;
    let names = leaf.subject_alternative_name().ok()??.value.general_names.iter();
    let hosts = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    Some(Leaf { life: Life::of(leaf.validity())?, hosts: hosts.collect(), issuer })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}
