//! The two programs: their flags, when they are ready, and their end.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::identity::{self, Files};

pub(super) const AUDIT_LOG: &str = "audit.log";
const AUDIT_POLICY: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}"#;
/// It takes 4 s on two idle cores.
const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
const LOG_LINES: usize = 20;

/// One that runs. Dropped, it is killed and reaped.
#[derive(Debug)]
pub(super) struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    /// `setpriv` asks the kernel for a SIGKILL when the thread that spawns ends, and becomes the program.
    fn spawn(binaries: &Path, folder: &Path, name: &'static str, flags: &[String]) -> Result<Self> {
        let log = File::create(folder.join(name).with_extension("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(binaries.join(name))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("running setpriv, of util-linux")?;
        Ok(Self { name, child })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Nothing of it is kept, so it needs no grace; an error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts both from the calling thread, on whose life they depend, and waits until the API server is ready.
pub(super) fn start(binaries: &Path, folder: &Path, files: &Files) -> Result<Vec<Program>> {
    let [client, peer, secure] = free_ports()?;
    let kubeconfig = identity::write_kubeconfig(folder, files, secure)?;
    fs::write(folder.join("audit-policy.json"), AUDIT_POLICY)?;
    let etcd = Program::spawn(binaries, folder, "etcd", &etcd_flags(folder, client, peer))?;
    let server = Program::spawn(binaries, folder, "kube-apiserver", &server_flags(folder, files, client, secure))?;
    let mut programs = vec![server, etcd];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ready(&mut programs, &kubeconfig)).with_context(|| logs(folder))?;
    Ok(programs)
}

async fn ready(programs: &mut [Program], kubeconfig: &Path) -> Result<()> {
    let client = super::client(kubeconfig).await?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        for program in programs.iter_mut() {
            if let Some(status) = program.child.try_wait()? {
                bail!("{} ended before it was ready: {status}", program.name);
            }
        }
        let request = http::Request::get("/readyz").body(Vec::new())?;
        let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
        match answer {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) if Instant::now() > deadline => bail!("not ready after {DEADLINE:?}: {error}"),
            Err(_) if Instant::now() > deadline => bail!("not ready after {DEADLINE:?}: no answer"),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

/// Free at this moment: the listeners are open together, so that the ports differ.
fn free_ports() -> Result<[u16; 3]> {
    let listen = || TcpListener::bind(("127.0.0.1", 0));
    let open = [listen()?, listen()?, listen()?];
    let port = |n: usize| open[n].local_addr().map(|address| address.port());
    Ok([port(0)?, port(1)?, port(2)?])
}

fn etcd_flags(folder: &Path, client: u16, peer: u16) -> Vec<String> {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn server_flags(folder: &Path, files: &Files, etcd: u16, port: u16) -> Vec<String> {
    let issuer = "https://kubernetes.default.svc";
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", files.server.certificate.display()),
        format!("--tls-private-key-file={}", files.server.key.display()),
        format!("--client-ca-file={}", files.authority.display()),
        "--authorization-mode=RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--service-account-issuer={issuer}"),
        format!("--api-audiences={issuer}"),
        format!("--service-account-key-file={}", files.tokens_public.display()),
        format!("--service-account-signing-key-file={}", files.tokens.display()),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        // Pods need no service account here: nothing would make the default one.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        // Else it logs for ever that a loopback address is no endpoint.
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--audit-policy-file={}", folder.join("audit-policy.json").display()),
        format!("--audit-log-path={}", folder.join(AUDIT_LOG).display()),
    ]
}

/// The end of each program's log.
pub(super) fn logs(folder: &Path) -> String {
    let mut text = String::new();
    for name in ["etcd.log", "kube-apiserver.log"] {
        let whole = fs::read_to_string(folder.join(name)).unwrap_or_else(|error| error.to_string());
        let lines: Vec<_> = whole.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        text.push_str(&format!("the end of {name}:\n{}\n", end.join("\n")));
    }
    text
}
