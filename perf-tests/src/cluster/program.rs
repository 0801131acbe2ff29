//! One program of Kubernetes: its start, its log and its end.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

const LOG_LINES: usize = 20;

/// One that runs. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Program {
    pub(super) name: String,
    child: Child,
}

impl Program {
    /// One of Kubernetes, whose log has its name.
    pub(super) fn spawn(binaries: &Path, folder: &Path, name: &str, flags: &[String]) -> Result<Self> {
        Self::run(&[&[binaries.join(name).display().to_string()], flags].concat(), folder, name)
    }

    /// `setpriv` asks the kernel for a SIGKILL when the thread that spawns ends, and becomes the program. A program that is started
    /// again goes on with its log.
    pub(crate) fn run(command: &[String], folder: &Path, name: &str) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log_of(folder, name))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("running setpriv, of util-linux")?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// How it ended, where it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing of it is kept, so it needs no grace; an error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(name).with_extension("log")
}

/// The end of each program's log.
pub(super) fn logs(folder: &Path) -> String {
    let mut text = String::new();
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let Ok(whole) = fs::read_to_string(log_of(folder, name)) else { continue };
        let lines: Vec<_> = whole.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        text.push_str(&format!("the end of {name}.log:\n{}\n", end.join("\n")));
    }
    text
}
