//! `cargo run --release --bin quickstart`: two simulated engines, the proxy, one question; then it stays up.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::quickstart::{Options, Served, Stage, ask};
use clap::Parser;
use dataplane::signals::Signals;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUESTION: &str = "What does an inference router do?";

/// Starts simulated engines and the proxy, and asks one question through it.
#[derive(Debug, Parser)]
struct Args {
    /// Where clients connect, on 127.0.0.1; 0 takes a free port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// End after the answer instead of staying up.
    #[arg(long)]
    once: bool,
    /// Routes and engines; an engine is simulated at each endpoint's address.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart/snapshot.json"))]
    snapshot: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let signals = Signals::listen();
    match run(args, &signals) {
        // The runtimes were left as they are: the kernel may hold some of their buffers until we are gone.
        Ok(()) => std::process::exit(0),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args, signals: &Signals) -> anyhow::Result<()> {
    // One thread for the engines; the proxy has its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let options = Options { snapshot: args.snapshot, port: args.port, gap: Duration::from_millis(50) };
    let stage = runtime.block_on(Stage::start(&options))?;
    let mut out = io::stdout();
    introduce(&stage, &mut out)?;
    let asked = runtime.block_on(ask(stage.listen(), &stage.model, QUESTION, &mut out));
    let ended = asked.and_then(|served| {
        explain(&served, &mut out)?;
        if !args.once {
            invite(&stage, &mut out)?;
            signals.wait();
        }
        Ok(())
    });
    stage.stop(|| signals.count() > 1);
    ended
}

fn introduce(stage: &Stage, out: &mut impl Write) -> io::Result<()> {
    let engines: Vec<String> = stage.addresses.iter().map(ToString::to_string).collect();
    writeln!(out, "Simulated engines: {}", engines.join(", "))?;
    writeln!(out, "Proxy:             http://{}\n", stage.listen())?;
    writeln!(out, "> {QUESTION}")?;
    out.flush()
}

fn explain(served: &Served, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n\nServed by {}", served.endpoint)?;
    writeln!(out, "because   {}", served.decision)?;
    out.flush()
}

fn invite(stage: &Stage, out: &mut impl Write) -> io::Result<()> {
    let (listen, model) = (stage.listen(), &stage.model);
    writeln!(out, "\nAsk it yourself (Ctrl-C ends everything):\n")?;
    writeln!(out, "  curl -N http://{listen}/v1/chat/completions -H 'content-type: application/json' \\")?;
    writeln!(
        out,
        "    -d '{{\"model\": \"{model}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    )?;
    writeln!(out, "\nEvery term of a decision: curl 'http://{}/debug/decision?id=<x-request-id>'", stage.debug())?;
    out.flush()
}
