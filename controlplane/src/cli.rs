//! The command line.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use crate::crd;
use crate::object::Kind;

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

/// Prints the definitions, or writes one file for each.
pub fn crdgen(folder: Option<&Path>) -> std::io::Result<()> {
    for kind in Kind::ALL {
        match folder {
            None => println!("---\n{}", crd::yaml(kind).trim_end()),
            Some(folder) => std::fs::write(folder.join(crd::file_name(kind)), crd::yaml(kind))?,
        }
    }
    Ok(())
}
