//! Probes: what is asked, and what so many answers mean.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::launch::{Facts, Launch};
use super::process::{Process, code};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

/// A probe has come to another mind.
#[derive(Debug)]
pub(super) struct News {
    pub(super) kind: Kind,
    /// What it said last, where that was bad.
    pub(super) verdict: Result<(), String>,
}

/// What a probe needs to know of its container.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) container: Container,
    pub(super) facts: Facts,
    /// The container's own, of which an exec probe has the env.
    pub(super) launch: Launch,
}

/// Asks until nobody listens. A startup probe ends with its first verdict.
pub(super) async fn run(kind: Kind, probe: Probe, target: Target, news: mpsc::UnboundedSender<News>) {
    let seconds =
        |value: Option<i32>, default: i32| Duration::from_secs(value.unwrap_or(default).unsigned_abs().into());
    let (period, limit) = (seconds(probe.period_seconds, 10), seconds(probe.timeout_seconds, 1));
    let mut tally = Tally::of(kind, &probe);
    sleep(seconds(probe.initial_delay_seconds, 0)).await;
    loop {
        let answer = timeout(limit, ask(&probe, &target)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer after {limit:?}")));
        let good = answer.is_ok();
        if tally.count(good) {
            let verdict = answer.map_err(|error| format!("{error:#}"));
            let done = news.send(News { kind, verdict }).is_err();
            if done || kind == Kind::Startup {
                return;
            }
        }
        sleep(period).await;
    }
}

/// How many answers in a row were alike, and when that is a verdict.
#[derive(Debug)]
struct Tally {
    good: bool,
    in_a_row: i32,
    successes: i32,
    failures: i32,
}

impl Tally {
    fn of(kind: Kind, probe: &Probe) -> Self {
        let successes = if kind == Kind::Readiness { probe.success_threshold.unwrap_or(1) } else { 1 };
        Self { good: false, in_a_row: 0, successes, failures: probe.failure_threshold.unwrap_or(3) }
    }

    /// Whether this answer makes it a verdict: only the one that reaches the threshold does.
    fn count(&mut self, good: bool) -> bool {
        self.in_a_row = if self.good == good { self.in_a_row + 1 } else { 1 };
        self.good = good;
        self.in_a_row == if good { self.successes } else { self.failures }
    }
}

async fn ask(probe: &Probe, target: &Target) -> Result<()> {
    if let Some(get) = &probe.http_get {
        http(get, target).await
    } else if let Some(socket) = &probe.tcp_socket {
        tcp(socket, target).await
    } else if let Some(command) = &probe.exec {
        exec(command, target).await
    } else {
        bail!("this kubelet plays httpGet, tcpSocket and exec")
    }
}

pub(super) async fn http(get: &HTTPGetAction, target: &Target) -> Result<()> {
    ensure!(get.scheme.as_deref().unwrap_or("HTTP") == "HTTP", "this kubelet does not ask by {:?}", get.scheme);
    let address = address(get.host.as_deref(), &get.port, target)?;
    let mut stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    let path = get.path.as_deref().unwrap_or("/");
    let mut request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/1.36\r\nConnection: close\r\n");
    for header in get.http_headers.iter().flatten() {
        request.push_str(&format!("{}: {}\r\n", header.name, header.value));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await?;
    let status = std::str::from_utf8(&begin).ok().and_then(|text| text.split(' ').nth(1)?.parse::<u16>().ok());
    match status {
        Some(200..400) => Ok(()),
        Some(status) => bail!("HTTP probe failed with statuscode: {status}"),
        None => bail!("{address} does not speak HTTP"),
    }
}

async fn tcp(socket: &TCPSocketAction, target: &Target) -> Result<()> {
    let address = address(socket.host.as_deref(), &socket.port, target)?;
    TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    Ok(())
}

/// In the container's folder, with its env.
pub(super) async fn exec(action: &ExecAction, target: &Target) -> Result<()> {
    let command = action.command.as_deref().unwrap_or_default();
    let (program, args) = command.split_first().context("an exec probe without a command")?;
    let launch = Launch { program: program.into(), args: args.to_vec(), ..target.launch.clone() };
    let status = Process::spawn(&launch, Path::new("/dev/null"))?.ended().await?;
    ensure!(status.success(), "command {command:?} failed with exit code {}", code(status));
    Ok(())
}

fn address(host: Option<&str>, port: &IntOrString, target: &Target) -> Result<SocketAddr> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = target.container.ports.iter().flatten();
            ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
        }
    };
    let number = number.with_context(|| format!("the container has no port {port:?}"))?;
    let host = host.map(|host| host.parse().context("the host of a probe is an address here")).transpose()?;
    Ok(SocketAddr::new(host.unwrap_or(target.facts.pod.first()), u16::try_from(number)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts as they come: `+` good, `-` bad, `.` none.
    fn check(kind: Kind, probe: &str, answers: &str, expected: &str) {
        let mut tally = Tally::of(kind, &serde_norway::from_str(probe).unwrap());
        let verdict = |answer| if tally.count(answer == '+') { answer } else { '.' };
        assert_eq!(answers.chars().map(verdict).collect::<String>(), expected, "{kind:?} {probe} {answers}");
    }

    #[test]
    fn a_verdict_needs_as_many_answers_in_a_row_as_the_probe_says() {
        check(Kind::Readiness, "{}", "+--+---+", "+..+..-+");
        check(Kind::Readiness, "{successThreshold: 2, failureThreshold: 1}", "+-++-", ".-.+-");
        check(Kind::Liveness, "{failureThreshold: 2}", "--+-", ".-+.");
        check(Kind::Startup, "{failureThreshold: 3}", "--+", "..+");
    }
}
