//! What the containers of one pod share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::address::Block;
use super::launch::{self, Facts, Launch, Waiting};
use super::sources::Sources;
use super::volume::{self, Place, TokenFile};
use super::{BackOff, Config};
use crate::cluster::identity::kubeconfig;

/// Where every client looks for it.
const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Of a whole kubelet.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) block: Rc<Block>,
    pub(super) config: Config,
    pub(super) folder: PathBuf,
}

pub(super) struct Sandbox {
    shared: Rc<Shared>,
    pub(super) pod: Pod,
    pub(super) facts: Facts,
    folder: PathBuf,
    volumes: BTreeMap<String, PathBuf>,
}

impl Sandbox {
    pub(super) fn new(shared: Rc<Shared>, pod: Pod, facts: Facts) -> Self {
        let folder = shared.folder.join("pods").join(pod.namespace().unwrap_or_default()).join(pod.name_any());
        Self { shared, pod, facts, folder, volumes: BTreeMap::new() }
    }

    pub(super) fn client(&self) -> Client {
        self.shared.client.clone()
    }

    pub(super) fn back_off(&self) -> BackOff {
        self.shared.config.back_off
    }

    pub(super) fn spec(&self) -> &PodSpec {
        static NONE: std::sync::OnceLock<PodSpec> = std::sync::OnceLock::new();
        self.pod.spec.as_ref().unwrap_or_else(|| NONE.get_or_init(PodSpec::default))
    }

    /// Makes the volumes and returns the tokens that are to be renewed.
    pub(super) async fn mount(&mut self) -> Result<Vec<TokenFile>, Waiting> {
        let sources = self.sources().await?;
        let view = volume::View { pod: &self.pod, facts: &self.facts, sources: &sources };
        let (mut volumes, mut tokens) = (BTreeMap::new(), Vec::new());
        for wanted in self.spec().volumes.iter().flatten() {
            let folder = match volume::place(view, wanted)? {
                Place::Host(path) => path,
                Place::Own(files) => {
                    let folder = self.folder.join("volumes").join(&wanted.name);
                    let written = volume::write(&self.shared.client, &self.pod, &folder, &files).await;
                    tokens.extend(written.map_err(not_now)?);
                    folder
                }
            };
            volumes.insert(wanted.name.clone(), folder);
        }
        self.volumes = volumes;
        Ok(tokens)
    }

    /// How this container starts now: what it reads may have changed since it started last.
    pub(super) async fn launch(&self, container: &Container) -> Result<Launch, Waiting> {
        let sources = self.sources().await?;
        let view = launch::View { pod: &self.pod, facts: &self.facts, sources: &sources, volumes: &self.volumes };
        let mut launch = launch::launch(&self.shared.config.programs, view, container)?;
        launch.folder = self.folder.join(&container.name);
        tokio::fs::create_dir_all(&launch.folder).await.map_err(not_now)?;
        let added = self.ambient(container, &launch.folder).await.map_err(not_now)?;
        for (name, value) in added {
            launch.env.entry(name).or_insert(value);
        }
        Ok(launch)
    }

    pub(super) fn log(&self, container: &Container) -> PathBuf {
        self.folder.join(&container.name).with_extension("log")
    }

    async fn sources(&self) -> Result<Sources, Waiting> {
        let namespace = self.pod.namespace().unwrap_or_default();
        Sources::fetch(&self.shared.client, &namespace, self.spec()).await.map_err(not_now)
    }

    /// What every container has in its env, whatever its pod says.
    async fn ambient(&self, container: &Container, folder: &Path) -> Result<Vec<(String, String)>> {
        let config = &self.shared.config;
        let mut env =
            vec![("HOSTNAME".to_owned(), self.pod.name_any()), ("HOME".to_owned(), folder.display().to_string())];
        let server: http::Uri = config.server.parse()?;
        env.push(("KUBERNETES_SERVICE_HOST".to_owned(), server.host().unwrap_or_default().to_owned()));
        env.push(("KUBERNETES_SERVICE_PORT".to_owned(), server.port_u16().unwrap_or(443).to_string()));
        let mut mounts = container.volume_mounts.iter().flatten();
        let account =
            mounts.find(|mount| mount.mount_path == ACCOUNT_FOLDER).and_then(|mount| self.volumes.get(&mount.name));
        if let Some(account) = account {
            let path = folder.join("kubeconfig");
            let user = json!({"tokenFile": account.join("token")});
            tokio::fs::write(&path, kubeconfig(&config.server, &config.authority, &user)).await?;
            env.push(("KUBECONFIG".to_owned(), path.display().to_string()));
        }
        Ok(env)
    }
}

fn not_now(error: impl Into<anyhow::Error>) -> Waiting {
    Waiting::config(format!("{:#}", error.into()))
}
