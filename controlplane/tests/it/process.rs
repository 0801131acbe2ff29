//! `kthena-controlplane serve` as an init system or a kubelet sees it: lines of a log, and a SIGTERM that is obeyed while a data plane listens.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message;
use api::proto::{FromDataPlane, Subscribe};
use futures_util::StreamExt as _;
use futures_util::stream::{iter, pending};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tonic::Code;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_secs(30);

/// A control plane of the directory example, and the lines that it logs. Dropped, it is gone.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let program = env!("CARGO_BIN_EXE_kthena-controlplane");
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/directory");
        let here = ["--listen=127.0.0.1:0", "--metrics-address=127.0.0.1:0", "--debug-port=0"];
        let mut command = Command::new(program);
        command.args(["serve", example]).args(here).args(arguments).env_remove("RUST_LOG");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (told, lines) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|line| told.send(line).is_ok()));
        Self { child, lines }
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Its exit code, and what it said from here on.
    fn end(mut self) -> (Option<i32>, Vec<String>) {
        let deadline = Instant::now() + DEADLINE;
        let mut said = Vec::new();
        // Its end closes the pipe.
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => said.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it goes on: {said:?}"),
            }
        }
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_end_it_ends_the_streams_and_leaves_with_nothing_wrong() {
    let process = Process::start(&["--log-format=json"]);
    let mut seen = Vec::new();
    let serving = loop {
        let line = process.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("it does not serve: {seen:?}"));
        // Each line is an object by itself, whoever wrote it.
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
        for field in ["timestamp", "level", "target", "message"] {
            assert!(event[field].is_string(), "{line} has no {field}");
        }
        if event["message"] == "serving" {
            break event;
        }
        seen.push(line);
    };
    let address: SocketAddr = serving["listen"].as_str().unwrap().parse().unwrap();

    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let subscribe = FromDataPlane { message: Some(Message::Subscribe(Subscribe::default())) };
    // A data plane that goes on listening.
    let stream = DataPlaneClient::new(channel).stream(iter([subscribe]).chain(pending())).await.unwrap();
    let mut stream = stream.into_inner();
    let first = tokio::time::timeout(DEADLINE, stream.message()).await.expect("it is told something").unwrap();
    assert!(first.is_some());

    process.terminate();
    // Whatever is still on its way, and then an end that says why, and to look for another one.
    let rest = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended without a word"),
                Err(end) => return end,
            }
        }
    };
    let end = tokio::time::timeout(DEADLINE, rest).await.expect("the stream ends");
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "this control plane is shutting down"));
    let (code, said) = process.end();
    assert_eq!(code, Some(0), "{said:?}");
    assert!(said.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{said:?}");
    assert!(!said.iter().any(|line| line.contains("\"level\":\"ERROR\"")), "{said:?}");
}

#[test]
fn a_log_is_of_text_unless_it_is_told_otherwise() {
    let process = Process::start(&[]);
    let line = process.lines.recv_timeout(DEADLINE).unwrap();
    assert!(line.contains(" INFO ") && serde_json::from_str::<Value>(&line).is_err(), "{line}");
    process.terminate();
    assert_eq!(process.end().0, Some(0));
}
