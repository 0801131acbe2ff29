//! Pods are processes: what the kubelet makes of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams};
use kubelet::{Kubelet, NodeSpec};
use perf_tests::cluster::{Cluster, Parts};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fleet::{Stage, holds, pod, programs};
use crate::wait::until;

const ENGINES: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: engines}
spec:
  replicas: 3
  selector: {matchLabels: {app: engines}}
  template:
    metadata: {labels: {app: engines}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: registry.example/engine-sim:v1
        args: [--listen, $(POD_IP):8000, --model, small]
        env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{name: http, containerPort: 8000}]
        readinessProbe: {httpGet: {path: /health, port: http}, periodSeconds: 1}
";

async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn names(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn a_deployment_of_engines_answers_and_a_rolling_restart_replaces_every_one() {
    let stage = Stage::new("engines").await;
    stage.apply(ENGINES).await;
    let mut first = Vec::new();
    until("three ready engines", async || {
        first = stage.ready("engines").await;
        first.len() == 3
    })
    .await;
    let address = |pod: &Pod| pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
    assert_eq!(first.iter().map(address).collect::<BTreeSet<_>>().len(), 3);
    for pod in &first {
        let answer = get(&format!("{}:8000", address(pod)), "/v1/models").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"small\""), "{answer}");
    }

    let began = Instant::now();
    Api::<Deployment>::namespaced(stage.client.clone(), &stage.namespace).restart("engines").await.unwrap();
    until("three other engines", async || {
        let now = stage.ready("engines").await;
        now.len() == 3 && names(&now).is_disjoint(&names(&first))
    })
    .await;
    for pod in &first {
        stage.until_gone(&pod.name_any()).await;
        TcpStream::connect(format!("{}:8000", address(pod))).await.unwrap_err();
    }
    println!("rolling restart of 3 engines: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_container_that_crashes_starts_again_after_ever_longer_pauses() {
    let stage = Stage::new("crash").await;
    stage.run("crash", "date +%s%N; exit 3", "").await;
    let status = stage
        .until("crash", "three restarts", |status| status["containerStatuses"][0]["restartCount"].as_i64() >= Some(3))
        .await;
    let container = &status["containerStatuses"][0];
    let ended = [&container["state"], &container["lastState"]].map(|state| state["terminated"]["exitCode"].as_i64());
    assert!(ended.contains(&Some(3)), "{container}");
    stage
        .until("crash", "back-off", |status| {
            status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
                && status["phase"] == "Running"
        })
        .await;
    // The first restart is immediate, the next ones wait for 0.5 s and 1 s.
    let starts: Vec<u64> = stage.log("crash").lines().map(|line| line.parse().unwrap()).collect();
    let pauses: Vec<_> = starts.windows(2).map(|two| Duration::from_nanos(two[1] - two[0])).collect();
    assert!(pauses[1] >= Duration::from_millis(500) && pauses[2] >= Duration::from_millis(1000), "{pauses:?}");
}

/// So endpoints of a pod that is to end say whether it still serves.
#[tokio::test]
async fn a_pod_that_ends_is_asked_to_the_end_whether_it_is_ready() {
    let stage = Stage::new("ending").await;
    // What its other probe says first changes nothing.
    let script = "touch alive ready; trap 'rm alive; sleep 3; rm ready' TERM; while :; do sleep 0.05; done";
    let probe =
        |file: &str| format!("{{exec: {{command: [/bin/test, -e, {file}]}}, periodSeconds: 1, failureThreshold: 1}}");
    let probes = format!(", readinessProbe: {}, livenessProbe: {}", probe("ready"), probe("alive"));
    stage.run("ending", script, &probes).await;
    stage.until("ending", "ready", |status| holds(status, "Ready")).await;
    let minute = DeleteParams::default().grace_period(60);
    stage.pods.delete("ending", &minute).await.unwrap();
    stage.until("ending", "no longer ready", |status| !holds(status, "Ready")).await;
    let still = stage.pods.get("ending").await.unwrap();
    assert!(still.metadata.deletion_timestamp.is_some());
    stage.pods.delete("ending", &DeleteParams::default().grace_period(0)).await.unwrap();
    stage.until_gone("ending").await;
}

#[tokio::test]
async fn a_process_that_minds_no_sigterm_is_killed_when_its_grace_is_over() {
    let stage = Stage::new("grace").await;
    stage.run("deaf", "trap 'echo term' TERM; echo $$$$; while :; do sleep 0.05; done", "").await;
    stage.until("deaf", "run", |status| holds(status, "Ready")).await;
    until("process id", async || !stage.log("deaf").is_empty()).await;
    let process = format!("/proc/{}", stage.log("deaf").lines().next().unwrap());
    assert!(std::path::Path::new(&process).exists());

    let began = Instant::now();
    stage.pods.delete("deaf", &DeleteParams::default()).await.unwrap();
    stage.until_gone("deaf").await;
    assert!(began.elapsed() >= Duration::from_secs(1), "killed before its second was over");
    assert!(!std::path::Path::new(&process).exists());
    assert!(stage.log("deaf").ends_with("term\n"), "{}", stage.log("deaf"));
}

#[tokio::test]
async fn probes_decide_whether_a_pod_is_ready_and_whether_it_lives() {
    let stage = Stage::new("probes").await;
    let probes = ", readinessProbe: {exec: {command: [/bin/test, -e, ready]}, periodSeconds: 1, failureThreshold: 1}\
                  , livenessProbe: {exec: {command: [/bin/test, '!', -e, dead]}, periodSeconds: 1, failureThreshold: 1}\
                  , env: [{name: SWITCH, value: /switch/go}], volumeMounts: [{name: switch, mountPath: /switch}]";
    let script = "rm -f dead; until test -e $SWITCH; do sleep 0.05; done; touch ready; until test -e $SWITCH-on; do sleep 0.05; done; touch dead; exec sleep 60";
    let folder = tempfile::tempdir().unwrap();
    let args = serde_json::to_string(&["-c", script]).unwrap();
    let volume = format!("volumes: [{{name: switch, hostPath: {{path: {}}}}}]", folder.path().display());
    stage
        .apply(&pod("probed", &format!("containers: [{{name: main, image: shell, args: {args}{probes}}}]\n{volume}")))
        .await;

    let status = stage.until("probed", "run", |status| status["phase"] == "Running").await;
    assert!(!holds(&status, "Ready"), "{status}");
    std::fs::write(folder.path().join("go"), "").unwrap();
    stage.until("probed", "readiness", |status| holds(status, "Ready")).await;
    std::fs::write(folder.path().join("go-on"), "").unwrap();
    let status = stage.until("probed", "restart", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    let message = status["containerStatuses"][0]["lastState"]["terminated"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("Liveness probe failed"), "{status}");
}

const SOURCES: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: map}
data: {greeting: hello}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {token: swordfish}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: speaker}
";

#[tokio::test]
async fn a_pod_gets_its_env_its_files_and_a_token_that_is_bound_to_it() {
    let stage = Stage::new("sources").await;
    stage.apply(SOURCES).await;
    let spec = "serviceAccountName: speaker
restartPolicy: Never
containers:
- name: main
  image: shell
  args: [-c, 'echo $GREETING $NAME; cat /etc/key/token; echo; cat /var/run/tokens/kthena; echo; cat $KUBECONFIG']
  env:
  - {name: GREETING, valueFrom: {configMapKeyRef: {name: map, key: greeting}}}
  - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
  volumeMounts: [{name: key, mountPath: /etc/key}, {name: token, mountPath: /var/run/tokens}]
volumes:
- {name: key, secret: {secretName: key}}
- {name: token, projected: {sources: [{serviceAccountToken: {audience: kthena, path: kthena, expirationSeconds: 600}}]}}";
    stage.apply(&pod("speaker", spec)).await;
    stage.until("speaker", "success", |status| status["phase"] == "Succeeded").await;
    let log = stage.log("speaker");
    let [greeting, secret, token, kubeconfig] = log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    assert_eq!((greeting, secret), ("hello speaker", "swordfish"));
    assert!(kubeconfig.contains("\"tokenFile\""), "{kubeconfig}");

    let spec = TokenReviewSpec { audiences: Some(vec!["kthena".to_owned()]), token: Some(token.to_owned()) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let answer = Api::<TokenReview>::all(stage.client.clone()).create(&PostParams::default(), &review).await.unwrap();
    let user = answer.status.unwrap().user.expect("a token for kthena");
    assert_eq!(user.username.unwrap(), format!("system:serviceaccount:{}:speaker", stage.namespace));
    assert_eq!(user.extra.unwrap()["authentication.kubernetes.io/pod-name"], ["speaker"]);
}

#[tokio::test]
async fn init_containers_come_first_and_a_failed_one_ends_the_pod() {
    let stage = Stage::new("init").await;
    let spec = |exit: u8| {
        format!(
            "restartPolicy: Never
volumes: [{{name: v, emptyDir: {{}}}}]
initContainers: [{{name: first, image: shell, args: [-c, 'echo first > /v/file; exit {exit}'], volumeMounts: [{{name: v, mountPath: /v}}]}}]
containers: [{{name: main, image: shell, args: [-c, cat /v/file], volumeMounts: [{{name: v, mountPath: /v}}]}}]"
        )
    };
    stage.apply(&pod("good", &spec(0))).await;
    stage.apply(&pod("bad", &spec(1))).await;
    stage.until("good", "success", |status| status["phase"] == "Succeeded").await;
    assert_eq!(stage.log("good"), "first\n");
    let status = stage.until("bad", "failure", |status| status["phase"] == "Failed").await;
    assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"], 1);
    assert_eq!(stage.log("bad"), "");
}

#[tokio::test]
async fn an_image_that_nothing_plays_and_a_source_that_is_missing_are_waited_for() {
    let stage = Stage::new("waiting").await;
    let reason = |status: &serde_json::Value| status["containerStatuses"][0]["state"]["waiting"]["reason"].clone();
    stage.apply(&pod("unknown", "containers: [{name: main, image: unknown}]")).await;
    stage.until("unknown", "refusal", |status| reason(status) == "ImagePullBackOff").await;
    let env = ", env: [{name: X, valueFrom: {configMapKeyRef: {name: map, key: greeting}}}]";
    stage.run("late", "exec sleep 60", env).await;
    let status = stage.until("late", "refusal", |status| reason(status) == "CreateContainerConfigError").await;
    assert_eq!(status["phase"], "Pending");
    stage.apply(SOURCES).await;
    stage.until("late", "start", |status| holds(status, "Ready")).await;
}

#[tokio::test]
async fn a_node_that_is_cut_off_is_seen_and_its_kubelet_takes_its_processes_with_it() {
    let cluster = Cluster::start(Parts::Controllers).unwrap();
    let client = cluster.admin().await.unwrap();
    let namespace = cluster.namespace(&client, "lost").await.unwrap();
    let mut config = cluster.kubelet(programs()).unwrap();
    config.nodes.push(NodeSpec::in_zone("node-b", "b"));
    let kubelet = Kubelet::start(config).await.unwrap();
    let spec = "nodeSelector: {topology.kubernetes.io/zone: b}\ncontainers: [{name: main, image: shell, args: [-c, 'echo $$$$; exec sleep 60']}]";
    cluster.apply(&client, &namespace, &pod("there", spec)).await.unwrap();
    until("process id", async || !kubelet.log(&namespace, "there", "main").is_empty()).await;
    let process = format!("/proc/{}", kubelet.log(&namespace, "there", "main").trim());

    kubelet.link("node-b", false);
    let nodes = Api::<Node>::all(client.clone());
    let ready = async |name: &str| {
        let status = nodes.get(name).await.unwrap().status;
        holds(&serde_json::to_value(status).unwrap(), "Ready")
    };
    until("loss of node-b", async || !ready("node-b").await).await;
    assert!(ready("node-a").await);

    assert!(std::path::Path::new(&process).exists());
    drop(kubelet);
    assert!(!std::path::Path::new(&process).exists());
}
