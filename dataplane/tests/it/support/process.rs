//! The proxy as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};

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
        let folder = Folder::new();
        let snapshot = folder.put("snapshot.json", &snapshot.to_string());
        let config = folder.put("config.yaml", config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kthena-dataplane"));
        let (port, cores) = (port.to_string(), cores.to_string());
        let ports =
            ["--metrics-port", "0", "--debug-port", "0", "--bind", "127.0.0.1", "--port", &port, "--cores", &cores];
        command.arg("--snapshot").arg(snapshot).arg("--config").arg(config).args(ports);
        command.args(["--io-driver", leg.flag()]).env("NO_COLOR", "1");
        command.env("ACCESS_LOG_ENABLED", "false").stderr(Stdio::piped());
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

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
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
