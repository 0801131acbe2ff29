//! The data plane as container runtimes confine it: with their own profile, which has no io_uring, it runs on epoll and says so; with the one that
//! we ship it runs on io_uring. Both serve.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dataplane::probe::ask;
use dataplane::rt::{DriverChoice, probe};
use kubelet::built;
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(30);

fn profile(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tuning/seccomp/{name}.amd64.json"))
}

/// The program, under a profile.
fn under(profile: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seccomp-exec"));
    command.arg(profile).arg(built("kthena-dataplane").unwrap());
    command
}

/// An engine that has one answer.
fn engine() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"}") {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).unwrap();
                if n == 0 {
                    break;
                }
                seen.extend_from_slice(&piece[..n]);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"yes\": true}");
        }
    });
    address
}

/// A data plane that runs. Dropped, it is killed.
struct Proxy {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Proxy {
    fn start(profile: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = json!({"name": "t/b", "endpoints": [{"name": "e", "address": engine().to_string()}]});
        let route = json!({"name": "t/m", "model": "m", "rules": [{"targets": [{"backend": "t/b"}]}]});
        let snapshot = json!({"fleetSeed": "42", "routes": [route], "backends": [backend]});
        fs::write(folder.path().join("snapshot.json"), snapshot.to_string()).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = under(&self::profile(profile));
        command.arg("--snapshot").arg(folder.path().join("snapshot.json"));
        command.arg("--admin-socket").arg(folder.path().join("admin"));
        command.args(["--bind=127.0.0.1", "--cores=1", &format!("--port={port}")]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, port, folder }
    }

    /// On which driver it runs, once it does.
    fn driver(&self) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match ask(&self.folder.path().join("admin"), "/readyz", DEADLINE) {
                Ok(answer) if answer.status == 200 => {
                    let said: Value = serde_json::from_slice(&answer.body).unwrap();
                    return said["driver"].as_str().unwrap().to_owned();
                }
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
            std::thread::yield_now();
        }
    }

    /// What a client is answered.
    fn answer(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn doctor(profile: &str, more: &[&str]) -> (Output, Value) {
    doctor_under(&self::profile(profile), more)
}

fn doctor_under(profile: &Path, more: &[&str]) -> (Output, Value) {
    let output = under(profile).args(["doctor", "--json", "--connections=10"]).args(more).output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap();
    (output, report)
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the profiles are those of amd64")]
fn with_the_runtimes_own_profile_it_serves_on_epoll_and_says_why() {
    let proxy = Proxy::start("containerd-default");
    assert_eq!(proxy.driver(), "epoll");
    let answer = proxy.answer();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"yes\": true}"), "{answer}");
    let (_, report) = doctor("containerd-default", &[]);
    assert!(report["driver"] == "epoll" && report["why"].as_str().unwrap().contains("seccomp"), "{report:#}");
    let (refused, _) = doctor("containerd-default", &["--io-driver=uring"]);
    assert_eq!(refused.status.code(), Some(2), "asked for io_uring it would not start");
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the profiles are those of amd64")]
fn with_the_profile_that_we_ship_it_serves_on_io_uring() {
    if probe(DriverChoice::Uring).is_err() {
        let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: this machine forbids io_uring");
        return;
    }
    let proxy = Proxy::start("kthena-dataplane");
    assert!(proxy.driver().starts_with("uring"), "{}", proxy.driver());
    let answer = proxy.answer();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"yes\": true}"), "{answer}");
    let (whole, report) = doctor("kthena-dataplane", &["--io-driver=uring"]);
    assert_ne!(whole.status.code(), Some(2), "{report:#}");
}

/// The doctor's word under the profile that we ship, but that the calls of io_uring with these names meet this error.
fn why_where(refused: &[&str], errno: i32) -> String {
    let text = fs::read_to_string(profile("kthena-dataplane")).unwrap();
    let mut profile: Value = serde_json::from_str(&text).unwrap();
    let calls = profile["syscalls"].as_array_mut().unwrap();
    for call in calls.iter_mut() {
        call["names"].as_array_mut().unwrap().retain(|name| !refused.contains(&name.as_str().unwrap()));
    }
    calls.push(json!({"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": errno}));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), profile.to_string()).unwrap();
    let (_, report) = doctor_under(file.path(), &[]);
    assert_eq!(report["driver"], "epoll", "{report:#}");
    report["why"].as_str().unwrap().to_owned()
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the profiles are those of amd64")]
fn a_filter_is_named_where_it_refuses_and_not_because_it_is_there() {
    if probe(DriverChoice::Uring).is_err() {
        let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: this machine forbids io_uring");
        return;
    }
    let (eperm, enosys) = (1, 38);
    let all = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
    for errno in [eperm, enosys] {
        let why = why_where(&all, errno);
        assert!(why.contains("a seccomp filter refuses io_uring"), "{errno}: {why}");
    }
    // As the kernel looks under a filter that lets it pass: the sysctl and security modules refuse the setup alone.
    let why = why_where(&all[..1], eperm);
    assert_eq!(why, "io_uring is not permitted here");
}
