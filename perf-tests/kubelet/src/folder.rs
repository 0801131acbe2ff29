//! The folder of a run: keys, data and logs of a cluster, or what a kubelet has. A cluster in a static is never dropped, so its folder outlives the process, which keeps
//! the logs of a run that failed; the next run sweeps it away.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

const PREFIX: &str = "kthena-cluster-";

/// One of its own, after what processes that are gone have left was swept away.
pub fn make() -> Result<TempDir> {
    sweep();
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("a temporary folder")
}

/// Removes what processes that are gone have left. What cannot be removed is another user's.
fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(owner).is_some_and(|process| !is_alive(process)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_ours_have_an_owner() {
        assert_eq!(owner("kthena-cluster-12-Ab3"), Some(12));
        for name in ["kthena-cluster-12", "kthena-cluster-x-Ab3", "cluster-12-Ab3"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn the_folder_of_a_running_process_is_left_alone() {
        let mine = make().unwrap();
        sweep();
        assert!(mine.path().exists());
    }
}
