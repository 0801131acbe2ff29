//! The snapshot file: edits take effect, bad ones change nothing and say why.

use std::process::Command;

use serde_json::json;

use crate::support::engine::{Engine, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::{Folder, Proxy};
use crate::support::snapshot::{backend, route, serving, snapshot, with};
use crate::support::until;
use crate::support::wire::{chat, get};

on_every_driver!(an_edit_takes_effect, a_bad_edit_keeps_the_last_good_table, an_edit_leaves_requests_alone);

fn an_edit_takes_effect(leg: Leg) {
    let (a, b) = (Engine::named("a"), Engine::named("b"));
    let proxy = Proxy::start(leg, &serving(&[a.address]));
    let mut client = proxy.client();
    assert_eq!(client.ask(chat("m")).json()["from"], "a");
    assert_eq!(client.ask(chat("n")).status(), 404);
    let routes = vec![route("m", "t/b"), route("n", "t/b")];
    proxy.edit(&snapshot(routes, vec![backend("t/b", &[b.address])]).to_string());
    until("the edit is in force", || client.ask(chat("n")).status() == 200);
    assert_eq!(client.ask(chat("m")).json()["from"], "b");
    proxy.settled();
}

fn a_bad_edit_keeps_the_last_good_table(leg: Leg) {
    let engine = Engine::named("e");
    let good = serving(&[engine.address]);
    let proxy = Proxy::start(leg, &good);
    let mut client = proxy.client();
    let host = with(backend("t/b", &[]), json!({"endpoints": [{"name": "t/x", "address": "engine.local:80"}]}));
    let mut refusal = "null".to_owned();
    for (bad, says) in [
        ("{".to_owned(), ""),
        (snapshot(vec![route("m", "t/b")], vec![host]).to_string(), "engine.local"),
        (with(good.clone(), json!({"colour": "red"})).to_string(), "colour"),
    ] {
        proxy.edit(&bad);
        until("the refusal is told", || {
            let ready = proxy.admin("/readyz");
            let before = std::mem::replace(&mut refusal, ready.json()["table"]["refusal"].to_string());
            refusal != before && refusal.contains(says)
        });
        assert_eq!(client.ask(get("/readyz")).status(), 200, "it still serves: {refusal}");
        assert_eq!(client.ask(chat("m")).status(), 200);
        assert!(proxy.metric("kthena_router_config_rejected_total", &[]) >= 1.0);
    }
    proxy.edit(&snapshot(vec![route("n", "t/b")], vec![backend("t/b", &[engine.address])]).to_string());
    until("the good edit is in force", || client.ask(chat("n")).status() == 200);
    assert!(proxy.admin("/readyz").json()["table"]["refusal"].is_null());
    assert_eq!(client.ask(chat("m")).status(), 404);
}

fn an_edit_leaves_requests_alone(leg: Leg) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let old = Engine::start(move |conn, _| {
        wait.lock().unwrap().recv().unwrap();
        conn.write(crate::support::wire::answer("200 OK", r#"{"from":"old"}"#));
        Then::Keep
    });
    let new = Engine::named("new");
    let proxy = Proxy::start(leg, &serving(&[old.address]));
    let mut waiting = proxy.client();
    waiting.send(chat("m"));
    old.wait_requests(1);
    proxy.edit(&snapshot(vec![route("m", "t/b"), route("n", "t/b")], vec![backend("t/b", &[new.address])]).to_string());
    let mut client = proxy.client();
    until("the edit is in force", || client.ask(chat("n")).status() == 200);
    go.send(()).unwrap();
    assert_eq!(waiting.reply().json()["from"], "old");
    assert_eq!(waiting.ask(chat("m")).json()["from"], "new");
    proxy.settled();
}

fn check(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kthena-dataplane"));
    let output = command.args(arguments).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_says_all_that_is_wrong() {
    let folder = Folder::new();
    let file = |name: &str, text: String| folder.put(name, &text).display().to_string();
    let address = "127.0.0.1:1".parse().unwrap();
    let good = file("good.json", serving(&[address]).to_string());
    let (code, out, _) = check(&["check", &good]);
    assert_eq!(code, Some(0));
    assert!(out.contains("ok (1 routes, 1 backends, 1 endpoints)"), "{out}");
    let endpoints = json!([{"name": "a", "address": "host:80"}, {"name": "b", "address": "127.0.0.1:0"}]);
    let twice = vec![with(backend("t/b", &[]), json!({"endpoints": endpoints})), backend("t/b", &[])];
    let bad = file("bad.json", snapshot(vec![route("", "t/b")], twice).to_string());
    let (code, _, errors) = check(&["check", &bad]);
    assert_eq!(code, Some(1));
    assert!(errors.lines().count() >= 3 && errors.contains("host:80"), "{errors}");
    assert_eq!(check(&["check", "/nonexistent"]).0, Some(1));
}

#[test]
fn what_was_typed_wrong_is_said_at_once_with_exit_code_64() {
    let folder = Folder::new();
    let config = folder.put("c.yaml", "{io: {driver: kqueue}, drain: {lead: soon}}").display().to_string();
    let (code, _, errors) = check(&["--config", &config]);
    assert_eq!(code, Some(64));
    for part in ["io.driver", "drain.lead", "--snapshot FILE"] {
        assert!(errors.contains(part), "{part} is not in {errors}");
    }
    let (code, _, errors) = check(&["--control-plane", "10.0.0.1:15010", "--snapshot", "s.json"]);
    assert_eq!(code, Some(64));
    for part in ["leave out --snapshot or --control-plane", "`10.0.0.1` is not on this machine"] {
        assert!(errors.contains(part), "{part} is not in {errors}");
    }
    assert_eq!(check(&["--no-such-flag"]).0, Some(64));
    assert_eq!(check(&["--help"]).0, Some(0));
}
