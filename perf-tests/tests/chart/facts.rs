//! What users, operators and other charts rely on.

use controlplane::object::Kind;
use perf_tests::helm::documents;
use serde_json::{Value, json};

use crate::object::{find, has, items};
use crate::refusals::check;
use crate::values::{self, with};

#[test]
fn the_names_and_ports_that_kthenas_users_rely_on_are_kept() {
    let objects = with(&["scheduler.configuration=scheduler: {}"]);
    let port = |service: &str| find(&objects, "Service", service).at("/spec/ports/0").clone();
    assert_eq!((&port("kthena-router")["port"], &port("kthena-router")["targetPort"]), (&json!(80), &json!(8080)));
    assert_eq!(port("kthena-router-metrics")["port"], 9090);
    let component = "/metadata/labels/app.kubernetes.io~1component";
    assert_eq!(find(&objects, "Service", "kthena-router-metrics").at(component), "kthena-router-metrics");
    let configuration = find(&objects, "ConfigMap", "kthena-router-config").at("/data/routerConfiguration");
    assert_eq!(configuration.as_str().unwrap().trim(), "scheduler: {}");
    let args = find(&objects, "Deployment", "kthena-router").at("/spec/template/spec/containers/0/args").clone();
    assert!(items(&args).any(|arg| arg == "--debug-port=15000"), "{args}");
}

#[test]
fn every_image_comes_from_the_registry_that_is_given() {
    let all = [
        "global.imageRegistry=registry.example.com/x",
        "node.enabled=true",
        "node.ioUring.install=true",
        "node.ioUring.seccomp=localhost",
    ];
    for object in with(&all) {
        for container in object.containers() {
            let image = container["image"].as_str().unwrap();
            assert!(image.starts_with("registry.example.com/x/kthena-"), "{object}: {image}");
        }
    }
    let digest = format!("sha256:{}", "a".repeat(64));
    let objects = with(&[&format!("gateway.image.digest={digest}"), "controlplane.image.tag=v9"]);
    let image =
        |name| find(&objects, "Deployment", name).at("/spec/template/spec/containers/0/image").as_str().unwrap();
    assert_eq!(image("kthena-router"), format!("ghcr.io/volcano-sh/kthena-dataplane@{digest}"));
    assert_eq!(image("kthena-controlplane"), "ghcr.io/volcano-sh/kthena-controlplane:v9");
}

#[test]
fn no_container_may_more_than_it_needs() {
    for case in values::all() {
        for object in case.objects() {
            let pod = object.pod().map(|(_, spec)| spec.clone()).unwrap_or_default();
            for container in object.containers() {
                let security = &container["securityContext"];
                let may = (
                    &security["allowPrivilegeEscalation"],
                    &security["readOnlyRootFilesystem"],
                    &security["capabilities"],
                );
                assert_eq!(may, (&json!(false), &json!(true), &json!({"drop": ["ALL"]})), "{}: {object}", case.name);
                assert!(security["seccompProfile"]["type"].is_string(), "{}: {object}", case.name);
                let as_root = security["runAsNonRoot"] == false;
                let of_node = ["install-seccomp", "remove-seccomp"].iter().any(|name| container["name"] == *name);
                assert!(as_root == of_node, "{}: {object}", case.name);
                assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{}: {object}", case.name);
                assert!(container["resources"]["requests"].is_object(), "{}: {object}", case.name);
            }
            let of_ours = ["kthena-router", "kthena-node", "kthena-test", "kthena-router-doctor", "kthena-node-doctor"];
            let is_ours = of_ours.contains(&object.name()) || object.name().ends_with("-leave");
            if is_ours && object.pod().is_some() {
                assert_eq!(pod["automountServiceAccountToken"], false, "{object} has no business with the API server");
            }
        }
    }
}

#[test]
fn a_profile_for_io_uring_is_the_containers_own_and_installed_on_demand_only() {
    let spec = |set: &[&str]| find(&with(set), "DaemonSet", "kthena-node").at("/spec/template/spec").clone();
    let profile = |spec: &Value| spec["containers"][0]["securityContext"]["seccompProfile"].clone();
    let init = |spec: &Value| items(&spec["initContainers"]).map(|c| c["name"].clone()).collect::<Vec<_>>();
    let plain = spec(&["node.enabled=true"]);
    assert_eq!((profile(&plain), init(&plain)), (json!({"type": "RuntimeDefault"}), vec![json!("doctor")]));
    let local = spec(&["node.enabled=true", "node.ioUring.seccomp=localhost", "node.ioUring.install=true"]);
    let expected = json!({"type": "Localhost", "localhostProfile": dataplane::seccomp_profile::NAME});
    assert_eq!((profile(&local), init(&local)), (expected, vec![json!("install-seccomp"), json!("doctor")]));
    assert!(local["securityContext"]["seccompProfile"].is_null(), "the installer runs before the profile is there");
    assert!(items(&plain["volumes"]).all(|volume| volume["hostPath"].is_null()));
    let away = spec(&["node.enabled=true", "node.ioUring.remove=true"]);
    assert_eq!((profile(&away), init(&away)), (profile(&plain), vec![json!("remove-seccomp"), json!("doctor")]));
    assert!(items(&away["initContainers"][0]["args"]).any(|argument| argument == "--remove"), "{away}");
}

#[test]
fn before_an_uninstall_a_profile_goes_from_each_node_on_which_it_was_put() {
    let named = |set: &[&str]| {
        let of_it = with(set).into_iter().filter(|object| object.name().contains("-leave"));
        of_it.collect::<Vec<_>>()
    };
    assert!(named(&["node.enabled=true"]).is_empty());
    let set =
        ["node.enabled=true", "node.ioUring.seccomp=localhost", "node.ioUring.install=true", "node.nodeSelector.a=b"];
    let objects = named(&set);
    for object in &objects {
        assert_eq!(object.0["metadata"]["annotations"]["helm.sh/hook"], "pre-delete", "{object}");
    }
    let [leave, node] =
        [find(&objects, "DaemonSet", "kthena-node-leave"), find(&with(&set), "DaemonSet", "kthena-node")]
            .map(|object| object.at("/spec/template/spec").clone());
    for places in ["nodeSelector", "tolerations", "priorityClassName"] {
        assert!(!leave[places].is_null() && leave[places] == node[places], "{places}: {leave}");
    }
    assert!(items(&leave["initContainers"][0]["args"]).any(|argument| argument == "--remove"), "{leave}");
    let waits = find(&objects, "Job", "kthena-node-leave-wait").at("/spec/template/spec");
    assert!(waits["priorityClassName"].is_null(), "where it is refused, helm does not say so");
}

#[test]
fn a_kubelet_with_another_folder_has_its_profiles_there() {
    let set = [
        "node.enabled=true",
        "node.ioUring.seccomp=localhost",
        "node.ioUring.install=true",
        "node.ioUring.kubeletRoot=/var/snap/kubelet",
    ];
    let objects = with(&set);
    for name in ["kthena-node", "kthena-node-leave"] {
        let spec = find(&objects, "DaemonSet", name).at("/spec/template/spec").clone();
        let paths: Vec<_> = items(&spec["volumes"]).filter_map(|volume| volume["hostPath"]["path"].as_str()).collect();
        assert_eq!(paths, ["/var/snap/kubelet/seccomp"], "{name}");
    }
}

#[test]
fn a_profile_that_another_put_on_the_nodes_is_named_by_its_path() {
    let objects = with(&[
        "node.enabled=true",
        "node.ioUring.seccomp=localhost",
        "node.ioUring.localhostProfile=operator/serving/kthena.json",
        "gateway.ioUring.seccomp=localhost",
        "gateway.ioUring.localhostProfile=operator/kthena.json",
    ]);
    let workloads = [
        ("DaemonSet", "kthena-node", "operator/serving/kthena.json"),
        ("Deployment", "kthena-router", "operator/kthena.json"),
    ];
    for (kind, name, path) in workloads {
        let pods = [find(&objects, kind, name), find(&objects, "Pod", &format!("{name}-doctor"))];
        for container in pods.into_iter().flat_map(|object| object.containers()) {
            let profile = &container["securityContext"]["seccompProfile"];
            assert_eq!(
                *profile,
                json!({"type": "Localhost", "localhostProfile": path}),
                "{name}, {}",
                container["name"]
            );
        }
    }
}

#[test]
fn the_hook_may_read_and_write_the_definitions_that_it_applies_and_no_other() {
    let objects = with(&[]);
    let rule = find(&objects, "ClusterRole", "serving-kthena-crds").at("/rules/1").clone();
    let mut named: Vec<_> = items(&rule["resourceNames"]).map(|name| name.as_str().unwrap().to_owned()).collect();
    let mut ours: Vec<_> = Kind::ALL.iter().map(|kind| format!("{}.{}", kind.plural(), kind.group())).collect();
    named.sort();
    ours.sort();
    assert_eq!(named, ours);
    let hooks: Vec<_> = objects.iter().filter(|object| object.name().ends_with("kthena-crds")).collect();
    assert!(hooks.len() == 4 && hooks.iter().all(|object| object.is_hook()));
    let annotations = &find(&objects, "Job", "kthena-crds").0["metadata"]["annotations"];
    assert_eq!(annotations["helm.sh/hook-output-log-policy"], "hook-failed", "helm says why it failed");
    let off = with(&["crds.install=false"]);
    assert!(!off.iter().any(|object| object.name().ends_with("kthena-crds")));
}

/// Where a priority class is refused to the namespace no pod comes of the Job, and helm says nothing but that it waited. The quota that lifts
/// that comes after the hooks.
#[test]
fn what_brings_the_definitions_asks_for_no_priority_and_the_rest_may_have_it_by_a_quota() {
    let objects = with(&["global.priorityQuota=true", "node.enabled=true"]);
    let job = find(&objects, "Job", "kthena-crds");
    assert_eq!(job.at("/spec/template/spec")["priorityClassName"], Value::Null);
    assert!(job.at("/spec/ttlSecondsAfterFinished").as_u64().unwrap() >= 600, "its log can be read for a while");
    let quota = find(&objects, "ResourceQuota", "kthena-priority");
    assert!(!quota.is_hook());
    let scope = quota.at("/spec/scopeSelector/matchExpressions/0");
    assert_eq!((&scope["scopeName"], &scope["operator"]), (&json!("PriorityClass"), &json!("In")));
    for object in objects.iter().filter(|object| object.pod().is_some()) {
        let class = &object.pod().unwrap().1["priorityClassName"];
        assert!(class.is_null() || items(&scope["values"]).any(|named| named == class), "{object}: {class}");
    }
    assert!(!has(&with(&[]), "ResourceQuota", "kthena-priority"));
}

#[test]
fn pods_run_on_linux_and_where_the_user_says_besides() {
    let set = ["node.enabled=true", "node.ioUring.seccomp=localhost", "node.ioUring.install=true"];
    let set = [&set[..], &["gateway.nodeSelector.disk=fast"]].concat();
    let objects = with(&set);
    for object in objects.iter().filter(|object| object.pod().is_some()) {
        assert_eq!(object.pod().unwrap().1["nodeSelector"]["kubernetes.io/os"], "linux", "{object}");
    }
    let gateway = find(&objects, "Deployment", "kthena-router").at("/spec/template/spec/nodeSelector").clone();
    assert_eq!(gateway, json!({"kubernetes.io/os": "linux", "disk": "fast"}));
}

/// By a node's own address nothing answers on a node without a proxy, and where everything is tainted the pod would wait for ever.
#[test]
fn the_test_runs_where_a_proxy_runs() {
    let places = |object: &crate::object::Object| {
        let (_, spec) = object.pod().unwrap();
        ["nodeSelector", "tolerations", "affinity"].map(|field| spec[field].clone())
    };
    let set = [
        "node.nodeSelector.proxies=here",
        "gateway.nodeSelector.disk=fast",
        "gateway.tolerations[0].operator=Exists",
        "gateway.tolerations[0].key=only",
    ];
    for (more, kind, name) in [
        (&["node.enabled=true", "node.exposure=hostPort"][..], "DaemonSet", "kthena-node"),
        (&[], "Deployment", "kthena-router"),
    ] {
        let objects = with(&[&set[..], more].concat());
        let test = find(&objects, "Pod", "kthena-test");
        assert_eq!(places(test), places(find(&objects, kind, name)), "{name}");
        assert_eq!(test.0["spec"]["priorityClassName"], Value::Null);
    }
}

#[test]
fn the_webhook_is_the_one_of_the_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/cluster/webhook.yaml");
    let example = documents(&std::fs::read_to_string(path).unwrap()).unwrap();
    let example = example.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let objects = with(&[]);
    let mut ours = find(&objects, "ValidatingWebhookConfiguration", "kthena-controlplane").at("/webhooks").clone();
    for webhook in ours.as_array_mut().unwrap() {
        webhook["clientConfig"]["service"]["namespace"] = "kthena-system".into();
    }
    assert_eq!(ours, example["webhooks"]);
}

#[test]
fn a_watch_of_some_namespaces_has_rights_in_these_alone() {
    let objects = with(&["controlplane.namespaces={one,two,serving}"]);
    let name = "serving-kthena-controlplane-objects";
    let bound = objects.iter().filter(|object| object.kind() == "RoleBinding" && object.name() == name);
    let namespaces: Vec<_> = bound.map(|object| object.0["metadata"]["namespace"].clone()).collect();
    assert_eq!(namespaces, [json!("one"), json!("two"), json!("serving")]);
    assert!(!has(&objects, "ClusterRoleBinding", name) && has(&with(&[]), "ClusterRoleBinding", name));
    let args = find(&objects, "Deployment", "kthena-controlplane").at("/spec/template/spec/containers/0/args").clone();
    assert!(items(&args).any(|arg| arg == "--namespaces=one,two,serving"), "{args}");
}

#[test]
fn budgets_and_replicas_follow_what_scales() {
    let objects = with(&["gateway.autoscaling.enabled=true"]);
    assert!(find(&objects, "Deployment", "kthena-router").0["spec"]["replicas"].is_null());
    assert!(
        has(&objects, "HorizontalPodAutoscaler", "kthena-router")
            && has(&objects, "PodDisruptionBudget", "kthena-router")
    );
    let one = with(&["gateway.replicas=1", "controlplane.replicas=1"]);
    assert!(!one.iter().any(|object| object.kind() == "PodDisruptionBudget"), "a budget for one pod stops every drain");
    assert_eq!(find(&with(&[]), "Deployment", "kthena-controlplane").at("/spec/replicas"), 2);
}

/// The gateway asks nobody who they are.
#[test]
fn who_may_come_by_the_load_balancer_can_be_said() {
    let key = "gateway.service.loadBalancerSourceRanges";
    let ranges = format!("{key}={{192.0.2.0/24,2001:db8::/32}}");
    let objects = with(&["gateway.service.type=LoadBalancer", &ranges]);
    let spec = find(&objects, "Service", "kthena-router").at("/spec");
    assert_eq!(spec["loadBalancerSourceRanges"], json!(["192.0.2.0/24", "2001:db8::/32"]));
    for kind in ["ClusterIP", "NodePort"] {
        let said = format!("{key} is for gateway.service.type=LoadBalancer alone, and that is {kind}");
        check(&[&format!("gateway.service.type={kind}"), &ranges], &[&said]);
    }
    check(&[&format!("{key}={{everybody}}")], &["at '/gateway/service/loadBalancerSourceRanges/0'"]);
}

#[test]
fn what_the_control_plane_fills_is_rendered_empty() {
    let objects = with(&[]);
    for (kind, name) in [
        ("Secret", "kthena-controlplane-certificates"),
        ("ConfigMap", "kthena-controlplane-ca"),
        ("Secret", "kthena-fleet-seed"),
    ] {
        let object = &find(&objects, kind, name).0;
        assert!(object["data"].is_null() && object["stringData"].is_null(), "{kind} {name}");
    }
}

#[test]
fn all_objects_are_in_the_releases_namespace_with_its_labels() {
    let cluster = ["ClusterRole", "ClusterRoleBinding", "ValidatingWebhookConfiguration"];
    for case in values::all() {
        for object in case.objects() {
            let metadata = &object.0["metadata"];
            let namespace = if case.render.namespace.is_empty() { "serving" } else { case.render.namespace };
            let is_ours = metadata["namespace"] == namespace
                || object.name() == format!("{namespace}-kthena-controlplane-objects");
            assert!(
                is_ours || cluster.contains(&object.kind()),
                "{}: {object} in {}",
                case.name,
                metadata["namespace"]
            );
            let owner = &metadata["labels"]["owner"];
            assert!(case.name != "everything" || owner == "us", "{object} lacks the common label");
        }
    }
}

/// Who runs on all CPUs of a node that is others' too, with a thread pinned to each, waits behind their busy loops.
#[test]
fn no_data_plane_takes_every_cpu_of_a_node_unless_it_is_told_to() {
    let objects = with(&["node.enabled=true"]);
    for (kind, name) in [("Deployment", "kthena-router"), ("DaemonSet", "kthena-node")] {
        let args = find(&objects, kind, name).at("/spec/template/spec/containers/0/args").clone();
        let cores = items(&args).find_map(|argument| argument.as_str()?.strip_prefix("--cores=")).unwrap();
        assert!(cores.parse::<usize>().unwrap() > 0, "{name}: {args}");
    }
}
