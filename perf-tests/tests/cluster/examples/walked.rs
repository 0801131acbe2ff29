//! The way from a cluster to an answer that `examples/README.md` describes, its own lines run by a shell with the real helm and kubectl.

use std::env;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::installed::site::{RELEASE, Site};

/// Which the lines make.
pub const NAMESPACE: &str = "quickstart";
/// All of it, the images being there.
const LIMIT: Duration = Duration::from_secs(180);

/// The README's lines with the names that this cluster has, and proxies that say who answered. There is nobody here who forwards ports: what is
/// asked by one is asked of the Service, from a node.
fn script(readme: &str, namespace: &str, node: &str) -> String {
    let block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of shell");
    let forwards = |line: &str| line.contains(" port-forward ");
    assert_eq!(block.lines().filter(|line| forwards(line)).count(), 1, "{block}");
    let lines: Vec<_> = block.lines().filter(|line| !forwards(line)).collect();
    let edits = [
        ("helm install kthena ", format!("helm install {RELEASE} ")),
        (
            "kthena-system --create-namespace",
            format!("{namespace} --set node.config.expose.endpoint=true --set gateway.config.expose.endpoint=true"),
        ),
        (
            "curl http://127.0.0.1:8080/",
            format!(
                "address=$(kubectl --namespace {namespace} get service kthena-router -o 'jsonpath={{.spec.clusterIP}}')\n\
                 ip netns exec {node} curl --fail-with-body --silent --show-error http://$address/"
            ),
        ),
    ];
    edits.into_iter().fold(lines.join("\n"), |script, (from, to)| {
        assert_eq!(script.matches(from).count(), 1, "{from}: {script}");
        script.replace(from, &to)
    })
}

/// Runs them in the folder where a reader runs them, and returns when they have ended well, the last one with an answer.
pub async fn through(site: &Site, kubectl: &Path, node: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("examples/README.md")).unwrap();
    let script = script(&readme, &site.namespace, node);
    let helm = env::var_os("KTHENA_HELM").unwrap_or_default();
    let folders = [kubectl.parent(), Path::new(&helm).parent()].into_iter().flatten().map(Path::to_owned);
    let path = env::join_paths(folders.chain(env::split_paths(&env::var_os("PATH").unwrap()))).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", &script]).current_dir(root).stdin(Stdio::null()).kill_on_drop(true);
    shell.env("PATH", path).env("KUBECONFIG", site.cluster.kubeconfig()).env("HOME", home.path());
    let output = timeout(LIMIT, shell.output()).await.expect("the lines end in time").unwrap();
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    if !output.status.success() {
        site.tell().await;
    }
    assert!(output.status.success(), "{script}\n{said:?}");
    let answer: Value = serde_json::from_str(said[0].lines().last().unwrap_or_default()).unwrap_or_default();
    assert!(answer["choices"].is_array(), "{said:?}");
}
