//! The proxy as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::client::Client;
use super::legs::Leg;
use super::proxy::Folder;
use super::until;

/// A running process; dropping it kills it.
pub(crate) struct Process {
    child: Child,
    pub(crate) folder: Folder,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts the program on loopback with a port of the kernel's choice.
    pub(crate) fn start(leg: Leg, snapshot: &Value, config: &str) -> Self {
        Self::at(leg, snapshot, (config, 0, 1))
    }

    /// Starts it at a port, which others may have too, with so many cores.
    pub(crate) fn at(leg: Leg, snapshot: &Value, (config, port, cores): (&str, u16, usize)) -> Self {
        Self::within(Folder::new(), leg, snapshot, (config, port, cores, &[("ACCESS_LOG_ENABLED", "false")]))
    }

    /// Starts it in a folder, with further variables.
    pub(crate) fn within(
        folder: Folder,
        leg: Leg,
        snapshot: &Value,
        (config, port, cores, variables): (&str, u16, usize, &[(&str, &str)]),
    ) -> Self {
        let snapshot = folder.put("snapshot.json", &snapshot.to_string());
        let config = folder.put("config.yaml", config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kthena-dataplane"));
        let (port, cores) = (port.to_string(), cores.to_string());
        let ports =
            ["--metrics-port", "0", "--debug-port", "0", "--bind", "127.0.0.1", "--port", &port, "--cores", &cores];
        command.arg("--snapshot").arg(snapshot).arg("--config").arg(config).args(ports);
        command.args(["--io-driver", leg.flag()]).env("NO_COLOR", "1");
        command.envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = leg.run(move || command.spawn()).unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it says where it listens").unwrap();
            if let Some((_, rest)) = line.split_once("listen=") {
                assert_eq!(rest.contains("epoll"), leg != Leg::Uring, "{line}");
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, folder, address }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// The CPUs that each of its cores' threads may run on.
    pub(crate) fn cpus(&self) -> Vec<String> {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path()).filter(|task| read(task.join("comm")).starts_with("core-"));
        let allowed = |task: PathBuf| {
            let status = read(task.join("status"));
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            line.unwrap_or_default().trim().to_owned()
        };
        let mut all: Vec<_> = tasks.map(allowed).collect();
        all.sort();
        all
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Stops all of its threads for so long.
    pub(crate) fn stop_for(&self, time: Duration) {
        self.signal(Signal::STOP);
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            std::thread::park_timeout(left);
        }
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.expect("it was waited for")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
