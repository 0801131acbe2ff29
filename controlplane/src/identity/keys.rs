//! The keys that the API server signs tokens by, as it lists them (RFC 7517).

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;

use super::Refusal;
use super::token::{Algorithm, Token};

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// As where a proxy answers in the API server's place.
    #[error("not a list of keys: {0}")]
    Form(#[from] serde_json::Error),
    /// Of what can be used.
    #[error("a list of keys without one for RS256 or ES256 signatures")]
    None,
}

/// The keys by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys(HashMap<String, Key>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Reads a key set; keys of kinds that are not accepted here are left out.
    pub fn read(text: &[u8]) -> Result<Self, KeysError> {
        let listed: Listed = serde_json::from_slice(text)?;
        let keys: HashMap<_, _> = listed.keys.into_iter().filter_map(Key::of).collect();
        if keys.is_empty() { Err(KeysError::None) } else { Ok(Self(keys)) }
    }

    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Refusal> {
        let key = self.0.get(&token.key).ok_or(Refusal::UnknownKey)?;
        let (signed, signature) = (token.signed.as_bytes(), &token.signature);
        let verified = match (key, token.algorithm) {
            (Key::Rsa { n, e }, Algorithm::Rs256) => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            (Key::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            _ => return Err(Refusal::Signature),
        };
        verified.map_err(|_| Refusal::Signature)
    }
}

impl Key {
    fn of(jwk: Jwk) -> Option<(String, Self)> {
        let Jwk { kid, kty, purpose, alg, crv, n, e, x, y } = jwk;
        if purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let number = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
        let may = |algorithm| alg.as_deref().is_none_or(|name| Algorithm::named(name) == Some(algorithm));
        let key = match (kty.as_str(), crv.as_deref()) {
            ("RSA", _) if may(Algorithm::Rs256) => Self::Rsa { n: number(n)?, e: number(e)? },
            ("EC", Some("P-256")) if may(Algorithm::Es256) => {
                let point = [vec![4], number(x)?, number(y)?].concat();
                Self::P256(point)
            }
            _ => return None,
        };
        Some((kid?, key))
    }
}
