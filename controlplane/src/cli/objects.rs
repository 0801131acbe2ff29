//! Where the objects are that something is asked of.

use std::fmt;
use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::api_server;
use crate::source::Reading;
use crate::source::directory::Directory;
use crate::source::kubernetes::{self, Scope};

/// Manifests, or a cluster.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("objects").args(["manifests", "kubernetes", "kubeconfig"]).required(true).multiple(true)))]
pub(super) struct Objects {
    /// A YAML or JSON file, or a directory of such files.
    #[arg(conflicts_with_all = ["kubernetes", "kubeconfig", "namespaces"])]
    manifests: Option<PathBuf>,
    /// Asks of the objects of a cluster as they are now: of the one that this runs in, or of the one that kubectl would talk to.
    #[arg(long)]
    kubernetes: bool,
    /// How to reach the cluster, where neither is right.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The namespaces whose objects count; all where it is left out.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Where the control plane lives, for the scheduler's ConfigMap. Left out, it is the namespace of the cluster's configuration.
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: Option<String>,
}

impl Objects {
    /// What they say, as `serve` reads it; the error is a sentence.
    pub(super) fn read(&self) -> Result<Reading, String> {
        if let Some(path) = &self.manifests {
            return Directory::open(path).map(|(_, reading)| reading);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|error| format!("cannot start the runtime: {error}"))?.block_on(self.of_cluster())
    }

    async fn of_cluster(&self) -> Result<Reading, String> {
        let no_cluster = |why: String| format!("no cluster: {why}; give --kubeconfig");
        let config = api_server::config(self.kubeconfig.as_deref()).await.map_err(no_cluster)?;
        let home = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = api_server::client(config).map_err(|error| no_cluster(error.to_string()))?;
        let scope = Scope { namespaces: self.namespaces.clone(), home };
        kubernetes::read(client, &scope).await.map_err(|lists| format!("cannot read {}", lists.join("; ")))
    }
}

impl fmt::Display for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.manifests {
            Some(path) => path.display().fmt(f),
            None => f.write_str("the cluster"),
        }
    }
}
