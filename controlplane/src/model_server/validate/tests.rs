//! What a server means. Refusals are in the corpus (tests/corpus/model-server.yaml).

use std::fmt::Debug;
use std::time::Duration;

use super::*;

fn server(engine: &str, more: &str) -> ValidServer {
    let spec = format!(
        "{{inferenceEngine: {engine}, workloadPort: {{port: 8000}}, workloadSelector: {{matchLabels: {{app: x}}}}, {more}}}"
    );
    let spec: crd::ModelServerSpec = serde_norway::from_str(&spec).unwrap();
    validate(&spec).unwrap()
}

fn check<T: PartialEq + Debug>(engine: &str, more: &str, part: impl Fn(ValidServer) -> T, expected: T) {
    assert_eq!(part(server(engine, more)), expected, "{engine} {more}");
}

#[test]
fn metrics_are_where_the_engine_has_them_unless_said_otherwise() {
    let at = |server: ValidServer| (server.metrics.port, server.metrics.path.to_string());
    let on = |port: u16, path: &str| (port, path.to_owned());
    check("vLLM", "", at, on(8000, "/metrics"));
    check("SGLang", "", at, on(8000, "/metrics"));
    check("Triton", "", at, on(8002, "/metrics"));
    check("TorchServe", "", at, on(8082, "/metrics"));
    check("Triton", "metrics: {port: 9000}", at, on(9000, "/metrics"));
    check("TorchServe", "metrics: {path: /m}", at, on(8082, "/m"));
}

#[test]
fn only_torchserve_has_a_management_port() {
    check("TorchServe", "", |s| s.management_port, Some(8081));
    check("TorchServe", "managementPort: 7000", |s| s.management_port, Some(7000));
    check("vLLM", "", |s| s.management_port, None);
}

#[test]
fn long_waits_and_many_attempts_count_as_the_most_that_is_allowed() {
    let first_byte = |server: ValidServer| server.first_byte;
    check("vLLM", "trafficPolicy: {timeout: 10s}", first_byte, Some(Duration::from_secs(10)));
    check("vLLM", "trafficPolicy: {timeout: 100h}", first_byte, Some(Duration::from_secs(86_400)));
    check("vLLM", "trafficPolicy: {timeout: 0s}", first_byte, None);
    check("vLLM", "trafficPolicy: {}", first_byte, None);
    check("vLLM", "", first_byte, None);
    let retry = |server: ValidServer| server.retry.map(|retry| (retry.attempts, retry.interval.as_millis()));
    check("vLLM", "trafficPolicy: {retry: {attempts: 2}}", retry, Some((2, 100)));
    check("vLLM", "trafficPolicy: {retry: {attempts: 99, retryInterval: 5m}}", retry, Some((5, 60_000)));
    check("vLLM", "", retry, None);
}

#[test]
fn sglang_hands_over_by_its_own_protocol() {
    let group = "pdGroup: {groupKey: g, prefillLabels: {r: p}, decodeLabels: {r: d}}";
    let connector = |engine: &str, connector: &str| {
        let spec = format!(
            "{{inferenceEngine: {engine}, workloadPort: {{port: 1}}, workloadSelector: {{matchLabels: {{a: b}}, {group}}}, \
             {connector}}}"
        );
        let spec: crd::ModelServerSpec = serde_norway::from_str(&spec).unwrap();
        validate(&spec).unwrap().disaggregation.unwrap().connector
    };
    assert_eq!(connector("vLLM", ""), Connector::Of(KvConnectorType::Http));
    assert_eq!(connector("vLLM", "kvConnector: {type: nixl}"), Connector::Of(KvConnectorType::Nixl));
    assert_eq!(connector("SGLang", ""), Connector::Sglang);
    assert_eq!(connector("SGLang", "kvConnector: {}"), Connector::Sglang);
}

#[test]
fn tls_is_what_the_port_says() {
    check("vLLM", "", |s| s.tls, false);
    let spec =
        "{inferenceEngine: vLLM, workloadPort: {port: 1, protocol: https}, workloadSelector: {matchLabels: {a: b}}}";
    let spec: crd::ModelServerSpec = serde_norway::from_str(spec).unwrap();
    assert!(validate(&spec).unwrap().tls);
}
