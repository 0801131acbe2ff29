//! Fills our proxy's prefix table before it is measured: an empty table makes every look-up cheap, and no proxy that has
//! served for a minute has one.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::child::Child;
use crate::load;
use crate::load::plan::{Plan, Shape};

/// The gauge that says how many marks there are.
const ENTRIES: &str = "kthena_router_prefix_cache_entries";
/// Prompt bytes of one request: some 200 marks, and below the size that goes to a helper thread.
const PROMPT: usize = 200 << 10;
/// Between two looks at the gauge, which is a second old at most.
const SLICE: Duration = Duration::from_millis(1500);
/// A table that is not full after this long never will be.
const LIMIT: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(5);

/// What is filled and how far.
#[derive(Debug)]
pub struct Warm<'a> {
    /// The proxy.
    pub target: SocketAddr,
    /// Its `/metrics`.
    pub metrics: SocketAddr,
    /// The model that it routes.
    pub model: &'a str,
    /// Marks that it must have.
    pub marks: u64,
    /// Names the first of the prompts; those after it use the seeds that follow.
    pub seed: u64,
}

/// Sends long distinct prompts until the table holds the marks; returns how many it holds.
pub fn fill(warm: &Warm<'_>, child: &mut Child) -> anyhow::Result<u64> {
    let deadline = Instant::now() + LIMIT;
    let mut plan = Plan::small(warm.target, warm.model, PROMPT);
    (plan.connections, plan.duration, plan.shape) = (8, SLICE, Shape::Fixed { bytes: PROMPT });
    plan.seed = warm.seed;
    loop {
        let marks = entries(warm.metrics)?;
        if marks >= warm.marks {
            return Ok(marks);
        }
        anyhow::ensure!(Instant::now() < deadline, "{marks} marks after {LIMIT:?}, not {}", warm.marks);
        plan.seed += 1;
        let report = load::run(&plan)?;
        child.check()?;
        anyhow::ensure!(report.requests > 0, "no request to fill the prefix table was answered: {:?}", report.errors);
    }
}

/// The marks that the proxy says it has.
pub fn entries(metrics: SocketAddr) -> anyhow::Result<u64> {
    let text = get(metrics, "/metrics").with_context(|| format!("metrics of {metrics}"))?;
    let line = text.lines().find(|line| line.starts_with(ENTRIES)).with_context(|| format!("no {ENTRIES}"))?;
    let value = line.rsplit(' ').next().unwrap_or_default();
    Ok(value.parse::<f64>().with_context(|| line.to_owned())? as u64)
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.take(16 << 20).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn check(answer: &'static str, expected: Option<u64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let mut read = 0;
            // The head comes in pieces, and closing over unread ones would reset the answer.
            while !head[..read].ends_with(b"\r\n\r\n") {
                read += stream.read(&mut head[read..]).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        assert_eq!(entries(address).ok(), expected, "{answer}");
        server.join().unwrap();
    }

    #[test]
    fn the_gauge_is_read_from_the_metrics() {
        check(
            "HTTP/1.1 200 OK\r\n\r\n# HELP kthena_router_prefix_cache_entries x\nkthena_router_prefix_cache_entries 1e6\n",
            Some(1_000_000),
        );
        check("HTTP/1.1 200 OK\r\n\r\nother 3\n", None);
        check("HTTP/1.1 200 OK\r\n\r\nkthena_router_prefix_cache_entries many\n", None);
    }
}
