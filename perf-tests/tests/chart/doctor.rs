//! Where the chart has the doctor look: before each data plane, and in `helm test`, as the data plane itself would run there.

use serde_json::{Value, json};

use crate::object::{Object, find, has, items};
use crate::values::with;

const WORKLOADS: [(&str, &str, &str); 2] =
    [("gateway", "Deployment", "kthena-router"), ("node", "DaemonSet", "kthena-node")];

fn containers(object: &Object, list: &str) -> Vec<Value> {
    let (_, spec) = object.pod().unwrap();
    items(&spec[list]).cloned().collect()
}

#[test]
fn each_data_plane_is_preceded_by_the_doctor_unless_nobody_wants_it() {
    for (block, kind, name) in WORKLOADS {
        let objects = with(&["node.enabled=true"]);
        let init = containers(find(&objects, kind, name), "initContainers");
        assert!(init.len() == 1 && init[0]["name"] == "doctor", "{name}: {init:?}");
        let objects = with(&["node.enabled=true", &format!("{block}.doctor=false")]);
        assert_eq!(containers(find(&objects, kind, name), "initContainers"), Vec::<Value>::new(), "{name}");
    }
}

/// What a pod's containers have in common, with whom they share a node, and what they may.
fn surroundings(spec: &Value) -> Value {
    let fields = ["securityContext", "nodeSelector", "tolerations", "affinity", "hostNetwork", "imagePullSecrets"];
    fields.iter().map(|field| ((*field).to_owned(), spec[*field].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// What a pod's doctor reads by `--config`.
fn settings(objects: &[Object], pod: &Object) -> String {
    let mut of_pod = containers(pod, "initContainers");
    of_pod.extend(containers(pod, "containers"));
    let doctor = of_pod.iter().find(|container| container["name"] == "doctor").unwrap();
    let file = items(&doctor["args"]).find_map(|argument| argument.as_str()?.strip_prefix("--config=")).unwrap();
    let (folder, key) = file.rsplit_once('/').unwrap();
    let mount = items(&doctor["volumeMounts"]).find(|mount| mount["mountPath"] == folder).unwrap();
    let volume = items(&pod.pod().unwrap().1["volumes"]).find(|volume| volume["name"] == mount["name"]).unwrap();
    let map = find(objects, "ConfigMap", volume["configMap"]["name"].as_str().unwrap());
    map.0["data"][key].as_str().unwrap().to_owned()
}

#[test]
fn the_doctor_looks_at_what_the_data_plane_would_meet() {
    let set = |block: &str| {
        [
            "ioDriver=epoll",
            "cores=3",
            "config.limits.connections=700",
            "resources.limits.cpu=3",
            "ioUring.seccomp=localhost",
            "nodeSelector.disk=fast",
            "extraEnv[0].name=MONOIO_FORCE_LEGACY_DRIVER",
            "extraEnv[0].value=true",
        ]
        .map(|set| format!("{block}.{set}"))
        .to_vec()
    };
    for (block, kind, name) in WORKLOADS {
        let set = [vec!["node.enabled=true".to_owned(), "node.exposure=hostNetwork".to_owned()], set(block)].concat();
        let objects = with(&set.iter().map(String::as_str).collect::<Vec<_>>());
        let workload = find(&objects, kind, name);
        let (_, spec) = workload.pod().unwrap();
        let proxy = containers(workload, "containers").remove(0);
        let test = find(&objects, "Pod", &format!("{name}-doctor"));
        for pod in [workload, test] {
            let file = settings(&objects, pod);
            assert!(file.contains("connections: 700"), "{pod}: {file}");
        }
        assert!(!test.0["metadata"]["annotations"]["helm.sh/hook-output-log-policy"].is_null(), "helm shows its log");
        assert_eq!(surroundings(test.pod().unwrap().1), surroundings(spec), "{name}");
        for doctor in [containers(workload, "initContainers").remove(0), containers(test, "containers").remove(0)] {
            for same in ["image", "imagePullPolicy", "securityContext"] {
                assert_eq!(doctor[same], proxy[same], "{name}: {same}");
            }
            assert_eq!(doctor["resources"]["limits"], proxy["resources"]["limits"], "{name}: it looks at the quota");
            let own = ["doctor", "--lenient"].map(Value::from);
            let expected: Vec<_> = own.iter().chain(items(&proxy["args"])).cloned().collect();
            assert_eq!(doctor["args"], json!(expected), "{name}");
            assert!(items(&doctor["env"]).all(|env| items(&proxy["env"]).any(|other| other == env)), "{name}");
            assert!(doctor["env"].is_array(), "what forbids io_uring does so by the environment");
        }
    }
}

#[test]
fn helm_test_asks_the_doctor_for_each_workload_that_is_there_and_pushes_no_pod_off_its_node() {
    let pods = |set: &[&str]| {
        let objects = with(set);
        WORKLOADS.map(|(_, _, name)| has(&objects, "Pod", &format!("{name}-doctor")))
    };
    assert_eq!(pods(&[]), [true, false]);
    assert_eq!(pods(&["node.enabled=true", "gateway.enabled=false"]), [false, true]);
    let objects = with(&["node.enabled=true"]);
    for (_, _, name) in WORKLOADS {
        let test = find(&objects, "Pod", &format!("{name}-doctor"));
        assert_eq!(test.0["spec"]["priorityClassName"], Value::Null, "{name}");
    }
}

/// The pods of `helm test`, and the workload whose pods they are to be like.
const OF_TESTS: [(&str, usize); 3] = [("kthena-router-doctor", 0), ("kthena-node-doctor", 1), ("kthena-test", 1)];

/// On a full node a pod without a priority waits, and helm says no more than that it did.
#[test]
fn the_pods_of_helm_test_ask_for_little_room() {
    let large = |block: &str| {
        ["requests.cpu=60", "limits.cpu=64", "limits.memory=8Gi"].map(|set| format!("{block}.resources.{set}"))
    };
    let set = [vec!["node.enabled=true".to_owned()], large("gateway").to_vec(), large("node").to_vec()].concat();
    let objects = with(&set.iter().map(String::as_str).collect::<Vec<_>>());
    for (name, _) in OF_TESTS {
        for container in find(&objects, "Pod", name).containers() {
            let requests = &container["resources"]["requests"];
            let little = requests["cpu"].as_str().is_some_and(|cpu| ["10m", "50m"].contains(&cpu))
                && requests["memory"].as_str().is_some_and(|memory| ["32Mi", "64Mi"].contains(&memory));
            assert!(little, "{name}, {}: {requests}", container["name"]);
        }
    }
    // Nobody's limits are limits of ours.
    let objects = with(&["gateway.resources=null"]);
    let of_pod = containers(find(&objects, "Pod", "kthena-router-doctor"), "containers").remove(0);
    assert_eq!(of_pod["resources"], json!({"requests": {"cpu": "10m", "memory": "32Mi"}}));
}

/// Some clusters (OpenShift) have users of their own for each namespace, and refuse others.
#[test]
fn the_pods_of_helm_test_run_as_the_user_that_the_data_planes_run_as() {
    let context = |objects: &[Object], kind: &str, name: &str| {
        find(objects, kind, name).pod().unwrap().1["securityContext"].clone()
    };
    let blocks = ["gateway", "node"];
    for (set, user) in
        [("podSecurityContext.runAsUser=1000740000", json!(1_000_740_000)), ("podSecurityContext=null", Value::Null)]
    {
        let set = blocks.map(|block| format!("{block}.{set}"));
        let objects = with(&["node.enabled=true", &set[0], &set[1]]);
        for (name, of) in OF_TESTS {
            let (_, kind, workload) = WORKLOADS[of];
            let found = context(&objects, "Pod", name);
            assert_eq!(found, context(&objects, kind, workload), "{name}");
            assert_eq!(found["runAsUser"], user, "{name}");
        }
    }
}

/// Hooks are not of the release: an uninstall leaves what is there of them.
#[test]
fn no_test_leaves_anything_however_it_ends() {
    let objects = with(&["node.enabled=true"]);
    let tests: Vec<_> = objects.iter().filter(|o| o.0["metadata"]["annotations"]["helm.sh/hook"] == "test").collect();
    assert_eq!(tests.len(), 5);
    for test in tests {
        let annotations = &test.0["metadata"]["annotations"];
        let policy = annotations["helm.sh/hook-delete-policy"].as_str().unwrap();
        let mut policies: Vec<_> = policy.split(',').collect();
        policies.sort_unstable();
        assert_eq!(policies, ["before-hook-creation", "hook-failed", "hook-succeeded"], "{test}");
        // What is deleted is shown before.
        let shown = annotations["helm.sh/hook-output-log-policy"].as_str().unwrap_or_default();
        assert!(test.kind() != "Pod" || shown.contains("hook-failed"), "{test}");
    }
}
