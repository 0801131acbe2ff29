//! Whether somebody who trusts a bundle can verify a chain. It is asked of what others make before anybody is told to trust it: an API server that is
//! given the wrong CA refuses every write of our objects, and data planes no longer reach us.

use std::ops::RangeInclusive;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::oid_registry::{OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA, Oid};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::Contents;

/// As TLS libraries of ours take them.
const RSA_BITS: RangeInclusive<usize> = 2_048..=8_192;
/// Is looked at here, and refused by TLS.
const SHA_1: [Oid<'static>; 2] = [OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA];
/// Certificates of a chain that are looked at.
const LONGEST: usize = 10;

/// What a certificate says of one that may have signed it.
#[derive(Debug, Clone, PartialEq)]
enum Signed {
    Yes,
    No,
    /// By what neither we nor data planes verify, though others may: the sentence says by whom and what.
    Unknown(String),
}

/// The error says what to do. Where that is by what nobody here verifies, it is not told either: data planes, of the same TLS, would refuse us. A
/// chain that is empty or no PEM is for others to refuse.
pub(super) fn verified(contents: &Contents) -> Result<(), String> {
    let (chain, bundle) = (certificates(&contents.chain), certificates(&contents.bundle));
    let (chain, cas) = (parsed(&chain), parsed(&bundle));
    if cas.is_empty() {
        return Err("ca.crt holds no certificate".to_owned());
    }
    let mut unknown = None;
    for (at, certificate) in chain.iter().enumerate().take(LONGEST) {
        let by: Vec<_> = cas.iter().map(|ca| signed(certificate, ca)).collect();
        if by.contains(&Signed::Yes) {
            return Ok(());
        }
        // One between the two may be sent along.
        let next = chain.get(at + 1).map_or(Signed::No, |next| signed(certificate, next));
        let goes_on = next == Signed::Yes;
        unknown = unknown.or_else(|| by.into_iter().chain([next]).find_map(Signed::unknown));
        if !goes_on {
            break;
        }
    }
    let Some(leaf) = chain.first() else { return Ok(()) };
    if let Some(by) = unknown {
        return Err(format!(
            "nobody is told to trust ca.crt: {by}, which neither this control plane nor data planes of its release verify, so that they would \
             refuse us. Sign tls.crt with SHA-2, by a key of ECDSA P-256 or P-384, of Ed25519, or of RSA with 2048 to 8192 bits"
        ));
    }
    Err(format!(
        "ca.crt does not verify tls.crt, so whoever is told to trust it would refuse us: put the certificate of `{}`, which signed tls.crt, \
         into ca.crt, and those between the two into tls.crt (`openssl verify -CAfile ca.crt -untrusted tls.crt tls.crt` is to say OK)",
        leaf.issuer()
    ))
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok).collect()
}

fn parsed<'a>(ders: &'a [CertificateDer<'_>]) -> Vec<X509Certificate<'a>> {
    ders.iter().filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1)).collect()
}

fn signed(certificate: &X509Certificate<'_>, by: &X509Certificate<'_>) -> Signed {
    if certificate.issuer() != by.subject() {
        return Signed::No;
    }
    let (algorithm, key) = (certificate.signature_algorithm.oid(), by.public_key());
    let unknown = |what: String| Signed::Unknown(format!("`{}` signed a certificate of tls.crt {what}", by.subject()));
    match key.parsed() {
        Ok(PublicKey::RSA(key)) if !RSA_BITS.contains(&key.key_size()) => {
            return unknown(format!("by an RSA key of {} bits", key.key_size()));
        }
        _ if SHA_1.contains(algorithm) => return unknown(format!("with SHA-1 (algorithm {algorithm})")),
        _ => {}
    }
    match certificate.verify_signature(Some(key)) {
        Ok(()) => Signed::Yes,
        Err(X509Error::SignatureUnsupportedAlgorithm) => unknown(format!("by algorithm {algorithm}")),
        Err(_) => Signed::No,
    }
}

impl Signed {
    fn unknown(self) -> Option<String> {
        if let Self::Unknown(by) = self { Some(by) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::UnixTime;

    use super::*;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn root(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        Authority { pem: params(name).self_signed(&key).unwrap().pem(), issuer: Issuer::new(params(name), key) }
    }

    impl Authority {
        fn below(&self, name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            let pem = params(name).signed_by(&key, &self.issuer).unwrap().pem();
            Self { pem, issuer: Issuer::new(params(name), key) }
        }

        fn leaf(&self) -> String {
            let own = KeyPair::generate().unwrap();
            CertificateParams::new(["w".to_owned()]).unwrap().signed_by(&own, &self.issuer).unwrap().pem()
        }
    }

    #[track_caller]
    fn check(chain: &[&str], bundle: &[&str], expected: Result<(), &str>) {
        let contents = Contents { chain: chain.concat(), bundle: bundle.concat(), ..Contents::default() };
        match (verified(&contents), expected) {
            (Ok(()), Ok(())) => {}
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (found, expected) => panic!("{found:?} {expected:?}"),
        }
    }

    #[test]
    fn a_chain_is_verified_by_whoever_signed_its_leaf_or_what_was_sent_with_it() {
        let (ours, other) = (root("ours"), root("other"));
        let between = ours.below("between");
        check(&[&ours.leaf()], &[&ours.pem], Ok(()));
        check(&[&ours.leaf()], &[&other.pem, &ours.pem], Ok(()));
        check(&[&between.leaf(), &between.pem], &[&ours.pem], Ok(()));
        check(&[&between.leaf()], &[&between.pem], Ok(()));
    }

    /// Each is the leaf that openssl made, and its CA.
    const UNKNOWN: [(&str, &str); 3] = [
        (include_str!("trust/p521.pem"), "`CN=p521` signed a certificate of tls.crt by algorithm 1.2.840.10045.4.3.4"),
        (include_str!("trust/sha1.pem"), "`CN=sha1` signed a certificate of tls.crt with SHA-1"),
        (include_str!("trust/short.pem"), "`CN=short` signed a certificate of tls.crt by an RSA key of 1024 bits"),
    ];

    fn split(pem: &str) -> (&str, &str) {
        pem.split_at(pem.rfind("-----BEGIN").unwrap())
    }

    #[test]
    fn what_nobody_here_verifies_is_called_that_and_not_a_wrong_ca() {
        for (pem, said) in UNKNOWN {
            let (leaf, ca) = split(pem);
            check(&[leaf], &[ca], Err(said));
            check(
                &[leaf],
                &[&root("ours").pem, ca],
                Err("which neither this control plane nor data planes of its release verify"),
            );
            check(&[leaf, ca], &[&root("ours").pem], Err(said));
            check(&[leaf], &[&root("ours").pem], Err("ca.crt does not verify tls.crt"));
            // It does not matter beside one that did sign.
            let ours = root("ours");
            check(&[&ours.leaf()], &[ca, &ours.pem], Ok(()));
        }
    }

    #[test]
    fn data_planes_refuse_it_indeed() {
        for (pem, said) in UNKNOWN {
            let [leaf, ca] = &certificates(pem)[..] else { panic!("{said}") };
            let mut roots = RootCertStore::empty();
            roots.add(ca.clone()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            let found = verifier.verify_server_cert(leaf, &[], &"w".try_into().unwrap(), &[], UnixTime::now());
            let refused = found.unwrap_err().to_string();
            assert!(refused.contains("ignature"), "{said}: {refused}");
        }
    }

    #[test]
    fn a_ca_that_did_not_sign_it_is_refused_with_the_name_of_the_one_that_did() {
        let (ours, other) = (root("ours"), root("other"));
        let between = ours.below("between");
        check(&[&ours.leaf()], &[&other.pem], Err("`CN=ours`, which signed tls.crt"));
        check(&[&ours.leaf()], &[&root("ours").pem], Err("does not verify"));
        check(&[&between.leaf()], &[&ours.pem], Err("`CN=between`"));
        check(&[&ours.leaf(), &other.below("stray").pem], &[&other.pem], Err("does not verify"));
        check(&[&ours.leaf()], &["no PEM"], Err("ca.crt holds no certificate"));
    }
}
