//! The running process: its parts, started in order and ended together. What each part does is its own; here is only which there
//! are, and what each is given.

mod cluster;
mod parts;
mod seed;

use std::io;
use std::pin::pin;

use tokio::sync::watch;

use crate::admin::{Admin, BindError};
use crate::config::{Config, LogFormat, Source};
use crate::quarantine;
use crate::run::{self, Listen, Options, Plane, StartError};

use cluster::{Member, stopped};
pub(crate) use seed::random as random_seed;

/// Why it ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A part did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// An address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A part of the cluster's.
    #[error(transparent)]
    Cluster(#[from] cluster::Failure),
    /// It ended by itself.
    #[error("{0}")]
    Ended(#[source] io::Error),
    /// The system gives us nothing.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

/// Runs until SIGTERM or Ctrl-C.
pub fn run(config: Config) -> Result<(), Failure> {
    log(config.log);
    quarantine::tell_once();
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::System("cannot start the runtime", error))?;
    runtime.block_on(async {
        let stop = signals().map_err(|error| Failure::System("cannot listen for SIGTERM", error))?;
        let (ending, ended) = watch::channel(());
        let mut serving = pin!(serve(config, ended));
        tokio::select! {
            served = &mut serving => return served,
            () = stop => drop(ending),
        }
        serving.await
    })
}

async fn serve(config: Config, ended: watch::Receiver<()>) -> Result<(), Failure> {
    let Config { source, state_dir, listen, fleet_seed, vocabularies, scrape_interval, admin, log: _ } = config;
    let (options, mut member) = match source {
        Source::Directory(root) => {
            let fleet_seed = fleet_seed.map_or_else(seed::of_machine, Ok);
            let fleet_seed = fleet_seed.map_err(|error| Failure::System("no fleet seed; give --fleet-seed", error))?;
            let source = match state_dir {
                Some(state) => run::Source::KeptDirectory { manifests: root, state },
                None => run::Source::Directory(root),
            };
            (Options { source, listen: Listen::Plain(listen), fleet_seed }, None)
        }
        Source::Cluster(typed) => {
            let mut member = Member::find(*typed).await?;
            let listen = member.listen(listen);
            let fleet_seed = tokio::select! {
                seed = seed::of_cluster(fleet_seed, &member) => seed,
                () = stopped(ended.clone()) => return Ok(()),
            };
            (Options { source: member.source(), listen, fleet_seed }, Some(member))
        }
    };
    let mut plane = Plane::start(options).await?.asking_every(scrape_interval);
    if let Some(folder) = vocabularies {
        plane = plane.with_vocabularies(folder);
    }
    if let Some(peering) = member.as_mut().map(|member| member.peering(&plane)).transpose()?.flatten() {
        plane = plane.with_peers(peering);
    }
    let mut view = plane.view();
    let parts = match member {
        Some(member) => Some(member.join(&plane, &mut view).await?),
        None => None,
    };
    let admin = Admin::bind(&admin, view).await?;
    tracing::info!(listen = %plane.address(), metrics = %admin.metrics(), debug = ?admin.debug(), "serving");
    let parts = async {
        match parts {
            Some(parts) => parts.run(ended.clone()).await,
            None => stopped(ended.clone()).await,
        }
    };
    let both = async { tokio::join!(plane.serve(stopped(ended.clone())), parts).0 };
    tokio::select! {
        served = both => served.map_err(Failure::Ended),
        never = admin.serve() => match never {},
    }
}

fn signals() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    })
}

/// `RUST_LOG` chooses; kube says the same at each of its requests, and errors are ours to say.
fn log(format: LogFormat) {
    let level = tracing_subscriber::EnvFilter::try_from_default_env();
    let level = level.unwrap_or_else(|_| "info,kube_client::client::builder=off".into());
    let lines = tracing_subscriber::fmt().with_env_filter(level).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Each data plane needs a descriptor, and two while one of its streams takes over; shells give a thousand.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit on open files cannot be raised");
    }
}
