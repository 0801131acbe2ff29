//! The matrix.

use perf_tests::helm::Render;

use crate::object::Object;

const MONITORING: &[&str] = &["monitoring.coreos.com/v1"];

/// The values with every block switched on.
pub const EVERYTHING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/everything.yaml");

/// Values with names that are words of YAML.
const NAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/names.yaml");
/// A name of digits alone: of a release and of its namespace.
pub const DIGITS: &str = "2026";

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
    render.objects().unwrap_or_else(|error| panic!("{render:?}: {error:#}")).into_iter().map(Object).collect()
}

pub fn with(set: &[&str]) -> Vec<Object> {
    rendered(&Render { set, ..Render::default() })
}

pub fn all<'a>() -> Vec<Case<'a>> {
    let of = |name, values, set, kubernetes| Case {
        name,
        render: Render { values, set, api_versions: MONITORING, kubernetes, ..Render::default() },
    };
    let case = |name, set, kubernetes| of(name, "", set, kubernetes);
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
        of("everything", EVERYTHING, &[], ""),
        Case {
            name: "names of digits and of YAML's words",
            render: Render {
                values: NAMES,
                api_versions: MONITORING,
                namespace: DIGITS,
                release: DIGITS,
                ..Render::default()
            },
        },
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
