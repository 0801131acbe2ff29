//! What a request asks of the API server.

use http::{Method, Uri};

/// As RBAC and the audit log call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// One object.
    Get,
    /// Many.
    List,
    /// Many, and what becomes of them. A list that is streamed is a watch too.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// A request in the words of the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asked {
    /// What for.
    pub verb: Verb,
    /// `pods`, and with its subresource `pods/status`. Other paths are themselves.
    pub resource: String,
    /// Of what has one.
    pub namespace: Option<String>,
    /// Of a single object.
    pub name: Option<String>,
}

impl Asked {
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let parts: Vec<_> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let rest = match parts.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => &[],
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !is_of_namespace(rest) => {
                (Some((*namespace).to_owned()), rest)
            }
            _ => (None, rest),
        };
        let (resource, name) = match rest {
            [] => (uri.path().to_owned(), None),
            [resource] => ((*resource).to_owned(), None),
            [resource, name] => ((*resource).to_owned(), Some((*name).to_owned())),
            [resource, name, sub @ ..] => (format!("{resource}/{}", sub.join("/")), Some((*name).to_owned())),
        };
        let verb = verb(method, uri, name.is_some() || rest.is_empty());
        Self { verb, resource, namespace, name }
    }

    /// Whether it changes something.
    pub fn writes(&self) -> bool {
        !matches!(self.verb, Verb::Get | Verb::List | Verb::Watch)
    }
}

/// A namespace's own subresources.
fn is_of_namespace(rest: &[&str]) -> bool {
    matches!(rest, ["status" | "finalize"])
}

fn verb(method: &Method, uri: &Uri, single: bool) -> Verb {
    let watches = uri.query().unwrap_or_default().split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"));
    match method.as_str() {
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        _ if watches => Verb::Watch,
        _ if single => Verb::Get,
        _ => Verb::List,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_method_and_path() {
        let check = |method: &str, uri: &str, expected: &str| {
            let asked = Asked::of(&method.parse().unwrap(), &uri.parse().unwrap());
            let Asked { verb, resource, namespace, name } = asked;
            let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            assert_eq!(format!("{verb:?} {resource} {} {}", dash(namespace), dash(name)), expected, "{uri}");
        };
        check("GET", "/api/v1/pods?limit=5", "List pods - -");
        check("GET", "/api/v1/namespaces/n/pods?watch=true&x=y", "Watch pods n -");
        check("GET", "/api/v1/namespaces/n/pods/p", "Get pods n p");
        check("PATCH", "/api/v1/namespaces/n/pods/p/status", "Patch pods/status n p");
        check("PUT", "/apis/apps/v1/namespaces/n/deployments/d", "Update deployments n d");
        check("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "Create clusterroles - -");
        check("DELETE", "/api/v1/nodes/a", "Delete nodes - a");
        check("GET", "/api/v1/namespaces/n", "Get namespaces - n");
        check("PUT", "/api/v1/namespaces/n/finalize", "Update namespaces/finalize - n");
        check("GET", "/readyz", "Get /readyz - -");
    }
}
