//! Child processes that never outlive the run: killed when dropped (a panic drops too), and by the kernel when the
//! run itself is killed, for `setpriv --pdeathsig` asks it to.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};

/// CPU numbers; empty means any.
pub type Cpus = Vec<usize>;

/// A contender that does not listen after this long has failed.
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A running child.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    name: String,
    log: PathBuf,
}

impl Child {
    /// Starts it on these CPUs, with its output in `log`.
    pub fn start(program: &Path, args: &[String], cpus: &Cpus, log: &Path) -> anyhow::Result<Self> {
        let name = program.display().to_string();
        let output = File::create(log).with_context(|| log.display().to_string())?;
        // Both of these replace themselves by the program, so the process id is the program's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        if !cpus.is_empty() {
            let list = cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
            command.args(["taskset", "-c", &list]);
        }
        command.arg(program).args(args).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = command.spawn().with_context(|| format!("setpriv (util-linux) could not start {name}"))?;
        Ok(Self { process, name, log: log.to_path_buf() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it accepts connections.
    pub fn wait_ready(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        while TcpStream::connect_timeout(&address, READY).is_err() {
            self.check()?;
            anyhow::ensure!(
                Instant::now() < deadline,
                "{} does not listen on {address} after {READY:?}: {}",
                self.name,
                self.said()
            );
            std::thread::sleep(POLL);
        }
        // It may be another program that listens there.
        self.check()
    }

    /// That it has not ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.process.try_wait()?;
        anyhow::ensure!(ended.is_none(), "{} has ended ({}): {}", self.name, ended.unwrap_or_default(), self.said());
        Ok(())
    }

    /// The end of what it printed.
    fn said(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself, which is what is wanted here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps this process, which makes the load, off the proxies' CPUs.
pub fn pin_self(cpus: &Cpus) -> anyhow::Result<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on CPUs {cpus:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_child_is_gone() {
        let log = std::env::temp_dir().join(format!("bench-child-{}.log", std::process::id()));
        let child = Child::start(Path::new("sleep"), &["60".to_owned()], &Cpus::new(), &log).unwrap();
        let proc = format!("/proc/{}", child.pid());
        assert!(Path::new(&proc).exists());
        drop(child);
        assert!(!Path::new(&proc).exists());
        std::fs::remove_file(&log).unwrap();
    }
}
