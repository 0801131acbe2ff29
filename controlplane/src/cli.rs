//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Turns custom resources into the tables that data planes run.
#[derive(Debug, Parser)]
#[command(name = "kthena-controlplane", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints the CustomResourceDefinitions as YAML.
    Crdgen {
        /// Writes one file for each into this folder instead.
        #[arg(long, value_name = "FOLDER")]
        write: Option<PathBuf>,
    },
}
