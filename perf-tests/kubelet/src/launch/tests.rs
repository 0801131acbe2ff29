use super::*;

const POD: &str = "
metadata: {name: p, namespace: n, uid: u, labels: {app: x}}
spec:
  serviceAccountName: writer
  volumes: [{name: config, emptyDir: {}}]
  containers:
  - name: c
    image: registry/engine-sim:v1
    args: [--listen, $(POD_IP):8000, --config=/etc/app/config.yaml, $(MISSING), $$(POD_IP)]
    env:
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: URL, value: 'http://$(POD_IP)/'}
    - {name: APP, valueFrom: {fieldRef: {fieldPath: 'metadata.labels[''app'']'}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: s, key: token}}}
    volumeMounts: [{name: config, mountPath: /etc/app}]
";

fn pod(yaml: &str) -> Pod {
    serde_norway::from_str(yaml).unwrap()
}

fn secret(key: &str) -> Sources {
    let files = BTreeMap::from([(key.to_owned(), b"secret".to_vec())]);
    Sources { secrets: BTreeMap::from([("s".to_owned(), files)]), ..Sources::default() }
}

fn start(pod: &Pod, sources: &Sources) -> Result<Launch, Waiting> {
    start_within(pod, sources, None)
}

fn start_within(pod: &Pod, sources: &Sources, walls: Option<&Walls>) -> Result<Launch, Waiting> {
    let facts = Facts {
        pod: Addresses { four: [127, 1, 2, 3].into(), six: None },
        host: Addresses { four: [127, 1, 0, 1].into(), six: None },
        node: "node-a".to_owned(),
    };
    let volumes = BTreeMap::from([("config".to_owned(), PathBuf::from("/tmp/etc/app"))]);
    let programs = Programs::default().with("engine-sim", "/built/engine-sim").with("sh", "/bin/sh");
    let view = View { pod, facts: &facts, sources, volumes: &volumes, walls };
    launch(&programs, view, &pod.spec.as_ref().unwrap().containers[0])
}

#[test]
fn args_and_env_are_resolved_as_kubernetes_resolves_them() {
    let launch = start(&pod(POD), &secret("token")).unwrap();
    assert_eq!(launch.program, PathBuf::from("/built/engine-sim"));
    let args = ["--listen", "127.1.2.3:8000", "--config=/tmp/etc/app/config.yaml", "$(MISSING)", "$(POD_IP)"];
    assert_eq!(launch.args, args);
    let env: Vec<_> = launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["APP=x", "POD_IP=127.1.2.3", "TOKEN=secret", "URL=http://127.1.2.3/"]);
}

#[test]
fn in_a_jail_paths_stay_and_programs_and_volumes_are_where_the_pod_says() {
    let walls = Walls {
        namespace: "pod-1-2".to_owned(),
        hostname: "p".to_owned(),
        hosts: "/k/hosts".into(),
        users: false,
        seccomp: None,
        profiles: PathBuf::new(),
    };
    let launch = start_within(&pod(POD), &secret("token"), Some(&walls)).unwrap();
    assert_eq!(launch.program, PathBuf::from("/usr/bin/engine-sim"));
    assert_eq!(launch.args[2], "--config=/etc/app/config.yaml");
    let jail = launch.jail.unwrap();
    let binds: Vec<_> = jail.binds.iter().map(|bind| format!("{} {}", bind.from.display(), bind.to)).collect();
    let expected = [
        "/bin/sh /usr/bin/sh",
        "/built/engine-sim /usr/bin/engine-sim",
        "/k/hosts /etc/hosts",
        "/tmp/etc/app /etc/app",
    ];
    assert_eq!(binds, expected);
}

#[test]
fn a_container_without_its_secret_or_its_image_waits_and_says_for_what() {
    let without_key = start(&pod(POD), &secret("other")).unwrap_err();
    assert_eq!(without_key, Waiting::config("Secret \"s\" has no key \"token\""));
    let unknown = pod(&POD.replace("engine-sim", "elsewhere"));
    assert_eq!(start(&unknown, &secret("token")).unwrap_err().reason, "ImagePullBackOff");
}

#[test]
fn a_command_replaces_the_program_of_the_image() {
    let pod = pod("{spec: {containers: [{name: c, image: sh, command: [/bin/sleep], args: ['1']}]}}");
    let launch = start(&pod, &Sources::default()).unwrap();
    assert_eq!((launch.program, launch.args), (PathBuf::from("/bin/sleep"), vec!["1".to_owned()]));
}

#[test]
fn only_whole_paths_are_moved_and_what_was_moved_stays() {
    let mount = |path: &str, folder: &str| Mount { path: path.to_owned(), folder: folder.into(), read_only: false };
    let mounts = [mount("/etc/app/tls", "/v/tls"), mount("/etc/app", "/v/etc/app")];
    let cases = [
        ("/etc/app", "/v/etc/app"),
        ("--dir=/etc/app/x,/etc/app/tls/ca", "--dir=/v/etc/app/x,/v/tls/ca"),
        ("/etc/apples", "/etc/apples"),
        ("/usr/etc/app", "/usr/etc/app"),
        ("http://h/etc/app", "http://h/etc/app"),
    ];
    for (input, expected) in cases {
        assert_eq!(relocate(input, &mounts), expected, "{input}");
    }
}
