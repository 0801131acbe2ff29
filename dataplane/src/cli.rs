//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::{Args, Config, Environment, Problem, Typed, resolve};
use crate::doctor::Doctor;
use crate::probe::Probe;
use crate::seccomp_profile::InstallSeccomp;

/// A thread-per-core proxy for inference traffic.
#[derive(Debug, Parser)]
#[command(version = crate::VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    /// Instead of serving.
    pub command: Option<Command>,
    /// The snapshot file: routes, backends, endpoints. It is watched.
    #[arg(long)]
    snapshot: Option<PathBuf>,
    /// The control plane to take snapshots from instead: https://HOST:PORT, or in plain text on loopback HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    control_plane: Option<String>,
    /// The bundle of the control plane's CA, as PEM. It is read anew for each stream.
    #[arg(long, value_name = "FILE")]
    control_plane_ca: Option<PathBuf>,
    /// The token that says to the control plane who this is. It is read anew for each stream.
    #[arg(long, value_name = "FILE")]
    control_plane_token: Option<PathBuf>,
    /// The name that the control plane's certificate is for; the address's by default.
    #[arg(long, value_name = "NAME")]
    control_plane_server_name: Option<String>,
    /// Where the last good snapshot of the control plane is kept, to start from while it is away.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// A YAML file with settings.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where clients connect.
    #[arg(long)]
    port: Option<u16>,
    /// Where /metrics, /healthz and /readyz are.
    #[arg(long)]
    metrics_port: Option<u16>,
    /// Where /debug is, on loopback.
    #[arg(long)]
    debug_port: Option<u16>,
    /// A unix socket for /metrics, /healthz, /readyz and /debug, which this user alone may open (`kthena-dataplane probe`). With it
    /// there are ports for them only where they are given.
    #[arg(long, value_name = "FILE")]
    admin_socket: Option<PathBuf>,
    /// The address to listen on.
    #[arg(long)]
    bind: Option<IpAddr>,
    /// auto, uring or epoll.
    #[arg(long)]
    io_driver: Option<String>,
    /// How many cores to run on; all that this process may use by default.
    #[arg(long)]
    cores: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says everything that is wrong with a snapshot file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Says which driver will run here and why, and what of this host is not as tuning/ advises. Ends with 0 where all is as
    /// advised or could not be read, with 1 where something should be mended, with 2 where it would not start, and with 64
    /// where it was asked wrongly.
    Doctor(Doctor),
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
        let typed = match &self.config {
            None => Typed::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text =
                    text.map_err(|e| vec![Problem { key: path.display().to_string(), sentence: e.to_string() }])?;
                Typed::from_yaml(&text).map_err(|p| vec![p])?
            }
        };
        let args = Args {
            snapshot: self.snapshot,
            control_plane: self.control_plane,
            control_plane_ca: self.control_plane_ca,
            control_plane_token: self.control_plane_token,
            control_plane_server_name: self.control_plane_server_name,
            state_dir: self.state_dir,
            port: self.port,
            metrics_port: self.metrics_port,
            debug_port: self.debug_port,
            admin_socket: self.admin_socket,
            bind: self.bind,
            io_driver: self.io_driver,
            cores: self.cores,
        };
        resolve(args, Environment::read(), typed)
    }
}
