//! Where the programs come from: `$KUBEBUILDER_ASSETS` where a developer has it, else a cache that the pinned Go modules of
//! `perf-tests/cluster` fill once. `$KTHENA_KUBERNETES` names another release than the bed's own (`1.34`), of which there is the API server alone,
//! without controllers; the modules of that name pin it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const VERSION: &str = "k8s.io/component-base/version";
const NEEDED: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const SERVICE_PROXY: &str = "kube-proxy";
const KUBECTL: &str = "kubectl";
const ETCD: &str = "etcd";
/// The module that pins what a cluster of the bed's own release runs.
const TOOLS: &str = "tools";
/// What a cluster of another release runs.
const OF_A_RELEASE: [&str; 2] = [ETCD, "kube-apiserver"];

/// The release that is asked for instead of the bed's own.
pub(super) fn release() -> Option<String> {
    std::env::var("KTHENA_KUBERNETES").ok().filter(|release| !release.is_empty())
}

/// The folder that has what every cluster needs.
pub(super) fn find_or_build() -> Result<PathBuf> {
    if let Some(release) = release() {
        let tools = format!("{TOOLS}-{release}");
        return cached(&tools, &[&tools, ETCD], &OF_A_RELEASE);
    }
    if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) {
        let lacking = missing(&folder, &NEEDED);
        ensure!(lacking.is_empty(), "KUBEBUILDER_ASSETS is {}, which lacks {lacking:?}", folder.display());
        return Ok(folder);
    }
    let folder = cached(TOOLS, &[TOOLS, ETCD], &NEEDED)?;
    // All that any test needs, before the first of them: a compiler beside tests that measure would starve them.
    service_proxy()?;
    kubectl()?;
    Ok(folder)
}

/// kubectl's path, for tests of what people type.
pub(super) fn kubectl() -> Result<PathBuf> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(|folder| Path::new(&folder).join(KUBECTL));
    match assets.filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        // Its pins are apart: another one of them is no reason to build all else anew.
        None => Ok(cached(TOOLS, &[KUBECTL], &[KUBECTL])?.join(KUBECTL)),
    }
}

/// kube-proxy, which only clusters with nodes of their own need. No developer's assets have it.
pub(super) fn service_proxy() -> Result<PathBuf> {
    Ok(cached(TOOLS, &[TOOLS, ETCD], &[SERVICE_PROXY])?.join(SERVICE_PROXY))
}

/// The folder of the programs that these modules pin, Kubernetes' own being of the module `tools`.
fn cached(tools: &str, pins: &[&str], names: &[&'static str]) -> Result<PathBuf> {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
    let cache = cache_home()?.join("kthena/cluster");
    let folder = cache.join(digest(&modules, pins)?);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let lock = File::create(cache.join("lock"))?;
    // Held until this function returns: of several test binaries one builds and the others wait.
    lock.lock()?;
    let missing = missing(&folder, names);
    if !missing.is_empty() {
        build(&modules, tools, &folder, &missing)?;
    }
    Ok(folder)
}

fn missing(folder: &Path, names: &[&'static str]) -> Vec<&'static str> {
    names.iter().copied().filter(|name| !folder.join(name).is_file()).collect()
}

fn cache_home() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match set("XDG_CACHE_HOME") {
        Some(folder) => Ok(folder),
        None => Ok(set("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?.join(".cache")),
    }
}

/// Of the files that decide what is built: another pin is another folder.
fn digest(modules: &Path, pins: &[&str]) -> Result<String> {
    let mut bytes = Vec::new();
    for name in pins.iter().flat_map(|module| [format!("{module}/go.mod"), format!("{module}/go.sum")]) {
        bytes.extend(fs::read(modules.join(&name)).with_context(|| format!("reading {name}"))?);
    }
    Ok(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)))
}

/// Builds beside the folder's place and moves each program there whole, so that a build that was cut off leaves nothing half.
fn build(modules: &Path, tools: &str, folder: &Path, names: &[&str]) -> Result<()> {
    eprintln!("building {names:?} into {}: all of Kubernetes takes about ten minutes, once", folder.display());
    let parts = tempfile::tempdir_in(folder)?;
    let (major, minor, patch) = kubernetes_version(modules, tools)?;
    let flags = format!(
        "-s -w -X {VERSION}.gitVersion=v{major}.{minor}.{patch} -X {VERSION}.gitMajor={major} -X {VERSION}.gitMinor={minor} -X {VERSION}.gitTreeState=clean"
    );
    for module in [tools, KUBECTL] {
        let pinned = names.iter().filter(|name| module_of(name, tools) == module);
        let packages: Vec<_> = pinned.map(|name| format!("k8s.io/kubernetes/cmd/{name}")).collect();
        if !packages.is_empty() {
            // With the last separator it is a folder also where there is but one package.
            go_build(&modules.join(module), &flags, &parts.path().join(""), &packages)?;
        }
    }
    if names.contains(&ETCD) {
        go_build(&modules.join(ETCD), "-s -w", &parts.path().join(ETCD), &["go.etcd.io/etcd/server/v3".to_owned()])?;
    }
    for name in names {
        fs::rename(parts.path().join(name), folder.join(name)).with_context(|| format!("{name} was not built"))?;
    }
    Ok(())
}

/// Which module pins a program.
fn module_of<'a>(name: &str, tools: &'a str) -> &'a str {
    match name {
        ETCD => ETCD,
        KUBECTL => KUBECTL,
        _ => tools,
    }
}

/// As a module file pins it. Without a version of its own the server says v0.0.0.
fn kubernetes_version(modules: &Path, module: &str) -> Result<(u32, u32, u32)> {
    let text = fs::read_to_string(modules.join(module).join("go.mod"))?;
    let pin = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    // A pin that only tools need bears the comment `// indirect`.
    let pin = pin.and_then(|pin| pin.split_whitespace().next());
    let numbers: Vec<u32> = pin.into_iter().flat_map(|pin| pin.split('.')).flat_map(str::parse).collect();
    match numbers[..] {
        [major, minor, patch] => Ok((major, minor, patch)),
        _ => bail!("{module}/go.mod pins k8s.io/kubernetes at {pin:?}, which is no vX.Y.Z"),
    }
}

fn go_build(module: &Path, flags: &str, output: &Path, packages: &[String]) -> Result<()> {
    let status = Command::new("go")
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "auto")
        .args(["build", "-trimpath", "-ldflags", flags, "-o"])
        .arg(output)
        .args(packages)
        .status()
        .context("running go: install it (`.ci/run kube` does), or set KUBEBUILDER_ASSETS to a folder with etcd and Kubernetes' programs")?;
    ensure!(status.success(), "go build in {} failed: {status}", module.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_read_from_the_module_file() {
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
        let (major, minor, patch) = kubernetes_version(&modules, TOOLS).unwrap();
        assert_eq!((major, minor), (1, 36));
        for other in [34, 37] {
            let (major, minor, _) = kubernetes_version(&modules, &format!("{TOOLS}-1.{other}")).unwrap();
            assert_eq!((major, minor), (1, other));
        }
        assert_eq!(
            kubernetes_version(&modules, KUBECTL).unwrap(),
            (major, minor, patch),
            "kubectl is of one release with it"
        );
    }

    #[test]
    fn another_pin_is_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        let pins = [TOOLS, ETCD];
        for name in ["tools/go.mod", "tools/go.sum", "etcd/go.mod", "etcd/go.sum"] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let before = digest(folder.path(), &pins).unwrap();
        fs::write(folder.path().join("etcd/go.sum"), "another").unwrap();
        assert_ne!(before, digest(folder.path(), &pins).unwrap());
    }
}
