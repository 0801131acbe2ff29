//! `kthena-dataplane doctor` says what the process would do: on io_uring, with epoll, and where a filter denies io_uring.

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
    let first = &report["findings"][0];
    let state = if leg == Leg::Denied { "advice" } else { "fine" };
    assert_eq!((&first["knob"], &first["state"]), (&"io-driver".into(), &state.into()), "{report:#}");
}

fn what_would_not_start_ends_with_two(leg: Leg) {
    let output = doctor(leg, &["--io-driver", "uring", "--lenient"]);
    let refused = leg == Leg::Denied || rt::probe(DriverChoice::Uring).is_err();
    let expected = if refused { 2 } else { 0 };
    assert_eq!(output.status.code(), Some(expected), "{}", String::from_utf8_lossy(&output.stdout));
}
