//! `seccomp-exec PROFILE PROGRAM [ARGUMENT…]`: holds itself to a seccomp profile, as a container runtime does, and becomes the program.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context, Result};
use perf_tests::seccomp::Filters;

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let profile = arguments.next().context("seccomp-exec PROFILE PROGRAM [ARGUMENT…]")?;
    let program = arguments.next().context("no program")?;
    let text = fs::read_to_string(&profile).with_context(|| format!("{}", profile.display()))?;
    Filters::of_profile(&text)?.apply()?;
    let error = Command::new(&program).args(arguments).exec();
    Err(error).with_context(|| format!("{}", program.display()))
}
