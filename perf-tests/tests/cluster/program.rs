//! The real programs beside a real API server, started and killed by the test itself.

use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kubelet::built;
use perf_tests::cluster::{Cluster, Wanted};
use perf_tests::proxy::Proxy;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::until;

/// One that runs. Dropped, it is killed.
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Its log goes on where it ended, if it runs for the second time.
    pub fn start(folder: &Path, name: &str, args: &[String]) -> Self {
        let log = folder.join(name).with_extension("log");
        let out = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(built(name).unwrap())
            .args(args)
            .env("RUST_LOG", "info,kube_client::client::builder=off")
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// As `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            println!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// Ports that are free. They lie below those from which the kernel takes one for each connection that goes out (from 32768 on), so that none of
/// these has one by the time that a program listens there.
pub fn ports<const N: usize>() -> [u16; N] {
    const PORTS: Range<u32> = 20_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = || {
        // Test runs that go on at the same time begin at different places.
        let n = std::process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Relaxed));
        u16::try_from(PORTS.start + n % (PORTS.end - PORTS.start)).unwrap()
    };
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    [(); N].map(|()| PORTS.map(|_| next()).find(free).expect("a free port"))
}

/// The status and the body of what is there, where anything answers.
pub async fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some((answer.split(' ').nth(1)?.parse().ok()?, answer.split_once("\r\n\r\n")?.1.to_owned()))
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), exchange).await.ok().flatten()
}

/// A namespace with all that a control plane needs in it, and a proxy between the two.
pub struct Home {
    pub cluster: &'static Cluster,
    pub admin: Client,
    pub namespace: String,
    pub proxy: Proxy,
    pub kubeconfig: PathBuf,
    pub token: PathBuf,
    pub folder: TempDir,
    pub metrics: u16,
    pub stream: u16,
    pub webhook: u16,
}

impl Home {
    pub async fn new(cluster: &'static Cluster, prefix: &str) -> Self {
        let admin = cluster.admin().await.unwrap();
        cluster.install_definitions(&admin).await.unwrap();
        let namespace = cluster.namespace(&admin, prefix).await.unwrap();
        let rights = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/cluster/controlplane.yaml");
        // Each home has a ClusterRole and a binding of its own.
        let rights = std::fs::read_to_string(rights).unwrap().replace("kthena-system", &namespace);
        let (own, shared) =
            (format!("kthena-controlplane-{namespace}"), "kind: ClusterRole\nmetadata:\n  name: kthena-controlplane\n");
        assert!(rights.contains(shared));
        let rights = rights
            .replace(shared, &format!("kind: ClusterRole\nmetadata:\n  name: {own}\n"))
            .replace(
                "kind: ClusterRoleBinding\nmetadata:\n  name: kthena-controlplane\n",
                &format!("kind: ClusterRoleBinding\nmetadata:\n  name: {own}\n"),
            )
            .replace("kind: ClusterRole, name: kthena-controlplane}", &format!("kind: ClusterRole, name: {own}}}"));
        cluster.apply(&admin, &namespace, &rights).await.unwrap();
        Self::reaching(cluster, admin, namespace).await
    }

    /// The same namespace for another control plane, which has its own way to the API server.
    pub async fn beside(&self) -> Self {
        Self::reaching(self.cluster, self.admin.clone(), self.namespace.clone()).await
    }

    async fn reaching(cluster: &'static Cluster, admin: Client, namespace: String) -> Self {
        let proxy = Proxy::start(cluster).unwrap();
        let wanted = Wanted { namespace: &namespace, name: "kthena-controlplane", server: &proxy.url() };
        let account = cluster.account(&admin, wanted).await.unwrap();
        let [metrics, stream, webhook] = ports();
        let (folder, kubeconfig, token) = (tempfile::tempdir().unwrap(), account.kubeconfig, account.token);
        Self { cluster, admin, namespace, proxy, kubeconfig, token, folder, metrics, stream, webhook }
    }

    pub async fn apply(&self, yaml: &str) {
        self.cluster.apply(&self.admin, &self.namespace, yaml).await.unwrap();
    }

    /// A control plane, with what else it is told.
    pub fn control(&self, more: &[&str]) -> Program {
        let Self { namespace, metrics, stream, .. } = self;
        let mut args = vec![
            "serve".to_owned(),
            format!("--kubeconfig={}", self.kubeconfig.display()),
            format!("--namespaces={namespace}"),
            format!("--namespace={namespace}"),
            format!("--listen=127.0.0.1:{stream}"),
            format!("--metrics-address=127.0.0.1:{metrics}"),
            "--debug-port=0".to_owned(),
        ];
        args.extend(more.iter().map(ToString::to_string));
        Program::start(self.folder.path(), "kthena-controlplane", &args)
    }

    pub async fn until_ready(&self) {
        until("a ready control plane", async || {
            get(self.metrics, "/readyz").await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// The model `chat`, which two engines serve.
    pub async fn chat(&self) -> [Program; 2] {
        let [port] = ports();
        let mut engines = Vec::new();
        self.apply(&server("chat", port)).await;
        for (name, ip) in [("one", "127.0.0.2"), ("two", "127.0.0.3")] {
            engines.push(self.engine(name, ip, port));
            self.pod(name, "chat", ip).await;
        }
        self.apply(&route("chat", "chat")).await;
        engines.try_into().ok().unwrap()
    }

    /// An engine of model `chat` at this address.
    pub fn engine(&self, name: &str, ip: &str, port: u16) -> Program {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let says_what_was_cached = "--enable-prompt-tokens-details".to_owned();
        let args = [format!("--listen={ip}:{port}"), "--model=chat".to_owned(), says_what_was_cached];
        Program::start(&folder, "engine-sim", &args)
    }

    pub fn api(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        self.api_in(kind, plural, &self.namespace)
    }

    pub fn api_in(&self, kind: &str, plural: &str, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("networking.serving.volcano.sh", "v1alpha1", kind),
            plural,
        );
        Api::namespaced_with(self.admin.clone(), namespace, &resource)
    }

    pub async fn condition(&self, kind: &str, plural: &str, name: &str, condition: &str) -> Value {
        let object = self.api(kind, plural).get(name).await.unwrap();
        let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|found| found["type"] == condition).unwrap_or_default()
    }

    /// A pod as it is once its kubelet has it, without one.
    pub async fn pod(&self, name: &str, app: &str, ip: &str) {
        let pods = Api::<Pod>::namespaced(self.admin.clone(), &self.namespace);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": app}},
            // An account that is there also where no controller makes default ones.
            "spec": {
                "nodeName": "nowhere", "serviceAccountName": "kthena-dataplane",
                "containers": [{"name": "engine", "image": "engine"}],
            },
        });
        pods.patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(pod)).await.unwrap();
        let ready = json!([{"type": "Ready", "status": "True"}]);
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": ready}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// Says of a pod, as its kubelet does, that it is ready or not.
    pub async fn pod_ready(&self, name: &str, ready: bool) {
        let pods = Api::<Pod>::namespaced(self.admin.clone(), &self.namespace);
        let ready = json!([{"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        let status = json!({"status": {"conditions": ready}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

/// A route of that name and model to a server.
pub fn route(name: &str, server: &str) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: {name}}}\n\
         spec: {{modelName: {name}, rules: [{{targetModels: [{{modelServerName: {server}}}]}}]}}\n"
    )
}

/// A server of pods with this label.
pub fn server(name: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: {name}}}\n\
         spec: {{inferenceEngine: vLLM, model: {name}, workloadPort: {{port: {port}}}, workloadSelector: {{matchLabels: {{app: {name}}}}}}}\n"
    )
}
