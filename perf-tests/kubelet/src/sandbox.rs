//! What the containers of one pod share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Volume};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

use super::access::Access;
use super::address::{Block, Network};
use super::launch::{self, Facts, Launch, Waiting, Walls};
use super::sources::Sources;
use super::volume::{self, Content, Place, Target, TokenFile};
use super::{BackOff, Config};
use crate::kubeconfig;
use crate::{plan, shell};

/// Of a node's seccomp profiles, as real kubelets have it.
const PROFILES: &str = "var/lib/kubelet/seccomp";
/// Where every client looks for it.
const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Of a whole kubelet.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) block: Rc<Block>,
    pub(super) config: Config,
    pub(super) folder: PathBuf,
    /// Whether processes may be other users than the one who runs this.
    pub(super) users: bool,
}

impl Shared {
    /// The names of Services, where pods are jailed.
    pub(super) fn hosts(&self) -> Option<PathBuf> {
        (self.config.network == Network::Nodes).then(|| self.folder.join("hosts"))
    }
}

/// While it refuses a refresh a volume stays as it is. A real kubelet takes up to a minute and a half.
const REFRESH: Duration = Duration::from_secs(1);

pub(super) struct Sandbox {
    shared: Rc<Shared>,
    pub(super) pod: Pod,
    pub(super) facts: Facts,
    folder: PathBuf,
    volumes: BTreeMap<String, PathBuf>,
    walls: Option<Walls>,
    has_network: bool,
}

impl Sandbox {
    pub(super) fn new(shared: Rc<Shared>, pod: Pod, facts: Facts) -> Self {
        let folder = shared.folder.join("pods").join(pod.namespace().unwrap_or_default()).join(pod.name_any());
        let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let namespace = if on_node { facts.node.clone() } else { plan::pod_namespace(facts.pod.four.into()) };
        let hostname = if on_node { facts.node.clone() } else { hostname(&pod) };
        let (users, seccomp) = (shared.users, shared.config.seccomp.clone());
        let profiles = shared.folder.join("nodes").join(&facts.node).join(PROFILES);
        let walls = shared.hosts().map(|hosts| Walls { namespace, hostname, hosts, users, seccomp, profiles });
        let has_network = on_node || walls.is_none();
        Self { shared, pod, facts, folder, volumes: BTreeMap::new(), walls, has_network }
    }

    /// Its network, where it has one of its own. An error means that it was not there.
    pub(super) async fn leave(&self) {
        let own = self.walls.is_some() && self.spec().host_network != Some(true) && self.has_network;
        if own {
            if !host_ports(self.spec()).is_empty() {
                let _ = shell::filter(&self.facts.node, &plan::give_back(&self.facts.pod.all())).await;
            }
            let _ = shell::carry_out(&plan::leave(&self.facts.node, self.facts.pod.four)).await;
        }
    }

    pub(super) fn client(&self) -> Client {
        self.shared.client.clone()
    }

    pub(super) fn renew_after(&self) -> Duration {
        self.shared.config.renew_after
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
        if !self.has_network {
            // Of an attempt that failed halfway nothing is left.
            let _ = shell::carry_out(&plan::leave(&self.facts.node, self.facts.pod.four)).await;
            shell::carry_out(&plan::join(&self.facts.node, self.facts.pod.four)).await.map_err(not_now)?;
            if self.facts.pod.six.is_some() {
                shell::carry_out(&plan::join_second(&self.facts.node, self.facts.pod.four)).await.map_err(not_now)?;
            }
            let ports = host_ports(self.spec());
            if !ports.is_empty() {
                let lent = plan::lend(&self.facts.pod.all(), &ports);
                shell::filter(&self.facts.node, &lent).await.map_err(not_now)?;
            }
            self.has_network = true;
        }
        let sources = self.sources().await?;
        let view = volume::View { pod: &self.pod, facts: &self.facts, sources: &sources };
        let (mut volumes, mut tokens) = (BTreeMap::new(), Vec::new());
        for wanted in self.spec().volumes.iter().flatten() {
            let folder = match volume::place(view, wanted)? {
                Place::Host(path) => self.of_node(path).await.map_err(not_now)?,
                Place::Own(files) => {
                    let folder = self.folder.join("volumes").join(&wanted.name);
                    let target = Target { folder: &folder, access: self.access(wanted) };
                    let written = volume::write(&self.shared.client, &self.pod, target, &files).await;
                    tokens.extend(written.map_err(not_now)?);
                    folder
                }
            };
            volumes.insert(wanted.name.clone(), folder);
        }
        self.volumes = volumes;
        Ok(tokens)
    }

    /// A path of the node: on a bed each has a file system of its own, which is empty at first.
    async fn of_node(&self, path: PathBuf) -> Result<PathBuf> {
        if self.walls.is_none() {
            return Ok(path);
        }
        let root = self.shared.folder.join("nodes").join(&self.facts.node);
        let path = root.join(path.strip_prefix("/").unwrap_or(&path));
        tokio::fs::create_dir_all(&path).await?;
        Ok(path)
    }

    fn access(&self, volume: &Volume) -> Access {
        let users = self.walls.as_ref().is_some_and(|walls| walls.users);
        if users { Access::of(self.spec(), volume) } else { Access::default() }
    }

    /// Keeps volumes as what they are made of is now. For ever.
    pub(super) async fn refresh(&self) {
        let mut before = BTreeMap::new();
        loop {
            sleep(REFRESH).await;
            // What cannot be had now stays as it is.
            if let Ok(sources) = self.sources().await {
                for volume in self.spec().volumes.iter().flatten() {
                    let _ = self.refresh_one(volume, &sources, before.entry(volume.name.clone()).or_default()).await;
                }
            }
        }
    }

    async fn refresh_one(
        &self,
        volume: &Volume,
        sources: &Sources,
        before: &mut BTreeMap<String, Content>,
    ) -> Result<()> {
        let view = volume::View { pod: &self.pod, facts: &self.facts, sources };
        let Ok(Place::Own(now)) = volume::place(view, volume) else { return Ok(()) };
        let Some(folder) = self.volumes.get(&volume.name) else { return Ok(()) };
        volume::update(Target { folder, access: self.access(volume) }, before, &now).await?;
        *before = now;
        Ok(())
    }

    /// How this container starts now: what it reads may have changed since it started last.
    pub(super) async fn launch(&self, container: &Container) -> Result<Launch, Waiting> {
        let sources = self.sources().await?;
        let (volumes, walls) = (&self.volumes, self.walls.as_ref());
        let view = launch::View { pod: &self.pod, facts: &self.facts, sources: &sources, volumes, walls };
        let mut launch = launch::launch(&self.shared.config.programs, view, container)?;
        if let Some(filter) =
            launch.jail.as_ref().and_then(|jail| jail.filter.as_ref()).filter(|filter| !filter.profile.is_file())
        {
            let message = format!("cannot load seccomp profile {}", filter.profile.display());
            return Err(Waiting { reason: "CreateContainerError", message });
        }
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
        let home = if self.walls.is_some() { "/".to_owned() } else { folder.display().to_string() };
        let mut env = vec![("HOSTNAME".to_owned(), self.pod.name_any()), ("HOME".to_owned(), home)];
        let server: http::Uri = config.server.parse()?;
        env.push(("KUBERNETES_SERVICE_HOST".to_owned(), server.host().unwrap_or_default().to_owned()));
        env.push(("KUBERNETES_SERVICE_PORT".to_owned(), server.port_u16().unwrap_or(443).to_string()));
        if self.walls.is_some() {
            // What it needs besides lies where every client looks for it.
            return Ok(env);
        }
        let mut mounts = container.volume_mounts.iter().flatten();
        let account =
            mounts.find(|mount| mount.mount_path == ACCOUNT_FOLDER).and_then(|mount| self.volumes.get(&mount.name));
        if let Some(account) = account {
            let path = folder.join("kubeconfig");
            let user = json!({"tokenFile": account.join("token")});
            tokio::fs::write(&path, kubeconfig::text(&config.server, &config.authority, &user)).await?;
            env.push(("KUBECONFIG".to_owned(), path.display().to_string()));
        }
        Ok(env)
    }
}

/// Ports of the node that are the pod's, as `(of the node, of the pod)`.
fn host_ports(spec: &PodSpec) -> Vec<(u16, u16)> {
    let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
    let port = |number: i32| u16::try_from(number).ok().filter(|port| *port > 0);
    ports.filter_map(|declared| Some((port(declared.host_port?)?, port(declared.container_port)?))).collect()
}

/// As much of the pod's name as a host name may have, without what may not be at its end.
fn hostname(pod: &Pod) -> String {
    let said = pod.spec.as_ref().and_then(|spec| spec.hostname.clone());
    let name: String = said.unwrap_or_else(|| pod.name_any()).chars().take(63).collect();
    name.trim_end_matches(['-', '.']).to_owned()
}

fn not_now(error: impl Into<anyhow::Error>) -> Waiting {
    Waiting::config(format!("{:#}", error.into()))
}
