//! `kthena-controlplane`: does what was typed. It is linked static (`.ci/rustc`).

use std::process::ExitCode;

fn main() -> ExitCode {
    controlplane::cli::run(std::env::args_os())
}
