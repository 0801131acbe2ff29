//! `cargo run --release --bin quickstart`: two simulated engines, both planes, one question; then it stays up.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bench::quickstart::{Options, Served, Stage, ask};
use clap::Parser;
use dataplane::signals::Signals;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const QUESTION: &str = "What does an inference router do?";

/// Starts simulated engines, the control plane and the proxy, and asks one question through them.
#[derive(Debug, Parser)]
struct Args {
    /// Where clients connect, on 127.0.0.1; 0 takes a free port.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// End after the answer instead of staying up.
    #[arg(long)]
    once: bool,
    /// Manifests of routes, servers and pods, watched; an engine is simulated at each pod's address.
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart"))]
    manifests: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let signals = Signals::listen();
    // Only what is wrong with an edited file.
    let level = EnvFilter::try_from_default_env().unwrap_or_else(|_| "controlplane=warn".into());
    tracing_subscriber::fmt().with_env_filter(level).without_time().with_target(false).with_writer(io::stderr).init();
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
    let options = Options { manifests: args.manifests, port: args.port, gap: Duration::from_millis(50) };
    let stage = runtime.block_on(Stage::start(&options))?;
    let mut out = io::stdout();
    introduce(&stage, &mut out)?;
    let asked = runtime.block_on(ask(stage.listen(), &stage.model, QUESTION, &mut out));
    let ended = asked.and_then(|served| {
        explain(&served, &mut out)?;
        if !args.once {
            invite(&stage, &options.manifests, &mut out)?;
            signals.wait();
        }
        Ok(())
    });
    ended.and(stage.stop(|| signals.count() > 1))
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

fn invite(stage: &Stage, manifests: &Path, out: &mut impl Write) -> io::Result<()> {
    let (listen, model) = (stage.listen(), &stage.model);
    writeln!(out, "\nAsk it yourself (Ctrl-C ends everything):\n")?;
    writeln!(out, "  curl -N http://{listen}/v1/chat/completions -H 'content-type: application/json' \\")?;
    writeln!(
        out,
        "    -d '{{\"model\": \"{model}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}'"
    )?;
    writeln!(out, "\nChange where requests go, while it runs: edit and save {}", edited(manifests).display())?;
    writeln!(out, "Every term of a decision: curl 'http://{}/debug/decision?id=<x-request-id>'", stage.debug())?;
    out.flush()
}

/// What to edit: the route, where the directory has its file by that name.
fn edited(manifests: &Path) -> PathBuf {
    let route = manifests.join("route.yaml");
    let path = if route.exists() { route } else { manifests.to_owned() };
    // As short as it can be typed here.
    let whole = path.canonicalize().unwrap_or(path);
    let here = std::env::current_dir().unwrap_or_default();
    whole.strip_prefix(&here).map(Path::to_owned).unwrap_or(whole)
}
