//! A pod's volumes as folders: what is in them is decided from the pod, then written, and written again as it changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeProjection,
};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use super::access::Access;
use super::launch::{Facts, Waiting, field_of};
use super::sources::Sources;

/// Of a token for which the pod asks no lifetime.
const LIFETIME_S: i64 = 3600;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    Token(TokenWish),
}

/// No audience means the API server's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TokenWish {
    audience: Option<String>,
    lifetime_s: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// One of the machine's.
    Host(PathBuf),
    /// One of the pod's own, with these files.
    Own(BTreeMap<String, Content>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    pub(super) facts: &'a Facts,
    pub(super) sources: &'a Sources,
}

pub(super) fn place(view: View<'_>, volume: &Volume) -> Result<Place, Waiting> {
    let Sources { config_maps, secrets } = view.sources;
    let files = if let Some(host) = &volume.host_path {
        return Ok(Place::Host(host.path.clone().into()));
    } else if let Some(map) = &volume.config_map {
        keys(config_maps, "ConfigMap", Wish { name: &map.name, items: &map.items, optional: map.optional })?
    } else if let Some(secret) = &volume.secret {
        let name = secret.secret_name.as_deref().unwrap_or_default();
        keys(secrets, "Secret", Wish { name, items: &secret.items, optional: secret.optional })?
    } else if let Some(projected) = &volume.projected {
        let parts = projected.sources.iter().flatten().map(|source| projection(view, source));
        parts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
    } else if let Some(downward) = &volume.downward_api {
        fields(view, downward.items.as_deref())?
    } else if volume.empty_dir.is_some() {
        BTreeMap::new()
    } else {
        return Err(Waiting::config(format!("this kubelet does not play the kind of volume {:?}", volume.name)));
    };
    Ok(Place::Own(files))
}

fn projection(view: View<'_>, source: &VolumeProjection) -> Result<BTreeMap<String, Content>, Waiting> {
    let Sources { config_maps, secrets } = view.sources;
    if let Some(ServiceAccountTokenProjection { audience, expiration_seconds, path }) = &source.service_account_token {
        let wish = TokenWish { audience: audience.clone(), lifetime_s: expiration_seconds.unwrap_or(LIFETIME_S) };
        Ok(BTreeMap::from([(path.clone(), Content::Token(wish))]))
    } else if let Some(map) = &source.config_map {
        keys(config_maps, "ConfigMap", Wish { name: &map.name, items: &map.items, optional: map.optional })
    } else if let Some(secret) = &source.secret {
        keys(secrets, "Secret", Wish { name: &secret.name, items: &secret.items, optional: secret.optional })
    } else if let Some(downward) = &source.downward_api {
        fields(view, downward.items.as_deref())
    } else {
        Err(Waiting::config("this kubelet does not play a kind of projection"))
    }
}

#[derive(Clone, Copy, Debug)]
struct Wish<'a> {
    name: &'a str,
    items: &'a Option<Vec<KeyToPath>>,
    optional: Option<bool>,
}

type Named = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

fn keys(named: &Named, kind: &str, wish: Wish<'_>) -> Result<BTreeMap<String, Content>, Waiting> {
    let Wish { name, items, optional } = wish;
    let optional = optional == Some(true);
    let Some(files) = named.get(name) else {
        return if optional { Ok(BTreeMap::new()) } else { Err(Waiting::config(format!("{kind} {name:?} not found"))) };
    };
    let Some(items) = items.as_ref().filter(|items| !items.is_empty()) else {
        return Ok(files.iter().map(|(key, bytes)| (key.clone(), Content::Bytes(bytes.clone()))).collect());
    };
    let mut chosen = BTreeMap::new();
    for KeyToPath { key, path, .. } in items {
        match files.get(key) {
            Some(bytes) => drop(chosen.insert(path.clone(), Content::Bytes(bytes.clone()))),
            None if optional => {}
            None => return Err(Waiting::config(format!("{kind} {name:?} has no key {key:?}"))),
        }
    }
    Ok(chosen)
}

fn fields(view: View<'_>, items: Option<&[DownwardAPIVolumeFile]>) -> Result<BTreeMap<String, Content>, Waiting> {
    let mut files = BTreeMap::new();
    for item in items.into_iter().flatten() {
        let Some(field) = &item.field_ref else {
            return Err(Waiting::config("this kubelet plays fieldRef alone"));
        };
        let value = field_of(view.pod, view.facts, &field.field_path)?;
        files.insert(item.path.clone(), Content::Bytes(value.into_bytes()));
    }
    Ok(files)
}

/// One that is renewed as long as somebody does.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    wish: TokenWish,
    access: Access,
}

/// A folder to fill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) folder: &'a Path,
    pub(super) access: Access,
}

/// Makes the folder and returns what in it is to be renewed.
pub(super) async fn write(
    client: &Client,
    pod: &Pod,
    target: Target<'_>,
    files: &BTreeMap<String, Content>,
) -> Result<Vec<TokenFile>> {
    let Target { folder, access } = target;
    // A pod of this name may have been here before.
    let _ = tokio::fs::remove_dir_all(folder).await;
    tokio::fs::create_dir_all(folder).await?;
    access.open_folder(folder)?;
    let mut tokens = Vec::new();
    for (name, content) in files {
        if let Content::Token(wish) = content {
            let file = TokenFile { path: folder.join(name), wish: wish.clone(), access };
            file.renew(client, pod).await?;
            tokens.push(file);
        }
    }
    update(target, &BTreeMap::new(), files).await?;
    Ok(tokens)
}

/// Brings the files up to what they are now, tokens excepted, each whole, for it may be read at any time. `before` says which
/// ones are ours.
pub(super) async fn update(
    target: Target<'_>,
    before: &BTreeMap<String, Content>,
    now: &BTreeMap<String, Content>,
) -> Result<()> {
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        tokio::fs::remove_file(target.folder.join(name)).await?;
    }
    for (name, content) in now {
        match content {
            Content::Bytes(bytes) if before.get(name) != Some(content) => {
                put(&target.folder.join(name), bytes, target.access).await?;
            }
            Content::Bytes(_) | Content::Token(_) => {}
        }
    }
    Ok(())
}

async fn put(path: &Path, bytes: &[u8], access: Access) -> Result<()> {
    if let Some(parent) = path.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    let next = path.with_extension("next");
    tokio::fs::write(&next, bytes).await?;
    access.open_file(&next)?;
    Ok(tokio::fs::rename(&next, path).await?)
}

impl TokenFile {
    /// When four fifths of each token's life are over, or so long at the latest.
    pub(super) async fn keep_fresh(self, client: Client, pod: Pod, at_latest: Duration) {
        let after = at_latest.min(Duration::from_secs(self.wish.lifetime_s.unsigned_abs()) * 4 / 5);
        let mut pause = after;
        loop {
            tokio::time::sleep(pause).await;
            let renewed = self.renew(&client, &pod).await;
            // The API server may be away for a while.
            pause = if renewed.is_ok() { after } else { Duration::from_secs(5) };
        }
    }

    async fn renew(&self, client: &Client, pod: &Pod) -> Result<()> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let api = Api::<ServiceAccount>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        };
        let spec = TokenRequestSpec {
            audiences: self.wish.audience.iter().cloned().collect(),
            bound_object_ref: Some(bound),
            expiration_seconds: Some(self.wish.lifetime_s),
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = api.create_token_request(account, &PostParams::default(), &request).await?;
        let token = answer.status.context("a token request that was answered without a token")?.token;
        put(&self.path, token.as_bytes(), self.access).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Addresses;

    fn placed(volume: &str) -> Result<Place, Waiting> {
        let files = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let sources = Sources { config_maps: BTreeMap::from([("m".to_owned(), files)]), secrets: BTreeMap::new() };
        let facts = Facts {
            pod: Addresses { four: [127, 1, 2, 3].into(), six: None },
            host: Addresses { four: [127, 1, 0, 1].into(), six: None },
            node: "n".to_owned(),
        };
        let pod: Pod = serde_norway::from_str("{metadata: {name: p, namespace: n}}").unwrap();
        let view = View { pod: &pod, facts: &facts, sources: &sources };
        place(view, &serde_norway::from_str(volume).unwrap())
    }

    fn check(volume: &str, expected: &[(&str, Content)]) {
        let files = expected.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect();
        assert_eq!(placed(volume), Ok(Place::Own(files)), "{volume}");
    }

    #[test]
    fn each_kind_of_volume_has_its_files() {
        let bytes = |text: &str| Content::Bytes(text.as_bytes().to_vec());
        check("{name: v, emptyDir: {}}", &[]);
        check("{name: v, configMap: {name: m}}", &[("a", bytes("1")), ("b", bytes("2"))]);
        check("{name: v, configMap: {name: m, items: [{key: a, path: x/y}]}}", &[("x/y", bytes("1"))]);
        check("{name: v, secret: {secretName: none, optional: true}}", &[]);
        let token = TokenWish { audience: Some("kthena".to_owned()), lifetime_s: 600 };
        check(
            "{name: v, projected: {sources: [
               {serviceAccountToken: {audience: kthena, expirationSeconds: 600, path: token}},
               {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}}",
            &[("name", bytes("p")), ("token", Content::Token(token))],
        );
        assert_eq!(placed("{name: v, hostPath: {path: /dev}}"), Ok(Place::Host("/dev".into())));
    }

    #[test]
    fn what_is_missing_or_not_played_keeps_the_pod_waiting() {
        for volume in [
            "{name: v, secret: {secretName: none}}",
            "{name: v, configMap: {name: m, items: [{key: c, path: x}]}}",
            "{name: v, nfs: {server: s, path: /}}",
        ] {
            placed(volume).unwrap_err();
        }
    }
}
