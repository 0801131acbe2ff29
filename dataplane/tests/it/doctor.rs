//! `kthena-dataplane doctor` says what the process would do: on io_uring, with epoll, and where a filter denies io_uring.

mod host;
mod shell;

use std::process::{Command, Output};

use dataplane::rt::{self, DriverChoice};
use serde_json::Value;

use crate::support::legs::{Leg, on_every_driver};

on_every_driver!(the_doctor_names_the_driver_that_runs_here, what_would_not_start_ends_with_two);

fn doctor(leg: Leg, arguments: &'static [&'static str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kthena-dataplane"));
    // So few that no machine's limit on open files matters.
    command.args(["doctor", "--json", "--connections", "10"]).args(arguments);
    leg.run(move || command.output()).unwrap()
}

fn the_doctor_names_the_driver_that_runs_here(leg: Leg) {
    let output = doctor(leg, if leg == Leg::Epoll { &["--io-driver", "epoll"] } else { &[] });
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (driver, why) = (report["driver"].as_str().unwrap(), report["why"].as_str().unwrap());
    match leg {
        Leg::Uring => assert!(driver.starts_with("uring/"), "{report:#}"),
        Leg::Epoll => assert_eq!((driver, why), ("epoll", "io.driver is epoll")),
        Leg::Denied => assert!(driver == "epoll" && why.contains("seccomp"), "{report:#}"),
    }
    let state = if leg == Leg::Denied { "advice" } else { "fine" };
    let finding = report["findings"].as_array().unwrap().iter().find(|finding| finding["knob"] == "io-driver").unwrap();
    assert_eq!(finding["state"], state, "{report:#}");
    // Where this machine's sysctl refuses it besides, it is the page that has both.
    let page =
        if leg == Leg::Denied && !why.contains("sysctl") { "/tuning/seccomp.md" } else { "/tuning/io-driver.md" };
    assert!(finding["page"].as_str().unwrap().ends_with(page), "{report:#}");
}

fn what_would_not_start_ends_with_two(leg: Leg) {
    let output = doctor(leg, &["--io-driver", "uring", "--lenient"]);
    let refused = leg == Leg::Denied || rt::probe(DriverChoice::Uring).is_err();
    let expected = if refused { 2 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn what_is_asked_wrongly_ends_with_sixty_four_and_judges_nothing() {
    for (flags, named) in [(["--jsn", "--lenient"], "--jsn"), (["--connections", "many"], "many")] {
        let output = Command::new(env!("CARGO_BIN_EXE_kthena-dataplane"))
            .args(["doctor", "--json"])
            .args(flags)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(64) && said.contains(named), "{:?}: {said}", output.status);
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// What the doctor says of settings, with these flags besides, and how it ends.
fn settings(yaml: &str, flags: &[&str]) -> (String, Option<i32>) {
    let name = format!("kthena-doctor-settings-{}-{:?}", std::process::id(), std::thread::current().id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, yaml).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kthena-dataplane"));
    command.args(["doctor", "--lenient", "--connections=10", "--config"]).arg(&file).args(flags);
    let output = command.output().unwrap();
    std::fs::remove_file(&file).unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn settings_that_the_proxy_would_not_take_are_fatal_in_its_own_words() {
    let (said, code) = settings("limit: {connections: 5}", &[]);
    assert!(said.contains("FATAL") && said.contains("unknown field `limit`"), "{said}");
    assert!(said.starts_with("driver: none: it will not start"), "{said}");
    assert_eq!(code, Some(2), "{said}");
    let (said, code) = settings("{limits: {body_bytes: 1}, drain: {lead: 5}}", &["--io-driver=kqueue"]);
    for key in ["limits.body_bytes: 1 is outside", "drain.lead: ", "io.driver: `kqueue` is none of"] {
        assert!(said.contains(key), "{key} is not in {said}");
    }
    assert_eq!(code, Some(2), "{said}");
    // As the chart's flags and a file may contradict each other.
    let (said, code) = settings("snapshot: /a", &["--control-plane=127.0.0.1:1"]);
    assert!(said.contains("leave out --snapshot or --control-plane") && code == Some(2), "{said}");
}

#[test]
fn settings_are_what_the_host_is_held_against() {
    let (said, code) = settings("{io: {driver: epoll}, cores: 1}", &[]);
    assert!(said.starts_with("driver: epoll (io.driver is epoll)") && code == Some(0), "{said}");
    let (said, _) = settings("{io: {driver: epoll}, cores: 1}", &["--io-driver=auto", "--cores=2"]);
    assert!(!said.contains("io.driver is epoll"), "a flag beats the file: {said}");
}
