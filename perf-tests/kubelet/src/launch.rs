//! How a container is started, decided from its pod.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, Pod};

use super::address::Addresses;
use super::jail::{self, Bind, Filter, Jail, Profile};
use super::programs::Programs;
use super::sources::Sources;

/// A process to start.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) folder: PathBuf,
    /// `None` where it sees the machine as it is.
    pub(super) jail: Option<Jail>,
}

/// Why a container cannot be started as yet, in the words of its status.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Waiting {
    pub(super) fn config(message: impl Into<String>) -> Self {
        Self { reason: "CreateContainerConfigError", message: message.into() }
    }
}

/// What is known of a pod when its containers start.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) pod: Addresses,
    pub(super) host: Addresses,
    pub(super) node: String,
}

/// What a container sees of the pod around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    pub(super) facts: &'a Facts,
    pub(super) sources: &'a Sources,
    /// The folder of each volume.
    pub(super) volumes: &'a BTreeMap<String, PathBuf>,
    /// Where containers are jailed.
    pub(super) walls: Option<&'a Walls>,
}

/// What the jails of a pod's containers have in common.
#[derive(Clone, Debug)]
pub(super) struct Walls {
    pub(super) namespace: String,
    pub(super) hostname: String,
    /// What is at /etc/hosts.
    pub(super) hosts: PathBuf,
    /// Whether there are other users than the one who runs all of this.
    pub(super) users: bool,
    pub(super) seccomp: Option<Seccomp>,
    /// Where the node has profiles of its own.
    pub(super) profiles: PathBuf,
}

/// How seccomp profiles are applied.
#[derive(Clone, Debug)]
pub struct Seccomp {
    /// `seccomp-exec`, of this package.
    pub program: PathBuf,
    /// The runtime's own profile.
    pub runtime_default: PathBuf,
}

/// Everything but the folder and what the kubelet adds to the env.
pub(super) fn launch(programs: &Programs, view: View<'_>, container: &Container) -> Result<Launch, Waiting> {
    let image = container.image.as_deref().unwrap_or_default();
    let Some(of_image) = programs.of_image(image) else {
        let message = format!("no program plays the image {image:?}");
        return Err(Waiting { reason: "ImagePullBackOff", message });
    };
    let env = env(view, container)?;
    let mounts = mounts(view, container)?;
    // In a jail a volume is where the pod says.
    let moved = if view.walls.is_some() { &[] } else { &mounts[..] };
    let resolved = |texts: &[String]| texts.iter().map(|text| relocate(&expand(text, &env), moved)).collect::<Vec<_>>();
    let args = resolved(container.args.as_deref().unwrap_or_default());
    let command = resolved(container.command.as_deref().unwrap_or_default());
    let (program, args) = match command.split_first() {
        Some((first, rest)) => (programs.of_command(first), [rest, &args].concat()),
        None => (of_image.path.clone(), [&of_image.args[..], &args].concat()),
    };
    let env = env.into_iter().map(|(name, value)| (name, relocate(&value, moved))).collect();
    let jail = view.walls.map(|walls| jail(programs, view.pod, walls, (container, mounts))).transpose()?;
    let program = if jail.is_some() { programs.inside(&program) } else { program };
    Ok(Launch { program, args, env, folder: PathBuf::new(), jail })
}

fn jail(
    programs: &Programs,
    pod: &Pod,
    walls: &Walls,
    (container, mounts): (&Container, Vec<Mount>),
) -> Result<Jail, Waiting> {
    let spec = pod.spec.clone().unwrap_or_default();
    let image = container.image.as_deref().and_then(|image| programs.of_image(image));
    let user = jail::user(&spec, container, image.map_or(0, |image| image.user))?;
    let profile = |seccomp: &Seccomp| match jail::profile(&spec, container) {
        Profile::Unconfined => None,
        Profile::Default => Some(seccomp.runtime_default.clone()),
        Profile::OfNode(path) => Some(walls.profiles.join(path)),
    };
    let filter = walls.seccomp.as_ref().and_then(|seccomp| Some((seccomp.program.clone(), profile(seccomp)?)));
    let filter = filter.map(|(program, profile)| Filter { program, profile });
    let bind = |from: PathBuf, to: PathBuf| Bind { from, to: to.display().to_string(), read_only: true };
    let mut binds: Vec<_> = programs.paths().map(|path| bind(path.to_owned(), programs.inside(path))).collect();
    binds.push(bind(walls.hosts.clone(), "/etc/hosts".into()));
    // Those that lie in others come after them.
    let volumes = mounts.into_iter().rev();
    binds.extend(volumes.map(|mount| Bind { from: mount.folder, to: mount.path, read_only: mount.read_only }));
    let context = container.security_context.as_ref();
    let read_only = context.and_then(|context| context.read_only_root_filesystem) == Some(true);
    let Walls { namespace, hostname, .. } = walls.clone();
    Ok(Jail { namespace, hostname, binds, read_only, user: walls.users.then_some(user), filter })
}

fn env(view: View<'_>, container: &Container) -> Result<BTreeMap<String, String>, Waiting> {
    let mut env = BTreeMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let files = if let Some(map) = &source.config_map_ref {
            all(&view.sources.config_maps, "ConfigMap", &map.name, map.optional)?
        } else if let Some(secret) = &source.secret_ref {
            all(&view.sources.secrets, "Secret", &secret.name, secret.optional)?
        } else {
            continue;
        };
        env.extend(files.map(|(key, value)| (format!("{prefix}{key}"), text(value))));
    }
    for EnvVar { name, value, value_from } in container.env.iter().flatten() {
        let value = match value_from {
            Some(from) => from_source(view, from)?,
            None => Some(expand(value.as_deref().unwrap_or_default(), &env)),
        };
        env.extend(value.map(|value| (name.clone(), value)));
    }
    Ok(env)
}

type Named = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

fn all<'a>(
    named: &'a Named,
    kind: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<impl Iterator<Item = (&'a String, &'a Vec<u8>)>, Waiting> {
    match named.get(name) {
        None if optional != Some(true) => Err(Waiting::config(format!("{kind} {name:?} not found"))),
        found => Ok(found.into_iter().flatten()),
    }
}

fn from_source(view: View<'_>, from: &EnvVarSource) -> Result<Option<String>, Waiting> {
    let key = |named: &Named, kind: &str, name: &str, key: &str, optional: Option<bool>| match named
        .get(name)
        .and_then(|files| files.get(key))
    {
        None if optional != Some(true) => Err(Waiting::config(format!("{kind} {name:?} has no key {key:?}"))),
        found => Ok(found.map(|value| text(value))),
    };
    if let Some(field) = &from.field_ref {
        return field_of(view.pod, view.facts, &field.field_path).map(Some);
    }
    if let Some(from) = &from.config_map_key_ref {
        return key(&view.sources.config_maps, "ConfigMap", &from.name, &from.key, from.optional);
    }
    if let Some(from) = &from.secret_key_ref {
        return key(&view.sources.secrets, "Secret", &from.name, &from.key, from.optional);
    }
    Err(Waiting::config("this kubelet plays fieldRef, configMapKeyRef and secretKeyRef"))
}

/// The downward API.
pub(super) fn field_of(pod: &Pod, facts: &Facts, path: &str) -> Result<String, Waiting> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let of_map = |map: &Option<BTreeMap<String, String>>, key: &str| map.as_ref().and_then(|map| map.get(key)).cloned();
    let subscript = |field: &str| path.strip_prefix(field)?.strip_prefix("['")?.strip_suffix("']");
    let value = match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => Some(facts.node.clone()),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()),
        "status.podIP" => Some(facts.pod.first().to_string()),
        "status.podIPs" => Some(facts.pod.listed()),
        "status.hostIP" => Some(facts.host.first().to_string()),
        "status.hostIPs" => Some(facts.host.listed()),
        _ => match (subscript("metadata.labels"), subscript("metadata.annotations")) {
            (Some(key), _) => of_map(&meta.labels, key),
            (_, Some(key)) => of_map(&meta.annotations, key),
            _ => return Err(Waiting::config(format!("this kubelet does not play fieldPath {path:?}"))),
        },
    };
    Ok(value.unwrap_or_default())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `$(NAME)` is the variable's value, or itself where there is none; `$$` is `$`.
fn expand(input: &str, env: &BTreeMap<String, String>) -> String {
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    while let Some((before, after)) = rest.split_once('$') {
        output.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            output.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            match env.get(name) {
                Some(value) => output.push_str(value),
                None => output.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            output.push('$');
        }
    }
    output + rest
}

/// A volume of a container.
#[derive(Debug)]
struct Mount {
    /// For the container.
    path: String,
    /// Where it really is.
    folder: PathBuf,
    read_only: bool,
}

/// The deepest first.
fn mounts(view: View<'_>, container: &Container) -> Result<Vec<Mount>, Waiting> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let Some(folder) = view.volumes.get(&mount.name) else {
            return Err(Waiting::config(format!("no volume {:?}", mount.name)));
        };
        let folder = mount.sub_path.as_ref().map_or_else(|| folder.clone(), |path| folder.join(path));
        let path = mount.mount_path.trim_end_matches('/').to_owned();
        mounts.push(Mount { path, folder, read_only: mount.read_only == Some(true) });
    }
    mounts.sort_by_key(|mount| std::cmp::Reverse(mount.path.len()));
    Ok(mounts)
}

/// The text with the paths that lie in a mount replaced. What was put there is not looked at again.
fn relocate(input: &str, mounts: &[Mount]) -> String {
    let is_of_path = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    let mut output = String::with_capacity(input.len());
    let mut rest = input;
    let mut before = None;
    while let Some(next) = rest.chars().next() {
        let begins = before.is_none_or(|c: char| !is_of_path(c) && c != '/');
        let found = mounts.iter().filter(|_| begins).find_map(|mount| {
            let after = rest.strip_prefix(mount.path.as_str())?;
            (!after.starts_with(is_of_path)).then_some((after, &mount.folder))
        });
        if let Some((after, folder)) = found {
            output.push_str(&folder.to_string_lossy());
            (rest, before) = (after, Some('/'));
        } else {
            output.push(next);
            (rest, before) = (&rest[next.len_utf8()..], Some(next));
        }
    }
    output
}

#[cfg(test)]
mod tests;
