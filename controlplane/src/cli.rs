//! The command line: what can be asked of manifests, or of a cluster's objects, without running anything.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Typed};
use crate::crd;
use crate::definitions::Crds;
use crate::explain::{Query, explain};
use crate::process::{self, Failure};
use crate::publish::{Built, Memory, Settings, Verdicts, build};
use crate::report::Report;
use crate::run::StartError;
use crate::source::Reading;
use crate::source::directory::Directory;
use crate::wait::Wait;

mod objects;

use objects::Objects;

/// What sysexits.h calls a usage error.
const USAGE: u8 = 64;

/// Turns custom resources and pods into the tables that data planes run.
#[derive(Debug, Parser)]
#[command(name = "kthena-controlplane", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says everything that is wrong with manifests, or with the objects of a cluster. Ends with 0 where nothing is, with 1
    /// where something would be refused, and with 64 where they cannot be read.
    Check {
        #[command(flatten)]
        objects: Objects,
    },
    /// Says by which route and rule a request would go, why, and to which endpoints. Ends with 1 where it would go nowhere, and
    /// with 64 where the objects cannot be read.
    Explain {
        /// The model that the client asks for.
        #[arg(long)]
        model: String,
        /// The request's path.
        #[arg(long, default_value = "/v1/chat/completions")]
        path: String,
        /// A header as `Name=value`; may be given several times.
        #[arg(long, value_name = "NAME=VALUE", value_parser = header)]
        header: Vec<(String, String)>,
        #[command(flatten)]
        objects: Objects,
    },
    /// Serves the objects of a cluster or of a directory to data planes (`kthena-dataplane --control-plane`) and follows their
    /// edits, until SIGTERM or Ctrl-C.
    Serve {
        /// A YAML file of the same names, with `_` for `-`. A flag beats it.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        typed: Box<Typed>,
    },
    /// Prints the CustomResourceDefinitions as YAML.
    Crdgen {
        /// Writes one file for each into this folder instead.
        #[arg(long, value_name = "FOLDER")]
        write: Option<PathBuf>,
    },
    /// The CustomResourceDefinitions in a cluster.
    #[command(subcommand)]
    Crds(Crds),
    /// Waits until the pods of a DaemonSet are ready on all its nodes. Ends with 1 where they are not in time.
    Wait(Wait),
    /// Prints the snapshot that data planes would run; `kthena-dataplane --snapshot` takes it.
    Build {
        /// Salts the prefix hashes: keep it secret, and the same for all data planes. Random where it is left out.
        #[arg(long)]
        fleet_seed: Option<u64>,
        /// A YAML or JSON file, or a directory of such files.
        path: PathBuf,
    },
}

/// Runs what was typed; the exit code is for scripts.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => cli.run(),
        Err(said) => {
            // Help and version end here too, and are no errors. Nobody can be told that they could not be printed.
            let _ = said.print();
            if said.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
    }
}

impl Cli {
    fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Check { objects } => check(&objects),
            Command::Explain { model, path, header, objects } => {
                let path = path.split('?').next().unwrap_or_default().to_owned();
                let query = Query { model, path, headers: header.into_iter().collect() };
                explain_query(&query, &objects)
            }
            Command::Build { fleet_seed, path } => print_snapshot(fleet_seed, &path),
            Command::Serve { config, typed } => serve(config.as_deref(), *typed),
            Command::Crds(crds) => crds.run(),
            Command::Wait(wait) => wait.run(),
            Command::Crdgen { write: None } => print(&crd::stream()),
            Command::Crdgen { write: Some(folder) } => match crd::write(&folder) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error) => Err(format!("{}: {error}", folder.display())),
            },
        };
        done.unwrap_or_else(|sentence| {
            eprintln!("kthena-controlplane: {sentence}");
            ExitCode::from(USAGE)
        })
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as Name=value")?;
    Ok((name.trim().to_ascii_lowercase(), value.to_owned()))
}

fn check(objects: &Objects) -> Result<ExitCode, String> {
    let reading = objects.read()?;
    let built = built(&reading, Settings::default());
    let report = Report::of(&reading, &built.verdicts);
    eprint!("{}", report.problems());
    if report.is_bad() {
        return Ok(ExitCode::FAILURE);
    }
    print(&format!("{objects}: ok ({}, {} objects of other kinds)\n", counts(&built), reading.others))
}

fn explain_query(query: &Query, objects: &Objects) -> Result<ExitCode, String> {
    let reading = objects.read()?;
    let built = built(&reading, Settings::default());
    let explanation = explain(&built.snapshot, query);
    let mut text = explanation.to_string();
    for (name, sentence) in not_published(&built.verdicts, &reading, &query.model) {
        let _ = writeln!(text, "route {name} has this model too and is not published: {sentence}");
    }
    let nowhere = explanation.end.is_none();
    print(&text).map(|code| if nowhere { ExitCode::FAILURE } else { code })
}

/// Routes with the model's name that the snapshot lacks, and why.
fn not_published(verdicts: &Verdicts, reading: &Reading, model: &str) -> Vec<(String, String)> {
    let absent = verdicts.routes.iter().filter(|(_, verdict)| !verdict.published);
    let named = absent.filter(|(name, _)| {
        reading.world.routes.get(*name).and_then(|held| held.spec.as_ref().ok()).is_some_and(|spec| {
            spec.model_name.as_deref() == Some(model) || spec.lora_adapters.iter().any(|adapter| adapter == model)
        })
    });
    named.map(|(name, verdict)| (name.to_string(), verdict.accepted.message.clone())).collect()
}

fn print_snapshot(fleet_seed: Option<u64>, path: &Path) -> Result<ExitCode, String> {
    let fleet_seed = fleet_seed.map_or_else(process::random_seed, Ok);
    let fleet_seed = fleet_seed.map_err(|error| format!("no random numbers: {error}; give --fleet-seed"))?;
    let (_, reading) = Directory::open(path)?;
    let built = built(&reading, Settings { fleet_seed });
    let report = Report::of(&reading, &built.verdicts);
    eprint!("{}", report.problems());
    print(&api::json::snapshot_to_json(&built.snapshot))
        .map(|code| if report.is_bad() { ExitCode::FAILURE } else { code })
}

fn serve(file: Option<&Path>, typed: Typed) -> Result<ExitCode, String> {
    let from_file = match file {
        Some(path) => {
            let said = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|error| said(&error))?;
            Typed::of_yaml(&text).map_err(|error| said(&error))?
        }
        None => Typed::default(),
    };
    let config = config::resolve(typed.or(from_file)).map_err(|problems| problems.to_string())?;
    match process::run(config) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Failure::Start(StartError::Source(sentence))) => Err(sentence),
        Err(failure) => {
            eprintln!("kthena-controlplane: {failure}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn built(reading: &Reading, settings: Settings) -> Built {
    build(&reading.world, &settings, &mut Memory::default())
}

fn counts(built: &Built) -> String {
    let Built { snapshot, verdicts } = built;
    let endpoints: usize = snapshot.backends.iter().map(|backend| backend.endpoints.len()).sum();
    let (routes, servers) = (verdicts.routes.len(), verdicts.servers.len());
    format!("{routes} ModelRoutes, {servers} ModelServers, {endpoints} endpoints")
}

/// A reader that has had enough, as `head`, is no error.
fn print(text: &str) -> Result<ExitCode, String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(ExitCode::SUCCESS),
    }
}
