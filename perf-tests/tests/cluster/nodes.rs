//! A bed of several nodes: what is true of its networks, of its Services and of what a pod sees.

use kubelet::{Config, NodeSpec, plan};
use perf_tests::cluster::{Cluster, Parts};
use perf_tests::nodes::{self, Nodes, enter};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fleet::programs;
use crate::wait::{DEADLINE, until};

pub const NAMES: [&str; 3] = ["north", "east", "west"];

/// An engine on each node, whose model is the node's name.
const ENGINES: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: engines}
spec:
  selector: {matchLabels: {app: engines}}
  template:
    metadata: {labels: {app: engines}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: main
        image: engine-sim
        args: ['--listen=0.0.0.0:8000', '--model=$(NODE_NAME)']
        env: [{name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {path: /health, port: 8000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: near}
spec: {trafficDistribution: PreferSameNode, selector: {app: engines}, ports: [{port: 80, targetPort: 8000}]}
";

/// It says who it is, what it can write, what it is told of Services, and that a changed ConfigMap is seen.
const POD: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {word: before}
---
apiVersion: v1
kind: Pod
metadata: {name: looker}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {runAsUser: 65532, runAsGroup: 65532, fsGroup: 2000, runAsNonRoot: true}
  volumes:
  - {name: state, emptyDir: {}}
  - {name: words, configMap: {name: words}}
  - name: token
    projected: {defaultMode: 256, sources: [{serviceAccountToken: {path: token, expirationSeconds: 600}}]}
  containers:
  - name: main
    image: shell
    args:
    - -c
    - |
      while read -r key value; do case $key in Uid: | NoNewPrivs: | CapBnd:) echo $key $value; esac; done < /proc/self/status
      echo kept > /state/file && read -r line < /state/file && echo state $line
      (echo x > /file) 2> /dev/null || echo the root is read-only
      (echo x > /words/word) 2> /dev/null || echo so are the words
      read -r token < /token/token; [ -n "$token" ] && echo a token
      read -r name < /proc/sys/kernel/hostname; echo called $name
      echo $KUBERNETES_SERVICE_HOST $HOME
      until read -r line < /words/word; [ "$line" = after ]; do sleep 0.1; done
      echo words $line
      while read -r address names; do case $names in near.*) echo service $address; esac; done < /etc/hosts
      exec sleep 600
    volumeMounts:
    - {name: state, mountPath: /state}
    - {name: words, mountPath: /words, readOnly: true}
    - {name: token, mountPath: /token, readOnly: true}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
"#;

pub fn specs() -> Vec<NodeSpec> {
    NAMES.iter().map(|name| NodeSpec::in_zone(name, "z")).collect()
}

/// The models that an address serves, asked from a node or a pod.
async fn models(from: &str, address: String) -> Option<Value> {
    let asked = enter(from, move || async move {
        let exchange = async {
            let mut stream = TcpStream::connect(&address).await.ok()?;
            stream.write_all(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
        };
        timeout(DEADLINE / 6, exchange).await.ok().flatten()
    });
    asked.await.unwrap()
}

async fn model(from: &str, address: &str) -> String {
    let models = models(from, address.to_owned()).await.unwrap_or_default();
    models["data"][0]["id"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_bed_has_a_network_for_each_node_and_pod_and_services_that_work_from_all_of_them() {
    let name = "nodes::a_bed_has_a_network_for_each_node_and_pod_and_services_that_work_from_all_of_them";
    nodes::within(name, || async {
        nodes::lay(&specs()).await.unwrap();
        let cluster = Cluster::start(Parts::Nodes).unwrap();
        let client = cluster.admin().await.unwrap();
        let programs = programs().with("sleep", "/bin/sleep");
        let config = Config { nodes: specs(), ..cluster.kubelet(programs).unwrap() };
        let bed = Nodes::start(&cluster, config).await.unwrap();
        let namespace = cluster.namespace(&client, "bed").await.unwrap();
        cluster.apply(&client, &namespace, POD).await.unwrap();
        let made = cluster.apply(&client, &namespace, ENGINES).await.unwrap();
        let service = made[1].data["spec"]["clusterIP"].as_str().unwrap().to_owned() + ":80";
        for node in NAMES {
            until(&format!("answer of its own engine for {node}"), async || model(node, &service).await == node).await;
        }
        // Each node's first pod is its engine or the looker; those of all nodes are reached from each.
        for (index, _) in NAMES.iter().enumerate() {
            let reached = async |n| model(NAMES[0], &format!("{}:8000", plan::pod(index, n))).await;
            until("pod", async || reached(0).await == NAMES[index] || reached(1).await == NAMES[index]).await;
        }
        sees_what_the_pod_says(&cluster, &bed, (&client, &namespace)).await;
    })
    .unwrap();
}

async fn sees_what_the_pod_says(cluster: &Cluster, bed: &Nodes, (client, namespace): (&kube::Client, &str)) {
    let log = || bed.kubelet.log(namespace, "looker", "main");
    until("first words of the pod", async || log().contains("10.96.0.1 /")).await;
    cluster.apply(client, namespace, &POD.split("---").next().unwrap().replace("before", "after")).await.unwrap();
    until("words of the Service", async || log().contains("service 10.96.")).await;
    let said = log();
    for line in ["state kept", "the root is read-only", "so are the words", "a token", "called looker", "words after"] {
        assert!(said.lines().any(|found| found == line), "{line}: {said}");
    }
    // Who runs this in a user namespace is the only one there is.
    if rustix::process::getuid().is_root() {
        for line in ["Uid: 65532 65532 65532 65532", "NoNewPrivs: 1", "CapBnd: 0000000000000000"] {
            assert!(said.lines().any(|found| found == line), "{line}: {said}");
        }
    }
}
