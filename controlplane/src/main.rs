//! `kthena-controlplane`: does what was typed.

use std::process::ExitCode;

fn main() -> ExitCode {
    controlplane::cli::run(std::env::args_os())
}
