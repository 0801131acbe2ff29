//! Processes of a run: the proxy and engines, each on free ports of loopback, killed when the run ends.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

const READY: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// The model of backend 0, which is what most runs need.
pub const MODEL: &str = "model-0";

/// Where programs are and where a run's files go.
#[derive(Debug)]
pub struct Site {
    programs: PathBuf,
    dir: PathBuf,
}

impl Site {
    /// Programs are those beside this one.
    pub fn new() -> anyhow::Result<Self> {
        let me = std::env::current_exe()?;
        Self::of(me.parent().context("a program lies in a folder")?)
    }

    /// With programs from this folder.
    pub fn of(programs: &Path) -> anyhow::Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let programs = programs.to_path_buf();
        let name = format!("must-show-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir)?;
        Ok(Self { programs, dir })
    }

    /// Starts an engine and waits until it listens.
    pub fn engine(&self, address: SocketAddr, model: &str, args: &[&str]) -> anyhow::Result<Child> {
        let listen = address.to_string();
        let own = ["--listen", &listen, "--model", model];
        let child = self.start("engine-sim", own.into_iter().chain(args.iter().copied()), &listen)?;
        child.wait_listening(address)?;
        Ok(child)
    }

    /// Starts the proxy of one core on this snapshot and waits until it listens.
    pub fn proxy(&self, snapshot: &Value, driver: &str) -> anyhow::Result<Proxy> {
        let file = self.dir.join("snapshot.json");
        std::fs::write(&file, serde_json::to_vec(snapshot)?)?;
        self.proxy_with(&["--snapshot", &file.display().to_string(), "--cores", "1", "--io-driver", driver])
    }

    /// The same by a configuration.
    pub fn proxy_by(&self, snapshot: &Value, driver: &str, config: &str) -> anyhow::Result<Proxy> {
        let (file, by) = (self.dir.join("snapshot.json"), self.dir.join("config.yaml"));
        std::fs::write(&file, serde_json::to_vec(snapshot)?)?;
        std::fs::write(&by, config)?;
        let [file, by] = [file, by].map(|path| path.display().to_string());
        self.proxy_with(&["--config", &by, "--snapshot", &file, "--cores", "1", "--io-driver", driver])
    }

    /// Starts a proxy of two cores that a control plane programs, and waits until it is ready.
    pub fn programmed(&self, control: &Control) -> anyhow::Result<Proxy> {
        self.programmed_from(control.stream, &[])
    }

    /// The same with a folder in which it keeps what it holds, and from which it starts where nobody is there at that address.
    pub fn keeping(&self, stream: SocketAddr, folder: &Path) -> anyhow::Result<Proxy> {
        self.programmed_from(stream, &["--state-dir", &folder.display().to_string()])
    }

    fn programmed_from(&self, stream: SocketAddr, more: &[&str]) -> anyhow::Result<Proxy> {
        let stream = format!("http://{stream}");
        let proxy = self.proxy_with(&[&["--control-plane", &stream, "--cores", "2"], more].concat())?;
        wait_ready(proxy.metrics)?;
        Ok(proxy)
    }

    fn proxy_with(&self, args: &[&str]) -> anyhow::Result<Proxy> {
        let free = || Ok::<_, anyhow::Error>(free(Ipv4Addr::LOCALHOST)?);
        let (listen, metrics, debug) = (free()?, free()?, free()?);
        let ports = [listen, metrics, debug].map(|address| address.port().to_string());
        let own = ["--bind", "127.0.0.1", "--port", &ports[0], "--metrics-port", &ports[1], "--debug-port", &ports[2]];
        let child = self.start("kthena-dataplane", own.into_iter().chain(args.iter().copied()), "proxy")?;
        child.wait_listening(listen)?;
        Ok(Proxy { child, listen, metrics })
    }

    /// Starts a control plane over a directory and waits until it is ready.
    pub fn control(&self, manifests: &Path) -> anyhow::Result<Control> {
        self.control_with(&["serve", &manifests.display().to_string()])
    }

    /// Starts a control plane by these arguments and waits until it is ready.
    pub fn control_with(&self, args: &[&str]) -> anyhow::Result<Control> {
        let (stream, metrics) = (free(Ipv4Addr::LOCALHOST)?, free(Ipv4Addr::LOCALHOST)?);
        self.control_at(args, stream, metrics)
    }

    /// Kills it and starts it again where it was; waits until it is ready.
    pub fn restart(&self, control: Control, args: &[&str]) -> anyhow::Result<Control> {
        let Control { child, stream, metrics } = control;
        drop(child);
        self.control_at(args, stream, metrics)
    }

    fn control_at(&self, args: &[&str], stream: SocketAddr, metrics: SocketAddr) -> anyhow::Result<Control> {
        let addresses = [stream, metrics].map(|address| address.to_string());
        let own = ["--listen", &addresses[0], "--metrics-address", &addresses[1], "--debug-port", "0"];
        let child = self.start("kthena-controlplane", args.iter().copied().chain(own), "control")?;
        child.wait_listening(metrics)?;
        wait_ready(metrics)?;
        Ok(Control { child, stream, metrics })
    }

    /// A folder of this run.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn start<'a>(&self, program: &str, args: impl Iterator<Item = &'a str>, log: &str) -> anyhow::Result<Child> {
        let path = self.programs.join(program);
        if !path.exists() {
            bail!("{} is missing: cargo build --release -p dataplane -p controlplane -p bench", path.display());
        }
        let output = File::create(self.dir.join(format!("{log}.log")))?;
        // It replaces itself by the program, and the kernel kills that when this process is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(path).args(args);
        command.env("ACCESS_LOG_OUTPUT", self.dir.join("access.log"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let process = command.spawn().with_context(|| format!("setpriv (util-linux) could not start {program}"))?;
        Ok(Child { process, log: self.dir.join(format!("{log}.log")) })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A leftover in the temporary folder is no reason to fail a run that is over.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Its process.
    pub child: Child,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where readiness and metrics are.
    pub metrics: SocketAddr,
}

/// A running control plane.
#[derive(Debug)]
pub struct Control {
    /// Its process.
    pub child: Child,
    /// Where data planes connect.
    pub stream: SocketAddr,
    /// Where readiness and metrics are.
    pub metrics: SocketAddr,
}

/// A process that does not outlive this value.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    log: PathBuf,
}

impl Child {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a child has an id")?;
        Ok(rustix::process::kill_process(pid, Signal::TERM)?)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.process.try_wait()? {
                Some(status) => return Ok(status),
                None if Instant::now() > deadline => bail!("it has not ended after {limit:?}"),
                None => std::thread::sleep(POLL),
            }
        }
    }

    fn wait_listening(&self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("nothing listens on {address} after {READY:?}: {said:.2000}");
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself, which is what is wanted here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until `/readyz` answers 200.
fn wait_ready(metrics: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY;
    let ask = || {
        let mut stream = TcpStream::connect(metrics).ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    };
    loop {
        let answer = ask().unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{metrics} is not ready after {READY:?}: {answer}");
        std::thread::sleep(POLL);
    }
}

/// A free port of this address.
pub fn free(host: Ipv4Addr) -> std::io::Result<SocketAddr> {
    TcpListener::bind((host, 0))?.local_addr()
}

/// Free addresses for engines: 127.0.0.2, 127.0.0.3, and so on.
pub fn addresses(count: u8) -> std::io::Result<Vec<SocketAddr>> {
    (0..count).map(|n| free(Ipv4Addr::new(127, 0, 0, n + 2))).collect()
}

/// Addresses for engines of one server, at one port that is free at the first of them.
pub fn at_one_port(count: u8) -> std::io::Result<Vec<SocketAddr>> {
    let port = free(Ipv4Addr::new(127, 0, 0, 2))?.port();
    Ok((0..count).map(|n| SocketAddr::from(([127, 0, 0, n + 2], port))).collect())
}

/// A snapshot in which backend `n`, with these endpoints, serves `model-n`.
pub fn snapshot(backends: &[&[SocketAddr]], profile: &Value, cache_tokens: u64) -> Value {
    let route = |n: usize| {
        json!({"name": format!("show/{n}"), "model": format!("model-{n}"),
            "rules": [{"name": "all", "targets": [{"backend": format!("show/{n}"), "weight": 1}]}]})
    };
    let endpoint = |address: &SocketAddr| json!({"name": format!("show/{}", address.ip()), "address": address.to_string(), "cacheTokens": cache_tokens.to_string()});
    let backend = |(n, addresses): (usize, &&[SocketAddr])| {
        json!({"name": format!("show/{n}"), "engine": "VLLM", "profile": "show",
            "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>()})
    };
    let mut profile = profile.clone();
    profile["name"] = json!("show");
    json!({"profiles": [profile], "routes": (0..backends.len()).map(route).collect::<Vec<_>>(),
        "backends": backends.iter().enumerate().map(backend).collect::<Vec<_>>()})
}

/// The default profile.
pub fn locality() -> Value {
    json!({"localityCost": {}})
}

/// Writes a snapshot for a test or a run in one process.
pub fn write_snapshot(path: &Path, snapshot: &Value) -> anyhow::Result<()> {
    Ok(std::fs::write(path, serde_json::to_vec(snapshot)?)?)
}
