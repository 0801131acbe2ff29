//! What `helm status` tells users to run, run as it stands but for the model's name and a node's address: in a pod, and outside of the cluster.

use std::env;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use kube::api::DeleteParams;
use kubelet::plan;
use perf_tests::missing::skip;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use super::site::{CURL, GATEWAY, MODEL, NODE, RELEASE, Ready, Site, finished_by};
use crate::nodes::NAMES;
use crate::wait::until;

/// In which the lines for a pod are run.
const POD: &str = "asker";
/// Of two lines, where one takes two seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The lines of NOTES.
struct Told {
    /// By the gateway, and by the node's proxy.
    in_pod: [String; 2],
    /// By a port of a node.
    outside: String,
}

impl Told {
    fn of(status: &str) -> Self {
        let notes = status.split_once("NOTES:\n").unwrap_or_else(|| panic!("{status}")).1.replace("MODEL", MODEL);
        // Those that follow a line with these words.
        let after = |words: &str, count: usize| {
            let (_, rest) = notes.split_once(words).unwrap_or_else(|| panic!("{words}: {notes}"));
            let lines: Vec<_> = rest.lines().skip(1).take(count).map(str::trim).collect();
            assert!(lines.last().is_some_and(|line| line.starts_with("curl http://")), "{words}: {notes}");
            lines.join("\n")
        };
        let in_pod =
            ["from a pod, by the gateway:", "from a pod, by the proxy of its node:"].map(|from| after(from, 1));
        Self { in_pod, outside: after("from outside, by the address NODE of any node:", 2) }
    }
}

/// Each line is answered by whom it names; nobody else asks meanwhile but on the first client's node.
pub async fn carried_out(site: &Site, kubectl: &Path) {
    if !Path::new(CURL).exists() {
        return skip(CURL);
    }
    let told = Told::of(&site.helm(&["status", RELEASE]).await);
    let client = site.clients().await.remove(1);
    let own: Vec<_> = site.proxies(NODE).await.into_iter().filter(|proxy| proxy.node == client.node).collect();
    let gateways = site.proxies(GATEWAY).await;
    let sum = async |proxies: &[Ready]| finished_by(proxies).await.values().sum::<u64>();
    let before = (sum(&own).await, sum(&gateways).await);
    tokio::join!(in_pod(site, &client.node, &told.in_pod), outside(site, kubectl, &told.outside));
    let after = (sum(&own).await, sum(&gateways).await);
    assert_eq!(after, (before.0 + 1, before.1 + 2), "by its node's proxy, and by the gateways");
}

/// The line for a pod that knows its node's address, which is of IPv6 here, answered by the proxy of its node.
pub async fn by_the_nodes_address(site: &Site) {
    if !Path::new(CURL).exists() {
        return skip(CURL);
    }
    let status = site.helm(&["status", RELEASE]).await.replace("MODEL", MODEL);
    let (_, rest) =
        status.split_once("where the node's first address is of IPv6:\n").unwrap_or_else(|| panic!("{status}"));
    let line = rest.lines().next().unwrap().trim().to_owned();
    let node = NAMES[1];
    let own: Vec<_> = site.proxies(NODE).await.into_iter().filter(|proxy| proxy.node == node).collect();
    let before = finished_by(&own).await;
    in_pod(site, node, &[line]).await;
    let after = finished_by(&own).await;
    assert!(
        before.values().sum::<u64>() + 1 == after.values().sum::<u64>() && after.len() == 1,
        "{before:?} {after:?}"
    );
}

async fn in_pod(site: &Site, node: &str, lines: &[String]) {
    let script = lines.join("\necho\n");
    let env = json!([{"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]);
    let container =
        json!({"name": "main", "image": "registry.example.com/kthena/shell", "args": ["-euc", script], "env": env});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD}, "spec": {"nodeName": node,
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}});
    // JSON is YAML.
    site.apply(&pod.to_string()).await;
    let pods = site.pods(&site.models);
    let mut phase = String::new();
    until("end of what asks in a pod", async || {
        phase = pods.get(POD).await.unwrap().status.and_then(|status| status.phase).unwrap_or_default();
        phase == "Succeeded" || phase == "Failed"
    })
    .await;
    let log = site.bed.kubelet.log(&site.models, POD, "main");
    // curl tells of its progress on the same lines.
    let answers = log.matches("\"choices\":[{").count();
    assert!(phase == "Succeeded" && answers == lines.len(), "{phase}: {script}\n{log}");
    pods.delete(POD, &DeleteParams::default()).await.unwrap();
}

/// From the bed itself, which no kube-proxy serves.
async fn outside(site: &Site, kubectl: &Path, lines: &str) {
    let script = lines.replace("NODE:", &format!("{}:", plan::node(NAMES.len() - 1)));
    assert_ne!(script, lines);
    let folders = kubectl.parent().into_iter().map(Path::to_owned);
    let path = env::join_paths(folders.chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script]).stdin(Stdio::null()).kill_on_drop(true);
    shell.env("PATH", path).env("KUBECONFIG", site.cluster.kubeconfig()).env("HOME", home.path());
    let output = timeout(LIMIT, shell.output()).await.expect("the lines end in time").unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let answer: Value = serde_json::from_str(&said[0]).unwrap_or_default();
    assert!(output.status.success() && answer["choices"].is_array(), "{script}\n{said:?}");
}
