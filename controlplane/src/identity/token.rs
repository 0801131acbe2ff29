//! A compact JWS, taken apart. Nothing of it is believed yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::Refusal;

/// Of a token: Kubernetes' have about 1,200 bytes.
const MOST_BYTES: usize = 8 << 10;

/// The signatures that are accepted. The token only says which of them it has; the key decides whether that is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// The parts of a token.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    /// Which key it is signed by.
    pub(super) key: String,
    /// What is signed.
    pub(super) signed: &'a str,
    pub(super) signature: Vec<u8>,
    /// JSON.
    pub(super) claims: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// Extensions that must be understood, of which none is.
    crit: Option<serde_json::Value>,
}

impl<'a> Token<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MOST_BYTES {
            return Err(Refusal::NoToken);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Refusal::NoToken)?;
        let (header, claims) = signed.split_once('.').ok_or(Refusal::NoToken)?;
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::NoToken)?;
        if header.crit.is_some() {
            return Err(Refusal::NoToken);
        }
        let algorithm = Algorithm::named(&header.alg).ok_or(Refusal::Algorithm)?;
        let (signature, claims) = (decode(signature)?, decode(claims)?);
        Ok(Self { algorithm, key: header.kid, signed, signature, claims })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::NoToken)
}
