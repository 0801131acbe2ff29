//! One YAML, one text.

use super::check;

#[test]
fn a_route_a_server_and_its_pods() {
    check(
        r#"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: chat}
spec:
  modelName: llama-3-8b
  loraAdapters: [sql, law]
  rules: [{name: all, targetModels: [{modelServerName: llama}]}]
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: llama}
spec:
  model: meta/llama-3-8b
  inferenceEngine: vLLM
  workloadSelector: {matchLabels: {app: llama}}
  workloadPort: {port: 8000}
---
apiVersion: v1
kind: Pod
metadata: {name: llama-0, uid: 7c1e, labels: {app: llama}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: llama-1, labels: {app: llama}}
status: {podIP: 10.0.0.2}
"#,
        "
        route default/chat model llama-3-8b adapter sql adapter law
          rule \"all\" → default/llama 100
        backend default/llama Vllm serves meta/llama-3-8b
          #1 default/llama-0 10.0.0.1:8000 uid 7c1e
          #2 default/llama-1 10.0.0.2:8000 uid default/llama-1@10.0.0.2
        ",
    );
}

#[test]
fn rules_with_conditions_and_weights() {
    check(
        r#"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata: {name: chat, namespace: team-a}
spec:
  modelName: m
  rules:
  - name: premium
    modelMatch:
      headers: {User-Type: {exact: premium}, X-Any: {}}
      uri: {prefix: /v1/chat}
      body: {model: m}
    targetModels: [{modelServerName: big, weight: 70}, {modelServerName: small, weight: 30}]
  - modelMatch: {headers: {x-id: {regex: '^[0-9]+$'}}, uri: {}}
    targetModels: [{modelServerName: big, weight: 0}, {modelServerName: small}]
  - targetModels: [{modelServerName: small}]
"#,
        "
        route team-a/chat model m
          rule \"premium\" header user-type = premium path ^ /v1/chat model = m → team-a/big 70 → team-a/small 30
          rule header x-id ~ ^[0-9]+$ → team-a/big 0 → team-a/small 100
          rule → team-a/small 100
        ",
    );
}

#[test]
fn only_pods_that_are_ready_and_not_on_their_way_out() {
    check(
        r#"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: llama}
spec: {inferenceEngine: SGLang, workloadSelector: {matchLabels: {app: llama, tier: gpu}}, workloadPort: {port: 30000}}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: ready, uid: a, labels: {app: llama, tier: gpu}}, status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: "True"}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: unready, uid: b, labels: {app: llama, tier: gpu}}, status: {phase: Running, podIP: 10.0.0.2, conditions: [{type: Ready, status: "False"}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: starting, uid: c, labels: {app: llama, tier: gpu}}, status: {phase: Pending}}
- {apiVersion: v1, kind: Pod, metadata: {name: unprobed, uid: d, labels: {app: llama, tier: gpu}}, status: {phase: Running, podIP: 10.0.0.4, conditions: [{type: Initialized, status: "True"}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: leaving, uid: e, labels: {app: llama, tier: gpu}, deletionTimestamp: "2026-01-01T00:00:00Z"}, status: {phase: Running, podIP: 10.0.0.5, conditions: [{type: Ready, status: "True"}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: done, uid: f, labels: {app: llama, tier: gpu}}, status: {phase: Succeeded, podIP: 10.0.0.6, conditions: [{type: Ready, status: "True"}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: half-selected, uid: g, labels: {app: llama}}, status: {podIP: 10.0.0.7}}
- {apiVersion: v1, kind: Pod, metadata: {name: elsewhere, namespace: other, uid: h, labels: {app: llama, tier: gpu}}, status: {podIP: 10.0.0.8}}
- {apiVersion: v1, kind: Pod, metadata: {name: nowhere, uid: i, labels: {app: llama, tier: gpu}}, status: {phase: Running}}
"#,
        "
        backend default/llama Sglang
          #1 default/ready 10.0.0.1:30000 uid a
        ",
    );
}

#[test]
fn addresses_of_both_families() {
    check(
        r#"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: s}
spec: {inferenceEngine: Triton, workloadSelector: {matchLabels: {app: s}}, workloadPort: {port: 8000}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p4, uid: a, labels: {app: s}}, status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p6, uid: b, labels: {app: s}}, status: {podIP: "fd00::1", podIPs: [{ip: "fd00::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p46, uid: c, labels: {app: s}}, status: {podIP: 10.0.0.3, podIPs: [{ip: 10.0.0.3}, {ip: "fd00::3"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p64, uid: d, labels: {app: s}}, status: {podIPs: [{ip: "fd00::4"}, {ip: 10.0.0.4}]}}
"#,
        "
        backend default/s Triton
          #1 default/p4 10.0.0.1:8000 uid a
          #2 default/p46 10.0.0.3:8000 uid c
          #3 default/p6 [fd00::1]:8000 uid b
          #4 default/p64 [fd00::4]:8000 uid d
        ",
    );
}

#[test]
fn prefill_and_decode_in_groups() {
    check(
        r#"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: pd}
spec:
  inferenceEngine: vLLM
  workloadSelector:
    matchLabels: {modelserving.volcano.sh/name: pd}
    pdGroup:
      groupKey: modelserving.volcano.sh/group-name
      prefillLabels: {modelserving.volcano.sh/role: prefill}
      decodeLabels: {modelserving.volcano.sh/role: decode}
  workloadPort: {port: 8000}
  kvConnector: {type: nixl}
---
{apiVersion: v1, kind: Pod, metadata: {name: d0, uid: a, labels: {modelserving.volcano.sh/name: pd, modelserving.volcano.sh/role: decode, modelserving.volcano.sh/group-name: pd-0, modelserving.volcano.sh/revision: r1}}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p0, uid: b, labels: {modelserving.volcano.sh/name: pd, modelserving.volcano.sh/role: prefill, modelserving.volcano.sh/group-name: pd-0, modelserving.volcano.sh/revision: r1}}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: roleless, uid: c, labels: {modelserving.volcano.sh/name: pd, modelserving.volcano.sh/group-name: pd-0}}, status: {podIP: 10.0.0.3}}
---
{apiVersion: v1, kind: Pod, metadata: {name: ungrouped, uid: d, labels: {modelserving.volcano.sh/name: pd, modelserving.volcano.sh/role: decode}}, status: {podIP: 10.0.0.4}}
"#,
        "
        backend default/pd Vllm
          #1 default/d0 10.0.0.1:8000 uid a decode group pd-0 revision r1
          #2 default/p0 10.0.0.2:8000 uid b prefill group pd-0 revision r1
        ",
    );
}

#[test]
fn where_a_pod_runs() {
    check(
        r#"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata: {name: s}
spec: {inferenceEngine: TorchServe, workloadSelector: {matchLabels: {app: s}}, workloadPort: {port: 8080}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {topology.kubernetes.io/zone: eu-1a}}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2, labels: {failure-domain.beta.kubernetes.io/zone: eu-1b}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p1, uid: a, labels: {app: s}}, spec: {nodeName: n1}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p2, uid: b, labels: {app: s}}, spec: {nodeName: n2}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p3, uid: c, labels: {app: s}}, spec: {nodeName: n3}, status: {podIP: 10.0.0.3}}
"#,
        "
        backend default/s Torchserve
          #1 default/p1 10.0.0.1:8080 uid a node n1 zone eu-1a
          #2 default/p2 10.0.0.2:8080 uid b node n2 zone eu-1b
          #3 default/p3 10.0.0.3:8080 uid c node n3
        ",
    );
}

#[test]
fn traffic_policies() {
    let server = |name: &str, policy: &str| {
        format!(
            "---\napiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: {name}}}\n\
             spec: {{inferenceEngine: vLLM, workloadSelector: {{matchLabels: {{app: x}}}}, workloadPort: {{port: 1}}, \
             trafficPolicy: {policy}}}\n"
        )
    };
    let yaml = [
        server("a", "{}"),
        server("b", "{timeout: 1m30s, retry: {attempts: 3, retryInterval: 250ms}}"),
        server("c", "{timeout: 2h, retry: {attempts: 0}}"),
        server("d", "{timeout: 0s, retry: {attempts: 9, retryInterval: 2m}}"),
    ];
    check(
        &yaml.concat(),
        "
        backend default/a Vllm
        backend default/b Vllm first byte 90s retry after 250ms retries 3
        backend default/c Vllm first byte 7200s total 7200s retry after 100ms retries 0
        backend default/d Vllm retry after 60s retries 5
        ",
    );
    let notes = &super::built(&yaml.concat()).verdicts.servers[&super::name("default/d")].notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
}

#[test]
fn kthenas_scheduler_configuration_goes_for_every_backend() {
    let config = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: kthena-router-config, namespace: kthena-system}
data:
  routerConfiguration: |
    scheduler:
      pluginConfig:
      - name: least-request
        args: {maxWaitingRequests: 5}
      - name: prefix-cache
        args: {blockSizeToHash: 64, maxBlocksToMatch: 32}
      plugins:
        Filter: {enabled: [least-request]}
        Score: {enabled: [{name: least-request, weight: 2}, {name: prefix-cache, weight: 1}]}
"#;
    let yaml = format!("{config}\n{}", super::server("default/a"));
    check(
        &yaml,
        "
        profile scheduler [LeastRequest { max_waiting: 5 }] Weighted([(LeastRequest, 2), (PrefixCache { max_blocks: 32, top_k: 5 }, 1)])
        backend default/a Vllm profile scheduler
        ",
    );
    let verdict = super::built(&yaml).verdicts.scheduler.expect("there is a ConfigMap");
    assert!(verdict.accepted.holds);
    assert!(verdict.notes[0].contains("blockSizeToHash"), "{:?}", verdict.notes);
}
