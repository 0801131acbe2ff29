//! What is served: at every handshake the newest certificate.

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::Contents;

/// A leaf with its key, in the form that handshakes need.
pub(super) fn certified(contents: &Contents) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(contents.chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| format!("tls.crt: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(contents.key.as_bytes()).map_err(|error| format!("tls.key: {error}"))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| format!("tls.crt and tls.key: {error}"))
}

/// A configuration that needs no replacing: it looks at the newest certificate in each handshake. Until there is one,
/// handshakes fail. `protocols` is what ALPN offers, as `h2`.
pub fn server_config(newest: watch::Receiver<Option<Arc<CertifiedKey>>>, protocols: &[&str]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider does TLS 1.2 and 1.3");
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Newest(newest)));
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

struct Newest(watch::Receiver<Option<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.borrow().clone()
    }
}

impl fmt::Debug for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("Newest").finish_non_exhaustive()
    }
}
