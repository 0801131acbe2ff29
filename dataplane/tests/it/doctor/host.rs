//! The doctor on a host that is not as advised: it says so, and the very line that it prints mends it. The host is a shell with a network, limits
//! or a control group of its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::shell::Shell;
use crate::missing::skip;
use crate::support::proxy::Folder;
use crate::support::until;

/// So few that no machine's limit on open files matters.
const FEW: &str = "--connections=10";

fn finding<'a>(report: &'a Value, knob: &str) -> &'a Value {
    report["findings"].as_array().unwrap().iter().find(|finding| finding["knob"] == knob).unwrap()
}

/// What mends the knob, of which this is found.
#[track_caller]
fn mend(report: &Value, knob: &str, found: &str) -> String {
    let finding = finding(report, knob);
    assert!(finding["state"] == "advice" && finding["found"].as_str().unwrap().contains(found), "{finding:#}");
    finding["mend"].as_str().unwrap().to_owned()
}

#[track_caller]
fn is_fine(report: &Value, knob: &str, found: &str) {
    let finding = finding(report, knob);
    assert!(finding["state"] == "fine" && finding["mend"].is_null(), "{finding:#}");
    assert!(finding["found"].as_str().unwrap().contains(found), "{finding:#}");
}

#[test]
fn too_few_open_files_end_with_one_until_what_it_says_of_them_is_done() {
    let mut shell = Shell::new();
    shell.must("ulimit -n 300");
    let report = shell.doctor("--connections=200");
    let (lenient, code) = shell.line("\"$PROGRAM\" doctor --io-driver=epoll --connections=200 --lenient");
    assert!(code == 0 && lenient.contains("advice  open files"), "{code}: {lenient}");
    let mend = mend(&report, "open-files", "300 may be open, 200 connections need 400");
    // Either of the two lines in it will do.
    let (limit, setting) = mend.rsplit_once(", or ").unwrap();
    let (block, setting) = setting.split_once('.').unwrap();
    let folder = Folder::new();
    let config = folder.put("config.yaml", &format!("{block}: {{{setting}}}"));
    is_fine(&shell.doctor(&format!("--config={}", config.display())), "open-files", "300");

    let (_, typed) = limit.split_once("(or ").unwrap();
    let mut shell = Shell::new();
    // The soft limit may not be above the hard one, of which the line is.
    shell.must(&format!("ulimit -Sn 64 && {}", typed.trim_end_matches(')')));
    is_fine(&shell.doctor("--connections=200"), "open-files", "400");
}

/// What no package brings is skipped in CI too.
fn not_allowed(what: &str) {
    eprintln!("SKIPPED, not passed: this machine does not allow {what}");
}

/// A shell with a network of its own and `sysctl`; without one it is said why.
fn networked() -> Option<Shell> {
    let Some(mut shell) = Shell::with_a_network() else {
        not_allowed("unshare of a network whose sysctls can be written");
        return None;
    };
    if shell.line("command -v sysctl").1 != 0 {
        skip("sysctl, of procps,");
        return None;
    }
    Some(shell)
}

#[test]
fn what_is_too_small_of_a_network_is_told_and_mended_by_the_line_that_is_printed() {
    let Some(mut shell) = networked() else { return };
    let files = ["/proc/sys/net/core/somaxconn", "/proc/sys/net/ipv4/ip_local_port_range"];
    shell.must(&format!("echo 128 > {}; echo 50000 50999 > {}", files[0], files[1]));
    let report = shell.doctor(FEW);
    let backlog = mend(&report, "backlog", "net.core.somaxconn is 128");
    let ports = mend(&report, "ephemeral-ports", "50000 to 50999: at most 1000 connections");
    let typed = |mend: &str| mend[mend.find("sysctl -w ").unwrap()..].to_owned();
    shell.must(&typed(&backlog));
    let report = shell.doctor(FEW);
    is_fine(&report, "backlog", "net.core.somaxconn is 4096");
    mend(&report, "ephemeral-ports", "1000 connections");
    shell.must(&typed(&ports));
    let report = shell.doctor(FEW);
    is_fine(&report, "backlog", "4096");
    is_fine(&report, "ephemeral-ports", "32768 to 60999");
}

#[test]
fn a_port_below_1024_is_fatal_for_who_may_not_take_it_until_what_it_says_is_done() {
    let Some(mut shell) = networked() else { return };
    // As a container of the chart runs, but for whom.
    let bare = "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs";
    let doctor = format!("{bare} \"$PROGRAM\" doctor --json --io-driver=epoll --lenient {FEW} --port=80");
    let mut report = || {
        let (said, code) = shell.line(&doctor);
        (serde_json::from_str::<Value>(&said).unwrap_or_else(|error| panic!("{error}: {said}")), code)
    };
    let (fatal, code) = report();
    let found = finding(&fatal, "low-ports");
    assert!(
        code == 2 && found["state"] == "fatal" && found["found"] == "port 80: below 1024 this user may not listen",
        "{fatal:#}"
    );
    let mend = found["mend"].as_str().unwrap().to_owned();
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/snapshot/snapshot.json");
    // What may listen goes on until it is killed.
    let serve = format!(
        "timeout -s KILL 1 {bare} \"$PROGRAM\" --port=80 --snapshot={snapshot} --cores=1 --io-driver=epoll 2>&1"
    );
    let (said, code) = shell.line(&serve);
    assert!(code == 1 && said.contains("0.0.0.0:80: Permission denied"), "{code}: {said}");
    shell.must(&mend[mend.find("sysctl -w ").unwrap()..]);
    let (report, code) = {
        let (said, code) = shell.line(&doctor);
        (serde_json::from_str::<Value>(&said).unwrap(), code)
    };
    assert_eq!(code, 0, "{report:#}");
    is_fine(&report, "low-ports", "80 and more, anybody may take 80 and more");
    let (said, code) = shell.line(&serve);
    assert!(code == 137 && !said.contains("denied"), "{code}: {said}");
}

/// A control group of either version, right under the root that is seen here; it goes with the value.
struct Group {
    folder: PathBuf,
    version: u8,
}

impl Group {
    /// None where no group can be made that limits CPU time.
    fn new() -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let version = if root.join("cgroup.controllers").exists() { 2 } else { 1 };
        let parent = if version == 2 { root.to_owned() } else { root.join("cpu") };
        let folder = parent.join(format!("kthena-doctor-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let group = Self { folder, version };
        group.allow(None).ok()?;
        Some(group)
    }

    /// So many hundredths of a CPU.
    fn allow(&self, percent: Option<u32>) -> std::io::Result<()> {
        const PERIOD: u32 = 100_000;
        let quota = percent.map(|percent| (percent * PERIOD / 100).to_string());
        if self.version == 2 {
            let max = format!("{} {PERIOD}", quota.as_deref().unwrap_or("max"));
            return fs::write(self.folder.join("cpu.max"), max);
        }
        fs::write(self.folder.join("cpu.cfs_period_us"), PERIOD.to_string())?;
        fs::write(self.folder.join("cpu.cfs_quota_us"), quota.as_deref().unwrap_or("-1"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = fs::remove_dir(&self.folder);
            return;
        }
        // A process that has just ended is in it for a moment more.
        until("the control group can be taken away", || fs::remove_dir(&self.folder).is_ok());
    }
}

#[test]
fn a_cpu_quota_below_the_threads_is_told_and_mended_by_any_of_what_it_says() {
    let Some(group) = Group::new() else { return not_allowed("a control group that can be made and limits CPU time") };
    let mut shell = Shell::new();
    shell.must(&format!("echo $$ > {}/cgroup.procs", group.folder.display()));
    group.allow(Some(150)).unwrap();
    let three = format!("{FEW} --cores=3");
    let mend = mend(&shell.doctor(&three), "cgroup-quota", "1.50 CPUs for 3 threads");
    assert_eq!(mend, "--cores 1, or take away limits.cpu of the container, or set it to 3");
    let (cores, _) = mend.split_once(',').unwrap();
    is_fine(&shell.doctor(&format!("{FEW} {cores}")), "cgroup-quota", "1.50 CPUs for 1 threads");
    group.allow(None).unwrap();
    is_fine(&shell.doctor(&three), "cgroup-quota", "no limit, 3 threads");
    group.allow(Some(300)).unwrap();
    is_fine(&shell.doctor(&three), "cgroup-quota", "3.00 CPUs for 3 threads");
}
