//! Asks for a model, whole and streamed; `helm test` runs it. It is linked static (`.ci/rustc`).

use std::time::Duration;

use bench::ask::{Ask, target};
use clap::Parser;

/// Sends one chat completion whole and one streamed to each target. Ends with 1 and a sentence where one is not answered.
#[derive(Debug, Parser)]
#[command(name = "kthena-ask", version)]
struct Args {
    /// The model.
    #[arg(long)]
    model: String,
    /// Seconds until the first good answer.
    #[arg(long, default_value_t = 60)]
    wait_s: u64,
    /// HOST:PORT of each proxy to ask. IPv6 addresses may be without brackets.
    #[arg(required = true, value_parser = target)]
    targets: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args { model, wait_s, targets } = Args::parse();
    for target in targets {
        Ask { target, model: model.clone(), wait: Duration::from_secs(wait_s) }.run().await?;
    }
    Ok(())
}
