//! A CA of our own that is two thirds through its life is replaced while everything runs: two replicas keep one Secret, the API server calls a
//! webhook, a data plane opens stream after stream, and pods learn of a bundle late. Nobody is started again, and no handshake fails.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::snapshot::Snapshot;
use controlplane::certificates::{self, Issuer, Times};
use controlplane::identity::{self, AUDIENCE};
use controlplane::publish::serve::{Inputs, Listener, Options, Server};
use controlplane::webhook::Webhook;
use dataplane::config::{Config, ControlPlane, Cores, Tls, Transport};
use dataplane::process;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use perf_tests::cluster::{Cluster, client};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::c08_webhook::{configuration, install, wrong};
use crate::program::{Home, get, server};
use crate::wait::until;

/// Minutes become seconds.
const TIMES: Times = Times { settle: Duration::from_secs(8), ..Times::DEFAULT };
/// For a bundle to come from the ConfigMap to a pod: a kubelet's two minutes of ten.
const LAG: Duration = Duration::from_millis(1_600);
const BETWEEN: Duration = Duration::from_millis(100);
const STREAM_LIFE: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(10);
const NAME: &str = "control.test";
const SECRET: &str = "kthena-controlplane-certificates";
/// Addresses of the webhook that the API server takes in turn, so that it has no connection yet.
const DOORS: u8 = 40;

fn door(n: usize) -> String {
    format!("127.0.1.{}", n % usize::from(DOORS) + 1)
}

fn hosts() -> BTreeSet<String> {
    (0..usize::from(DOORS)).map(door).chain([NAME.to_owned()]).collect()
}

/// A CA that is old but holds for years, and its leaf, as a Secret has them.
fn old() -> Value {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.distinguished_name.push(DnType::CommonName, "kthena-controlplane CA of long ago");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (ca.not_before, ca.not_after) = (date_time_ymd(1990, 1, 1), date_time_ymd(2040, 1, 1));
    let bundle = ca.self_signed(&key).unwrap().pem();
    let ca_key = key.serialize_pem();
    let (issuer, own) = (rcgen::Issuer::new(ca, key), KeyPair::generate().unwrap());
    let hosts: Vec<_> = hosts().into_iter().collect();
    let leaf = CertificateParams::new(hosts).unwrap().signed_by(&own, &issuer).unwrap();
    let bytes = |text: String| ByteString(text.into_bytes());
    json!({"ca.crt": bytes(bundle), "ca.key": bytes(ca_key), "tls.crt": bytes(leaf.pem()), "tls.key": bytes(own.serialize_pem())})
}

/// A control plane's certificates and what is served by them.
struct Replica {
    webhook: SocketAddr,
    stream: SocketAddr,
}

impl Replica {
    async fn start(home: &Home, webhook: u16) -> Self {
        let client = client(&home.kubeconfig).await.unwrap();
        let options = certificates::Options {
            namespace: home.namespace.clone(),
            secret: SECRET.to_owned(),
            webhooks: vec![home.namespace.clone()],
            config_map: Some("kthena-controlplane-ca".to_owned()),
            hosts: hosts(),
            issuer: Issuer::Own(TIMES),
        };
        let (certificates, keeping) = certificates::keep(client.clone(), options);
        tokio::spawn(keeping);
        let reviews = Webhook::bind(([0, 0, 0, 0], webhook).into(), certificates.server_config(&["http/1.1"]));
        let reviews = reviews.await.unwrap();
        let webhook = ([127, 0, 0, 1], reviews.address().port()).into();
        tokio::spawn(reviews.serve(std::future::pending()));
        let believed = identity::Options::new(&home.namespace, ["kthena-dataplane"]);
        let (proofs, keeping) = identity::keep(client, believed);
        tokio::spawn(keeping);
        let tls = certificates.server_config(&["h2"]);
        let listener = Listener::tls(([127, 0, 0, 1], 0).into(), &tls, proofs).await.unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.version.version = 1;
        let inputs = Inputs {
            snapshots: watch::channel(Some(Arc::new(snapshot))).1,
            zones: watch::channel(Arc::default()).1,
            reached: watch::channel(Default::default()).1,
        };
        let options = Options { stream_life: STREAM_LIFE, ..Options::default() };
        let server = Server::new(listener, inputs, options);
        let stream = server.address();
        tokio::spawn(server.serve(std::future::pending()));
        Self { webhook, stream }
    }
}

async fn secret(home: &Home) -> Secret {
    Api::<Secret>::namespaced(home.admin.clone(), &home.namespace).get(SECRET).await.unwrap()
}

fn text(secret: &Secret, key: &str) -> String {
    let data = secret.data.as_ref().and_then(|data| data.get(key)).cloned().unwrap_or_default();
    String::from_utf8(data.0).unwrap()
}

fn cas(bundle: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bundle.as_bytes()).collect::<Result<_, _>>().unwrap()
}

/// As a data plane's pod has it: the kubelet brings what the ConfigMap says, late.
struct Mounted {
    bundle: watch::Receiver<String>,
    ca_file: PathBuf,
    token_file: PathBuf,
}

impl Mounted {
    /// With a bundle that it has had for long.
    async fn start(home: &Home, folder: &Path, first: String) -> Self {
        let (ca_file, token_file) = (folder.join("ca.crt"), folder.join("token"));
        std::fs::write(&token_file, token(home).await).unwrap();
        std::fs::write(&ca_file, &first).unwrap();
        let maps = Api::<ConfigMap>::namespaced(home.admin.clone(), &home.namespace);
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kthena-controlplane-ca"}, "data": {"ca.crt": first}});
        maps.patch("kthena-controlplane-ca", &PatchParams::apply("tests").force(), &Patch::Apply(map)).await.unwrap();
        let (told, bundle) = watch::channel(first);
        let file = ca_file.clone();
        tokio::spawn(async move {
            loop {
                let map = maps.get("kthena-controlplane-ca").await.unwrap();
                let now = map.data.and_then(|mut data| data.remove("ca.crt")).unwrap_or_default();
                if *told.borrow() != now {
                    sleep(LAG).await;
                    std::fs::write(file.with_extension("new"), &now).unwrap();
                    std::fs::rename(file.with_extension("new"), &file).unwrap();
                    told.send_replace(now);
                }
                sleep(BETWEEN).await;
            }
        });
        Self { bundle, ca_file, token_file }
    }
}

/// Of a pod of a data plane, as the kubelet asks for it.
async fn token(home: &Home) -> String {
    home.pod("dataplane", "dataplane", "127.0.0.1").await;
    let pod = Api::<Pod>::namespaced(home.admin.clone(), &home.namespace).get("dataplane").await.unwrap();
    let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": "dataplane", "uid": pod.uid()});
    let request = json!({"spec": {"audiences": [AUDIENCE], "expirationSeconds": 600, "boundObjectRef": bound}});
    let request: TokenRequest = serde_json::from_value(request).unwrap();
    let accounts = Api::<ServiceAccount>::namespaced(home.admin.clone(), &home.namespace);
    let answer = accounts.create_token_request("kthena-dataplane", &PostParams::default(), &request).await.unwrap();
    answer.status.unwrap().token
}

/// How a handshake of somebody ends who trusts this bundle and has never been there before.
async fn handshake(bundle: &str, address: SocketAddr) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    cas(bundle).into_iter().for_each(|ca| roots.add(ca).unwrap());
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).unwrap();
    let connect =
        async { TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await };
    match timeout(PATIENCE, connect).await {
        Ok(ended) => ended.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("none within {PATIENCE:?}")),
    }
}

/// What was tried, and what failed.
#[derive(Debug, Default)]
struct Tried {
    times: usize,
    failed: Vec<String>,
}

impl Tried {
    fn add(&mut self, what: &str, outcome: Result<(), String>) {
        self.times += 1;
        self.failed.extend(outcome.err().map(|why| format!("{what}, time {}: {why}", self.times)));
    }
}

/// Tries as long as `over` does not say that it is enough; from when it serves at all on.
async fn pods(mounted: watch::Receiver<String>, at: [SocketAddr; 4], over: watch::Receiver<bool>) -> Tried {
    let (mut tried, mut serves) = (Tried::default(), [false; 4]);
    while !*over.borrow() {
        for (address, serves) in at.iter().zip(&mut serves) {
            let bundle = mounted.borrow().clone();
            let outcome = handshake(&bundle, *address).await;
            *serves |= outcome.is_ok();
            if *serves {
                tried.add(&address.to_string(), outcome);
            }
        }
        sleep(BETWEEN).await;
    }
    tried
}

/// Whether the API server comes through to the webhook, by a connection that it has not had before.
async fn reviewed(home: &Home, n: usize) -> Result<(), String> {
    let mut hook = configuration(home);
    hook["webhooks"][0]["clientConfig"]["url"] = json!(format!("https://{}:{}/validate", door(n), home.webhook));
    let hooks = Api::<ValidatingWebhookConfiguration>::all(home.admin.clone());
    let by = PatchParams::apply("tests").force();
    hooks.patch(&home.namespace, &by, &Patch::Apply(hook)).await.map_err(|error| error.to_string())?;
    let taken = home.cluster.apply(&home.admin, &home.namespace, &wrong("mistake")).await;
    let why = taken.err().map(|error| format!("{error:#}")).unwrap_or_default();
    if why.contains("modelMatch.uri.regex") { Ok(()) } else { Err(format!("not refused by the webhook: {why:?}")) }
}

/// How many streams a data plane has had, and what it complains of.
async fn streams(metrics: u16) -> (u64, Option<String>) {
    let body = get(metrics, "/readyz").await.unwrap_or_default().1;
    let ready: Value = serde_json::from_str(&body).unwrap_or_default();
    let at = &ready["control_plane"];
    (at["streams"].as_u64().unwrap_or_default(), at["error"].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_our_ca_is_replaced_no_handshake_fails_and_nobody_is_started_again() {
    let home = Home::new(Cluster::shared(), "rotation").await;
    home.apply(&server("s", 8000)).await;
    install(&home).await;
    let filled = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET}, "data": old()});
    let secrets = Api::<Secret>::namespaced(home.admin.clone(), &home.namespace);
    secrets.patch(SECRET, &PatchParams::apply("tests").force(), &Patch::Apply(filled)).await.unwrap();
    let first = secret(&home).await;

    let Mounted { bundle, ca_file, token_file } =
        Mounted::start(&home, home.folder.path(), text(&first, "ca.crt")).await;
    let (one, other) = (Replica::start(&home, home.webhook).await, Replica::start(&home, 0).await);
    let (over, enough) = watch::channel(false);
    let addresses = [one.webhook, one.stream, other.webhook, other.stream];
    let shaking = tokio::spawn(pods(bundle.clone(), addresses, enough));
    until("a review", async || reviewed(&home, 0).await.is_ok()).await;
    let transport = Transport::Tls(Tls { ca_file, token_file, server_name: NAME.into() });
    let source = ControlPlane { transport, ..ControlPlane::at(one.stream) };
    let plane = process::start(Config { cores: Cores::First(1), ..Config::loopback(source) }).unwrap();
    let metrics = plane.metrics().port();
    until("a stream", async || streams(metrics).await.0 > 0).await;

    let (mut reviews, mut complaints, mut n) = (Tried::default(), BTreeSet::new(), 0);
    // What the Secret had, in the order in which it had it.
    let mut seen: Vec<(usize, bool)> = Vec::new();
    let began = streams(metrics).await.0;
    let done = async || {
        n += 1;
        reviews.add("the API server", reviewed(&home, n).await);
        let (streams, complaint) = streams(metrics).await;
        // A stream that ends before the next one is open is another matter.
        complaints.extend(complaint.filter(|why| why.contains("certificate")));
        let now = secret(&home).await;
        let state = (cas(&text(&now, "ca.crt")).len(), text(&now, "tls.crt") == text(&first, "tls.crt"));
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        // The old one is gone, for the pods too, and the stream has been opened anew since the beginning.
        state == (1, false) && *bundle.borrow() == text(&now, "ca.crt") && streams >= began + 3
    };
    until("the next CA alone", done).await;
    over.send_replace(true);
    let shaken = shaking.await.unwrap();
    println!("{} handshakes of pods, {} reviews, states {seen:?}", shaken.times, reviews.times);
    assert!(shaken.failed.is_empty() && reviews.failed.is_empty(), "{:?} {:?}", shaken.failed, reviews.failed);
    assert!(complaints.is_empty(), "{complaints:?}");
    assert!(seen.ends_with(&[(2, true), (2, false), (1, false)]), "in three steps: {seen:?}");
    assert!(shaken.times > 40 && reviews.times > 10, "{} {}", shaken.times, reviews.times);
    assert_ne!(text(&secret(&home).await, "ca.crt"), text(&first, "ca.crt"));
    tokio::task::spawn_blocking(|| plane.shutdown(|| true)).await.unwrap();
}
