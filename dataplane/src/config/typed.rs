//! Flags, environment and YAML as typed, and the one function that gives them their meaning. A flag beats a variable,
//! a variable beats the file.

mod source;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::snapshot::UsageInjection;
use dataplane_core::http::{HeadLimits, MAX_FIELDS};
use serde::Deserialize;

use super::{
    AccessLog, AdminPlaces, Config, Cores, Drain, DrainReadiness, Expose, Limits, ListenWhen, LogFormat, LogOutput,
    parse_duration,
};
use crate::rt::DriverChoice;

use source::TypedControlPlane;

/// Who connects before there is any snapshot waits so long for one, unless typed otherwise: a stream to a control plane that is there takes
/// much less.
const HOLD: Duration = Duration::from_secs(5);

/// The flags, as far as they were given.
#[derive(Debug, Clone, Default)]
pub struct Args {
    /// `--snapshot`
    pub snapshot: Option<PathBuf>,
    /// `--control-plane`
    pub control_plane: Option<String>,
    /// `--control-plane-ca`
    pub control_plane_ca: Option<PathBuf>,
    /// `--control-plane-token`
    pub control_plane_token: Option<PathBuf>,
    /// `--control-plane-server-name`
    pub control_plane_server_name: Option<String>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
    /// `--port`
    pub port: Option<u16>,
    /// `--metrics-port`
    pub metrics_port: Option<u16>,
    /// `--debug-port`
    pub debug_port: Option<u16>,
    /// `--admin-socket`
    pub admin_socket: Option<PathBuf>,
    /// `--bind`
    pub bind: Option<IpAddr>,
    /// `--io-driver`
    pub io_driver: Option<String>,
    /// `--cores`
    pub cores: Option<usize>,
}

/// The variables that the reference knows, as far as they are set.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `ACCESS_LOG_ENABLED`
    pub access_log_enabled: Option<String>,
    /// `ACCESS_LOG_FORMAT`
    pub access_log_format: Option<String>,
    /// `ACCESS_LOG_OUTPUT`
    pub access_log_output: Option<String>,
    /// `DRAIN_TIMEOUT`
    pub drain_timeout: Option<String>,
    /// `NODE_NAME`
    pub node_name: Option<String>,
    /// `POD_NAMESPACE`
    pub pod_namespace: Option<String>,
}

impl Environment {
    /// Reads the variables of this process.
    pub fn read() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            access_log_enabled: var("ACCESS_LOG_ENABLED"),
            access_log_format: var("ACCESS_LOG_FORMAT"),
            access_log_output: var("ACCESS_LOG_OUTPUT"),
            drain_timeout: var("DRAIN_TIMEOUT"),
            node_name: var("NODE_NAME"),
            pod_namespace: var("POD_NAMESPACE"),
        }
    }
}

/// The YAML file as typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Typed {
    snapshot: Option<PathBuf>,
    control_plane: TypedControlPlane,
    bind: Option<IpAddr>,
    port: Option<u16>,
    listen_when: Option<String>,
    hold: Option<String>,
    metrics_port: Option<u16>,
    debug_port: Option<u16>,
    debug_bind: Option<IpAddr>,
    admin_socket: Option<PathBuf>,
    cores: Option<usize>,
    io: TypedIo,
    limits: TypedLimits,
    drain: TypedDrain,
    access_log: TypedAccessLog,
    expose: TypedExpose,
    usage: TypedUsage,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TypedIo {
    driver: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TypedLimits {
    head_bytes: Option<usize>,
    head_fields: Option<usize>,
    uri_bytes: Option<usize>,
    body_bytes: Option<usize>,
    buffered_bytes: Option<usize>,
    connections: Option<usize>,
    header_time: Option<String>,
    body_idle: Option<String>,
    write_idle: Option<String>,
    keep_alive_idle: Option<String>,
    pool_size: Option<usize>,
    pool_idle: Option<String>,
    offload_bytes: Option<usize>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TypedDrain {
    lead: Option<String>,
    deadline: Option<String>,
    readiness: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TypedAccessLog {
    enabled: Option<bool>,
    format: Option<String>,
    output: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TypedExpose {
    endpoint: bool,
    decision: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TypedUsage {
    inject: Option<String>,
}

impl Typed {
    /// Reads the YAML text of a configuration file.
    pub fn from_yaml(text: &str) -> Result<Self, Problem> {
        serde_norway::from_str(text).map_err(|e| Problem { key: "config file".into(), sentence: e.to_string() })
    }

    /// Whether it says where the snapshot comes from.
    pub fn names_a_source(&self) -> bool {
        self.snapshot.is_some() || self.control_plane.names_an_address()
    }
}

/// One thing that is wrong, by the key that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, flag or variable.
    pub key: String,
    /// What is wrong and what to write instead.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.sentence)
    }
}

/// Gives flags, variables and file their meaning, or says all that is wrong with them.
pub fn resolve(args: Args, env: Environment, typed: Typed) -> Result<Config, Vec<Problem>> {
    let mut check = Check::default();
    let limits = resolve_limits(&mut check, &typed.limits);
    let drain = resolve_drain(&mut check, &env, &typed.drain);
    let access_log = resolve_access_log(&mut check, &env, &typed.access_log);
    let driver = resolve_driver(&mut check, args.io_driver.as_deref().or(typed.io.driver.as_deref()));
    let usage_inject = resolve_usage(&mut check, typed.usage.inject.as_deref());
    let bind = args.bind.or(typed.bind).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let admin = resolve_admin(&args, &typed, bind);
    let listen_when = resolve_listen_when(&mut check, typed.listen_when.as_deref());
    let hold = check.duration("hold", typed.hold.as_deref(), HOLD, Duration::ZERO);
    let cores = match args.cores.or(typed.cores) {
        None | Some(0) => Cores::All,
        Some(n) => Cores::First(n),
    };
    let listen = SocketAddr::new(bind, args.port.or(typed.port).unwrap_or(8080));
    check_ports(&mut check, listen, &admin);
    let control_plane = typed.control_plane.overridden_by(&args);
    let source = source::resolve(&mut check, args.snapshot.or(typed.snapshot), control_plane, &env);
    check.done(Config {
        listen,
        listen_when,
        hold,
        admin,
        source,
        driver,
        cores,
        limits,
        drain,
        access_log,
        expose: Expose { endpoint: typed.expose.endpoint, decision: typed.expose.decision },
        usage_inject,
    })
}

fn resolve_listen_when(check: &mut Check, typed: Option<&str>) -> ListenWhen {
    match typed {
        None | Some("started") => ListenWhen::Started,
        Some("loaded") => ListenWhen::Loaded,
        Some(other) => {
            check.say("listen_when", format!("`{other}` is neither started nor loaded"));
            ListenWhen::default()
        }
    }
}

/// With a socket there are ports only where they are asked for.
fn resolve_admin(args: &Args, typed: &Typed, bind: IpAddr) -> AdminPlaces {
    let socket = args.admin_socket.clone().or(typed.admin_socket.clone());
    let debug_bind = typed.debug_bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let port = |typed: Option<u16>, default| typed.or(socket.is_none().then_some(default));
    let metrics = port(args.metrics_port.or(typed.metrics_port), 9090);
    let debug = port(args.debug_port.or(typed.debug_port), 15000);
    AdminPlaces {
        metrics: metrics.map(|port| SocketAddr::new(bind, port)),
        debug: debug.map(|port| SocketAddr::new(debug_bind, port)),
        socket,
    }
}

/// All of them share their ports with whoever has them already, so of two listeners at one place each would get some of the other's
/// connections, and nobody would be told.
fn check_ports(check: &mut Check, listen: SocketAddr, admin: &AdminPlaces) {
    // Port 0 is another one each time.
    let overlap = |a: SocketAddr, b: SocketAddr| a.port() == b.port() && a.port() != 0 && meet(a.ip(), b.ip());
    let mut places = vec![("port", listen)];
    let admin = [("metrics_port", admin.metrics), ("debug_port", admin.debug)];
    for (key, place) in admin.into_iter().filter_map(|(key, place)| Some((key, place?))) {
        if let Some((other, _)) = places.iter().find(|(_, other)| overlap(*other, place)) {
            check.say(key, format!("{} is `{other}` already: choose another", place.port()));
        }
        places.push((key, place));
    }
}

/// Whether connections come to both. `::` takes those of IPv4 too.
fn meet(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let all = |one: IpAddr, other: IpAddr| one.is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    a == b || all(a, b) || all(b, a)
}

fn resolve_limits(check: &mut Check, t: &TypedLimits) -> Limits {
    let d = Limits::default();
    let size = |check: &mut Check, key: &str, typed: Option<usize>, default: usize, range: (usize, usize)| match typed {
        None => default,
        Some(n) if (range.0..=range.1).contains(&n) => n,
        Some(n) => {
            check.say(&format!("limits.{key}"), format!("{n} is outside {} to {}", range.0, range.1));
            default
        }
    };
    let time = |check: &mut Check, key: &str, typed: &Option<String>, default: Duration| {
        check.duration(&format!("limits.{key}"), typed.as_deref(), default, Duration::from_millis(100))
    };
    Limits {
        head: HeadLimits {
            head_bytes: size(check, "head_bytes", t.head_bytes, d.head.head_bytes as usize, (1 << 10, 1 << 20)) as u32,
            fields: size(check, "head_fields", t.head_fields, d.head.fields as usize, (8, MAX_FIELDS)) as u16,
            uri_bytes: size(check, "uri_bytes", t.uri_bytes, d.head.uri_bytes as usize, (256, 1 << 18)) as u32,
        },
        body_bytes: size(check, "body_bytes", t.body_bytes, d.body_bytes, (1 << 10, 1 << 30)),
        buffered_bytes: size(check, "buffered_bytes", t.buffered_bytes, d.buffered_bytes, (1 << 20, 1 << 36)),
        connections: size(check, "connections", t.connections, d.connections, (1, 10_000_000)),
        header_time: time(check, "header_time", &t.header_time, d.header_time),
        body_idle: time(check, "body_idle", &t.body_idle, d.body_idle),
        write_idle: time(check, "write_idle", &t.write_idle, d.write_idle),
        keep_alive_idle: time(check, "keep_alive_idle", &t.keep_alive_idle, d.keep_alive_idle),
        pool_size: size(check, "pool_size", t.pool_size, d.pool_size, (1, 65_536)),
        pool_idle: time(check, "pool_idle", &t.pool_idle, d.pool_idle),
        offload_bytes: size(check, "offload_bytes", t.offload_bytes, d.offload_bytes, (1 << 12, 1 << 30)),
    }
}

fn resolve_drain(check: &mut Check, env: &Environment, t: &TypedDrain) -> Drain {
    let d = Drain::default();
    let deadline = env.drain_timeout.as_deref().or(t.deadline.as_deref());
    let readiness = match t.readiness.as_deref() {
        None | Some("false") => DrainReadiness::False,
        Some("keep") => DrainReadiness::Keep,
        Some(other) => {
            check.say("drain.readiness", format!("`{other}` is neither false nor keep"));
            DrainReadiness::False
        }
    };
    Drain {
        lead: check.duration("drain.lead", t.lead.as_deref(), d.lead, Duration::ZERO),
        deadline: check.duration("drain.deadline", deadline, d.deadline, Duration::ZERO),
        readiness,
    }
}

fn resolve_access_log(check: &mut Check, env: &Environment, t: &TypedAccessLog) -> AccessLog {
    let enabled = match env.access_log_enabled.as_deref() {
        None => t.enabled.unwrap_or(true),
        Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
        Some(other) => {
            check.say("ACCESS_LOG_ENABLED", format!("`{other}` is neither true nor false"));
            true
        }
    };
    let format = match env.access_log_format.as_deref().or(t.format.as_deref()) {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            check.say("access_log.format", format!("`{other}` is neither text nor json"));
            LogFormat::Text
        }
    };
    let output = match env.access_log_output.as_deref().or(t.output.as_deref()) {
        None | Some("stdout") => LogOutput::Stdout,
        Some("stderr") => LogOutput::Stderr,
        Some(path) => LogOutput::File(Path::new(path).to_owned()),
    };
    AccessLog { enabled, format, output }
}

fn resolve_driver(check: &mut Check, typed: Option<&str>) -> DriverChoice {
    match typed {
        None | Some("auto") => DriverChoice::Auto,
        Some("uring") => DriverChoice::Uring,
        Some("epoll") => DriverChoice::Epoll,
        Some(other) => {
            check.say("io.driver", format!("`{other}` is none of auto, uring, epoll"));
            DriverChoice::Auto
        }
    }
}

fn resolve_usage(check: &mut Check, typed: Option<&str>) -> UsageInjection {
    match typed {
        None | Some("always") => UsageInjection::Always,
        Some("policy") => UsageInjection::Policy,
        Some("never") => UsageInjection::Never,
        Some(other) => {
            check.say("usage.inject", format!("`{other}` is none of always, policy, never"));
            UsageInjection::Always
        }
    }
}

/// Collects problems, so that a user mends them all in one go.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn say(&mut self, key: &str, sentence: String) {
        self.problems.push(Problem { key: key.into(), sentence });
    }

    fn duration(&mut self, key: &str, typed: Option<&str>, default: Duration, least: Duration) -> Duration {
        let Some(text) = typed else { return default };
        match parse_duration(text) {
            Ok(d) if d >= least && d <= api::limits::MAX_TIMEOUT => d,
            Ok(_) => {
                self.say(key, format!("`{text}` is outside {least:?} to {:?}", api::limits::MAX_TIMEOUT));
                default
            }
            Err(sentence) => {
                self.say(key, sentence);
                default
            }
        }
    }

    fn done(self, config: Config) -> Result<Config, Vec<Problem>> {
        if self.problems.is_empty() { Ok(config) } else { Err(self.problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &[&str]) {
        let args = Args { snapshot: Some("s.json".into()), ..Args::default() };
        let problems = match Typed::from_yaml(yaml) {
            Ok(typed) => resolve(args, Environment::default(), typed).err().unwrap_or_default(),
            Err(p) => vec![p],
        };
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), expected.len(), "{yaml}: {said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said} should say {expected}");
        }
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        check("{}", &[]);
    }

    #[test]
    fn all_problems_are_said_at_once() {
        check(
            "{io: {driver: kqueue}, drain: {readiness: maybe, lead: 5}, limits: {header_time: soon, body_bytes: 1}}",
            &["limits.body_bytes", "limits.header_time", "drain.readiness", "drain.lead", "io.driver"],
        );
    }

    #[test]
    fn with_a_socket_there_are_ports_only_where_they_are_asked_for() {
        let ports = |yaml: &str, metrics_port: Option<u16>| {
            let args = Args { snapshot: Some("s".into()), metrics_port, ..Args::default() };
            let admin = resolve(args, Environment::default(), Typed::from_yaml(yaml).unwrap()).unwrap().admin;
            (admin.metrics.map(|a| a.port()), admin.debug.map(|a| a.port()), admin.socket.is_some())
        };
        assert_eq!(ports("{}", None), (Some(9090), Some(15000), false));
        assert_eq!(ports("{admin_socket: /run/a}", None), (None, None, true));
        assert_eq!(ports("{admin_socket: /run/a, debug_port: 7}", Some(1)), (Some(1), Some(7), true));
    }

    #[test]
    fn one_port_for_two_is_refused_as_far_as_their_addresses_meet() {
        check("{port: 9090}", &["metrics_port: 9090 is `port` already"]);
        check("{port: 15000, metrics_port: 15000}", &["metrics_port: 15000", "debug_port: 15000 is `port`"]);
        check("{metrics_port: 15000}", &["debug_port: 15000 is `metrics_port` already"]);
        check("{bind: 127.0.0.1, metrics_port: 15000}", &["debug_port: 15000"]);
        check("{bind: 127.0.0.2, metrics_port: 15000}", &[]);
        check("{bind: '::', debug_port: 8080}", &["debug_port: 8080 is `port`"]);
        check("{bind: '::ffff:127.0.0.1', debug_port: 8080}", &["debug_port: 8080 is `port`"]);
        check("{bind: 0.0.0.0, debug_bind: '::1', debug_port: 8080}", &[]);
        check("{port: 0, metrics_port: 0, debug_port: 0}", &[]);
        check("{admin_socket: /run/a, port: 9090}", &[]);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        check("{limits: {hed_bytes: 1}}", &["hed_bytes"]);
    }

    #[test]
    fn a_flag_beats_the_file_and_a_variable_beats_both_defaults() {
        let args = Args { snapshot: Some("s".into()), port: Some(1), ..Args::default() };
        let env = Environment { access_log_format: Some("json".into()), ..Environment::default() };
        let typed = Typed::from_yaml("{port: 2, access_log: {format: text}}").unwrap();
        let config = resolve(args, env, typed).unwrap();
        assert_eq!((config.listen.port(), config.access_log.format), (1, LogFormat::Json));
    }
}
