//! The quickstart as a user runs it: the program, its output, its end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bench::quickstart::{Served, ask};
use bench::show::client::{self, End, Question};

#[path = "quickstart/example.rs"]
mod example;
#[allow(unreachable_pub, reason = "it is public where it is at home")]
#[path = "../../perf-tests/src/missing.rs"]
mod missing;

use example::Example;

const LIMIT: Duration = Duration::from_secs(30);

fn command(example: &Example, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.args(["--port", "0"]).arg(&example.folder).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
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
fn it_prints_the_answer_who_gave_it_and_why() {
    let example = Example::new("once");
    let (output, text) = output(command(&example, &["--once"]));
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
        let example = Example::new(signal);
        let mut child = Running(command(&example, &[]).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut curl = lines.find(|line| line.trim_start().starts_with("curl")).unwrap();
        curl = curl.trim_end_matches('\\').to_owned() + &lines.next().unwrap();
        if Command::new("curl").arg("--version").output().is_ok() {
            let asked = Command::new("sh").args(["-c", &format!("{curl} -sS -i --max-time 20")]).output().unwrap();
            let text = String::from_utf8_lossy(&asked.stdout);
            assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("data: [DONE]\n\n"), "{curl}: {text}");
            assert!(asked.stderr.is_empty() && asked.status.success(), "{asked:?}");
        } else {
            missing::skip("curl");
        }
        let pid = child.0.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert_eq!(wait(&mut child.0).code(), Some(0), "SIG{signal}");
    }
}

#[tokio::test]
async fn an_edited_route_changes_where_requests_go_while_a_stream_runs_on() {
    let example = Example::new("edit");
    let mut child = Running(command(&example, &[]).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let proxy = lines.find_map(|line| Some(line.strip_prefix("Proxy:")?.trim().strip_prefix("http://")?.to_owned()));
    let proxy: SocketAddr = proxy.unwrap().parse().unwrap();
    let hint = lines.find(|line| line.starts_with("Change where requests go")).unwrap();
    let file = hint.rsplit(' ').next().unwrap();
    assert!(file.ends_with("/route.yaml"), "{hint}");

    let before = asked(proxy).await;
    assert!(before.decision.contains("candidates=2"), "{before:?}");
    let question =
        Question { target: proxy, model: "llama-3-8b".into(), stream: true, max_tokens: 200, limit: 2 * LIMIT };
    let (begun, begins) = tokio::sync::oneshot::channel();
    let stream = tokio::spawn(async move { client::ask(&question, || begun.send(()).unwrap()).await });
    begins.await.unwrap();

    let route = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, route.replace("modelServerName: llama", "modelServerName: canary")).unwrap();
    let after = until_asked(proxy, "the edit counts", |served| served.decision.contains("candidates=1")).await;
    assert!(after.endpoint.starts_with("127.0.0.3:"), "{after:?}");
    assert!(!stream.is_finished(), "the stream outlasts the edit");
    assert_eq!(stream.await.unwrap(), End::Whole);

    // Back to both pods, and then what pods.yaml says of itself: one that is not ready, and one that is gone, leave the other one.
    std::fs::write(file, route).unwrap();
    until_asked(proxy, "both serve again", |served| served.decision.contains("candidates=2")).await;
    let file = example.folder.join("pods.yaml");
    let pods = std::fs::read_to_string(&file).unwrap();
    let unready = "\n  conditions: [{type: Ready, status: \"False\"}]";
    let of = pods.replacen("podIP: 127.0.0.2", &format!("podIP: 127.0.0.2{unready}"), 1);
    std::fs::write(&file, of).unwrap();
    until_asked(proxy, "the ready one serves", |served| is_only(served, "127.0.0.3:")).await;
    std::fs::write(&file, pods.split_once("---").unwrap().0).unwrap();
    until_asked(proxy, "the one that is left serves", |served| is_only(served, "127.0.0.2:")).await;
}

fn is_only(served: &Served, ip: &str) -> bool {
    served.decision.contains("candidates=1") && served.endpoint.starts_with(ip)
}

/// What is served once it is so.
async fn until_asked(proxy: SocketAddr, what: &str, holds: impl Fn(&Served) -> bool) -> Served {
    let deadline = Instant::now() + LIMIT;
    loop {
        let served = asked(proxy).await;
        if holds(&served) {
            return served;
        }
        assert!(Instant::now() < deadline, "{what}, in vain: {served:?}");
    }
}

async fn asked(proxy: SocketAddr) -> Served {
    ask(proxy, "llama-3-8b", "Where does this go?", &mut std::io::sink()).await.unwrap()
}
