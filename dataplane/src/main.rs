//! `kthena-dataplane`: reads what was typed, runs the proxy, ends on a signal.

use std::process::ExitCode;

use clap::Parser;
use dataplane::cli::{Cli, Command};
use dataplane::{process, signals, snapshot_file};

#[global_allocator]
static ALLOCATOR: dataplane::sys::Allocator = dataplane::sys::Allocator;

/// What sysexits.h calls a usage error.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(said) => {
            // Help and version end here too, and are no errors. Nobody can be told that they could not be printed.
            let _ = said.print();
            return if said.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match &cli.command {
        Some(Command::Check { file }) => return check(file),
        Some(Command::Doctor(doctor)) => return doctor.run(),
        Some(Command::Probe(probe)) => return probe.run(),
        Some(Command::InstallSeccomp(install)) => return install.run(),
        Some(Command::Pause) => {
            signals::Signals::listen().wait();
            return ExitCode::SUCCESS;
        }
        None => {}
    }
    let config = match cli.configure() {
        Ok(config) => config,
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("kthena-dataplane: {p}"));
            return ExitCode::from(USAGE);
        }
    };
    dataplane::logging::start();
    small_pages();
    let signals = signals::Signals::listen();
    let running = match process::start(config) {
        Ok(running) => running,
        Err(error) => {
            eprintln!("kthena-dataplane: {error}");
            return ExitCode::FAILURE;
        }
    };
    signals.wait();
    running.shutdown(|| signals.count() > 1);
    // The runtimes were left as they are, not dropped: the kernel may hold some of their buffers until we are gone.
    std::process::exit(0)
}

/// Memory comes in pages of 4 KiB from here on. In pages of 2 MiB the process takes twice as much for idle connections, and
/// three times as much at rest. What the tables lose by it was within the noise of the budget rows (10^6 marks); a look-up that is
/// in no cache takes some µs more (tuning/memory.md).
fn small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "huge pages stay on: idle connections take more memory");
    }
}

fn check(file: &std::path::Path) -> ExitCode {
    match snapshot_file::load(file) {
        Ok(snapshot) => {
            let endpoints: usize = snapshot.backends.iter().map(|b| b.endpoints.len()).sum();
            println!(
                "{}: ok ({} routes, {} backends, {endpoints} endpoints)",
                file.display(),
                snapshot.routes.len(),
                snapshot.backends.len()
            );
            ExitCode::SUCCESS
        }
        Err(problems) => {
            problems.iter().for_each(|p| eprintln!("{p}"));
            ExitCode::FAILURE
        }
    }
}
