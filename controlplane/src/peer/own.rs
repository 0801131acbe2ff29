//! Who we are, by our pod's token. It is our own file, so it is read and not verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

/// This pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) pod_uid: String,
    pub(crate) namespace: String,
    pub(crate) account: String,
}

#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    serviceaccount: Account,
    pod: Pod,
}

#[derive(Deserialize)]
struct Account {
    name: String,
}

#[derive(Deserialize)]
struct Pod {
    uid: String,
}

impl Own {
    /// None where the token is no projected one of a pod.
    pub(crate) fn of_token(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        let claims = URL_SAFE_NO_PAD.decode(parts.nth(1)?).ok()?;
        let Claims { kubernetes } = serde_json::from_slice(&claims).ok()?;
        let Kubernetes { namespace, serviceaccount, pod } = kubernetes;
        Some(Self { pod_uid: pod.uid, namespace, account: serviceaccount.name })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::identity::testing::{Signer, claims};

    #[test]
    fn a_pods_token_says_which_pod_it_is() {
        let signer = Signer::es256("a");
        let mut claims = claims(Timestamp::now());
        let own = Own { pod_uid: "pod-1".into(), namespace: "kthena-system".into(), account: "dataplane".into() };
        assert_eq!(Own::of_token(&format!("{}\n", signer.token(&claims))), Some(own));
        claims["kubernetes.io"]["pod"] = json!(null);
        assert_eq!(Own::of_token(&signer.token(&claims)), None);
        assert_eq!(["", "a.b.c", "abc"].map(Own::of_token), [None, None, None]);
    }
}
