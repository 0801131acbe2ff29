//! What is wrong with values is said with the key.

use perf_tests::helm::Render;

#[track_caller]
pub fn check(set: &[&str], expected: &[&str]) {
    let rendered = Render { set, ..Render::default() }.objects().map(|objects| objects.len());
    let said = rendered.expect_err("it is refused").to_string();
    for expected in expected {
        assert!(said.contains(expected), "{set:?}: {expected:?} is not in\n{said}");
    }
}

#[test]
fn an_unknown_key_is_refused_by_name_wherever_it_stands() {
    check(&["gatewy.replicas=2"], &["additional properties 'gatewy' not allowed"]);
    check(&["gateway.replica=2"], &["at '/gateway'", "'replica' not allowed"]);
    // Only a chart that has this one as a part has others (copies.rs).
    let ours = "its globals are commonLabels, imagePullSecrets, imageRegistry, ipFamilies, ipFamilyPolicy, listenAddress and priorityQuota";
    check(&["global.imageRegistri=x"], &[&format!("global.imageRegistri is no value of this chart; {ours}")]);
    let webhook = "what there is of the webhook is in controlplane.webhook";
    check(
        &["global.webhook.enabled=false"],
        &[&format!("global.webhook.enabled is no value of this chart; {webhook}")],
    );
    check(&["global.webhook=off"], &[&format!("global.webhook is no value of this chart; {webhook}")]);
    check(
        &["enabled=false"],
        &["enabled is for a chart that has this one as a part", "set gateway.enabled and node.enabled"],
    );
    check(&["gateway.config.limts.connections=5"], &["at '/gateway/config'", "'limts' not allowed"]);
    check(&["node.config.drain.led=5s"], &["at '/node/config/drain'", "'led' not allowed"]);
    check(&["node.image.name=x"], &["at '/node/image'", "'name' not allowed"]);
    check(&["controlplane.resources.limit.cpu=1"], &["at '/controlplane/resources'", "'limit' not allowed"]);
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_with_what_it_may_be() {
    check(&["node.exposure=nodePort"], &["at '/node/exposure'", "'service', 'hostPort', 'hostNetwork'"]);
    check(&["gateway.ioUring.seccomp=none"], &["'runtimeDefault', 'localhost', 'unconfined'"]);
    check(&["gateway.port=0"], &["at '/gateway/port'", "minimum"]);
    check(&["controlplane.webhook.timeoutSeconds=30"], &["at '/controlplane/webhook/timeoutSeconds'", "maximum"]);
    check(&["gateway.name=Front_Door"], &["at '/gateway/name'"]);
    check(&["gateway.pdb.maxUnavailable=0%"], &["at '/gateway/pdb/maxUnavailable'"]);
    check(&["controlplane.namespaces={-a}"], &["at '/controlplane/namespaces/0'"]);
    check(&["gateway.image.digest=sha256:12"], &["at '/gateway/image/digest'"]);
    for address in ["localhost", "[::]", "0.0.0.0:80"] {
        check(&[&format!("global.listenAddress={address}")], &["at '/global/listenAddress'"]);
    }
    for path in ["/etc/profile.json", "../profile.json", "operator/../profile.json", ""] {
        check(&[&format!("node.ioUring.localhostProfile={path}")], &["at '/node/ioUring/localhostProfile'"]);
    }
}

#[test]
fn values_of_kthenas_own_chart_are_refused_all_at_once_with_our_keys() {
    let theirs = [
        "networking.enabled=true",
        "networking.kthenaRouter.replicas=3",
        "networking.kthenaRouter.service.type=LoadBalancer",
        "networking.kthenaRouter.fairness.enabled=true",
        "workload.controllerManager.resource.limits.cpu=1",
        "workload.controllerManager.webhook.enabled=true",
    ];
    check(
        &theirs,
        &[
            "networking.enabled is a value of Kthena's chart; here it is gateway.enabled",
            "networking.kthenaRouter.replicas is a value of Kthena's chart; here it is gateway.replicas",
            "networking.kthenaRouter.service.type is a value of Kthena's chart; here it is gateway.service.type",
            "networking.kthenaRouter.fairness is a value of Kthena's chart; here it is nothing: this release has no fairness queue",
            "workload.controllerManager.resource is a value of Kthena's chart; here it is controlplane.resources",
            "workload.controllerManager.webhook is a value of Kthena's chart; here it is controlplane.webhook",
        ],
    );
    let service = "networking.kthenaRouter.service";
    check(
        &[&format!("{service}.annotations.a=b")],
        &[&format!("{service}.annotations is"), "gateway.service.annotations\n"],
    );
    check(
        &[&format!("{service}.ports=7")],
        &[&format!("{service} is a value of Kthena's chart; here it is gateway.service\n")],
    );
    // Empty blocks say nothing.
    let empty = ["networking.kthenaRouter=null", "workload.controllerManager=null", "global.webhook=null"];
    Render { set: &empty, ..Render::default() }.objects().unwrap();
    let metrics = "networking.kthenaRouter.metrics.";
    let said = Render { set: &[&format!("{metrics}exposeOnRouterPort=true")], ..Render::default() }.objects();
    let said = said.unwrap_err().to_string();
    assert!(
        said.contains(&format!("{metrics}exposeOnRouterPort is")) && said.contains("it is nothing: metrics"),
        "{said}"
    );
    assert!(!said.contains("here it is gateway.metricsPort"), "which is the port's place: {said}");
    check(&[&format!("{metrics}port=9000")], &[&format!("{metrics}port is"), "here it is gateway.metricsPort"]);
    let issuer = |mode: &str, ours: &str| {
        let sentence = format!("here it is controlplane.certificates.issuer={ours}");
        check(&[&format!("global.certManagementMode={mode}")], &["global.certManagementMode is", &sentence]);
    };
    issuer("cert-manager", "cert-manager");
    issuer("manual", "secret");
    issuer("foo", "own, cert-manager or secret");
    check(&["global.webhook.caBundle=abc"], &["global.webhook.caBundle is", "key ca.crt of the Secret"]);
    Render { set: &["global.certManagementMode=auto"], ..Render::default() }.objects().unwrap();
}

#[test]
fn two_ports_of_a_program_are_two() {
    let both = |a: &str, b: &str, port: u16| format!("{a} and {b} are both {port}; set one of them to another port");
    check(&["gateway.port=9090"], &[&both("gateway.metricsPort", "gateway.port", 9090)]);
    check(&["gateway.debugPort=9090"], &[&both("gateway.debugPort", "gateway.metricsPort", 9090)]);
    let node =
        |exposure| ["node.enabled=true".to_owned(), format!("node.exposure={exposure}"), "node.port=9090".to_owned()];
    for exposure in ["service", "hostPort", "hostNetwork"] {
        let set = node(exposure);
        check(&set.each_ref().map(String::as_str), &[&both("node.metricsPort", "node.port", 9090)]);
    }
    check(&["controlplane.webhook.port=9091"], &[&both("controlplane.metricsPort", "controlplane.webhook.port", 9091)]);
    check(&["controlplane.port=15000"], &[&both("controlplane.debugPort", "controlplane.port", 15000)]);
    // On the node's own network it has no debug port; nothing is served at 0, and without a webhook nothing at its port.
    let fine: [&[&str]; 3] = [
        &["node.enabled=true", "node.exposure=hostNetwork", "node.port=15000"],
        &["controlplane.debugPort=0", "gateway.port=9443"],
        &["controlplane.webhook.enabled=false", "controlplane.webhook.port=9091"],
    ];
    for set in fine {
        Render { set, ..Render::default() }.objects().unwrap();
    }
}

#[test]
fn a_configuration_that_asks_for_tokens_of_clients_is_refused_while_nobody_looks_at_them() {
    let set = |auth| {
        format!("scheduler.configuration={auth}scheduler: {{plugins: {{Score: {{enabled: []}}}}}}").replace(',', "\\,")
    };
    check(
        &[&set("auth: {issuer: x, jwksUri: https://x}\n")],
        &["scheduler.configuration asks for tokens of clients (auth.jwksUri)", "leave auth out"],
    );
    check(&[&set("auth: {issuer: x\n")], &["scheduler.configuration cannot be read"]);
    for without in ["", "auth:\n", "auth: {issuer: x, jwksUri: ''}\n"] {
        Render { set: &[&set(without)], ..Render::default() }.objects().unwrap();
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    check(&["node.enabled=true", "node.ioUring.install=true"], &["set node.ioUring.seccomp to localhost"]);
    let local = ["node.enabled=true", "node.ioUring.seccomp=localhost", "node.ioUring.install=true"];
    check(&[&local[..], &["node.ioUring.localhostProfile=x.json"]].concat(), &["installs kthena-dataplane.json, but"]);
    check(
        &[&local[..], &["node.ioUring.remove=true", "gateway.ioUring.seccomp=localhost"]].concat(),
        &[
            "install and node.ioUring.remove are both true",
            "the profile that gateway.ioUring.seccomp asks for",
            "the profile that node.ioUring.seccomp asks for",
        ],
    );
    check(&["node.ioUring.remove=true"], &["the pods of node.enabled, which is false"]);
    check(
        &["controlplane.certificates.certManager.issuerRef.name=corporate"],
        &["set controlplane.certificates.issuer to cert-manager"],
    );
    check(&["gateway.enabled=false"], &["nothing would take requests"]);
    check(&["node.enabled=true", "node.name=kthena-router"], &["gateway.name and node.name are the same"]);
}

/// Of a Service of both families the address of IPv6 would lead to programs that do not listen there.
#[test]
fn services_of_ipv6_before_programs_that_listen_on_ipv4_are_refused() {
    let listen = "set global.listenAddress to \"::\", by which they listen on both families";
    for policy in ["PreferDualStack", "RequireDualStack"] {
        let said = format!("global.ipFamilyPolicy is {policy}, but the programs listen on 0.0.0.0 alone; {listen}");
        check(&[&format!("global.ipFamilyPolicy={policy}")], &[&said]);
    }
    for families in ["{IPv6}", "{IPv4,IPv6}"] {
        let set = format!("global.ipFamilies={families}");
        check(&[&set], &[&format!("global.ipFamilies has IPv6, but the programs listen on 0.0.0.0 alone; {listen}")]);
    }
    for fits in [
        &["global.ipFamilyPolicy=SingleStack", "global.ipFamilies={IPv4}"][..],
        &["global.ipFamilyPolicy=PreferDualStack", "global.listenAddress=::"],
        // Each pod's own address, of whatever family its cluster gives.
        &["global.ipFamilies={IPv6}", "global.listenAddress=$(POD_IP)"],
    ] {
        Render { set: fits, ..Render::default() }.objects().unwrap_or_else(|said| panic!("{fits:?}: {said}"));
    }
}

#[test]
fn an_older_cluster_than_is_supported_is_refused() {
    let old = Render { kubernetes: "1.33.0", ..Render::default() };
    assert!(old.objects().unwrap_err().to_string().contains("kubeVersion"));
}

#[test]
fn a_drain_that_the_kubelet_would_cut_short_is_refused() {
    let lasts = "node.config.drain lasts 10s and then 1m30s, but a pod is killed after 90 s";
    let node = ["node.enabled=true", "node.terminationGracePeriodSeconds=90", "node.config.drain.deadline=1m30s"];
    check(&node, &[lasts, "set node.terminationGracePeriodSeconds to more"]);
    check(&["gateway.config.drain.deadline=1h"], &["gateway.config.drain lasts 10s and then 1h"]);
    check(&["gateway.config.drain.lead=20000ms"], &["gateway.config.drain lasts 20000ms and then 310s"]);
    for fits in [&["gateway.config.drain.deadline=5m19.5s"][..], &["node.config.drain.deadline=1h"], &[]] {
        Render { set: fits, ..Render::default() }.objects().unwrap_or_else(|said| panic!("{fits:?}: {said}"));
    }
}

#[test]
fn every_name_of_a_namespace_is_taken() {
    let longest = "0".repeat(63);
    let set = format!("controlplane.namespaces={{{longest},2026a,a}}");
    Render { set: &[&set], ..Render::default() }.objects().unwrap();
}

#[test]
fn a_name_that_something_else_of_the_chart_has_is_refused() {
    let fixed = ["kthena-controlplane", "kthena-controlplane-webhook", "kthena-crds", "kthena-test"];
    for name in fixed {
        for block in ["gateway", "node"] {
            let said = format!("{block}.name is {name}, which is the name of something else");
            check(&["node.enabled=true", &format!("{block}.name={name}")], &[&said]);
        }
    }
    for (key, name) in [
        ("node", "kthena-router-metrics"),
        ("node", "kthena-router-doctor"),
        ("gateway", "kthena-node-doctor"),
        ("gateway", "kthena-node-leave"),
        ("gateway", "kthena-node-leave-wait"),
    ] {
        check(&["node.enabled=true", &format!("{key}.name={name}")], &[&format!("{key}.name is {name}, which")]);
    }
    let alone = ["gateway.name=kthena-node-leave"];
    Render { set: &alone, ..Render::default() }.objects().expect("nothing has the name without node proxies");
}

/// YAML has each key once, and of two entries of a list the API server takes the later one or refuses both.
#[test]
fn what_the_chart_says_itself_is_not_said_twice() {
    check(
        &["global.commonLabels.app\\.kubernetes\\.io/part-of=us", "gateway.podLabels.app\\.kubernetes\\.io/name=us"],
        &["global.commonLabels has app.kubernetes.io/part-of", "gateway.podLabels has app.kubernetes.io/name"],
    );
    let own = "a label that the chart sets itself";
    check(
        &["global.commonLabels.grafana_dashboard=no"],
        &[&format!("global.commonLabels has grafana_dashboard, {own}")],
    );
    check(
        &["monitoring.labels.app\\.kubernetes\\.io/name=us"],
        &[&format!("monitoring.labels has app.kubernetes.io/name, {own}")],
    );
    for block in ["gateway", "node"] {
        let said = format!("{block}.podAnnotations has checksum/settings, an annotation that the chart sets itself");
        check(&[&format!("{block}.podAnnotations.checksum/settings=x")], &[&said]);
    }
    let env = |block: &str, name: &str| {
        let set = [format!("{block}.extraEnv[0].name={name}"), format!("{block}.extraEnv[0].value=x")];
        check(&[&set[0], &set[1]], &[&format!("{block}.extraEnv has {name}, which the chart sets itself")]);
    };
    env("controlplane", "POD_NAME");
    env("gateway", "NODE_NAME");
    env("node", "POD_NAMESPACE");
    for block in ["gateway", "node"] {
        let said = format!("{block}.securityContext.seccompProfile comes from {block}.ioUring.seccomp");
        check(&[&format!("{block}.securityContext.seccompProfile.type=Unconfined")], &[&said]);
    }
}
