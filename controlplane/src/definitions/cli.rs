//! The command.

use std::process::ExitCode;

use clap::Subcommand;
use kube::Client;

use super::{Release, apply};
use crate::object::Kind;

/// `crds`, as typed.
#[derive(Debug, Clone, Subcommand)]
pub enum Crds {
    /// Applies them to the cluster of the service account or of the kubeconfig, and waits until they are served. A definition of a
    /// newer release stays as it is. Ends with 1 where one could not be applied.
    Apply,
}

impl Crds {
    /// Does it; the error is a sentence.
    pub fn run(&self) -> Result<ExitCode, String> {
        let Self::Apply = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
        Ok(runtime.block_on(apply_all()))
    }
}

/// One that cannot be applied keeps no other from it.
async fn apply_all() -> ExitCode {
    let client = match Client::try_default().await {
        Ok(client) => client,
        Err(error) => {
            eprintln!("kthena-controlplane: no cluster: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut failed = false;
    for kind in Kind::ALL {
        match apply(&client, kind, &Release::ours()).await {
            Ok(outcome) => println!("{kind} definition {outcome}"),
            Err(error) => {
                eprintln!("kthena-controlplane: {kind} definition: {error}");
                failed = true;
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
