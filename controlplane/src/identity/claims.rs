//! What a token whose signature is right claims, and whether that is enough.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::asked::Answer;
use super::{Moment, Options, Refusal};
use crate::publish::serve::{Holds, Identity, Proof};

/// Clocks differ.
const SKEW: SignedDuration = SignedDuration::from_secs(30);

/// As the API server writes them; what is not looked at is left out.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audiences,
    exp: Option<i64>,
    nbf: Option<i64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Some(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
    node: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    name: String,
    uid: Option<String>,
}

impl Claims {
    pub(super) fn read(json: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(json).map_err(|_| Refusal::NoToken)
    }

    /// Who shows it, if it is for us, now, and of one of ours.
    pub(super) fn identity(self, answer: &Answer, options: &Options, now: Moment) -> Result<Identity, Refusal> {
        let known = &answer.known;
        if self.iss != known.issuer {
            return Err(Refusal::Issuer);
        }
        let meant = match &self.aud {
            Audiences::One(audience) => *audience == options.audience,
            Audiences::Some(audiences) => audiences.contains(&options.audience),
        };
        if !meant {
            return Err(Refusal::Audience);
        }
        let proof = self.proof(answer, now)?;
        let Kubernetes { namespace, serviceaccount, pod, node } = self.kubernetes.ok_or(Refusal::Account)?;
        let account = &serviceaccount.name;
        let is_ours = namespace == options.namespace && options.service_accounts.contains(account);
        if !is_ours || self.sub != format!("system:serviceaccount:{namespace}:{account}") {
            return Err(Refusal::Account);
        }
        if !known.accounts.is_now(account, serviceaccount.uid.as_deref()) {
            return Err(Refusal::AccountGone);
        }
        let (Some(Object { name: pod, uid: Some(uid) }), Some(Object { name: node, .. })) = (pod, node) else {
            return Err(Refusal::Unbound);
        };
        Ok(Identity { node, namespace, pod, uid, proof: Some(proof) })
    }

    fn proof(&self, answer: &Answer, now: Moment) -> Result<Proof, Refusal> {
        let time = |seconds| Timestamp::from_second(seconds).map_err(|_| Refusal::NoToken);
        let ends = time(self.exp.ok_or(Refusal::Expired)?)?;
        let is_excused = || answer.contact.excused_until(ends).is_some_and(|until| now.at < until);
        let holds = if now.clock.duration_since(ends) < SKEW {
            Holds::For(Duration::try_from(ends.duration_since(now.clock)).unwrap_or_default())
        } else if is_excused() {
            Holds::PastItsEnd
        } else {
            return Err(Refusal::Expired);
        };
        if let Some(begins) = self.nbf.map(time).transpose()?
            && begins.duration_since(now.clock) > SKEW
        {
            return Err(Refusal::TooEarly);
        }
        Ok(Proof { ends, holds })
    }
}
