//! The identity of a service account: what a program under test runs as, so that a rule that its role lacks fails the test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kubelet::kubeconfig;

use super::identity;

const LIFETIME_S: i64 = 3600;

/// A service account that exists, and the files by which a program is it.
#[derive(Clone, Debug)]
pub struct Account {
    /// Names the token's file, which clients read again as it changes.
    pub kubeconfig: PathBuf,
    /// A test may write another one here: an expired one, or somebody else's.
    pub token: PathBuf,
}

/// Whose it is and where it is used.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Of the service account, which is made where it is missing.
    pub namespace: &'a str,
    /// Of the service account.
    pub name: &'a str,
    /// The API server's URL, or a proxy's.
    pub server: &'a str,
}

/// Where a pod is named, its token is that pod's, which the audit log then tells.
pub(super) async fn make(client: &Client, folder: &Path, wanted: Wanted<'_>, pod: Option<&str>) -> Result<Account> {
    let Wanted { namespace, name, server } = wanted;
    let api = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let meta = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata: meta, ..ServiceAccount::default() };
    api.patch(name, &PatchParams::apply("perf-tests"), &Patch::Apply(&account)).await?;
    let bound_object_ref = pod.map(|pod| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.to_owned()),
        uid: None,
    });
    let expiration_seconds = Some(LIFETIME_S);
    let spec = TokenRequestSpec { bound_object_ref, expiration_seconds, ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = api.create_token_request(name, &PostParams::default(), &request).await?;
    let token = answer.status.context("a token request that was answered without a token")?.token;

    // Each call has files of its own: two programs may be one account through two servers.
    let mine = tempfile::Builder::new().prefix(&format!("{namespace}-{name}-")).tempdir_in(folder)?.keep();
    let made = Account { kubeconfig: mine.join("kubeconfig"), token: mine.join("token") };
    fs::write(&made.token, token)?;
    let user = serde_json::json!({"tokenFile": made.token});
    fs::write(&made.kubeconfig, kubeconfig::text(server, &folder.join(identity::AUTHORITY), &user))?;
    Ok(made)
}
