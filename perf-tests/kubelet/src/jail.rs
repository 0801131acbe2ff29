//! What a container sees on a bed of nodes: the network of its pod, a root of its own with its volumes where the pod says, and the user
//! and the seccomp profile that the pod says. There is no image: the root has the machine's libraries and, in /usr/bin, the programs of the table.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::launch::Waiting;

/// Read by libc alone: names are in /etc/hosts, which stands in for a DNS server.
const NAMES: &str = "hosts: files";

/// Of the machine; what is missing is left out.
const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"];

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Jail {
    /// Of the network, as `ip netns` knows it.
    pub(super) namespace: String,
    pub(super) hostname: String,
    /// In this order.
    pub(super) binds: Vec<Bind>,
    pub(super) read_only: bool,
    /// `None` where there is only the one who runs all of this.
    pub(super) user: Option<User>,
    pub(super) filter: Option<Filter>,
}

/// What holds a program to a seccomp profile, and the profile's file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    pub(super) program: PathBuf,
    pub(super) profile: PathBuf,
}

/// Which seccomp profile a pod says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Profile {
    Unconfined,
    /// The runtime's own.
    Default,
    /// A file below the kubelet's folder of profiles.
    OfNode(String),
}

/// The container's before the pod's. A kubelet that is not told otherwise has none where neither says one.
pub(super) fn profile(spec: &PodSpec, container: &Container) -> Profile {
    let of_pod = spec.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    let own = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    match own.or(of_pod).map(|profile| (profile.type_.as_str(), &profile.localhost_profile)) {
        Some(("RuntimeDefault", _)) => Profile::Default,
        Some(("Localhost", Some(path))) => Profile::OfNode(path.clone()),
        _ => Profile::Unconfined,
    }
}

/// A file or a folder of the machine at a place in the container.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bind {
    pub(super) from: PathBuf,
    pub(super) to: String,
    pub(super) read_only: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct User {
    uid: i64,
    gid: i64,
    groups: Vec<i64>,
    no_new_privileges: bool,
    no_capabilities: bool,
}

/// Whom the pod says, and the container before it; else whom the image says, by its number.
pub(super) fn user(spec: &PodSpec, container: &Container, image: i64) -> Result<User, Waiting> {
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let uid = own.run_as_user.or(of_pod.run_as_user).unwrap_or(image);
    if uid == 0 && own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true) {
        return Err(Waiting::config("container has runAsNonRoot and image will run as root"));
    }
    let drops = own.capabilities.and_then(|capabilities| capabilities.drop).unwrap_or_default();
    Ok(User {
        uid,
        gid: own.run_as_group.or(of_pod.run_as_group).unwrap_or(image),
        groups: of_pod.supplemental_groups.into_iter().flatten().chain(of_pod.fs_group).collect(),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        no_capabilities: drops.iter().any(|name| name == "ALL"),
    })
}

/// Arguments of `setpriv`.
fn privileges(user: &User) -> Vec<String> {
    let groups: Vec<_> = user.groups.iter().map(ToString::to_string).collect();
    let mut arguments = vec![format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
    arguments.push(if groups.is_empty() { "--clear-groups".into() } else { format!("--groups={}", groups.join(",")) });
    if user.no_new_privileges {
        arguments.push("--no-new-privs".to_owned());
    }
    if user.no_capabilities {
        arguments.extend(["--bounding-set=-all", "--inh-caps=-all"].map(str::to_owned));
    }
    arguments
}

impl Jail {
    /// What comes before a container's own command. The shell builds the root in a mount namespace that it shares with nobody,
    /// and becomes the program. As the user changes, the wish to be killed with the kubelet is forgotten, so it is said last.
    pub(super) fn command(&self, root: &Path) -> Vec<String> {
        let enter = format!("--net=/run/netns/{}", self.namespace);
        let command = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            "nsenter",
            &enter,
            "--",
            "unshare",
            "--mount",
            "--uts",
            "sh",
            "-c",
        ];
        let mut command: Vec<_> = command.map(str::to_owned).into();
        command.extend([self.script(root), "sh".to_owned()]);
        command
    }

    fn script(&self, root: &Path) -> String {
        let root = quote(&root.display().to_string());
        let mut lines = vec![
            "set -e".to_owned(),
            format!("echo {} > /proc/sys/kernel/hostname", quote(&self.hostname)),
            format!("root={root}"),
            "mkdir -p \"$root\"; mount -t tmpfs -o mode=755 none \"$root\"".to_owned(),
            PUT.to_owned(),
            "mkdir -p \"$root/etc\"; mkdir -m 1777 \"$root/tmp\"".to_owned(),
            format!("echo {} > \"$root/etc/nsswitch.conf\"", quote(NAMES)),
        ];
        lines.extend(LIBRARIES.map(|path| format!("[ ! -e {path} ] || put {path} {path}")));
        lines.extend(["/proc", "/sys", "/dev"].map(|path| format!("put {path} {path}")));
        lines.push("put \"$(command -v setpriv)\" /.setpriv".to_owned());
        if let Some(Filter { program, profile }) = &self.filter {
            lines.push(format!("put {} /.seccomp-exec", quote(&program.display().to_string())));
            lines.push(format!("put {} /.seccomp.json", quote(&profile.display().to_string())));
        }
        for Bind { from, to, read_only } in &self.binds {
            let read_only = if *read_only { " ro" } else { "" };
            lines.push(format!("put {} {}{read_only}", quote(&from.display().to_string()), quote(to)));
        }
        if self.read_only {
            lines.push("mount -o remount,ro \"$root\"".to_owned());
        }
        let user = self.user.as_ref().map(privileges).unwrap_or_default().join(" ");
        let filter = if self.filter.is_some() { "/.seccomp-exec /.seccomp.json " } else { "" };
        lines.push(format!("exec chroot \"$root\" /.setpriv {user} --pdeathsig KILL -- {filter}\"$@\""));
        lines.join("\n")
    }
}

/// FROM TO [ro]: as a runtime does, a place is made for what is mounted.
const PUT: &str = r#"put() {
  if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; [ -e "$root$2" ] || : > "$root$2"; fi
  mount --rbind "$1" "$root$2"
  [ -z "$3" ] || mount -o remount,bind,ro "$root$2"
}"#;

/// For the shell.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: &str, container: &str, expected: Result<&str, &str>) {
        check_image(0, spec, container, expected);
    }

    fn check_image(image: i64, spec: &str, container: &str, expected: Result<&str, &str>) {
        let (spec, container) = (serde_norway::from_str(spec).unwrap(), serde_norway::from_str(container).unwrap());
        let found = user(&spec, &container, image).map(|user| privileges(&user).join(" "));
        let expected = expected.map(str::to_owned).map_err(Waiting::config);
        assert_eq!(found, expected, "{spec:?} {container:?}");
    }

    #[test]
    fn a_container_is_whom_the_pod_says_and_before_it_the_container() {
        let pod =
            "{containers: [], securityContext: {runAsUser: 65532, runAsGroup: 1, fsGroup: 2, runAsNonRoot: true}}";
        check(pod, "{name: c}", Ok("--reuid=65532 --regid=1 --groups=2"));
        let own =
            "{name: c, securityContext: {runAsUser: 7, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}";
        let all = "--reuid=7 --regid=1 --groups=2 --no-new-privs --bounding-set=-all --inh-caps=-all";
        check(pod, own, Ok(all));
        check("{containers: []}", "{name: c}", Ok("--reuid=0 --regid=0 --clear-groups"));
        check_image(9, "{containers: []}", "{name: c}", Ok("--reuid=9 --regid=9 --clear-groups"));
        check_image(9, pod, "{name: c}", Ok("--reuid=65532 --regid=1 --groups=2"));
    }

    #[test]
    fn who_would_be_root_against_the_pods_word_does_not_start() {
        let refused = Err("container has runAsNonRoot and image will run as root");
        check("{containers: [], securityContext: {runAsNonRoot: true}}", "{name: c}", refused);
        let pod = "{containers: [], securityContext: {runAsNonRoot: true}}";
        check_image(9, pod, "{name: c}", Ok("--reuid=9 --regid=9 --clear-groups"));
        let own = "{name: c, securityContext: {runAsNonRoot: false, runAsUser: 0}}";
        check("{containers: [], securityContext: {runAsNonRoot: true}}", own, Ok("--reuid=0 --regid=0 --clear-groups"));
    }

    #[test]
    fn the_profile_is_the_containers_before_the_pods() {
        let check = |pod: &str, own: &str, expected| {
            let spec = serde_norway::from_str(&format!("{{containers: [], securityContext: {{{pod}}}}}")).unwrap();
            let container = serde_norway::from_str(&format!("{{name: c, securityContext: {{{own}}}}}")).unwrap();
            assert_eq!(profile(&spec, &container), expected, "{pod} {own}");
        };
        check("", "", Profile::Unconfined);
        check("seccompProfile: {type: RuntimeDefault}", "", Profile::Default);
        check("seccompProfile: {type: RuntimeDefault}", "seccompProfile: {type: Unconfined}", Profile::Unconfined);
        let of_node = "seccompProfile: {type: Localhost, localhostProfile: a/b.json}";
        check("", of_node, Profile::OfNode("a/b.json".to_owned()));
    }

    #[test]
    fn what_is_mounted_lies_where_the_pod_says_and_quotes_do_no_harm() {
        let bind = |from: &str, to: &str, read_only| Bind { from: from.into(), to: to.to_owned(), read_only };
        let jail = Jail {
            namespace: "pod-1-2".to_owned(),
            hostname: "engine-0".to_owned(),
            binds: vec![bind("/run/it's", "/etc/app", true), bind("/run/b", "/state", false)],
            read_only: true,
            user: None,
            filter: Some(Filter { program: "/built/seccomp-exec".into(), profile: "/p.json".into() }),
        };
        let script = jail.script(Path::new("/run/root"));
        for line in [
            "echo 'engine-0' > /proc/sys/kernel/hostname",
            r"put '/run/it'\''s' '/etc/app' ro",
            "put '/run/b' '/state'",
            "mount -o remount,ro \"$root\"",
        ] {
            assert!(script.lines().any(|found| found == line), "{line} in {script}");
        }
        assert!(
            script
                .ends_with("exec chroot \"$root\" /.setpriv  --pdeathsig KILL -- /.seccomp-exec /.seccomp.json \"$@\""),
            "{script}"
        );
        assert!(jail.command(Path::new("/run/root")).contains(&"--net=/run/netns/pod-1-2".to_owned()));
    }
}
