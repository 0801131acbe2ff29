//! A container's process and whatever it starts.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::launch::Launch;

/// Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// A group of its own, so that nothing outlives a container.
    group: Option<Pid>,
}

impl Process {
    /// Prints to `log`, after what is there. `setpriv` asks the kernel for a SIGKILL when the calling thread ends, and becomes the
    /// program.
    pub(super) fn spawn(launch: &Launch, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let before = match &launch.jail {
            Some(jail) => jail.command(&launch.folder.join("root")),
            None => ["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned).into(),
        };
        let child = Command::new(&before[0])
            .args(&before[1..])
            .arg(&launch.program)
            .args(&launch.args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&launch.env)
            .current_dir(&launch.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Ok(Self { child, group })
    }

    /// What it left behind is killed, as a container ends with its first process.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.kill();
        status
    }

    /// An error means that it has ended by itself.
    pub(super) fn terminate(&self) {
        if self.child.id().is_some() {
            let _ = self.group.map(|id| kill_process(id, Signal::TERM));
        }
    }

    /// With its whole group. An error means that nobody is left.
    pub(super) fn kill(&self) {
        let _ = self.group.map(|id| kill_process_group(id, Signal::KILL));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that was waited for may have given its number to another.
        if self.child.id().is_some() {
            self.kill();
        }
    }
}

/// As a shell counts.
pub(super) fn code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
