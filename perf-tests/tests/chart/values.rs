//! The matrix.

use perf_tests::helm::Render;

use crate::object::Object;

const MONITORING: &[&str] = &["monitoring.coreos.com/v1"];

/// A way to install the chart.
pub struct Case<'a> {
    pub name: &'static str,
    pub render: Render<'a>,
}

impl Case<'_> {
    pub fn objects(&self) -> Vec<Object> {
        rendered(&self.render)
    }
}

pub fn rendered(render: &Render<'_>) -> Vec<Object> {
    render.objects().unwrap_or_else(|error| panic!("{render:?}: {error}")).into_iter().map(Object).collect()
}

pub fn with(set: &[&str]) -> Vec<Object> {
    rendered(&Render { set, ..Render::default() })
}

pub fn all<'a>() -> Vec<Case<'a>> {
    let case = |name, set, kubernetes| Case { name, render: Render { set, api_versions: MONITORING, kubernetes } };
    vec![
        case("defaults", &[], ""),
        case("defaults on the oldest server", &["node.enabled=true"], "1.34.0"),
        case("node by service", &["node.enabled=true"], "1.35.0"),
        case("node by hostPort", &["node.enabled=true", "node.exposure=hostPort"], ""),
        case(
            "node by hostNetwork",
            &[
                "node.enabled=true",
                "node.exposure=hostNetwork",
                "networkPolicy.enabled=true",
                "monitoring.monitors=true",
            ],
            "",
        ),
        case("only nodes", &["node.enabled=true", "gateway.enabled=false"], ""),
        case(
            "everything",
            &[
                "node.enabled=true",
                "node.ioUring.seccomp=localhost",
                "node.ioUring.install=true",
                "node.extraArgs={--port=9999}",
                "node.config.limits.connections=1000",
                "gateway.autoscaling.enabled=true",
                "gateway.service.type=LoadBalancer",
                "gateway.service.loadBalancerClass=example.com/lb",
                "gateway.ioUring.seccomp=unconfined",
                "gateway.config.access_log.format=json",
                "gateway.podLabels.team=serving",
                "gateway.podAnnotations.a=b",
                "gateway.nodeSelector.disk=fast",
                "gateway.extraEnv[0].name=A",
                "gateway.extraEnv[0].value=b",
                "gateway.extraVolumes[0].name=more",
                "gateway.extraVolumes[0].emptyDir.medium=Memory",
                "gateway.extraVolumeMounts[0].name=more",
                "gateway.extraVolumeMounts[0].mountPath=/more",
                "controlplane.namespaces={one,two}",
                "controlplane.serviceAccount.annotations.a=b",
                "global.commonLabels.owner=us",
                "global.imagePullSecrets[0].name=pull",
                "global.imageRegistry=registry.example.com/kthena",
                "scheduler.configuration=scheduler: {}",
                "networkPolicy.enabled=true",
                "monitoring.monitors=true",
                "monitoring.alerts=true",
                "monitoring.dashboards=true",
                "monitoring.labels.release=prometheus",
            ],
            "",
        ),
        case(
            "on to the profiles of an operator",
            &[
                "node.enabled=true",
                "node.exposure=hostNetwork",
                "node.ioUring.seccomp=localhost",
                "node.ioUring.localhostProfile=operator/serving/kthena.json",
                "node.ioUring.remove=true",
                "gateway.ioUring.seccomp=localhost",
                "gateway.ioUring.localhostProfile=operator/kthena.json",
                "gateway.doctor=false",
            ],
            "",
        ),
        case("certificates by cert-manager", &["controlplane.certificates.issuer=cert-manager"], ""),
        case(
            "certificates by an issuer of cert-manager that is there already",
            &[
                "controlplane.certificates.issuer=cert-manager",
                "controlplane.certificates.certManager.issuerRef.name=corporate",
                "controlplane.certificates.certManager.issuerRef.kind=ClusterIssuer",
                "controlplane.webhook.enabled=false",
            ],
            "",
        ),
        case(
            "certificates by somebody",
            &["controlplane.certificates.issuer=secret", "controlplane.certificates.secretName=from-the-vault"],
            "",
        ),
        case(
            "IPv6 and other names",
            &[
                "node.enabled=true",
                "gateway.name=front",
                "node.name=local",
                "global.listenAddress=::",
                "global.ipFamilyPolicy=PreferDualStack",
                "global.ipFamilies={IPv6,IPv4}",
            ],
            "",
        ),
        case(
            "nothing that can be left out",
            &[
                "crds.install=false",
                "controlplane.webhook.enabled=false",
                "gateway.replicas=1",
                "controlplane.replicas=1",
            ],
            "",
        ),
    ]
}
