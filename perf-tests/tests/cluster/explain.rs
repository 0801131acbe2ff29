//! `explain` and `check` ask a cluster, and say what they say of the same objects in files.

use std::process::Output;

use kubelet::built;
use perf_tests::cluster::{Cluster, Wanted};
use tokio::process::Command;

use crate::program::{Home, route, server};
use crate::wait::within;

/// The program's answer, and its exit code.
async fn ask(arguments: &[&str]) -> (Option<i32>, String, String) {
    let answer = Command::new(built("kthena-controlplane").unwrap()).args(arguments).kill_on_drop(true).output();
    let Output { status, stdout, stderr } = within("answer of the program", answer).await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: chat-0, labels: {app: chat}, namespace: HERE}
spec: {nodeName: nowhere, containers: [{name: engine, image: engine}]}
status: {phase: Running, podIP: 127.0.0.1, podIPs: [{ip: 127.0.0.1}], conditions: [{type: Ready, status: 'True'}]}
";

/// Two rules, of which the first wants a header.
const ROUTE: &str = "
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: chat, namespace: HERE}
spec:
  modelName: chat
  rules:
  - {name: canary, modelMatch: {headers: {x-canary: {exact: 'yes'}}}, targetModels: [{modelServerName: nowhere}]}
  - {name: everything, targetModels: [{modelServerName: chat}]}
";

#[tokio::test]
async fn explain_and_check_say_of_a_cluster_what_they_say_of_its_objects_in_files() {
    let home = Home::new(Cluster::shared(), "explain").await;
    let here = |yaml: &str| yaml.replace("HERE", &home.namespace);
    home.pod("chat-0", "chat", "127.0.0.1").await;
    home.apply(&server("chat", 8000)).await;
    home.apply(&here(ROUTE)).await;
    let server = server("chat", 8000).replace("name: chat}", &format!("name: chat, namespace: {}}}", home.namespace));
    let files = home.folder.path().join("objects");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("all.yaml"), format!("{server}---{}---{}", here(ROUTE), here(POD))).unwrap();
    let files = files.to_str().unwrap();
    let config = format!("--kubeconfig={}", home.kubeconfig.display());
    let (names, own) = (format!("--namespaces={}", home.namespace), format!("--namespace={}", home.namespace));
    let cluster = ["--kubernetes", config.as_str(), names.as_str(), own.as_str()];

    for question in [&["--model=chat"][..], &["--model=chat", "--header=X-Canary=yes"], &["--model=other"]] {
        let of_files = ask(&[&["explain", files], question].concat()).await;
        let of_cluster = ask(&[&["explain"], &cluster[..], question].concat()).await;
        assert_eq!(of_cluster, of_files, "{question:?}");
    }
    let (code, told, _) = ask(&[&["explain", "--model=chat"], &cluster[..]].concat()).await;
    assert!(told.contains("rule 2, to") && told.contains("127.0.0.1:8000") && code == Some(0), "{told}");

    // Nothing would be refused; what conditions would tell is a warning.
    let (code, told, warned) = ask(&[&["check"], &cluster[..]].concat()).await;
    assert_eq!(
        (code, told.as_str()),
        (Some(0), "the cluster: ok (1 ModelRoutes, 1 ModelServers, 1 endpoints, 0 objects of other kinds)\n")
    );
    let sentence = format!("warning: ModelRoute {}/chat: BackendNotFound", home.namespace);
    assert!(warned.contains(&sentence), "{warned}");
    // A mistake that got past the webhook.
    home.apply(&crate::c08_webhook::wrong("mistake")).await;
    let (code, _, errors) = ask(&[&["check"], &cluster[..]].concat()).await;
    assert_eq!(code, Some(1), "{errors}");
    let sentence = format!("error: ModelRoute {}/mistake: spec.rules[0].modelMatch.uri.regex", home.namespace);
    assert!(errors.contains(&sentence), "{errors}");
}

#[tokio::test]
async fn explain_names_what_it_may_not_read() {
    let home = Home::new(Cluster::shared(), "blind").await;
    home.apply(&route("chat", "chat")).await;
    let url = home.cluster.url().unwrap();
    let wanted = Wanted { namespace: &home.namespace, name: "nobody", server: &url };
    let nobody = home.cluster.account(&home.admin, wanted).await.unwrap().kubeconfig;
    let (code, told, why) =
        ask(&["explain", "--model=chat", &format!("--kubeconfig={}", nobody.display()), "--namespaces=default"]).await;
    assert_eq!((code, told.as_str()), (Some(64), ""));
    let says = |part: &str| assert!(why.contains(part), "{part}: {why}");
    says("cannot read modelservers in default: ");
    says("pods in default: ");
    says("the role of this control plane has to allow list and watch");
    assert!(!why.contains("nodes"), "one can do without: {why}");
}
