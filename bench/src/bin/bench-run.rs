//! Runs the performance budget interleaved: the floor, bare relays, ours on both drivers, haproxy and nginx where they
//! are installed. `.ci/run bench` calls it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bench::runner::contender::{Contender, Kind, Profile};
use bench::runner::row::{Rates, Row, Scale};
use bench::runner::{self, Options, table};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Measures proxies side by side and writes `<date>-<name>.json` and `.md`.
#[derive(Debug, Parser)]
struct Args {
    /// Names the result files.
    #[arg(long, default_value = "budget")]
    name: String,
    /// Where programs lie that are not named; without it, beside this one.
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Rows, in this order; all without it.
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Only contenders with these names (`direct` and `floor` are always there).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests per second of the row `small`; 0 sends as fast as answers come. So do the next two.
    #[arg(long, default_value_t = 4000.0)]
    small_rate: f64,
    #[arg(long, default_value_t = 2000.0)]
    prompt_rate: f64,
    #[arg(long, default_value_t = 3000.0)]
    new_connection_rate: f64,
    /// Streams at a time at full speed.
    #[arg(long, default_value_t = 4)]
    full_speed: usize,
    /// Marks that our prefix table holds before it is measured; 0 measures it empty.
    #[arg(long, default_value_t = 1_000_000)]
    marks: u64,
    /// Streams at a time in the paced rows.
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// Requests per second of the latency row.
    #[arg(long, default_value_t = 3000.0)]
    half_load: f64,
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    #[arg(long, default_value_t = 3000)]
    duration_ms: u64,
    #[arg(long, default_value_t = 1000)]
    warmup_ms: u64,
    /// Engines listen here.
    #[arg(long, value_delimiter = ',', default_values = ["127.0.0.2:19000", "127.0.0.3:19000"])]
    engines: Vec<SocketAddr>,
    /// A further flag of the engine; repeat for more.
    #[arg(long = "engine-arg", allow_hyphen_values = true)]
    engine_args: Vec<String>,
    #[arg(long, default_value = "sim")]
    model: String,
    /// A further flag of our proxy, `{port}`, `{admin_port}`, `{debug_port}` and `{dir}` replaced; repeat for more.
    #[arg(long = "ours-arg", allow_hyphen_values = true)]
    ours_args: Vec<String>,
    /// `NAME=PROGRAM`, another build of our proxy that takes part on io_uring: two revisions beside each other. Repeat for more.
    #[arg(long, value_parser = named_program)]
    also: Vec<(String, PathBuf)>,
    /// A snapshot for our proxy, `{engine0}`, `{engine1}` and `{model}` replaced; made where it is not given.
    #[arg(long)]
    snapshot: Option<PathBuf>,
    #[arg(long, default_value_t = 19100)]
    first_port: u16,
    /// CPUs of the proxies.
    #[arg(long, value_delimiter = ',')]
    proxy_cpus: Vec<usize>,
    /// CPUs of engines and load.
    #[arg(long, value_delimiter = ',')]
    other_cpus: Vec<usize>,
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let descriptors = raise_descriptors()?;
    let beside = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    let bin_dir = args.bin_dir.clone().unwrap_or(beside);
    let options = Options {
        contenders: contenders(&args, &bin_dir)?,
        name: args.name,
        rows: if args.rows.is_empty() { Row::ALL.to_vec() } else { args.rows },
        scale: Scale {
            connections: args.connections,
            rates: Rates { small: args.small_rate, prompt: args.prompt_rate, new_connection: args.new_connection_rate },
            streams: args.streams,
            full_speed: args.full_speed,
            half_load: args.half_load,
            // Each takes a descriptor here and one there; an engine connection may add a few.
            idle: args.idle.min(usize::try_from(descriptors / 2).unwrap_or(usize::MAX).saturating_sub(500)),
            duration: Duration::from_millis(args.duration_ms),
            warmup: Duration::from_millis(args.warmup_ms),
        },
        rounds: args.rounds.max(1),
        engine: bin_dir.join("engine-sim"),
        engine_args: args.engine_args,
        engines: args.engines,
        model: args.model,
        first_port: args.first_port,
        proxy_cpus: args.proxy_cpus,
        other_cpus: args.other_cpus,
        marks: args.marks,
        results: args.results,
    };
    println!("{}", runner::run(options)?);
    Ok(())
}

fn named_program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text.split_once('=').ok_or("NAME=PROGRAM is wanted")?;
    Ok((name.to_owned(), PathBuf::from(program)))
}

/// Takes all descriptors that this process may have; children inherit them.
fn raise_descriptors() -> anyhow::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Who takes part: what is not installed is said and left out, only the floor is a must.
fn contenders(args: &Args, bin_dir: &Path) -> anyhow::Result<Vec<Contender>> {
    let floor = bin_dir.join("relay-floor");
    anyhow::ensure!(floor.exists(), "{} is missing: cargo build --release -p bench", floor.display());
    let named = |name: &str, kind| Contender { name: name.to_owned(), kind };
    let mut list =
        vec![named(table::DIRECT, Kind::Direct), named(table::FLOOR, Kind::Relay { program: floor, args: vec![] })];
    let mut optional = Vec::new();
    for driver in ["uring", "epoll"] {
        let bare = Kind::Relay { program: bin_dir.join("relay-monoio"), args: vec!["--driver".into(), driver.into()] };
        optional.push((bin_dir.join("relay-monoio"), named(&format!("bare-{driver}"), bare)));
        for (profile, suffix) in [(Profile::Locality, ""), (Profile::Random, table::PLAIN)] {
            let program = bin_dir.join("kthena-dataplane");
            let mut ours_args = vec!["--io-driver".to_owned(), driver.to_owned()];
            ours_args.extend(args.ours_args.iter().cloned());
            // A snapshot that was given has one profile only.
            let snapshot = args.snapshot.clone().filter(|_| profile == Profile::Locality);
            let kind = Kind::Ours { program: program.clone(), snapshot, profile, args: ours_args };
            optional.push((program, named(&format!("ours-{driver}{suffix}"), kind)));
        }
    }
    for (name, program) in &args.also {
        let (profile, ours_args) = (Profile::Locality, vec!["--io-driver".to_owned(), "uring".to_owned()]);
        let kind = Kind::Ours { program: program.clone(), snapshot: args.snapshot.clone(), profile, args: ours_args };
        optional.push((program.clone(), named(name, kind)));
    }
    for (name, kind) in [("haproxy", Kind::Haproxy as fn(PathBuf) -> Kind), ("nginx", Kind::Nginx)] {
        let places =
            ["/usr/sbin", "/usr/local/sbin", "/usr/local/bin", "/usr/bin"].map(|place| Path::new(place).join(name));
        let program = places.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name));
        optional.push((program.clone(), named(name, kind(program))));
    }
    for (program, contender) in optional {
        let also = args.also.iter().any(|(name, _)| *name == contender.name);
        let wanted = also || args.only.is_empty() || args.only.contains(&contender.name);
        match (wanted, program.exists()) {
            (true, true) => list.push(contender),
            (true, false) => eprintln!("left out: {} ({} is missing)", contender.name, program.display()),
            (false, _) => {}
        }
    }
    Ok(list)
}
