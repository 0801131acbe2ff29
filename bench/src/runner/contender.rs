//! Who takes part, and how each is started: one worker; connections to engines that are kept and used again, as many as there are; towards clients no
//! Nagle and no waiting for more of a stream; an access log to a file where that can be buffered. The rivals' configurations are here alone, below, each
//! setting that is not its default with its reason.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde::Serialize;

/// A program under test.
#[derive(Debug, Clone, Serialize)]
pub struct Contender {
    /// Its name in tables.
    pub name: String,
    /// How it is started.
    pub kind: Kind,
}

/// The kinds of program.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// No proxy: the first engine itself. Latency rows subtract it.
    Direct,
    /// The floor, or another bare relay with the same flags.
    Relay {
        /// The program.
        program: PathBuf,
        /// Further flags.
        args: Vec<String>,
    },
    /// Our proxy.
    Ours {
        /// The program.
        program: PathBuf,
        /// A snapshot file in which `{engineN}` stands for an engine's address and `{model}` for the model; none
        /// makes one with the default profile.
        snapshot: Option<PathBuf>,
        /// The profile of the made snapshot.
        profile: Profile,
        /// Further flags; `{port}` and `{dir}` are replaced.
        args: Vec<String>,
    },
    /// haproxy.
    Haproxy(PathBuf),
    /// nginx.
    Nginx(PathBuf),
}

/// How our proxy schedules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// The default: prefix-aware.
    Locality,
    /// No look at the prompt: what the prefix row is compared with.
    Random,
}

/// What a contender is started with.
#[derive(Debug)]
pub struct Setting<'a> {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    /// Where it sends.
    pub engines: &'a [SocketAddr],
    /// What the engines serve.
    pub model: &'a str,
    /// For its files; made if missing.
    pub dir: &'a Path,
    /// The row's answers are streams.
    pub streams: bool,
}

/// Ours does all that it does in life: JSON inspection and limits are always on, metrics too.
const OURS: &str = "access_log: {enabled: true, format: text, output: \"{dir}/access.log\"}
usage: {inject: always}
limits: {keep_alive_idle: 300s, pool_size: 4096}
";
/// Tokens that each engine's cache is said to hold: with 256 tokens in a mark, two engines hold 1.2 million marks. So the
/// table stays that large, and a full cache evicts as it does in life.
const CACHE_TOKENS: u64 = 160_000_000;

impl Contender {
    /// Where `/metrics` of our proxy is, if its table is to be filled before it is measured.
    pub fn fills(&self, port: u16) -> Option<SocketAddr> {
        let fills = matches!(self.kind, Kind::Ours { profile: Profile::Locality, snapshot: None, .. });
        fills.then(|| SocketAddr::from(([127, 0, 0, 1], port + 1)))
    }

    /// Writes its configuration and returns program and arguments; `None` for the direct way.
    pub fn command(&self, setting: &Setting<'_>) -> anyhow::Result<Option<(PathBuf, Vec<String>)>> {
        fs::create_dir_all(setting.dir).with_context(|| setting.dir.display().to_string())?;
        let file = |name: &str, text: String| {
            let path = setting.dir.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
            Ok::<String, anyhow::Error>(path.display().to_string())
        };
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        Ok(Some(match &self.kind {
            Kind::Direct => return Ok(None),
            Kind::Relay { program, args } => (program.clone(), relay_args(setting, args)),
            Kind::Ours { program, snapshot, profile, args } => {
                let text = match snapshot {
                    Some(path) => fs::read_to_string(path).with_context(|| path.display().to_string())?,
                    None => made_snapshot(setting, *profile),
                };
                let path = file("snapshot.json", fill(text, setting))?;
                let config = file("config.yaml", fill(OURS.to_owned(), setting))?;
                let [port, metrics, debug] = [0, 1, 2].map(|step| (setting.port + step).to_string());
                let mut all = words(&["--config", &config, "--snapshot", &path, "--port", &port]);
                all.extend(words(&["--metrics-port", &metrics, "--debug-port", &debug]));
                all.extend(words(&["--bind", "127.0.0.1", "--cores", "1"]));
                all.extend(args.iter().map(|arg| fill(arg.clone(), setting)));
                (program.clone(), all)
            }
            Kind::Haproxy(program) => (program.clone(), words(&["-db", "-f", &file("haproxy.cfg", haproxy(setting))?])),
            Kind::Nginx(program) => {
                let (dir, config) = (setting.dir.display().to_string(), file("nginx.conf", nginx(setting))?);
                (program.clone(), words(&["-p", &dir, "-c", &config, "-e", &format!("{dir}/error.log")]))
            }
        }))
    }

    /// What the program says about itself, in one line.
    pub fn version(&self) -> String {
        let (program, flag) = match &self.kind {
            Kind::Haproxy(program) | Kind::Nginx(program) => (program, "-v"),
            Kind::Direct | Kind::Relay { .. } | Kind::Ours { .. } => return "this revision".to_owned(),
        };
        let said = Command::new(program).arg(flag).output();
        let text = said.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("unknown").to_owned()
    }
}

fn relay_args(setting: &Setting<'_>, more: &[String]) -> Vec<String> {
    let mut args = vec!["--listen".to_owned(), format!("127.0.0.1:{}", setting.port)];
    for engine in setting.engines {
        args.extend(["--upstream".to_owned(), engine.to_string()]);
    }
    args.extend(more.iter().cloned());
    args
}

fn fill(text: String, setting: &Setting<'_>) -> String {
    let mut text = text
        .replace("{port}", &setting.port.to_string())
        .replace("{admin_port}", &(setting.port + 1).to_string())
        .replace("{debug_port}", &(setting.port + 2).to_string())
        .replace("{dir}", &setting.dir.display().to_string())
        .replace("{model}", setting.model);
    for (index, engine) in setting.engines.iter().enumerate() {
        text = text.replace(&format!("{{engine{index}}}"), &engine.to_string());
    }
    text
}

fn made_snapshot(setting: &Setting<'_>, profile: Profile) -> String {
    let endpoints = setting.engines.iter().enumerate().map(|(index, address)| {
        serde_json::json!({
            "name": format!("bench/engine-{index}"),
            "address": address.to_string(),
            "cacheTokens": CACHE_TOKENS.to_string(),
        })
    });
    let profile = match profile {
        Profile::Locality => serde_json::json!({ "name": "bench", "localityCost": {} }),
        Profile::Random => serde_json::json!({ "name": "bench", "weighted": { "scorers": [{ "random": {} }] } }),
    };
    serde_json::json!({
        "fleetSeed": "42",
        "routes": [{
            "name": "bench/route",
            "model": setting.model,
            "rules": [{ "name": "all", "targets": [{ "backend": "bench/backend", "weight": 100 }] }],
        }],
        "backends": [{
            "name": "bench/backend",
            "engine": "VLLM",
            "profile": "bench",
            "endpoints": endpoints.collect::<Vec<_>>(),
            "maxInFlight": 65_536,
            "usage": "ALWAYS",
        }],
        "profiles": [profile],
    })
    .to_string()
}

/// One thread, as ours has one core. What it does by itself is not said: Nagle is off, connections are kept on both sides, idle ones to engines are not bounded.
///
/// Without an access log, in its favour: this version writes or sends each line by a system call of its own, which costs it a fifth of its time, or
/// keeps lines in a ring for a syslog server that takes them by TCP, which would be one more process; it writes none to a file in larger pieces.
fn haproxy(setting: &Setting<'_>) -> String {
    // Kept for as long as a run lasts, whatever the load was a moment ago.
    let servers = setting
        .engines
        .iter()
        .enumerate()
        .map(|(index, engine)| format!("    server e{index} {engine} pool-purge-delay 300s\n"));
    // Its manual: only where parts of a message must not wait for the next ones. Events must not; of other answers it makes full segments.
    let delay = if setting.streams { "    option http-no-delay\n" } else { "" };
    format!(
        "global
    nbthread 1
defaults
    mode http
{delay}    timeout connect 1s
    timeout client 300s
    timeout server 300s
    timeout http-request 10s
    timeout http-keep-alive 300s
frontend bench
    bind 127.0.0.1:{} backlog 4096
    default_backend engines
backend engines
    balance roundrobin
    # A request may be the first one of its client on a connection that another one's made.
    http-reuse always
{}",
        setting.port,
        servers.collect::<String>()
    )
}

/// One process. `keepalive` bounds idle connections to engines, not those in use; both sides' are kept whatever their number of requests. A prompt stays in
/// memory. Towards engines it leaves Nagle on, which cannot be set: it writes a request at once.
fn nginx(setting: &Setting<'_>) -> String {
    let servers = setting.engines.iter().map(|engine| format!("        server {engine};\n")).collect::<String>();
    // Answers of known length are cheaper buffered; streams must not be.
    let buffering = if setting.streams { "off" } else { "on" };
    let (dir, port) = (setting.dir.display(), setting.port);
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {dir}/nginx.pid;
events {{ worker_connections 24000; use epoll; multi_accept on; }}
http {{
    access_log {dir}/access.log combined buffer=64k flush=1s;
    tcp_nodelay on;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_body_buffer_size 256k;
    client_max_body_size 32m;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream engines {{
{servers}        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 300s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_buffering {buffering};
            proxy_buffer_size 16k;
            proxy_buffers 8 16k;
            proxy_read_timeout 300s;
        }}
    }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, expected: &[&str], file: Option<(&str, &str)>) {
        let dir = std::env::temp_dir().join(format!("bench-contender-{}-{}", std::process::id(), expected.len()));
        let engines = ["127.0.0.2:1".parse().unwrap(), "127.0.0.3:2".parse().unwrap()];
        let setting = Setting { port: 80, engines: &engines, model: "m", dir: &dir, streams: true };
        let (_, args) = Contender { name: "c".to_owned(), kind }.command(&setting).unwrap().unwrap();
        let expected: Vec<String> =
            expected.iter().map(|word| word.replace("DIR", &dir.display().to_string())).collect();
        assert_eq!(args, expected);
        if let Some((name, part)) = file {
            let text = fs::read_to_string(dir.join(name)).unwrap();
            assert!(text.contains(part), "{part} is not in {text}");
        }
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn each_is_started_its_own_way() {
        let relay = Kind::Relay { program: "r".into(), args: vec!["--driver".to_owned(), "uring".to_owned()] };
        let listen = ["--listen", "127.0.0.1:80", "--upstream", "127.0.0.2:1", "--upstream", "127.0.0.3:2"];
        check(relay, &[&listen[..], &["--driver", "uring"]].concat(), None);
        let ours = Kind::Ours {
            program: "p".into(),
            snapshot: None,
            profile: Profile::Random,
            args: vec!["--io-driver".to_owned(), "epoll".to_owned()],
        };
        let files = ["--config", "DIR/config.yaml", "--snapshot", "DIR/snapshot.json"];
        let ports =
            ["--port", "80", "--metrics-port", "81", "--debug-port", "82", "--bind", "127.0.0.1", "--cores", "1"];
        check(
            ours,
            &[&files[..], &ports, &["--io-driver", "epoll"]].concat(),
            Some(("snapshot.json", "\"address\":\"127.0.0.3:2\"")),
        );
        check(Kind::Haproxy("h".into()), &["-db", "-f", "DIR/haproxy.cfg"], Some(("haproxy.cfg", "e1 127.0.0.3:2")));
        let nginx = ["-p", "DIR", "-c", "DIR/nginx.conf", "-e", "DIR/error.log"];
        check(Kind::Nginx("n".into()), &nginx, Some(("nginx.conf", "proxy_buffering off")));
    }

    #[test]
    fn rivals_wait_for_more_of_an_answer_only_where_it_is_no_stream() {
        let engines = ["127.0.0.2:1".parse().unwrap()];
        let check = |streams: bool, no_delay: bool, buffering: &str| {
            let setting = Setting { port: 80, engines: &engines, model: "m", dir: Path::new("/d"), streams };
            assert_eq!(haproxy(&setting).contains("    option http-no-delay\n"), no_delay);
            assert!(nginx(&setting).contains(buffering));
        };
        check(true, true, "proxy_buffering off;");
        check(false, false, "proxy_buffering on;");
    }
}
