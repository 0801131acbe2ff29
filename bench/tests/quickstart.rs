//! The quickstart as a user runs it: the program, its output, its end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart/snapshot.json");
const LIMIT: Duration = Duration::from_secs(30);

/// The example with free ports, so that a quickstart that someone has running is not in the way.
struct Snapshot(PathBuf);

impl Snapshot {
    fn new(name: &str) -> Self {
        let mut text = std::fs::read_to_string(EXAMPLE).unwrap();
        for host in ["127.0.0.2", "127.0.0.3"] {
            let free = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap();
            text = text.replace(&format!("{host}:18001"), &free.to_string());
        }
        let path = std::env::temp_dir().join(format!("quickstart-{name}-{}.json", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
        command.args(["--port", "0", "--snapshot"]).arg(&self.0).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A child that a failing test does not leave behind.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn output(mut command: Command) -> (Output, String) {
    let mut child = Running(command.spawn().unwrap());
    let status = wait(&mut child.0);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    child.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (Output { status, stdout, stderr }, text)
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + LIMIT;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None => assert!(Instant::now() < deadline, "the quickstart did not end"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_example_has_an_engine_on_each_of_the_two_addresses() {
    let snapshot = dataplane::snapshot_file::load(Path::new(EXAMPLE)).unwrap();
    let addresses: Vec<_> = snapshot.backends.iter().flat_map(|b| &b.endpoints).map(|e| e.address).collect();
    let expected = [2, 3].map(|last| SocketAddr::new(IpAddr::from([127, 0, 0, last]), 18001));
    assert_eq!(addresses, expected);
}

#[test]
fn it_prints_the_answer_who_gave_it_and_why() {
    let snapshot = Snapshot::new("once");
    let (output, text) = output(snapshot.command(&["--once"]));
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in ["> What", " the router picks the longest known prefix.", "Served by 127.0.0.", "because   endpoint="] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
}

#[test]
fn a_taken_port_is_a_sentence() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.args(["--once", "--port", &port]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (output, text) = output(command);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with(&format!("Port {port} is taken")), "{text}");
}

#[test]
fn it_stays_up_runs_its_own_curl_line_and_ends_on_either_signal() {
    for signal in ["INT", "TERM"] {
        let snapshot = Snapshot::new(signal);
        let mut child = Running(snapshot.command(&[]).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut curl = lines.find(|line| line.trim_start().starts_with("curl")).unwrap();
        curl = curl.trim_end_matches('\\').to_owned() + &lines.next().unwrap();
        if Command::new("curl").arg("--version").output().is_ok() {
            let asked = Command::new("sh").args(["-c", &format!("{curl} -sS -i --max-time 20")]).output().unwrap();
            let text = String::from_utf8_lossy(&asked.stdout);
            assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("data: [DONE]\n\n"), "{curl}: {text}");
            assert!(asked.stderr.is_empty() && asked.status.success(), "{asked:?}");
        } else {
            println!("SKIPPED: curl is not installed");
        }
        let pid = child.0.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(wait(&mut child.0).code(), Some(0), "SIG{signal}");
    }
}
