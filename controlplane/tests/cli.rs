//! The program as a script sees it: what it prints, and its exit codes.

#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#[path = "../../dataplane/tests/it/elf.rs"]
mod elf;

use std::path::Path;
use std::process::{Command, Output};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/directory");

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kthena-controlplane")).args(arguments).output().expect("the program is built")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("it prints UTF-8")
}

#[track_caller]
fn check(arguments: &[&str], code: i32, out: &str, err: &str) {
    let output = run(arguments);
    let (found_out, found_err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{found_out}{found_err}");
    assert!(found_out.contains(out) && found_err.contains(err), "{found_out}\n{found_err}");
}

#[test]
fn the_program_needs_no_loader_and_no_library() {
    elf::check_static(env!("CARGO_BIN_EXE_kthena-controlplane").as_ref());
}

/// A directory with one file.
fn directory(yaml: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("all.yaml"), yaml).expect("it can be written");
    dir
}

fn path(dir: &tempfile::TempDir) -> &str {
    dir.path().to_str().expect("it is UTF-8")
}

#[test]
fn check_says_that_all_is_well() {
    check(&["check", EXAMPLE], 0, "ok (1 ModelRoutes, 2 ModelServers, 3 endpoints", "");
}

#[test]
fn check_says_all_that_is_wrong_and_ends_with_one() {
    let dir = directory(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: r}\n\
         spec: {modelName: m, rules: [{targetModels: [{modelServerName: s, weight: 0}]}]}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: Bad_Name}\n---\n\
         apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: t}\n\
         spec: {modelName: m, rules: [{targetModels: [{modelServerName: gone}]}]}\n",
    );
    check(
        &["check", path(&dir)],
        1,
        "",
        "error: all.yaml: object 1 (ModelRoute default/r): spec.rules[0].targetModels",
    );
    check(&["check", path(&dir)], 1, "", "error: all.yaml: object 2 (Pod default/Bad_Name): metadata.name");
    // What an API server takes, and conditions would tell, is a warning.
    check(&["check", path(&dir)], 1, "", "warning: all.yaml: object 3 (ModelRoute default/t): BackendNotFound");
}

#[test]
fn check_says_all_that_is_wrong_with_the_scheduler_and_where() {
    let config = |text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: kthena-router-config, namespace: s}}\n\
             data:\n  routerConfiguration: |\n    scheduler:\n      pluginConfig:\n\
             \x20     - {{name: session-affinity, args: {{header: {text}}}}}\n\
             \x20     - {{name: least-latency, args: {{TTFTTPOTWeightFactor: 3}}}}\n\
             \x20     plugins: {{Score: {{enabled: [{{name: session-affinity, weight: much}}]}}}}\n"
        )
    };
    let dir = directory(&config("no header"));
    for sentence in [
        "scheduler.pluginConfig[0].args[\"header\"]: \"no header\" is not usable",
        "scheduler.pluginConfig[1].args[\"TTFTTPOTWeightFactor\"]: 3 is out of range, use 0 to 1",
        "scheduler.plugins.Score.enabled[0].weight: \"much\" is not usable",
    ] {
        check(&["check", path(&dir)], 1, "", sentence);
    }
}

#[test]
fn what_cannot_be_asked_ends_with_sixty_four() {
    check(&["check", "/nowhere/at/all"], 64, "", "/nowhere/at/all: No such file");
    check(&["check"], 64, "", "Usage");
    check(&["explain", "--model", "m"], 64, "", "Usage");
    check(&["check", "--kubernetes", EXAMPLE], 64, "", "cannot be used with");
    check(&["check", "--namespaces=a", EXAMPLE], 64, "", "cannot be used with");
    check(&["check", "--kubeconfig=/nowhere/at/all"], 64, "", "no cluster: ");
    check(&["explain", "--model", "m", "--header", "no-value", EXAMPLE], 64, "", "Name=value");
    check(&["--version"], 0, "kthena-controlplane", "");
}

#[test]
fn explain_says_which_rule_wins_and_why() {
    let output = run(&["explain", "--model", "llama-3-8b", EXAMPLE]);
    let expected = "\
model \"llama-3-8b\", path /v1/chat/completions
  route default/quickstart: answers for this model
    rule 1 \"canary\": no, header x-canary is absent or empty, which is not \"yes\"
    rule 2 \"everything\": all conditions hold
goes by route default/quickstart, rule 2, to
  100.0 %  default/llama: Vllm, model name is kept, 2 endpoints
           default/llama-0 127.0.0.2:18001 node-a zone-1
           default/llama-1 127.0.0.3:18001 node-b zone-1
";
    assert_eq!(text(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(0));
    check(
        &["explain", "--model", "sql-adapter", "--header", "X-Canary=yes", EXAMPLE],
        0,
        "default/llama-canary-0 127.0.0.3:18002",
        "",
    );
    check(&["explain", "--model", "gpt-5", EXAMPLE], 1, "no published route has this model", "");
}

#[test]
fn explain_names_the_route_that_lost_the_name() {
    let route = |namespace: &str| {
        format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: r, namespace: {namespace}}}\n\
             spec: {{modelName: m, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n---\n"
        )
    };
    let dir = directory(&(route("a") + &route("b")));
    check(&["explain", "--model", "m", path(&dir)], 0, "route b/r has this model too and is not published", "");
}

#[test]
fn build_prints_what_a_data_plane_takes() {
    let output = run(&["build", "--fleet-seed", "42", EXAMPLE]);
    assert_eq!(text(&output.stderr), "");
    let snapshot = api::json::snapshot_from_json(&output.stdout).expect("the contract's decoder takes it");
    let addresses: Vec<String> = snapshot.backends[0].endpoints.iter().map(|e| e.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.2:18001", "127.0.0.3:18001"]);
    assert_eq!((snapshot.fleet_seed, snapshot.routes[0].rules.len()), (42, 2));
    // Left out, the seed is another each time.
    let seed = |output: Output| api::json::snapshot_from_json(&output.stdout).expect("it decodes").fleet_seed;
    assert_ne!(seed(run(&["build", EXAMPLE])), seed(run(&["build", EXAMPLE])));
}

#[test]
fn every_example_is_valid() {
    let examples = Path::new(EXAMPLE).parent().expect("examples has a parent");
    // Each by itself: they give different meanings to the same names.
    for example in std::fs::read_dir(examples).expect("it is a directory") {
        let path = example.expect("it is readable").path();
        if !path.ends_with("README.md") {
            check(&["check", path.to_str().expect("it is UTF-8")], 0, "ok", "");
        }
    }
}

#[test]
fn definitions_need_a_cluster() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kthena-controlplane"));
    let output = command.args(["crds", "apply"]).env("KUBECONFIG", "/nowhere/at/all").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no cluster: ") && text(&output.stderr).contains("/nowhere/at/all"));
}
