//! `ip` and `nft`, told what was planned.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Duration, timeout};

use crate::plan::Batch;

/// For one run of it; it takes milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// All of them, in their order.
pub async fn carry_out(batches: &[Batch]) -> Result<()> {
    for batch in batches {
        timeout(LIMIT, run(batch)).await.with_context(|| format!("ip did not end: {batch:?}"))??;
    }
    Ok(())
}

/// `nft`, on a node.
pub async fn filter(node: &str, script: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", node, "nft", "-f", "-"]);
    timeout(LIMIT, tell(command, script)).await.with_context(|| format!("nft did not end: {script}"))?
}

async fn run(batch: &Batch) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = &batch.within {
        command.args(["-n", namespace]);
    }
    command.args(["-batch", "-"]);
    tell(command, &(batch.lines.join("\n") + "\n")).await
}

/// Runs it with this input.
async fn tell(mut command: Command, script: &str) -> Result<()> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("running ip, of iproute2")?;
    let mut input = child.stdin.take().context("ip without an input")?;
    input.write_all(script.as_bytes()).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
