//! `kthena-dataplane install-seccomp`: puts the profile that allows io_uring where the kubelet looks for profiles.
//!
//! The profile is what containerd allows a container without capabilities, and the three calls of io_uring besides
//! (`tuning/seccomp.md`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

/// What a pod names as `localhostProfile`.
pub const NAME: &str = "kthena-dataplane.json";

#[cfg(target_arch = "aarch64")]
const PROFILE: &str = include_str!("../../tuning/seccomp/kthena-dataplane.arm64.json");
#[cfg(not(target_arch = "aarch64"))]
const PROFILE: &str = include_str!("../../tuning/seccomp/kthena-dataplane.amd64.json");

/// `install-seccomp`, as typed.
#[derive(Debug, Clone, Args)]
pub struct InstallSeccomp {
    /// The kubelet's folder of profiles.
    #[arg(long, default_value = "/var/lib/kubelet/seccomp")]
    folder: PathBuf,
}

/// What became of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// It was there already, to the byte.
    Unchanged,
    /// It was written.
    Written,
}

impl InstallSeccomp {
    /// Installs, and says so. Ends with 1 where it cannot.
    pub fn run(&self) -> ExitCode {
        let file = self.folder.join(NAME);
        match install(&self.folder) {
            Ok(Installed::Written) => println!("{}: written", file.display()),
            Ok(Installed::Unchanged) => println!("{}: is there already", file.display()),
            Err(error) => {
                eprintln!(
                    "kthena-dataplane: cannot write {}: {error}; it takes root and the node's folder mounted writable",
                    file.display()
                );
                return ExitCode::FAILURE;
            }
        }
        ExitCode::SUCCESS
    }
}

/// Writes the profile whole or not at all: a container that starts meanwhile reads the old one or the new one.
pub fn install(folder: &Path) -> io::Result<Installed> {
    let file = folder.join(NAME);
    if fs::read(&file).is_ok_and(|held| held == PROFILE.as_bytes()) {
        return Ok(Installed::Unchanged);
    }
    fs::create_dir_all(folder)?;
    // Two pods of one node, as during an upgrade, write files of their own.
    let part = folder.join(format!(".{NAME}.{}", std::process::id()));
    let written = write_whole(&part).and_then(|()| fs::rename(&part, &file));
    if written.is_err() {
        // What is left of it is of no use, and the error is what counts.
        let _ = fs::remove_file(&part);
    }
    written?;
    File::open(folder)?.sync_all()?;
    Ok(Installed::Written)
}

fn write_whole(path: &Path) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(PROFILE.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kthena-seccomp-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    fn allowed(profile: &str) -> Vec<String> {
        let profile: Value = serde_json::from_str(profile).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let calls = profile["syscalls"].as_array().unwrap().clone();
        let open = calls.iter().filter(|call| call["action"] == "SCMP_ACT_ALLOW" && call["args"].is_null());
        open.flat_map(|call| call["names"].as_array().unwrap().clone())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn both_profiles_allow_io_uring_and_what_else_the_proxy_calls() {
        for profile in [
            include_str!("../../tuning/seccomp/kthena-dataplane.amd64.json"),
            include_str!("../../tuning/seccomp/kthena-dataplane.arm64.json"),
        ] {
            let allowed = allowed(profile);
            let needed =
                "io_uring_setup io_uring_enter io_uring_register epoll_pwait accept4 recvfrom sendto futex mmap";
            for call in needed.split(' ') {
                assert!(allowed.iter().any(|name| name == call), "{call}");
            }
            assert!(!allowed.iter().any(|name| name == "mount" || name == "bpf"));
        }
    }

    #[test]
    fn it_is_written_once_and_a_wrong_one_is_replaced() {
        let folder = folder("once");
        assert_eq!(install(&folder).unwrap(), Installed::Written);
        assert_eq!(install(&folder).unwrap(), Installed::Unchanged);
        fs::write(folder.join(NAME), "half").unwrap();
        assert_eq!(install(&folder).unwrap(), Installed::Written);
        assert_eq!(fs::read_to_string(folder.join(NAME)).unwrap(), PROFILE);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_cannot_be_replaced_leaves_nothing_behind() {
        let folder = folder("stuck");
        // A folder where the file belongs: no rename replaces it.
        fs::create_dir_all(folder.join(NAME)).unwrap();
        install(&folder).unwrap_err();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
