//! Where the programs come from: `$KUBEBUILDER_ASSETS` where a developer has it, else a cache that the pinned Go modules of
//! `perf-tests/cluster` fill once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

const VERSION: &str = "k8s.io/component-base/version";
const NEEDED: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const MODULE_FILES: [&str; 4] = ["tools/go.mod", "tools/go.sum", "etcd/go.mod", "etcd/go.sum"];

/// The folder that has them.
pub(super) fn find_or_build() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) {
        ensure!(complete(&folder), "KUBEBUILDER_ASSETS is {}, which lacks one of {NEEDED:?}", folder.display());
        return Ok(folder);
    }
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
    let cache = cache_home()?.join("kthena/cluster");
    let folder = cache.join(digest(&modules)?);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let lock = File::create(cache.join("lock"))?;
    // Held until this function returns: of several test binaries one builds and the others wait.
    lock.lock()?;
    if !complete(&folder) {
        build(&modules, &folder)?;
    }
    Ok(folder)
}

fn complete(folder: &Path) -> bool {
    NEEDED.iter().all(|name| folder.join(name).is_file())
}

fn cache_home() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match set("XDG_CACHE_HOME") {
        Some(folder) => Ok(folder),
        None => Ok(set("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?.join(".cache")),
    }
}

/// Of the files that decide what is built: another pin is another folder.
fn digest(modules: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    for name in MODULE_FILES {
        bytes.extend(fs::read(modules.join(name)).with_context(|| format!("reading {name}"))?);
    }
    Ok(format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&bytes)))
}

/// Builds beside the folder's place and moves each program there whole, so that a build that was cut off leaves nothing half.
fn build(modules: &Path, folder: &Path) -> Result<()> {
    eprintln!("building Kubernetes into {}: about ten minutes, once", folder.display());
    let parts = tempfile::tempdir_in(folder)?;
    let (major, minor, patch) = kubernetes_version(modules)?;
    let flags = format!(
        "-s -w -X {VERSION}.gitVersion=v{major}.{minor}.{patch} -X {VERSION}.gitMajor={major} -X {VERSION}.gitMinor={minor} -X {VERSION}.gitTreeState=clean"
    );
    let programs = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
    let packages: Vec<_> = programs.iter().map(|name| format!("k8s.io/kubernetes/cmd/{name}")).collect();
    go_build(&modules.join("tools"), &flags, parts.path(), &packages)?;
    go_build(&modules.join("etcd"), "-s -w", &parts.path().join("etcd"), &["go.etcd.io/etcd/server/v3".to_owned()])?;
    for name in programs.iter().chain(&["etcd"]) {
        fs::rename(parts.path().join(name), folder.join(name)).with_context(|| format!("{name} was not built"))?;
    }
    Ok(())
}

/// As the module file pins it. Without a version of its own the server says v0.0.0.
fn kubernetes_version(modules: &Path) -> Result<(u32, u32, u32)> {
    let text = fs::read_to_string(modules.join("tools/go.mod"))?;
    let pin = text.lines().find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    // A pin that only tools need bears the comment `// indirect`.
    let pin = pin.and_then(|pin| pin.split_whitespace().next());
    let numbers: Vec<u32> = pin.into_iter().flat_map(|pin| pin.split('.')).flat_map(str::parse).collect();
    match numbers[..] {
        [major, minor, patch] => Ok((major, minor, patch)),
        _ => bail!("tools/go.mod pins k8s.io/kubernetes at {pin:?}, which is no vX.Y.Z"),
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
        let (major, minor, _) = kubernetes_version(&modules).unwrap();
        assert_eq!((major, minor), (1, 36));
    }

    #[test]
    fn another_pin_is_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        for name in MODULE_FILES {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let before = digest(folder.path()).unwrap();
        fs::write(folder.path().join("etcd/go.sum"), "another").unwrap();
        assert_ne!(before, digest(folder.path()).unwrap());
    }
}
