//! The program is one file that needs no other: no loader, no library, nothing of a root file system. In an empty root, with the /dev and /proc
//! that every container has, it serves, and finds its control plane by DNS, which is where a static glibc might want a library after all.
//!
//! `KTHENA_DATAPLANE` names another program to show it of: `.ci/run static` gives the one that it has built.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dataplane::probe::ask;
use serde_json::Value;

use crate::elf::check_static;
use crate::missing::skip;
use crate::support::client::Client;
use crate::support::engine::Engine;
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Folder;
use crate::support::snapshot::serving;
use crate::support::wire::chat;
use crate::support::{PATIENCE, until};

on_every_driver!(in_an_empty_root_it_serves_and_finds_its_control_plane_by_name);

const INSIDE: &str = "KTHENA_EMPTY_ROOT";
/// A network and a view of the file system of its own, with what a container runtime mounts.
const SETUP: &str = r#"ip link set lo up && mount --rbind /dev "$KTHENA_EMPTY_ROOT/dev" && mount --rbind /proc "$KTHENA_EMPTY_ROOT/proc" && exec "$0" "$@""#;
/// It verifies nothing; the data plane asks for one before it looks its control plane up.
const CA: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBlzCCAT2gAwIBAgIUX7eS6ZdENpeGAKXeWdbrln/oYxQwCgYIKoZIzj0EAwIw\n\
IDEeMBwGA1UEAwwVYSBDQSB0aGF0IG5vYm9keSB1c2VzMCAXDTI2MTEyNzAyMDMw\n\
N1oYDzIxMjYxMTAzMDIwMzA3WjAgMR4wHAYDVQQDDBVhIENBIHRoYXQgbm9ib2R5\n\
IHVzZXMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQDMhPcp4j0tPaqpjWGVoju\n\
qZl3pvFqs3Bv7XANmuZIsUl0S4+55CrsVjWe94Gufsalx7c9RphLCCUKTgR8F8ok\n\
o1MwUTAdBgNVHQ4EFgQUev9tLV6v9Ftl9NWbdAa7DwV5d3wwHwYDVR0jBBgwFoAU\n\
ev9tLV6v9Ftl9NWbdAa7DwV5d3wwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD\n\
AgNIADBFAiEA6Oitmsc8OHNcTqM51cXUPiFNjzQJEhXH5O1Jnm9qDlsCIF09wqVr\n\
7HlSAsoen3MJM7dMoS8f9nIgdsqhxHZPVCJB\n\
-----END CERTIFICATE-----\n";
const NAME: &str = "control.kthena-system.svc";

fn program() -> PathBuf {
    std::env::var_os("KTHENA_DATAPLANE").map_or_else(|| env!("CARGO_BIN_EXE_kthena-dataplane").into(), PathBuf::from)
}

#[test]
fn it_needs_no_loader_and_no_library() {
    check_static(&program());
}

fn in_an_empty_root_it_serves_and_finds_its_control_plane_by_name(leg: Leg) {
    match std::env::var_os(INSIDE) {
        Some(root) => inside(leg, Path::new(&root)),
        None => outside(leg),
    }
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "--mount", "--kill-child", "--fork"]);
    command
}

fn outside(leg: Leg) {
    if !unshare().args(["ip", "link"]).stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return skip("unshare with user namespaces, or ip of iproute2,");
    }
    let root = Folder::new();
    for folder in ["dev", "proc", "etc"] {
        fs::create_dir(root.file(folder)).unwrap();
    }
    fs::hard_link(program(), root.file("program"))
        .or_else(|_| fs::copy(program(), root.file("program")).map(drop))
        .unwrap();
    fs::write(root.file("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    fs::write(root.file("token"), "a.b.c").unwrap();
    fs::write(root.file("ca.crt"), CA).unwrap();
    let test = format!(
        "static_program::{}::in_an_empty_root_it_serves_and_finds_its_control_plane_by_name",
        format!("{leg:?}").to_lowercase()
    );
    let mut command = unshare();
    command.args(["sh", "-c", SETUP]).arg(std::env::current_exe().unwrap()).args([&*test, "--exact", "--nocapture"]);
    let status = command.env(INSIDE, root.file("")).status().unwrap();
    assert!(status.success(), "{status}");
    // A harness that knows no test of that name ends well, too.
    assert!(root.file("ran").exists(), "there is no test {test}");
}

/// Dropped, it is killed.
struct Jailed(Child);

impl Drop for Jailed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn jailed(leg: Leg, root: &Path, arguments: &[&str]) -> Jailed {
    let mut command = Command::new("chroot");
    command.arg(root).arg("/program").args(arguments).args([
        "--bind=127.0.0.1",
        "--cores=1",
        "--io-driver",
        leg.flag(),
    ]);
    Jailed(leg.run(move || command.spawn()).unwrap())
}

/// What it says of itself, once it says anything.
fn ready(socket: &Path) -> Value {
    let mut said = Value::Null;
    until("it answers", || {
        said = ask(socket, "/readyz", PATIENCE)
            .map_or(Value::Null, |answer| serde_json::from_slice(&answer.body).unwrap());
        !said.is_null()
    });
    said
}

fn inside(leg: Leg, root: &Path) {
    fs::write(root.join("ran"), "").unwrap();
    let engine = Engine::named("e");
    fs::write(root.join("snapshot.json"), serving(&[engine.address]).to_string()).unwrap();
    let serving = jailed(leg, root, &["--snapshot=/snapshot.json", "--port=8080", "--admin-socket=/serving"]);
    let driver = ready(&root.join("serving"))["driver"].clone();
    assert_eq!(driver == "epoll", leg != Leg::Uring, "{driver}");
    assert_eq!(Client::connect((Ipv4Addr::LOCALHOST, 8080).into()).ask(chat("m")).status(), 200);
    drop(serving);

    serve_names();
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("--control-plane=https://{NAME}:{}", control.local_addr().unwrap().port());
    let files = ["--control-plane-ca=/ca.crt", "--control-plane-token=/token", "--admin-socket=/asking", "--port=8081"];
    let _asking = jailed(leg, root, &[&[address.as_str()][..], &files].concat());
    control.set_nonblocking(true).unwrap();
    until("it comes to its control plane", || control.accept().is_ok());
}

/// A name server that knows one name, of this machine.
fn serve_names() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut query) {
            let _ = socket.send_to(&named(&query[..len]), from);
        }
    });
}

/// The answer to a query with one question (RFC 1035, section 4).
fn named(query: &[u8]) -> Vec<u8> {
    let labels = query[12..].iter().position(|byte| *byte == 0).unwrap();
    let question = &query[12..12 + labels + 5];
    let wire: Vec<u8> = NAME.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    let is_ours = question[..labels] == wire && question[labels + 1..labels + 3] == [0, 1];
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_ours), 0, 0, 0, 0]);
    answer.extend(question);
    if is_ours {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
    }
    answer
}
