//! `kthena-dataplane probe`: asks a running proxy by its admin socket. Where the network is the node's, a port would be answered by whichever
//! pod of the node the kernel picks, and an image without a shell has no other program to ask with.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use socket2::{Domain, SockAddr, Socket, Type};

/// As much as is taken of an answer: `/debug` of 10,000 endpoints is a few MiB.
const ANSWER: u64 = 64 << 20;

/// `probe`, as typed.
#[derive(Debug, Clone, Args)]
pub struct Probe {
    /// The socket of the proxy (`--admin-socket`).
    #[arg(long, value_name = "FILE")]
    admin_socket: PathBuf,
    /// In how many seconds it has to have answered.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    /// What is asked for.
    #[arg(default_value = "/readyz", value_parser = path)]
    path: String,
}

/// A path that fits into a request's first line.
fn path(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("it begins with / and has no spaces".to_owned()) }
}

impl Probe {
    /// Asks and prints. Ends with 0 where the answer is a good one.
    pub fn run(&self) -> ExitCode {
        let said = |error: &dyn std::fmt::Display| {
            eprintln!("kthena-dataplane: {}{}: {error}", self.admin_socket.display(), self.path);
            ExitCode::FAILURE
        };
        match ask(&self.admin_socket, &self.path, Duration::from_secs(self.timeout)) {
            Ok(Answer { status, body }) => {
                // A reader that has had enough, as `head`, is no error.
                let _ = io::stdout().write_all(&body);
                if (200..300).contains(&status) { ExitCode::SUCCESS } else { said(&format_args!("status {status}")) }
            }
            Err(error) => said(&error),
        }
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// One GET at a unix socket, within `time`.
pub fn ask(socket: &Path, path: &str, time: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + time;
    let stream = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It holds for connecting, too: a queue may be full.
    stream.set_write_timeout(Some(time))?;
    let address = SockAddr::unix(socket)?;
    // A signal breaks off whatever waits with a time limit; then it is begun anew.
    while let Err(error) = stream.connect(&address) {
        if error.kind() != io::ErrorKind::Interrupted || Instant::now() >= deadline {
            return Err(error);
        }
    }
    let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
    (&stream).write_all(request.as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"));
        }
        stream.set_read_timeout(Some(left))?;
        match (&stream).read(&mut piece) {
            Ok(0) => break,
            Ok(n) if answer.len() as u64 + n as u64 > ANSWER => return Err(io::Error::other("the answer has no end")),
            Ok(n) => answer.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers there is no proxy of ours"))
}

/// The proxy closes after one answer, so that its body ends with the connection.
fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: answer[end + 4..].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_status_and_what_follows_the_head() {
        let parsed = parse(b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nno\r\n\r\n");
        assert_eq!(parsed, Some(Answer { status: 503, body: b"no\r\n\r\n".to_vec() }));
        for other in [&b"SSH-2.0\r\n\r\n"[..], b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\n"] {
            assert_eq!(parse(other), None);
        }
    }

    #[test]
    fn a_path_that_would_be_more_than_a_path_is_refused() {
        assert!(path("/debug/decision?id=7").is_ok());
        assert!(path("readyz").is_err() && path("/a HTTP/1.1\r\nb: c").is_err());
    }
}
