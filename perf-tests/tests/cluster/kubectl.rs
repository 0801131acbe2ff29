//! What people see of a route, and wait for, by the real kubectl.

use std::process::Stdio;

use perf_tests::cluster::Cluster;
use tokio::process::Command;

use crate::data_plane::DataPlane;
use crate::program::{Home, route, server};
use crate::wait::{until, within};

/// What it said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// In the home's namespace, as the administrator.
async fn kubectl(home: &Home, arguments: &str) -> Said {
    let mut command = Command::new(Cluster::kubectl().unwrap());
    let kubeconfig = home.cluster.kubeconfig();
    command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", &home.namespace]).args(arguments.split(' '));
    // It keeps what it has discovered.
    command.env("HOME", home.folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("answer of kubectl", command.output()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The columns of an object, each with its name.
async fn columns(home: &Home, arguments: &str) -> Vec<(String, String)> {
    let said = kubectl(home, arguments).await;
    let mut lines = said.out.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let (names, cells) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!((names.len(), said.code), (cells.len(), Some(0)), "{}", said.out);
    names.into_iter().zip(cells).collect()
}

fn cells(columns: &[(String, String)]) -> String {
    let shown = columns.iter().filter(|(name, _)| name != "AGE").map(|(name, cell)| format!("{name} {cell}"));
    shown.collect::<Vec<_>>().join(", ")
}

/// Writes a file for `apply -f`.
fn file(home: &Home, name: &str, yaml: &str) -> String {
    let path = home.folder.path().join(name);
    std::fs::write(&path, yaml).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn a_route_is_applied_waited_for_and_shown_with_kubectl() {
    // Building it the first time takes longer than anything here may.
    tokio::task::spawn_blocking(Cluster::kubectl).await.unwrap().unwrap();
    let home = Home::new(Cluster::shared(), "kubectl").await;
    home.pod("chat-0", "chat", "127.0.0.1").await;
    let _control = home.control(&[]);
    home.until_ready().await;
    let objects = format!("{}---\n{}", server("chat", 8000), route("chat", "chat"));
    let applied = kubectl(&home, &format!("apply -f {}", file(&home, "chat.yaml", &objects))).await;
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    assert!(applied.out.contains("modelroute.networking.serving.volcano.sh/chat created"), "{}", applied.out);

    // Accepted without anybody who runs it, and so not programmed: who waits for that waits in vain.
    let accepted = kubectl(&home, "wait --for=condition=Accepted modelroute/chat --timeout=50s").await;
    assert_eq!(
        (accepted.code, accepted.out.trim()),
        (Some(0), "modelroute.networking.serving.volcano.sh/chat condition met")
    );
    let in_vain = kubectl(&home, "wait --for=condition=Programmed modelroute/chat --timeout=2s").await;
    assert_eq!((in_vain.code, in_vain.out.as_str()), (Some(1), ""));
    assert!(in_vain.err.contains("timed out waiting for the condition"), "{}", in_vain.err);
    let shown = "NAME chat, MODEL chat, ACCEPTED True, PROGRAMMED False, ACKNOWLEDGED 0";
    assert_eq!(cells(&columns(&home, "get modelroute chat").await), shown);

    // Who waits while a data plane comes is told.
    let programmed = kubectl(&home, "wait --for=condition=Programmed modelroute/chat --timeout=50s");
    let coming = async { DataPlane::start(&home, "plane") };
    let (programmed, _plane) = tokio::join!(programmed, coming);
    let met = "modelroute.networking.serving.volcano.sh/chat condition met";
    assert_eq!((programmed.code, programmed.out.trim()), (Some(0), met), "{}", programmed.err);
    let shown = "NAME chat, MODEL chat, ACCEPTED True, PROGRAMMED True, ACKNOWLEDGED 1, CONNECTED 1";
    assert_eq!(cells(&columns(&home, "get modelroute chat -o wide").await), shown);

    // A mistake that conditions and events tell, and one that is not let in.
    home.apply(&route("lost", "nowhere")).await;
    until("event", async || {
        kubectl(&home, "describe modelroute lost").await.out.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.starts_with(&["Warning", "BackendNotFound"])
        })
    })
    .await;
    let wrong = route("wrong", "chat").replace("modelServerName: chat", "modelServerName: chat, weight: 0");
    let refused = kubectl(&home, &format!("apply -f {}", file(&home, "wrong.yaml", &wrong))).await;
    assert_eq!(refused.code, Some(1), "{}", refused.out);
    let sentence =
        "spec.rules[0]: Invalid value: the weights of a rule's targetModels must not all be 0: give at least one";
    assert!(refused.err.contains(sentence), "{}", refused.err);
}
