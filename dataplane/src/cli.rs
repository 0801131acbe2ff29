//! The command line.

mod flags;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Config, Problem};
use crate::doctor::Doctor;
use crate::probe::Probe;
use crate::seccomp_profile::InstallSeccomp;

pub use flags::Flags;

/// A thread-per-core proxy for inference traffic.
#[derive(Debug, Parser)]
#[command(version = crate::VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    /// Instead of serving.
    pub command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says everything that is wrong with a snapshot file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Says which driver will run here and why, what is wrong with the settings, and what of this host is not as tuning/ advises; it takes
    /// what the proxy is started with. Ends with 0 where all is as
    /// advised or could not be read, with 1 where something should be mended, with 2 where it would not start, and with 64
    /// where it was asked wrongly.
    Doctor(Box<Doctor>),
    /// Asks a running proxy by its admin socket, and prints what it says: for exec probes, and for /debug where there is no shell.
    /// Ends with 0 where it answers 2xx, and else with 1.
    Probe(Probe),
    /// Puts the seccomp profile that allows io_uring into the kubelet's folder, for pods with the Localhost profile
    /// kthena-dataplane.json; with --remove takes it away.
    InstallSeccomp(InstallSeccomp),
    /// Does nothing until SIGTERM or Ctrl-C: in a pod that is there for what its init containers do.
    Pause,
}

impl Cli {
    /// The configuration that flags, environment and file mean together.
    pub fn configure(self) -> Result<Config, Vec<Problem>> {
        self.flags.configure()
    }
}
