//! `kthena-dataplane install-seccomp`: puts the profile that allows io_uring where the kubelet looks for profiles, or takes it away.
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
    /// Takes the profile away again. What runs under it goes on, and no container starts under it any more.
    #[arg(long)]
    remove: bool,
}

/// What became of the profile's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there already, to the byte.
    Unchanged,
    /// It was written.
    Written,
    /// It was taken away.
    Removed,
    /// There was none to take away.
    Absent,
}

impl InstallSeccomp {
    /// Does it, and says so. Ends with 1 where it cannot.
    pub fn run(&self) -> ExitCode {
        let file = self.folder.join(NAME);
        let (act, outcome) =
            if self.remove { ("remove", remove(&self.folder)) } else { ("write", install(&self.folder)) };
        let said = match outcome {
            Ok(Outcome::Written) => "written",
            Ok(Outcome::Unchanged) => "is there already",
            Ok(Outcome::Removed) => "removed",
            Ok(Outcome::Absent) => "is not there",
            Err(error) => {
                eprintln!(
                    "kthena-dataplane: cannot {act} {}: {error}; it takes root and the node's folder mounted writable",
                    file.display()
                );
                return ExitCode::FAILURE;
            }
        };
        println!("{}: {said}", file.display());
        ExitCode::SUCCESS
    }
}

/// Takes the profile away, whatever it says. The folder stays: others may have profiles in it.
pub fn remove(folder: &Path) -> io::Result<Outcome> {
    match fs::remove_file(folder.join(NAME)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Outcome::Absent),
        Err(error) => return Err(error),
    }
    File::open(folder)?.sync_all()?;
    Ok(Outcome::Removed)
}

/// Writes the profile whole or not at all: a container that starts meanwhile reads the old one or the new one.
pub fn install(folder: &Path) -> io::Result<Outcome> {
    let file = folder.join(NAME);
    if fs::read(&file).is_ok_and(|held| held == PROFILE.as_bytes()) {
        return Ok(Outcome::Unchanged);
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
    Ok(Outcome::Written)
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
        assert_eq!(install(&folder).unwrap(), Outcome::Written);
        assert_eq!(install(&folder).unwrap(), Outcome::Unchanged);
        fs::write(folder.join(NAME), "half").unwrap();
        assert_eq!(install(&folder).unwrap(), Outcome::Written);
        assert_eq!(fs::read_to_string(folder.join(NAME)).unwrap(), PROFILE);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn it_is_taken_away_again_and_what_others_put_beside_it_stays() {
        let folder = folder("away");
        assert_eq!(remove(&folder).unwrap(), Outcome::Absent, "not even the folder is there");
        install(&folder).unwrap();
        fs::write(folder.join("others.json"), "{}").unwrap();
        // One of an older release is ours, too.
        fs::write(folder.join(NAME), "older").unwrap();
        assert_eq!(remove(&folder).unwrap(), Outcome::Removed);
        assert_eq!(remove(&folder).unwrap(), Outcome::Absent);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["others.json"]);
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
