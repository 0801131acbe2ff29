//! The admin listener at a path: who may open it, what it says, and what becomes of its file.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dataplane::config::{AdminPlaces, Config};
use dataplane::probe::ask;
use dataplane::process::{self, Running, StartFailure};
use serde_json::Value;

use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Folder;
use crate::support::snapshot::serving;

on_every_driver!(
    a_socket_serves_all_of_it_to_its_user_alone,
    a_file_that_a_dead_process_left_is_taken_over_and_no_other,
    the_probe_ends_as_the_proxy_says,
);

const TIME: Duration = Duration::from_secs(10);

/// A proxy without any admin port.
fn start(leg: Leg, folder: &Folder) -> Result<(Running, PathBuf), StartFailure> {
    let engine = Engine::named("e");
    let mut config = Config::loopback(folder.put("snapshot.json", &serving(&[engine.address]).to_string()));
    let socket = folder.file("admin.sock");
    config.driver = leg.choice();
    config.admin = AdminPlaces { metrics: None, debug: None, socket: Some(socket.clone()) };
    Ok((leg.run(move || process::start(config))?, socket))
}

#[track_caller]
fn status(socket: &Path, path: &str) -> u16 {
    ask(socket, path, TIME).unwrap().status
}

fn a_socket_serves_all_of_it_to_its_user_alone(leg: Leg) {
    let folder = Folder::new();
    let (running, socket) = start(leg, &folder).unwrap();
    assert_eq!((running.admin().metrics, running.admin().debug), (None, None));
    let made = fs::symlink_metadata(&socket).unwrap();
    assert!(made.file_type().is_socket());
    assert_eq!(made.permissions().mode() & 0o777, 0o600);
    let ready = ask(&socket, "/readyz", TIME).unwrap();
    let said: Value = serde_json::from_slice(&ready.body).unwrap();
    assert_eq!(ready.status, 200);
    assert_eq!(said["driver"].as_str().unwrap() == "epoll", leg != Leg::Uring, "{said}");
    for path in ["/healthz", "/metrics", "/debug/table"] {
        assert_eq!(status(&socket, path), 200, "{path}");
    }
    assert_eq!(status(&socket, "/nothing"), 404);
    // What is no request gets the same answer as at a port.
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"nonsense\r\n\r\n").unwrap();
    let mut refused = String::new();
    stream.read_to_string(&mut refused).unwrap();
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");

    running.shutdown(|| true);
    assert!(!socket.exists(), "a proxy that ends takes its socket along");
    let (again, socket) = start(leg, &folder).unwrap();
    assert_eq!(status(&socket, "/healthz"), 200);
    again.shutdown(|| true);
}

fn a_file_that_a_dead_process_left_is_taken_over_and_no_other(leg: Leg) {
    let folder = Folder::new();
    // As after kill -9: the file is there, and nobody listens.
    drop(UnixListener::bind(folder.file("admin.sock")).unwrap());
    let (running, socket) = start(leg, &folder).unwrap();
    assert_eq!(status(&socket, "/healthz"), 200);
    assert_eq!(fs::symlink_metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);

    let said = start(leg, &folder).expect_err("somebody listens there").to_string();
    assert!(said.contains("admin.sock") && said.contains("another process listens there"), "{said}");
    assert_eq!(status(&socket, "/healthz"), 200, "the first one goes on");
    // Another's file is not ours to remove, neither at the end nor at the start.
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "a user's own").unwrap();
    running.shutdown(|| true);
    let said = start(leg, &folder).expect_err("a file that is no socket").to_string();
    assert!(said.contains("no socket"), "{said}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a user's own");
}

fn the_probe_ends_as_the_proxy_says(leg: Leg) {
    let folder = Folder::new();
    let (running, socket) = start(leg, &folder).unwrap();
    let probe = |path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kthena-dataplane"));
        let output = command.arg("probe").arg("--admin-socket").arg(&socket).arg(path).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said, _) = probe("/readyz");
    assert!(code == Some(0) && said.contains("router is ready"), "{said}");
    let (code, said, error) = probe("/nothing");
    assert!(code == Some(1) && said.contains("nothing is served") && error.contains("status 404"), "{said}{error}");
    assert_eq!(probe("no path").0, Some(64));
    running.shutdown(|| true);
    let (code, _, error) = probe("/readyz");
    assert!(code == Some(1) && error.contains("admin.sock"), "{error}");
}
