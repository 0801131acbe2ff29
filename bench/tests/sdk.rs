//! The clients that people have: the openai Python SDK and curl, against the quickstart's proxy and engines.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bench::quickstart::{Options, Stage};

#[path = "quickstart/example.rs"]
mod example;
#[allow(unreachable_pub, reason = "it is public where it is at home")]
#[path = "../../perf-tests/src/missing.rs"]
mod missing;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sdk.py");

/// Runs `test` beside a proxy with two engines, then ends them.
fn with_stage(name: &str, test: impl FnOnce(&Stage)) {
    let example = example::Example::new(&format!("sdk-{name}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = Options { manifests: example.folder.clone(), port: 0, gap: Duration::from_millis(2) };
    let stage = runtime.block_on(Stage::start(&options)).unwrap();
    test(&stage);
    stage.stop(|| false).unwrap();
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_openai_sdk_works() {
    let Ok(python) = std::env::var("KTHENA_PYTHON") else {
        // `.ci/run test` makes one.
        return missing::skip("KTHENA_PYTHON, a Python that has openai >= 2,");
    };
    with_stage("openai", |stage| {
        let url = format!("http://{}", stage.listen());
        let output = Command::new(python).args([SCRIPT, &url, &stage.model, "sql-adapter"]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 12, "{}", said(&output));
        // Those whose client left were aborted, and nothing is left behind.
        let deadline = Instant::now() + Duration::from_secs(5);
        let stats = || stage.engines().iter().map(bench::engine::Running::stats);
        while stats().map(|s| s.in_flight).sum::<u64>() > 0 {
            assert!(Instant::now() < deadline, "requests run on: {:?}", stats().collect::<Vec<_>>());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(stats().map(|s| s.aborted).sum::<u64>(), 2);
    });
}

#[test]
fn curl_works() {
    if Command::new("curl").arg("--version").output().is_err() {
        return missing::skip("curl");
    }
    with_stage("curl", |stage| {
        let body = format!(
            r#"{{"model":"{}","max_tokens":2,"messages":[{{"role":"user","content":"{}"}}]}}"#,
            stage.model,
            "x".repeat(5000)
        );
        let ask = |args: &[&str]| {
            let url = format!("http://{}/v1/chat/completions", stage.listen());
            let mut command = Command::new("curl");
            command.args(["-sS", "-i", "--max-time", "20", "-H", "content-type: application/json", "-d", &body]);
            let output = command.args(args).arg(url).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", said(&output));
            said(&output)
        };
        let check = |args: &[&str], begins: &str| {
            let text = ask(args);
            assert!(text.starts_with(begins), "{args:?}: {text}");
            assert!(text.contains(r#""content":" the router""#), "{args:?}: {text}");
        };
        check(&[], "HTTP/1.1 200");
        check(&["-H", "transfer-encoding: chunked"], "HTTP/1.1 200");
        check(&["-H", "expect: 100-continue", "--expect100-timeout", "10"], "HTTP/1.1 100");
        let old = ask(&["--http1.0"]);
        assert!(old.starts_with("HTTP/1.") && old.contains(r#""content":" the router""#), "{old}");
        assert!(!old.to_lowercase().contains("transfer-encoding"), "{old}");
    });
}
