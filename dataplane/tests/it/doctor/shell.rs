//! A shell whose limits, network and control group are its own: what it starts finds a host that is as the shell was told to make it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// Stands before how a line ended, on a line of its own.
const ENDED: &str = "kthena-ended ";

/// Dropped, it is killed.
pub(super) struct Shell {
    child: Child,
    lines: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Shell {
    /// One of this process's own limits and network.
    pub(super) fn new() -> Self {
        Self::of(Command::new("sh"))
    }

    /// One with a network of its own, whose settings it may write; none where that is not allowed.
    pub(super) fn with_a_network() -> Option<Self> {
        let ways = [&["--net"][..], &["--user", "--map-root-user", "--net"]];
        let unshare = |way: &[&str]| {
            let mut command = Command::new("unshare");
            command.args(way).arg("sh");
            command
        };
        let allowed = |way: &&[&str]| {
            let mut tried = unshare(way);
            tried.args(["-c", "echo 4096 > /proc/sys/net/core/somaxconn"]).stderr(Stdio::null());
            tried.status().is_ok_and(|status| status.success())
        };
        ways.into_iter().find(allowed).map(|way| Self::of(unshare(way)))
    }

    fn of(mut command: Command) -> Self {
        command.env("PROGRAM", env!("CARGO_BIN_EXE_kthena-dataplane"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (lines, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, lines, said }
    }

    /// Runs a line, and returns what it says and how it ends.
    pub(super) fn line(&mut self, line: &str) -> (String, i32) {
        write!(self.lines, "{line}\nended=$?; echo; echo \"{ENDED}$ended\"\n").unwrap();
        let mut all = String::new();
        loop {
            let mut next = String::new();
            assert!(self.said.read_line(&mut next).unwrap() > 0, "the shell has ended: {line}: {all}");
            match next.strip_prefix(ENDED) {
                Some(code) => return (all, code.trim().parse().unwrap()),
                None => all += &next,
            }
        }
    }

    /// Runs a line that has to end well.
    #[track_caller]
    pub(super) fn must(&mut self, line: &str) {
        let (said, code) = self.line(line);
        assert_eq!(code, 0, "{line}: {said}");
    }

    /// What the doctor says here, which ends as the worst that it says.
    #[track_caller]
    pub(super) fn doctor(&mut self, flags: &str) -> Value {
        let (said, code) = self.line(&format!("timeout 60 \"$PROGRAM\" doctor --json --io-driver=epoll {flags}"));
        let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let states: Vec<_> = report["findings"].as_array().unwrap().iter().map(|finding| &finding["state"]).collect();
        let worst = if states.contains(&&"advice".into()) { 1 } else { 0 };
        assert!(code == worst && !states.contains(&&"fatal".into()), "{flags} ended with {code}: {report:#}");
        report
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
