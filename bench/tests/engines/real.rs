//! The real engines, where their packages are installed: a virtual environment that a variable names. How to make one is
//! in the recordings' READMEs; in short, of each `python3 -m venv V`, and then
//!
//! - `V/bin/pip install torchserve==0.12.0 torch-model-archiver==0.12.0 pyyaml` (and Java 17): `KTHENA_TORCHSERVE_VENV=V`
//! - `V/bin/pip install nvidia-pytriton==0.7.0`: `KTHENA_TRITON_VENV=V`

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// To come up, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(90);

/// A process and all that it has started, until it is dropped.
pub(crate) struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        // What has ended by itself cannot be ended.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

/// Where the engine is installed; where it is not, that is said.
pub(crate) fn venv(variable: &str, what: &str) -> Option<PathBuf> {
    let venv = std::env::var_os(variable).map(PathBuf::from);
    if venv.is_none() {
        eprintln!("SKIPPED: {variable} names no virtual environment with {what}");
    }
    venv
}

fn fixtures(engine: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(engine).join("models")
}

/// In a process group of its own, with its output in a file.
fn spawn(command: &mut Command, log: &Path) -> Engine {
    let out = fs::File::create(log).unwrap();
    let command = command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
    Engine(command.spawn().unwrap())
}

/// Waits until something listens at all of these.
fn listening(engine: Engine, addresses: &[SocketAddr], log: &Path) -> Engine {
    let deadline = Instant::now() + PATIENCE;
    while addresses.iter().any(|address| TcpStream::connect(address).is_err()) {
        assert!(Instant::now() < deadline, "it did not come up: {}", fs::read_to_string(log).unwrap());
        std::thread::park_timeout(Duration::from_millis(50));
    }
    engine
}

fn path_with(venv: &Path) -> std::ffi::OsString {
    let mut path = venv.join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// Two of them need folders and ports of their own: one writes its process id where the next would find it.
pub(crate) fn torchserve(venv: &Path, folder: &Path, ip: IpAddr, ports: [u16; 3]) -> Engine {
    let models = fixtures("torchserve");
    let home = folder.join(ip.to_string());
    for part in ["store", "stub/torch", "tmp"] {
        fs::create_dir_all(home.join(part)).unwrap();
    }
    fs::copy(models.join("torch_standin.py"), home.join("stub/torch/__init__.py")).unwrap();
    let archived = Command::new(venv.join("bin/torch-model-archiver"))
        .args(["--model-name", "small", "--version", "1.0", "--export-path"])
        .arg(home.join("store"))
        .arg("--handler")
        .arg(models.join("handler.py"))
        .arg("--config-file")
        .arg(models.join("mc-small.yaml"))
        .env("PATH", path_with(venv))
        .status();
    assert!(archived.unwrap().success());
    let [inference, management, metrics] = ports;
    let config = format!(
        "inference_address=http://{ip}:{inference}\nmanagement_address=http://{ip}:{management}\n\
         metrics_address=http://{ip}:{metrics}\ngrpc_inference_address={ip}\ngrpc_management_address={ip}\n\
         metrics_mode=prometheus\ndisable_token_authorization=true\n"
    );
    fs::write(home.join("config.properties"), config).unwrap();
    let log = home.join("log");
    let engine = spawn(
        Command::new(venv.join("bin/torchserve"))
            .args(["--foreground", "--model-store", "store", "--ts-config", "config.properties"])
            .args(["--no-config-snapshots", "--models", "small=small.mar"])
            .current_dir(&home)
            .env("PATH", path_with(venv))
            .env("PYTHONPATH", home.join("stub"))
            .env("TMPDIR", home.join("tmp")),
        &log,
    );
    listening(engine, &ports.map(|port| SocketAddr::new(ip, port)), &log)
}

/// The wheel does not put its Python stub where the server looks for it.
pub(crate) fn triton(venv: &Path, folder: &Path, ip: IpAddr, [http, _, metrics]: [u16; 3]) -> Engine {
    let ask = "import sys, sysconfig; print(sysconfig.get_path('purelib')); print(sysconfig.get_config_var('LIBDIR')); \
               print('%d.%d' % sys.version_info[:2])";
    let told = Command::new(venv.join("bin/python")).args(["-c", ask]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let mut lines = told.lines();
    let (packages, libraries, version) =
        (Path::new(lines.next().unwrap()), lines.next().unwrap(), lines.next().unwrap());
    let server = packages.join("pytriton/tritonserver");
    let stub = server.join("backends/python/triton_python_backend_stub");
    if !stub.exists() {
        fs::copy(server.join("python_backend_stubs").join(version).join("triton_python_backend_stub"), &stub).unwrap();
    }
    let home = folder.join(ip.to_string());
    fs::create_dir_all(&home).unwrap();
    let option = |name: &str, value: &dyn std::fmt::Display| format!("--{name}={value}");
    let (models, log) = (fixtures("triton"), home.join("log"));
    let libraries = format!("{}:{libraries}", packages.join("nvidia_pytriton.libs").display());
    let engine = spawn(
        Command::new(server.join("bin/tritonserver"))
            .arg(option("model-repository", &models.display()))
            .arg(option("backend-directory", &server.join("backends").display()))
            .arg(option("cache-directory", &server.join("caches").display()))
            .args([option("http-address", &ip), option("http-port", &http)])
            .args([option("metrics-address", &ip), option("metrics-port", &metrics), option("allow-grpc", &false)])
            .args(["--model-control-mode=explicit", "--load-model=slowq"])
            .current_dir(&home)
            .env("LD_LIBRARY_PATH", libraries)
            .env("PATH", path_with(venv))
            .env("PYTHONPATH", packages),
        &log,
    );
    listening(engine, &[http, metrics].map(|port| SocketAddr::new(ip, port)), &log)
}
