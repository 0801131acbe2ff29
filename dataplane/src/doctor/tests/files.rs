//! What is read of a host's files.

use std::fs;
use std::path::PathBuf;

use crate::doctor::read::Files;
use crate::doctor::{Kernel, Quota};

/// A host's files, in a folder that goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("kthena-doctor-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn files(&self) -> Files {
        Files(self.0.clone())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_quota_is_the_least_on_the_way_to_the_root() {
    let quota = |name, files: &[(&str, &str)]| Folder::with(name, files).files().quota();
    let cpus = |cpus| Some(Quota::Cpus(cpus));
    let group = ("proc/self/cgroup", "0::/kubepods/pod1/proxy\n");
    // Which every group has.
    let seen = ("sys/fs/cgroup/cgroup.procs", "");
    let pod = ("sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000\n");
    let own = ("sys/fs/cgroup/kubepods/pod1/proxy/cpu.max", "max 100000\n");
    assert_eq!(quota("two", &[group, seen, own, pod]), cpus(1.5));
    assert_eq!(quota("none", &[group, seen, own]), Some(Quota::Unlimited));
    // Inside a namespace the group is the root, and one outside of it cannot be seen.
    let inside = ("sys/fs/cgroup/cpu.max", "50000 100000\n");
    assert_eq!(quota("inside", &[("proc/self/cgroup", "0::/\n"), seen, inside]), cpus(0.5));
    assert_eq!(quota("outside", &[("proc/self/cgroup", "0::/../../other\n"), seen, inside]), cpus(0.5));
    // Version 1, where the container's own folder is mounted as the root, beside a hierarchy of version 2 that limits nothing.
    let first = [
        ("proc/self/cgroup", "5:memory:/m\n4:cpu,cpuacct:/kubepods/pod1\n0::/\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cgroup.procs", ""),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "200000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
    ];
    assert_eq!(quota("one", &first), cpus(2.0));
    let unlimited = ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    assert_eq!(quota("one-unlimited", &[first[0], first[1], unlimited, first[3]]), Some(Quota::Unlimited));
}

#[test]
fn a_quota_that_cannot_be_read_is_not_taken_for_none() {
    let quota = |name, files: &[(&str, &str)]| Folder::with(name, files).files().quota();
    let (group, seen) = (("proc/self/cgroup", "0::/proxy\n"), ("sys/fs/cgroup/cgroup.procs", ""));
    assert_eq!(quota("nothing", &[]), None);
    assert_eq!(quota("not-mounted", &[group]), None);
    assert_eq!(quota("odd", &[group, seen, ("sys/fs/cgroup/proxy/cpu.max", "much\n")]), None);
    let limited = ("sys/fs/cgroup/cpu.max", "50000 100000\n");
    assert_eq!(quota("half", &[group, seen, limited, ("sys/fs/cgroup/proxy/cpu.max", "")]), None);
}

#[test]
fn nodes_count_where_a_cpu_of_ours_lies_on_them() {
    let node = |n: u32| format!("sys/devices/system/node/node{n}/cpulist");
    let (zero, one) = (node(0), node(1));
    let files = [(zero.as_str(), "0-3,8\n"), (one.as_str(), "4-7\n"), ("sys/devices/system/node/online", "0-1\n")];
    let host = Folder::with("nodes", &files);
    assert_eq!(host.files().numa_nodes(&[0, 3, 8]), Some(1));
    assert_eq!(host.files().numa_nodes(&[3, 4]), Some(2));
    assert_eq!(host.files().numa_nodes(&[99]), None);
    assert_eq!(Folder::with("no-nodes", &[]).files().numa_nodes(&[0]), None);
}

#[test]
fn status_and_ports_are_read_as_the_kernel_writes_them() {
    let range = "proc/sys/net/ipv4/ip_local_port_range";
    let host = Folder::with(
        "proc",
        &[
            ("proc/self/status", "Name:\tx\nCapEff:\t0000000000000400\nSeccomp:\t2\nSeccomp_filters:\t1\n"),
            (range, "32768\t60999\n"),
        ],
    );
    assert_eq!((host.files().seccomp_filter(), host.files().ports()), (Some(true), Some((32_768, 60_999))));
    assert_eq!(host.files().takes_low_ports(), Some(true));
    let bare =
        Folder::with("bare", &[("proc/self/status", "CapEff:\t00000000000003ff\nSeccomp:\t0\n"), (range, "odd\n")]);
    assert_eq!(
        (bare.files().takes_low_ports(), Folder::with("none", &[]).files().takes_low_ports()),
        (Some(false), None)
    );
    assert_eq!((bare.files().seccomp_filter(), bare.files().ports()), (Some(false), None));
    assert_eq!(Kernel::parse("6.1.0-18-amd64"), Some(Kernel(6, 1)));
    assert_eq!(Kernel::parse("5.15+"), Some(Kernel(5, 15)));
    assert_eq!(Kernel::parse("odd"), None);
}
