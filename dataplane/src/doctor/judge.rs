//! The judgement: one function for each knob, which says what was found and what to do about it.

use super::refusal::refusal;
use super::report::{Finding, Report, State};
use super::{Host, Kernel, Knob, Page, Quota, Ring, Wish};
use crate::config::Cores;
use crate::process::BACKLOG;
use crate::rt::{Driver, DriverChoice};

/// The first kernel with all that a ring of ours asks for.
const COMPLETE_RINGS: Kernel = Kernel(6, 0);
/// The oldest long-term kernel with it.
const ADVISED: Kernel = Kernel(6, 1);
/// From here on a ring's memory is the control group's, before that it was locked memory.
const RINGS_IN_CGROUP: Kernel = Kernel(5, 12);
/// Of one core: 4,096 submissions of 64 bytes, their index, and 16,384 completions of 16 bytes, rounded up.
const RING_BYTES: u64 = 1 << 20;
/// As many as the kernel offers unless it is told otherwise: 32,768 to 60,999.
const PORTS: u32 = 28_232;
/// Clock sources that are read without a system call.
const FAST_CLOCKS: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];

/// Says which driver will run and how each knob stands.
pub fn examine(host: &Host, wish: &Wish) -> Report {
    let (driver, why) = match &wish.refused[..] {
        [] => driver(host, wish.driver),
        [..] => (None, "its settings are refused".into()),
    };
    let findings = Knob::ALL.into_iter().map(|knob| judge(knob, host, wish)).collect();
    Report { driver: driver.map(Driver::as_str), why, findings }
}

/// Mirrors what the process itself does at its start.
fn driver(host: &Host, choice: DriverChoice) -> (Option<Driver>, String) {
    match (choice, host.epoll_forced, host.ring) {
        (DriverChoice::Epoll, _, _) => (Some(Driver::Epoll), "io.driver is epoll".into()),
        (DriverChoice::Auto, true, _) => (Some(Driver::Epoll), "MONOIO_FORCE_LEGACY_DRIVER is set".into()),
        (DriverChoice::Uring, true, _) => (None, "io.driver is uring and MONOIO_FORCE_LEGACY_DRIVER is set".into()),
        (_, false, Ring::Works(ring)) => (Some(ring), "io_uring works here".into()),
        (DriverChoice::Auto, false, Ring::Refused(error)) => (Some(Driver::Epoll), refusal(host, error).why),
        (DriverChoice::Uring, false, Ring::Refused(error)) => {
            (None, format!("io.driver is uring, and {}", refusal(host, error).why))
        }
    }
}

fn judge(knob: Knob, host: &Host, wish: &Wish) -> Finding {
    let (state, found, mend) = match knob {
        Knob::Settings => settings(wish),
        Knob::IoDriver => io_driver(host, wish),
        Knob::Kernel => kernel(host, wish),
        Knob::CgroupQuota => cgroup_quota(host, wish),
        Knob::OpenFiles => open_files(host, wish),
        Knob::LockedMemory => locked_memory(host, wish),
        Knob::Backlog => backlog(host),
        Knob::EphemeralPorts => ephemeral_ports(host),
        Knob::LowPorts => low_ports(host, wish),
        Knob::Numa => numa(host, wish),
        Knob::Clock => clock(host),
    };
    Finding { knob, state, found, mend, page: page(knob, host, wish).url() }
}

/// Where more is said: of io_uring that is refused, on the page about what refuses it.
fn page(knob: Knob, host: &Host, wish: &Wish) -> Page {
    match (knob, host.ring) {
        (Knob::IoDriver, Ring::Refused(error)) if !host.epoll_forced && wish.driver != DriverChoice::Epoll => {
            refusal(host, error).page
        }
        _ => knob.page(),
    }
}

type Judgement = (State, String, Option<String>);

fn fine(found: impl Into<String>) -> Judgement {
    (State::Fine, found.into(), None)
}

fn unknown(what: &str) -> Judgement {
    (State::Unknown, format!("{what} cannot be read here"), None)
}

fn advice(found: impl Into<String>, mend: impl Into<String>) -> Judgement {
    (State::Advice, found.into(), Some(mend.into()))
}

fn settings(wish: &Wish) -> Judgement {
    if wish.refused.is_empty() {
        return fine("as it takes them");
    }
    let said: Vec<_> = wish.refused.iter().map(ToString::to_string).collect();
    (
        State::Fatal,
        said.join("; "),
        Some("mend what is named (in the chart: gateway.config, node.config, extraEnv)".into()),
    )
}

fn io_driver(host: &Host, wish: &Wish) -> Judgement {
    let (driver, why) = driver(host, wish.driver);
    let mend = match host.ring {
        Ring::Refused(error) if !host.epoll_forced => refusal(host, error).mend,
        _ => "unset MONOIO_FORCE_LEGACY_DRIVER",
    };
    match driver {
        None => (State::Fatal, why, Some(format!("{mend}, or --io-driver auto"))),
        Some(Driver::Epoll) if wish.driver != DriverChoice::Epoll => advice(why, mend),
        Some(_) => fine(why),
    }
}

fn kernel(host: &Host, wish: &Wish) -> Judgement {
    let Some(kernel) = host.kernel else { return unknown("the kernel's version") };
    if wish.driver == DriverChoice::Epoll || kernel >= ADVISED {
        return fine(format!("Linux {kernel}"));
    }
    let lacks = if kernel < COMPLETE_RINGS { "lacks what makes rings cheap" } else { "is no long-term kernel" };
    advice(format!("Linux {kernel} {lacks}"), format!("run it on Linux {ADVISED} or newer"))
}

fn cgroup_quota(host: &Host, wish: &Wish) -> Judgement {
    let threads = wish.threads(host);
    let quota = match host.quota {
        None => return unknown("the control group's CPU quota"),
        Some(Quota::Unlimited) => return fine(format!("no limit, {threads} threads")),
        Some(Quota::Cpus(cpus)) => cpus,
    };
    if quota >= threads as f64 {
        return fine(format!("{quota:.2} CPUs for {threads} threads"));
    }
    let fit = (quota.floor() as usize).max(1);
    let found =
        format!("{quota:.2} CPUs for {threads} threads: the kernel stops all of them for the rest of each period");
    // One thread is the least there is.
    let fewer = if fit < threads { format!("--cores {fit}, or ") } else { String::new() };
    advice(found, format!("{fewer}take away limits.cpu of the container, or set it to {threads}"))
}

fn open_files(host: &Host, wish: &Wish) -> Judgement {
    // A connection may need a descriptor on either side.
    let needed = 2 * wish.connections as u64;
    match host.open_files {
        None => fine("no limit"),
        Some(limit) if limit >= needed => fine(format!("{limit}")),
        Some(limit) => advice(
            format!("{limit} may be open, {} connections need {needed}", wish.connections),
            format!(
                "LimitNOFILE={needed} in the container runtime's unit (or ulimit -Hn {needed}), or limits.connections: {}",
                limit / 2
            ),
        ),
    }
}

fn locked_memory(host: &Host, wish: &Wish) -> Judgement {
    if wish.driver == DriverChoice::Epoll {
        return fine("epoll locks none");
    }
    let Some(kernel) = host.kernel else { return unknown("the kernel's version, which says whether it counts,") };
    if kernel >= RINGS_IN_CGROUP {
        return fine(format!("Linux {kernel} counts rings as the control group's memory"));
    }
    let needed = wish.threads(host) as u64 * RING_BYTES;
    match host.locked_bytes {
        Some(limit) if limit < needed => advice(
            format!("{} KiB may be locked, the rings need {} KiB", limit >> 10, needed >> 10),
            format!("LimitMEMLOCK={needed} in the container runtime's unit, or ulimit -l {}", needed >> 10),
        ),
        _ => fine("enough for the rings"),
    }
}

fn backlog(host: &Host) -> Judgement {
    match host.somaxconn {
        None => unknown("net.core.somaxconn"),
        Some(limit) if limit >= BACKLOG as u64 => fine(format!("net.core.somaxconn is {limit}")),
        Some(limit) => advice(
            format!("net.core.somaxconn is {limit}: of a burst of connections, more than that are lost per core"),
            format!(
                "podSecurityContext.sysctls: [{{name: net.core.somaxconn, value: \"{BACKLOG}\"}}], which the kubelet has to allow (--allowed-unsafe-sysctls); with hostNetwork or without a pod sysctl -w net.core.somaxconn={BACKLOG}"
            ),
        ),
    }
}

fn ephemeral_ports(host: &Host) -> Judgement {
    let Some((first, last)) = host.ports else { return unknown("net.ipv4.ip_local_port_range") };
    let count = u32::from(last.saturating_sub(first)) + 1;
    if count >= PORTS {
        return fine(format!("{first} to {last}"));
    }
    advice(
        format!("{first} to {last}: at most {count} connections to one engine address"),
        "podSecurityContext.sysctls: [{name: net.ipv4.ip_local_port_range, value: \"32768 60999\"}]; with hostNetwork or without a pod sysctl -w net.ipv4.ip_local_port_range='32768 60999'",
    )
}

/// Without root or a capability, which nobody but root has in a container, it could not listen there.
fn low_ports(host: &Host, wish: &Wish) -> Judgement {
    // Port 0 is any that is free.
    let Some(lowest) = wish.ports.iter().copied().filter(|port| *port > 0).min() else {
        return fine("none is asked for");
    };
    match (host.low_ports, host.takes_low_ports) {
        (Some(start), _) if lowest >= start => fine(format!("{lowest} and more, anybody may take {start} and more")),
        (_, Some(true)) => fine("it may take any"),
        (Some(start), Some(false)) => (
            State::Fatal,
            format!("port {lowest}: below {start} this user may not listen"),
            Some(format!(
                "a port from {start} on, or podSecurityContext.sysctls: [{{name: net.ipv4.ip_unprivileged_port_start, value: \"{lowest}\"}}]; with hostNetwork or without a pod sysctl -w net.ipv4.ip_unprivileged_port_start={lowest}"
            )),
        ),
        _ => unknown("net.ipv4.ip_unprivileged_port_start"),
    }
}

fn numa(host: &Host, wish: &Wish) -> Judgement {
    match host.numa_nodes {
        None => unknown("the NUMA layout"),
        Some(nodes) if nodes <= 1 || wish.cores == Cores::First(1) => fine("one node"),
        Some(nodes) => advice(
            format!("the CPUs lie on {nodes} nodes, so half of all memory is far"),
            "kubelet: --cpu-manager-policy=static --topology-manager-policy=single-numa-node; or numactl --cpunodebind=0 --membind=0",
        ),
    }
}

fn clock(host: &Host) -> Judgement {
    let Some(clock) = &host.clock else { return unknown("the clock source") };
    if FAST_CLOCKS.contains(&clock.as_str()) {
        return fine(clock.clone());
    }
    let found = format!("{clock}: each look at the clock is a system call");
    match host.clocks.iter().find(|clock| FAST_CLOCKS.contains(&clock.as_str())) {
        Some(better) => {
            let file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
            advice(found, format!("echo {better} > {file} on the node"))
        }
        None => {
            advice(found, "boot the node with clocksource=tsc tsc=reliable, if its hypervisor keeps the TSC stable")
        }
    }
}
