//! What the program itself is told by its environment and its CPUs.

use std::path::Path;

use serde_json::Value;

use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::process::Process;
use crate::support::proxy::Folder;
use crate::support::snapshot::serving;
use crate::support::until;
use crate::support::wire::chat;

on_every_driver!(the_access_log_goes_where_the_variables_say, each_core_has_a_cpu_where_it_has_all_of_them);

/// After one request.
fn logging(leg: Leg, engine: &Engine, enabled: &str) -> (Process, std::path::PathBuf) {
    let folder = Folder::new();
    let log = folder.file("access.log");
    let output = log.to_str().unwrap().to_owned();
    let variables = [("ACCESS_LOG_ENABLED", enabled), ("ACCESS_LOG_FORMAT", "json"), ("ACCESS_LOG_OUTPUT", &output)];
    let process = Process::within(folder, leg, &serving(&[engine.address]), ("drain: {lead: 0s}", 0, 1, &variables));
    assert_eq!(process.client().ask(chat("m")).status(), 200);
    (process, log)
}

fn the_access_log_goes_where_the_variables_say(leg: Leg) {
    let engine = Engine::named("e");
    let (_on, log) = logging(leg, &engine, "true");
    let line = || std::fs::read_to_string(&log).unwrap_or_default();
    until("a line is in the file", || line().ends_with('\n'));
    assert_eq!(serde_json::from_str::<Value>(&line()).unwrap()["status_code"], 200);

    let (mut off, log) = logging(leg, &engine, "false");
    off.terminate();
    // It writes all of its lines before it ends.
    assert!(off.wait().success());
    assert!(!Path::new(&log).exists());
}

fn each_core_has_a_cpu_where_it_has_all_of_them(leg: Leg) {
    let engine = Engine::named("e");
    let start = |cores| Process::at(leg, &serving(&[engine.address]), ("", 0, cores));
    let mine = dataplane::rt::cores().unwrap();
    let mut each: Vec<_> = mine.iter().map(usize::to_string).collect();
    each.sort();
    if mine.len() > 1 {
        assert_eq!(start(0).cpus(), each);
    }
    let two = start(2).cpus();
    assert!(two.len() == 2 && two[0] == two[1], "two threads that are left to the kernel: {two:?}");
    assert!(mine.len() == 1 || two[0].contains(['-', ',']), "{two:?}");
}
