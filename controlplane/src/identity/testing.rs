//! An API server's keys, and tokens as it makes them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::{Accounts, Asked, Clock, Keys, Known, Look, Options};

/// Of all tokens here.
pub const ISSUER: &str = "https://kubernetes.default.svc";

/// Whose tokens are believed in tests.
pub fn options() -> Options {
    Options::new("kthena-system", ["dataplane"])
}

/// What a data plane's token claims that has 10 min left.
pub fn claims(now: Timestamp) -> Value {
    let now = now.as_second();
    json!({
        "aud": ["kthena-controlplane"], "iss": ISSUER, "sub": "system:serviceaccount:kthena-system:dataplane",
        "iat": now - 3_000, "nbf": now - 3_000, "exp": now + 600, "jti": "1",
        "kubernetes.io": {
            "namespace": "kthena-system", "serviceaccount": {"name": "dataplane", "uid": "sa-1"},
            "pod": {"name": "dataplane-x7", "uid": "pod-1"}, "node": {"name": "node-a", "uid": "node-1"},
        },
    })
}

/// A key pair.
#[derive(Debug)]
pub struct Signer {
    /// Its name.
    pub kid: &'static str,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl Signer {
    /// One that nobody has had before.
    pub fn es256(kid: &'static str) -> Self {
        let random = SystemRandom::new();
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key is made");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random);
        let pair = pair.expect("it was just made");
        Self { kid, pair: Pair::Es256(pair) }
    }

    /// Always the same one, for ring makes none.
    pub fn rs256(kid: &'static str) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_slice(include_bytes!("testing/rsa.pem")).expect("it is PEM");
        let pair = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).expect("it is a key");
        Self { kid, pair: Pair::Rs256(pair) }
    }

    /// Its public part, as API servers list it.
    pub fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Es256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kid": self.kid, "kty": "EC", "use": "sig", "alg": "ES256", "crv": "P-256",
                       "x": encode(x), "y": encode(y)})
            }
            Pair::Rs256(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({"kid": self.kid, "kty": "RSA", "use": "sig", "alg": "RS256", "n": encode(n), "e": encode(e)})
            }
        }
    }

    /// What its tokens begin with.
    pub fn header(&self) -> Value {
        let alg = if matches!(self.pair, Pair::Es256(_)) { "ES256" } else { "RS256" };
        json!({"alg": alg, "kid": self.kid})
    }

    /// A token that claims this.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// The same with a header of one's own.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let random = SystemRandom::new();
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = match &self.pair {
            Pair::Es256(pair) => pair.sign(&random, signed.as_bytes()).expect("it signs").as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("it signs");
                signature
            }
        };
        format!("{signed}.{}", encode(signature))
    }
}

/// As the parts of a token are.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An API server with these keys, and with the one service account.
pub fn known(signers: &[&Signer]) -> Known {
    let jwks = json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()});
    let keys = Keys::read(jwks.to_string().as_bytes()).expect("keys that can be used");
    let accounts = Accounts(BTreeMap::from([("dataplane".to_owned(), "sa-1".to_owned())]));
    Known { issuer: ISSUER.to_owned(), keys, accounts }
}

/// An API server that has told this at its first look, just now.
pub fn asked(known: Known) -> Asked {
    let mut asked = Asked::default();
    asked.learn(Look::Told(known), Clock::default().now());
    asked
}
