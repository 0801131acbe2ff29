//! The floor relay as a program: `relay-floor --listen 127.0.0.1:8080 --upstream 127.0.0.2:9000 --upstream 127.0.0.3:9000`.

use std::net::SocketAddr;

use bench::floor::{Config, Relay, Stop};
use clap::Parser;

/// Moves bytes between clients and engines, and nothing else.
#[derive(Debug, Parser)]
struct Args {
    /// Where clients connect.
    #[arg(long)]
    listen: SocketAddr,
    /// An engine; repeat for more.
    #[arg(long = "upstream", value_delimiter = ',', required = true)]
    upstreams: Vec<SocketAddr>,
    /// Event loops.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> anyhow::Result<()> {
    let Args { listen, upstreams, threads } = Args::parse();
    let relay = Relay::bind(&Config { listen, upstreams, threads }, &Stop::new()?)?;
    eprintln!("listening on {}", relay.local_addr());
    Ok(relay.run()?)
}
