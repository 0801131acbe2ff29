//! What the proxy is started with, and what the doctor is asked about.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::{Args, Config, Environment, Problem, Typed, resolve};

/// The flags, as far as they were given.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
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

impl Flags {
    /// The configuration that flags, environment and file mean together.
    pub fn configure(self) -> Result<Config, Vec<Problem>> {
        let typed = self.read()?;
        self.with(typed)
    }

    /// The same, but that nobody has to say where the snapshot comes from.
    pub fn configure_for_any_source(mut self) -> Result<Config, Vec<Problem>> {
        let typed = self.read()?;
        if self.snapshot.is_none() && self.control_plane.is_none() && !typed.names_a_source() {
            self.snapshot = Some(PathBuf::new());
        }
        self.with(typed)
    }

    fn read(&self) -> Result<Typed, Vec<Problem>> {
        let Some(path) = &self.config else { return Ok(Typed::default()) };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|e| vec![Problem { key: path.display().to_string(), sentence: e.to_string() }])?;
        Typed::from_yaml(&text).map_err(|problem| vec![problem])
    }

    fn with(self, typed: Typed) -> Result<Config, Vec<Problem>> {
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
