//! The client of `helm test`: content with a real answer, and clear about all others.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../../dataplane/tests/it/elf.rs"]
mod elf;

use std::time::Duration;

use bench::ask::{Ask, Fault, judge, target};
use bench::engine::{Config, Engine};
use hyper::StatusCode;

fn ask(target: String, model: &str) -> Ask {
    Ask { target, model: model.to_owned(), wait: Duration::from_secs(20) }
}

#[tokio::test]
async fn a_working_engine_is_well_whole_and_streamed() {
    let engine = Engine::start(Config::default()).await.unwrap();
    ask(engine.addr.to_string(), "sim").run().await.unwrap();
    engine.kill().await;
}

/// As `$(HOST_IP):8080` becomes where the node's first address is of IPv6.
#[tokio::test]
async fn an_address_of_ipv6_without_brackets_is_asked_as_one_with_them() {
    let listen = (std::net::Ipv6Addr::LOCALHOST, 0).into();
    let engine = Engine::start(Config { listen, ..Config::default() }).await.unwrap();
    let port = engine.addr.port();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kthena-ask"));
    command.args(["--model=sim", "--wait-s=20", &format!("::1:{port}")]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, format!("[::1]:{port}: whole: ok\n[::1]:{port}: streamed: ok\n"), "{wrong}");
    engine.kill().await;
}

#[test]
fn a_target_is_a_host_and_a_port() {
    let check = |typed: &str, expected: Option<&str>| assert_eq!(target(typed).ok().as_deref(), expected, "{typed}");
    check("kthena-router.serving.svc:80", Some("kthena-router.serving.svc:80"));
    check("10.0.0.1:8080", Some("10.0.0.1:8080"));
    check("fd00::a:8080", Some("[fd00::a]:8080"));
    check("[fd00::a]:8080", Some("[fd00::a]:8080"));
    check("kthena-router", None);
    check(":8080", None);
    check("kthena-router:http", None);
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_look_at() {
    // A port that was free a moment ago, and that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut ask = ask(free.to_string(), "sim");
    ask.wait = Duration::ZERO;
    let said = format!("{:#}", ask.run().await.unwrap_err());
    assert!(said.contains("cannot connect (is the Service there") && said.contains("model sim at"), "{said}");
}

#[test]
fn the_client_and_the_engine_of_the_image_need_no_loader_and_no_library() {
    elf::check_static(env!("CARGO_BIN_EXE_kthena-ask").as_ref());
    elf::check_static(env!("CARGO_BIN_EXE_engine-sim").as_ref());
}

#[track_caller]
fn check(status: u16, body: &str, stream: bool, expected: Result<(), fn(&Fault) -> bool>) {
    let found = judge(StatusCode::from_u16(status).unwrap(), body.as_bytes(), stream);
    match (found, expected) {
        (Ok(()), Ok(())) => {}
        (Err(fault), Err(is)) if is(&fault) => {}
        (found, _) => panic!("{status} {body}: {found:?}"),
    }
}

#[test]
fn what_waiting_may_mend_is_told_from_what_it_cannot() {
    let whole = r#"{"choices":[{"message":{"content":"hi"}}]}"#;
    let events = "data: {\"choices\":[{\"delta\":{}}]}\n\ndata: [DONE]\n\n";
    let wrong: fn(&Fault) -> bool = |fault| matches!(fault, Fault::Wrong(_));
    let not_yet: fn(&Fault) -> bool = |fault| matches!(fault, Fault::NotYet(_));
    check(200, whole, false, Ok(()));
    check(200, events, true, Ok(()));
    check(200, events, false, Err(wrong));
    check(200, whole, true, Err(wrong));
    check(200, &events.replace("data: [DONE]", ""), true, Err(wrong));
    check(404, "{}", false, Err(not_yet));
    check(503, "{}", true, Err(not_yet));
    check(401, "{}", false, Err(wrong));
}
