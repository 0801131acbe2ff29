//! `kthena-controlplane`: reads what was typed, does it, says how it went.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use controlplane::cli::{Cli, Command};
use controlplane::crd;

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
    let done = match cli.command {
        Command::Crdgen { write: None } => std::io::stdout().write_all(crd::stream().as_bytes()),
        Command::Crdgen { write: Some(folder) } => crd::write(&folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kthena-controlplane: {error}");
            ExitCode::FAILURE
        }
    }
}
