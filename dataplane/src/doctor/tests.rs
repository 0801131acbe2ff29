//! Judgements on hosts as values, and reading the files that they come from.

mod files;
mod pages;

use std::fs;
use std::path::Path;

use super::cli::code;
use super::*;
use crate::config::{Cores, Problem};
use crate::rt::{Driver, DriverChoice};

const AUTO: Wish = wish(DriverChoice::Auto);
const URING: Wish = wish(DriverChoice::Uring);
const EPOLL: Wish = wish(DriverChoice::Epoll);

const fn wish(driver: DriverChoice) -> Wish {
    Wish { refused: Vec::new(), driver, cores: Cores::All, connections: 100_000, ports: Vec::new() }
}

/// A host on which nothing is to be mended.
fn good() -> Host {
    Host {
        kernel: Some(Kernel(6, 12)),
        ring: Ring::Works(Driver::UringSingle),
        epoll_forced: false,
        io_uring_disabled: Some(0),
        seccomp_filter: Some(true),
        enter_error: Some(libc::EBADF),
        cpus: 8,
        quota: Some(Quota::Unlimited),
        open_files: Some(1 << 20),
        locked_bytes: Some(8 << 20),
        somaxconn: Some(4096),
        ports: Some((32_768, 60_999)),
        low_ports: Some(1024),
        takes_low_ports: Some(false),
        numa_nodes: Some(1),
        clock: Some("tsc".into()),
        clocks: vec!["tsc".into(), "hpet".into()],
    }
}

/// By the kernel.
fn refused(error: i32) -> Host {
    Host { ring: Ring::Refused(Some(error)), ..good() }
}

/// By a filter.
fn filtered(error: i32) -> Host {
    Host { enter_error: Some(error), ..refused(error) }
}

/// The finding on a knob, and that no other knob has one.
#[track_caller]
fn check(host: &Host, wish: &Wish, knob: Knob, state: State, found: &str, mend: &str) {
    let report = examine(host, wish);
    for finding in &report.findings {
        let expected = if finding.knob == knob { state } else { State::Fine };
        assert_eq!(finding.state, expected, "{finding}");
        assert_eq!(finding.mend.is_some(), expected >= State::Advice, "{finding}");
    }
    let text = report.findings.iter().find(|finding| finding.knob == knob).unwrap().to_string();
    assert!(text.contains(found) && text.contains(mend), "{text}");
}

#[track_caller]
fn driver(host: &Host, wish: &Wish, expected: Option<&str>, why: &str) {
    let report = examine(host, wish);
    assert_eq!(report.driver, expected, "{}", report.why);
    assert!(report.why.contains(why), "{}", report.why);
}

#[test]
fn a_host_as_advised_has_nothing_to_mend() {
    check(&good(), &AUTO, Knob::IoDriver, State::Fine, "io_uring works here", "");
    driver(&good(), &AUTO, Some("uring/coop+single"), "works");
    assert_eq!(examine(&good(), &AUTO).worst(), State::Fine);
}

#[test]
fn who_refuses_io_uring_is_named_with_what_mends_it() {
    let sysctl = |value, host: Host| Host { io_uring_disabled: Some(value), ..host };
    let advice = |host: &Host, found, mend| check(host, &AUTO, Knob::IoDriver, State::Advice, found, mend);
    let (kernel, filter) = (refused(libc::EPERM), filtered(libc::EPERM));
    // Every container has a filter: which of the two it is, tells a call that the sysctl lets pass.
    advice(&sysctl(2, kernel.clone()), "io_uring_disabled is 2", "mend: sysctl -w kernel.io_uring_disabled=0 on");
    advice(&sysctl(1, kernel.clone()), "io_uring_disabled is 1", "mend: sysctl -w kernel.io_uring_disabled=0 on");
    advice(&sysctl(0, filter.clone()), "seccomp filter refuses", "mend: kthena-dataplane install-seccomp");
    for (value, said) in [(1, "disabled is 1"), (2, "disabled is 2")] {
        let both = sysctl(value, filter.clone());
        advice(&both, said, "mend: sysctl -w kernel.io_uring_disabled=0 and kthena-data");
        advice(&both, ", and a seccomp filter refuses", "ioUring.seccomp=localhost of gateway or node");
    }
    advice(&sysctl(0, kernel), "not permitted", "security module");
    advice(&Host { seccomp_filter: Some(false), ..filter }, "not permitted", "security module");
    // As podman's own profile has it.
    advice(&filtered(libc::ENOSYS), "seccomp filter refuses", "ioUring.seccomp=localhost of gateway or node");
    advice(&Host { seccomp_filter: Some(false), ..filtered(libc::ENOSYS) }, "no io_uring", "Linux 6.1");
    let old = Host { kernel: Some(Kernel(5, 0)), ..filtered(libc::ENOSYS) };
    driver(&old, &AUTO, Some("epoll"), "no io_uring");
    advice(&refused(libc::ENOMEM), "no memory", "memory limit");
    advice(&refused(libc::EINVAL), "Invalid argument", "Linux 6.1");
    advice(&Host { ring: Ring::Refused(None), ..good() }, "lacks an operation", "Linux 6.1");
}

#[test]
fn the_driver_is_the_one_that_the_process_would_take() {
    let forced = Host { epoll_forced: true, ..good() };
    driver(&filtered(libc::EPERM), &AUTO, Some("epoll"), "seccomp");
    driver(&filtered(libc::EPERM), &EPOLL, Some("epoll"), "io.driver is epoll");
    driver(&filtered(libc::EPERM), &URING, None, "io.driver is uring, and a seccomp filter");
    driver(&forced, &AUTO, Some("epoll"), "MONOIO_FORCE_LEGACY_DRIVER");
    driver(&forced, &URING, None, "MONOIO_FORCE_LEGACY_DRIVER");
    driver(&forced, &EPOLL, Some("epoll"), "io.driver");
}

#[test]
fn io_uring_that_is_demanded_and_refused_is_fatal_and_epoll_by_choice_is_fine() {
    check(&filtered(libc::EPERM), &URING, Knob::IoDriver, State::Fatal, "seccomp", "--io-driver auto");
    check(&refused(libc::EPERM), &EPOLL, Knob::IoDriver, State::Fine, "io.driver is epoll", "");
    let forced = Host { epoll_forced: true, ..good() };
    check(&forced, &AUTO, Knob::IoDriver, State::Advice, "FORCE_LEGACY", "unset MONOIO_FORCE_LEGACY_DRIVER");
}

#[test]
fn old_kernels_are_told_and_do_not_matter_on_epoll() {
    let on = |major, minor| Host { kernel: Some(Kernel(major, minor)), ..good() };
    check(&on(5, 15), &AUTO, Knob::Kernel, State::Advice, "Linux 5.15", "Linux 6.1 or newer");
    check(&on(6, 0), &AUTO, Knob::Kernel, State::Advice, "no long-term", "Linux 6.1");
    check(&on(6, 1), &AUTO, Knob::Kernel, State::Fine, "Linux 6.1", "");
    check(&on(5, 15), &EPOLL, Knob::Kernel, State::Fine, "Linux 5.15", "");
}

#[test]
fn a_quota_below_the_threads_is_told_with_the_number_that_fits() {
    let with = |cpus| Host { quota: Some(Quota::Cpus(cpus)), ..good() };
    check(&with(2.5), &AUTO, Knob::CgroupQuota, State::Advice, "2.50 CPUs for 8 threads", "--cores 2, or");
    check(&with(0.5), &AUTO, Knob::CgroupQuota, State::Advice, "0.50 CPUs", "--cores 1, or");
    check(&with(8.0), &AUTO, Knob::CgroupQuota, State::Fine, "8.00 CPUs", "");
    check(&good(), &AUTO, Knob::CgroupQuota, State::Fine, "no limit, 8 threads", "");
    let two = Wish { cores: Cores::First(2), ..AUTO };
    check(&with(2.0), &two, Knob::CgroupQuota, State::Fine, "for 2 threads", "");
    // Fewer than one thread there cannot be.
    let one = Wish { cores: Cores::First(1), ..AUTO };
    check(&with(0.5), &one, Knob::CgroupQuota, State::Advice, "for 1 threads", "mend: take away limits.cpu");
}

#[test]
fn limits_of_the_process_are_held_against_what_it_will_need() {
    let files = |limit| Host { open_files: limit, ..good() };
    check(&files(Some(20_000)), &AUTO, Knob::OpenFiles, State::Advice, "20000 may be open", "LimitNOFILE=200000");
    check(&files(Some(20_000)), &AUTO, Knob::OpenFiles, State::Advice, "", "limits.connections: 10000");
    check(&files(None), &AUTO, Knob::OpenFiles, State::Fine, "no limit", "");
    let fewer = Wish { connections: 10_000, ..AUTO };
    check(&files(Some(20_000)), &fewer, Knob::OpenFiles, State::Fine, "20000", "");

    let locked = |kernel, limit| Host { kernel: Some(kernel), locked_bytes: limit, ..good() };
    check(&locked(Kernel(6, 1), Some(0)), &AUTO, Knob::LockedMemory, State::Fine, "control group", "");
    let report = examine(&locked(Kernel(5, 10), Some(64 << 10)), &AUTO);
    let said = report.findings.iter().find(|finding| finding.knob == Knob::LockedMemory).unwrap().to_string();
    assert!(
        said.contains("64 KiB may be locked, the rings need 8192 KiB") && said.contains("ulimit -l 8192"),
        "{said}"
    );
    check(&locked(Kernel(5, 10), Some(0)), &EPOLL, Knob::LockedMemory, State::Fine, "epoll", "");
}

#[test]
fn sockets_nodes_and_clocks_are_held_against_the_advice() {
    let backlog = Host { somaxconn: Some(128), ..good() };
    check(&backlog, &AUTO, Knob::Backlog, State::Advice, "is 128", "allowed-unsafe-sysctls");
    // Nobody can type anything in a pod without a shell.
    let in_pod = "podSecurityContext.sysctls: [{name: net.core.somaxconn, value: \"4096\"}]";
    check(&backlog, &AUTO, Knob::Backlog, State::Advice, "is 128", in_pod);
    let ports = Host { ports: Some((50_000, 50_999)), ..good() };
    check(&ports, &AUTO, Knob::EphemeralPorts, State::Advice, "at most 1000", "'32768 60999'");
    let in_pod = "podSecurityContext.sysctls: [{name: net.ipv4.ip_local_port_range, value: \"32768 60999\"}]";
    check(&ports, &AUTO, Knob::EphemeralPorts, State::Advice, "", in_pod);
    let nodes = Host { numa_nodes: Some(2), ..good() };
    check(&nodes, &AUTO, Knob::Numa, State::Advice, "2 nodes", "single-numa-node");
    let slow = Host { clock: Some("hpet".into()), ..good() };
    check(&slow, &AUTO, Knob::Clock, State::Advice, "system call", "echo tsc >");
    let no_better = Host { clock: Some("acpi_pm".into()), clocks: vec!["acpi_pm".into()], ..good() };
    check(&no_better, &AUTO, Knob::Clock, State::Advice, "acpi_pm", "clocksource=tsc");
}

#[test]
fn a_port_that_this_user_may_not_take_is_fatal_with_what_lets_it() {
    let to = |ports: &[u16]| Wish { ports: ports.to_vec(), ..AUTO };
    check(
        &good(),
        &to(&[8080, 80, 0]),
        Knob::LowPorts,
        State::Fatal,
        "port 80: below 1024",
        "_start, value: \"80\"}]; with",
    );
    check(&good(), &to(&[8080, 1024, 0]), Knob::LowPorts, State::Fine, "1024 and more", "");
    check(&good(), &to(&[0]), Knob::LowPorts, State::Fine, "none", "");
    let root = Host { takes_low_ports: Some(true), ..good() };
    check(&root, &to(&[80]), Knob::LowPorts, State::Fine, "any", "");
    // As containerd starts a pod's own network.
    let free = Host { low_ports: Some(0), takes_low_ports: None, ..good() };
    check(&free, &to(&[80]), Knob::LowPorts, State::Fine, "80 and more", "");
    let blind = Host { low_ports: None, ..good() };
    check(&blind, &to(&[8080]), Knob::LowPorts, State::Unknown, "cannot be read", "");
}

#[test]
fn what_cannot_be_read_is_said_and_fails_nothing() {
    let blind =
        Host { kernel: None, quota: None, somaxconn: None, ports: None, numa_nodes: None, clock: None, ..good() };
    let report = examine(&blind, &AUTO);
    let unknown = report.findings.iter().filter(|finding| finding.state == State::Unknown).count();
    assert_eq!((unknown, report.worst()), (7, State::Unknown));
    assert_eq!(code(report.worst(), false), 0);
}

#[test]
fn exit_codes_are_what_the_help_says() {
    let codes = |lenient| [State::Fine, State::Unknown, State::Advice, State::Fatal].map(|state| code(state, lenient));
    assert_eq!(codes(false), [0, 0, NEEDS_MENDING, WILL_NOT_START]);
    assert_eq!(codes(true), [0, 0, 0, WILL_NOT_START]);
}

#[test]
fn the_json_form_has_the_names_that_scripts_rely_on() {
    let json = |wish: &Wish| serde_json::to_value(examine(&filtered(libc::EPERM), wish)).unwrap();
    let of = |json: &serde_json::Value| json["findings"][1].clone();
    let auto = json(&AUTO);
    assert_eq!((&auto["driver"], of(&auto)["knob"].as_str()), (&"epoll".into(), Some("io-driver")));
    assert_eq!(of(&auto)["state"], "advice");
    let page = of(&auto)["page"].as_str().unwrap().to_owned();
    assert!(
        page.starts_with("https://") && page.ends_with("/tuning/seccomp.md"),
        "logs are read far from the pages: {page}"
    );
    assert!(of(&auto)["mend"].as_str().unwrap().contains("install-seccomp"));
    let fatal = json(&URING);
    assert_eq!((&fatal["driver"], &of(&fatal)["state"]), (&serde_json::Value::Null, &"fatal".into()));
}

#[test]
fn settings_that_are_refused_are_fatal_with_the_programs_own_sentences() {
    let problem = |key: &str| Problem { key: key.into(), sentence: "is wrong".into() };
    let wish = Wish { refused: vec![problem("limits.body_bytes"), problem("drain.lead")], ..AUTO };
    check(&good(), &wish, Knob::Settings, State::Fatal, "limits.body_bytes: is wrong; drain.lead: is wrong", "config");
    driver(&good(), &wish, None, "settings are refused");
    assert_eq!(code(examine(&good(), &wish).worst(), true), WILL_NOT_START);
}

#[test]
fn the_sysctl_file_sets_what_the_doctor_asks_for() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/sysctl/90-kthena.conf");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let set: std::collections::BTreeMap<_, _> = lines.map(|line| line.split_once(" = ").unwrap()).collect();
    // And nothing that no page is about: nobody would know what it is good for.
    assert!(set.len() == 3, "{set:?}");
    let number = |key: &str| set[key].parse().unwrap();
    let mut ports = set["net.ipv4.ip_local_port_range"].split(' ').map(|port| port.parse().unwrap());
    let host = Host {
        somaxconn: Some(number("net.core.somaxconn")),
        ports: Some((ports.next().unwrap(), ports.next().unwrap())),
        // Kernels before 6.6 do not know it: the dash says that this is no error.
        io_uring_disabled: Some(number("-kernel.io_uring_disabled") as u8),
        ..good()
    };
    assert_eq!(examine(&host, &AUTO).worst(), State::Fine);
    assert_eq!(host.io_uring_disabled, Some(0));
}
