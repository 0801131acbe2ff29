//! Requests about an object of ours as a person writes it: untyped, so that the API server sees every field.

use controlplane::object::Kind;
use http::{Method, Request};
use kube::Client;
use serde_json::Value;

/// Where objects of a kind are.
pub struct Place {
    client: Client,
    path: String,
}

impl Place {
    pub fn of(client: &Client, kind: Kind, namespace: &str) -> Self {
        let path = format!("/apis/{}/v1alpha1/namespaces/{namespace}/{}", kind.group(), kind.plural());
        Self { client: client.clone(), path }
    }

    /// Strict and without a trace: only what the API server would have stored.
    pub async fn try_create(&self, object: &Value) -> kube::Result<Value> {
        self.send(Method::POST, "?dryRun=All&fieldValidation=Strict", object).await
    }

    pub async fn create(&self, object: &Value) -> kube::Result<Value> {
        self.send(Method::POST, "?fieldValidation=Strict", object).await
    }

    pub async fn try_replace(&self, object: &Value) -> kube::Result<Value> {
        self.send(Method::PUT, &format!("/{}?dryRun=All&fieldValidation=Strict", name(object)), object).await
    }

    pub async fn replace(&self, object: &Value) -> kube::Result<Value> {
        self.send(Method::PUT, &format!("/{}", name(object)), object).await
    }

    pub async fn replace_status(&self, object: &Value) -> kube::Result<Value> {
        self.send(Method::PUT, &format!("/{}/status", name(object)), object).await
    }

    pub async fn apply(&self, object: &Value, owner: &str, force: bool) -> kube::Result<Value> {
        let rest = format!("/{}?fieldManager={owner}&force={force}&fieldValidation=Strict", name(object));
        self.send(Method::PATCH, &rest, object).await
    }

    pub async fn delete(&self, object: &Value) -> kube::Result<Value> {
        self.send(Method::DELETE, &format!("/{}", name(object)), &serde_json::json!({})).await
    }

    async fn send(&self, method: Method, rest: &str, body: &Value) -> kube::Result<Value> {
        let content = if method == Method::PATCH { "application/apply-patch+yaml" } else { "application/json" };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{rest}", self.path))
            .header(http::header::CONTENT_TYPE, content)
            .body(body.to_string().into_bytes())
            .expect("a path of names and a body");
        self.client.request(request).await
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("an object with a name")
}

/// The HTTP code and the sentence of a refusal.
///
/// # Panics
/// Where the API server took the object, or the request failed in another way.
pub fn refusal(answer: kube::Result<Value>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("expected a refusal, got {other:?}"),
    }
}
