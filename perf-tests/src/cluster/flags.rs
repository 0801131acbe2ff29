//! The flags of each program.

use std::path::Path;

use super::Parts;
use super::identity::Files;
use kubelet::plan;

pub(super) const AUDIT_LOG: &str = "audit.log";
pub(super) const AUDIT_POLICY_FILE: &str = "audit-policy.json";
pub(super) const AUDIT_POLICY: &str =
    r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}"#;
/// Of service account tokens: who issues them, and whom they are for where nobody is named.
const ISSUER: &str = "https://kubernetes.default.svc";
/// Those that have nothing to do here: clouds, disks and address ranges of nodes.
const CONTROLLERS: &str = "*,-node-ipam-controller,-cloud-node-lifecycle-controller,-node-route-controller,-service-lb-controller,\
                           -persistentvolume-binder-controller,-persistentvolume-attach-detach-controller";

/// Tests of a bed without nodes' networks say by themselves that a pod runs, on a node that is not there: this one would delete such a pod within a
/// minute.
const NOT_WITHOUT_NODES: &str = ",-pod-garbage-collector-controller";

/// All differ.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) etcd: u16,
    pub(super) etcd_peers: u16,
    pub(super) api_server: u16,
}

pub(super) fn etcd(folder: &Path, ports: Ports) -> Vec<String> {
    let Ports { etcd, etcd_peers, api_server: _ } = ports;
    let (client, peer) = (format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{etcd_peers}"));
    vec![
        format!("--data-dir={}", folder.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(super) fn api_server(folder: &Path, files: &Files, ports: Ports, parts: Parts) -> Vec<String> {
    let mut flags = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        format!("--secure-port={}", ports.api_server),
        format!("--tls-cert-file={}", files.server.certificate.display()),
        format!("--tls-private-key-file={}", files.server.key.display()),
        format!("--client-ca-file={}", files.authority.display()),
        "--authorization-mode=RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--service-account-issuer={ISSUER}"),
        format!("--api-audiences={ISSUER}"),
        format!("--service-account-key-file={}", files.tokens_public.display()),
        format!("--service-account-signing-key-file={}", files.tokens.display()),
        // A Service is of IPv4 alone unless it says otherwise.
        format!("--service-cluster-ip-range={},{}", plan::SERVICES, plan::SERVICES_6),
        format!("--audit-policy-file={}", folder.join(AUDIT_POLICY_FILE).display()),
        format!("--audit-log-path={}", folder.join(AUDIT_LOG).display()),
    ];
    flags.extend(reach(parts));
    if parts == Parts::ApiServer {
        // Pods need no service account here: nothing would make the default one.
        flags.push("--disable-admission-plugins=ServiceAccount".to_owned());
    }
    flags
}

/// Where it listens, and whether it is an endpoint of its own Service.
fn reach(parts: Parts) -> Vec<String> {
    if parts == Parts::Nodes {
        return vec![
            "--bind-address=0.0.0.0".to_owned(),
            format!("--advertise-address={}", plan::BED),
            // It goes to a webhook's pods itself, for it is on no node that has a kube-proxy.
            "--enable-aggregator-routing=true".to_owned(),
            // Of its kubelets it knows no names.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
        ];
    }
    vec![
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        // Else it logs for ever that a loopback address is no endpoint.
        "--endpoint-reconciler-type=none".to_owned(),
    ]
}

pub(super) fn controller_manager(kubeconfig: &Path, files: &Files, parts: Parts) -> Vec<String> {
    let mut flags = client(kubeconfig);
    let without = if parts == Parts::Nodes { "" } else { NOT_WITHOUT_NODES };
    flags.extend([
        format!("--service-account-private-key-file={}", files.tokens.display()),
        format!("--root-ca-file={}", files.authority.display()),
        format!("--controllers={CONTROLLERS}{without}"),
        // A lost node is seen within seconds, not within a minute.
        "--node-monitor-period=2s".to_owned(),
        "--node-monitor-grace-period=16s".to_owned(),
        // So is a Deployment that is smaller than its autoscaler allows.
        "--horizontal-pod-autoscaler-sync-period=1s".to_owned(),
    ]);
    if parts == Parts::Nodes {
        // So that the audit log says which controller it was.
        flags.push("--use-service-account-credentials=true".to_owned());
    }
    flags
}

pub(super) fn scheduler(kubeconfig: &Path) -> Vec<String> {
    client(kubeconfig)
}

/// Of a program that works for itself only and serves nobody.
fn client(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
    ]
}
