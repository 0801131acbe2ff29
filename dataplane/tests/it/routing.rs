//! Which engine gets a request, and what of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::json;

use crate::support::client::Reply;
use crate::support::engine::{Engine, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{backend, route, serving, serving_with, snapshot, with};
use crate::support::until;
use crate::support::wire::{CHAT, answer, chat, get, post, post_with};

on_every_driver!(
    every_api_is_routed_by_its_model,
    models_in_paths_are_routed_and_renamed,
    a_rename_touches_nothing_but_the_model,
    rules_match_header_uri_and_body,
    weights_divide_the_traffic,
    a_session_keeps_to_one_engine_on_every_proxy,
    an_engine_of_two_backends_is_counted_once,
    what_has_no_route_is_refused_in_openais_form,
    the_table_answers_for_models_and_health,
    bodies_that_two_readers_could_read_differently_are_refused,
);

fn every_api_is_routed_by_its_model(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let paths = "/v1/chat/completions /v1/completions /v1/embeddings /v1/responses /v1/messages /v1/rerank /rerank \
                 /v2/rerank /v1/score /score /v1/classify /classify /tokenize /detokenize /v1/anything/else /pooling";
    for path in paths.split_whitespace() {
        let body = r#" {"input": "x", "model" : "m"} "#;
        let reply = client.ask(post(path, body));
        assert_eq!((reply.status(), reply.text().as_str()), (200, r#"{"from":"e"}"#), "{path}");
        let seen = engine.last();
        assert_eq!((seen.target(), seen.text()), (format!("POST {path}"), body.into()));
    }
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n\0\u{1}RIFF\r\n\
                --b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n";
    let request = post("/v1/audio/transcriptions?x=1", form);
    let request = String::from_utf8(request).unwrap().replace("application/json", "multipart/form-data; boundary=b");
    assert_eq!(client.ask(request).status(), 200);
    assert_eq!(
        (engine.last().target(), engine.last().text()),
        ("POST /v1/audio/transcriptions?x=1".into(), form.into())
    );
    assert_eq!(engine.connections(), 1, "one connection serves them all");
    proxy.settled();
}

fn models_in_paths_are_routed_and_renamed(leg: Leg) {
    let engine = Engine::named("e");
    let renamed = with(backend("t/r", &[engine.address]), json!({"engine": "TRITON", "model": "new/1"}));
    let plain = with(backend("t/p", &[engine.address]), json!({"engine": "TORCHSERVE"}));
    let routes = vec![route("old", "t/r"), route("m", "t/p"), route("a/b", "t/p")];
    let proxy = Proxy::start(leg, &snapshot(routes, vec![renamed, plain]));
    let mut client = proxy.client();
    for (path, expected) in [
        ("/v2/models/old/infer", "/v2/models/new%2F1/infer"),
        ("/v2/models/old/versions/3/generate?q=1", "/v2/models/new%2F1/versions/3/generate?q=1"),
        ("/v2/models/old/generate_stream", "/v2/models/new%2F1/generate_stream"),
        ("/predictions/m", "/predictions/m"),
        ("/predictions/m/1.0/v1/chat/completions", "/predictions/m/1.0/v1/chat/completions"),
        ("/predictions/m/1.0", "/predictions/m/1.0"),
        ("/explanations/m", "/explanations/m"),
        ("/v1/models/m:predict", "/v1/models/m:predict"),
    ] {
        let reply = client.ask(post(path, "\0 any bytes"));
        assert_eq!(reply.status(), 200, "{path}: {}", reply.text());
        assert_eq!((engine.last().target(), engine.last().text()), (format!("POST {expected}"), "\0 any bytes".into()));
    }
    assert_eq!(client.ask(post("/v2/models/unknown/infer", "{}")).status(), 404);
    assert_eq!(client.ask(post("/v2/models/a%2Fb/infer", "{}")).status(), 400, "an escaped slash is ambiguous");
}

fn a_rename_touches_nothing_but_the_model(leg: Leg) {
    let engine = Engine::named("e");
    let served = with(backend("t/b", &[engine.address]), json!({"model": "served \"name\""}));
    let routes = vec![with(route("m", "t/b"), json!({"adapters": ["lora-1"]}))];
    let proxy = Proxy::start(leg, &snapshot(routes, vec![served]));
    let mut client = proxy.client();
    let odd =
        r#"{ "n":9007199254740993, "f":0.30000000000000004 ,"e":1E400,"model" : MODEL , "x":"\u00e9é\/", "z":[ ] } "#;
    for (sent, expected) in
        [(r#""m""#, r#""served \"name\"""#), (r#""\u006d""#, r#""served \"name\"""#), (r#""lora-1""#, r#""lora-1""#)]
    {
        assert_eq!(client.ask(post("/v1/embeddings", odd.replace("MODEL", sent))).status(), 200, "{sent}");
        assert_eq!(engine.last().text(), odd.replace("MODEL", expected));
        let length = engine.last().body.len().to_string();
        assert_eq!(engine.last().head.all("content-length"), [length.as_str()]);
    }
}

fn rules_match_header_uri_and_body(leg: Leg) {
    let (a, b, c, d) = (Engine::named("a"), Engine::named("b"), Engine::named("c"), Engine::named("d"));
    let rule = |fields, target: &str| with(json!({"targets": [{"backend": target}]}), fields);
    let rules = json!([
        rule(json!({"headers": {"x-tier": {"exact": "gold"}, "x-user": {"regex": "^u[0-9]+$"}}}), "t/a"),
        rule(json!({"uri": {"prefix": "/v1/comp"}}), "t/b"),
        rule(json!({"bodyModel": "lora-1"}), "t/c"),
        rule(json!({}), "t/d"),
    ]);
    let routes = vec![json!({"name": "t/r", "model": "m", "adapters": ["lora-1"], "rules": rules})];
    let engines = [("t/a", &a), ("t/b", &b), ("t/c", &c), ("t/d", &d)];
    let backends = engines.map(|(name, engine)| backend(name, &[engine.address])).to_vec();
    let proxy = Proxy::start(leg, &snapshot(routes, backends));
    let mut client = proxy.client();
    for (path, fields, model, expected) in [
        (CHAT, "X-Tier: gold\r\nX-User: u12\r\n", "m", "a"),
        (CHAT, "X-Tier: gold\r\nX-User: 12\r\n", "m", "d"),
        (CHAT, "X-Tier: golden\r\nX-User: u12\r\n", "m", "d"),
        ("/v1/completions", "x-tier: gold\r\nx-user: u1\r\n", "m", "a"),
        ("/v1/completions", "", "m", "b"),
        (CHAT, "", "lora-1", "c"),
        (CHAT, "", "m", "d"),
    ] {
        let reply = client.ask(post_with(path, fields, format!(r#"{{"model":"{model}"}}"#)));
        assert_eq!(reply.json()["from"], expected, "{path} {fields:?} {model}");
    }
}

fn a_session_keeps_to_one_engine_on_every_proxy(leg: Leg) {
    let engines = ["a", "b", "c"].map(Engine::named);
    let addresses: Vec<_> = engines.iter().map(|engine| engine.address).collect();
    let scorers = json!([{"weight": 1, "sessionAffinity": {"header": "X-User"}}, {"weight": 1, "leastRequest": {}}]);
    let profiles = json!([{"name": "sticky", "weighted": {"scorers": scorers}}]);
    let table = with(serving_with(&addresses, json!({"profile": "sticky"})), json!({"profiles": profiles}));
    let proxies = [(); 2].map(|()| Proxy::start(leg, &table));
    let mut homes = std::collections::HashSet::new();
    for user in 0..12 {
        let asked = |proxy: &Proxy| {
            let fields = format!("x-user: user-{user}\r\n");
            proxy.client().ask(post_with(CHAT, &fields, r#"{"model": "m", "messages": []}"#)).text()
        };
        let home = asked(&proxies[0]);
        for proxy in [&proxies[0], &proxies[1], &proxies[1]] {
            assert_eq!(asked(proxy), home, "user {user}");
        }
        homes.insert(home);
    }
    assert!(homes.len() > 1, "{homes:?}");
    proxies.iter().for_each(Proxy::settled);
}

fn an_engine_of_two_backends_is_counted_once(leg: Leg) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let engine = Engine::start(move |conn, seen| {
        until("the gate opens", || gate.load(SeqCst));
        conn.write(answer("200 OK", &seen.text()));
        Then::Keep
    });
    let member = |fields| with(json!({"name": "t/pod", "address": engine.address.to_string()}), fields);
    let a = json!({"name": "t/a", "model": "real-a", "endpoints": [member(json!({}))]});
    let seen_otherwise = member(json!({"role": "DECODE", "group": "g", "labels": {"tier": "b"}}));
    let b = json!({"name": "t/b", "model": "real-b", "maxInFlight": 2, "endpoints": [seen_otherwise]});
    let proxy = Proxy::start(leg, &snapshot(vec![route("a", "t/a"), route("b", "t/b")], vec![a, b]));
    let (mut first, mut second) = (proxy.client(), proxy.client());
    first.send(post("/v1/embeddings", r#"{"model":"a"}"#));
    second.send(post("/v1/embeddings", r#"{"model":"b"}"#));
    engine.wait_requests(2);

    let found = proxy.endpoints();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["name"], &found[0]["modelServers"], &found[0]["inFlight"], &found[0]["running"]),
        (&json!("t/pod"), &json!(["t/a", "t/b"]), &json!(2), &json!(2))
    );
    let full = proxy.ask(post("/v1/embeddings", r#"{"model":"b"}"#));
    assert_eq!((full.status(), full.json()["error"]["code"].as_str()), (503, Some("overloaded")), "{}", full.text());

    open.store(true, SeqCst);
    assert_eq!(first.reply().text(), r#"{"model":"real-a"}"#);
    assert_eq!(second.reply().text(), r#"{"model":"real-b"}"#);
    proxy.settled();
    assert_eq!(proxy.ask(post("/v1/embeddings", r#"{"model":"b"}"#)).status(), 200);
}

fn weights_divide_the_traffic(leg: Leg) {
    let (a, b, c) = (Engine::named("a"), Engine::named("b"), Engine::named("c"));
    let targets = json!([
        {"backend": "t/a", "weight": 90}, {"backend": "t/b", "weight": 30}, {"backend": "t/c", "weight": 0}
    ]);
    let routes = vec![json!({"name": "t/r", "model": "m", "rules": [{"targets": targets}]})];
    let backends = [("t/a", &a), ("t/b", &b), ("t/c", &c)].map(|(n, e)| backend(n, &[e.address])).to_vec();
    let proxy = Proxy::start(leg, &snapshot(routes, backends));
    let mut client = proxy.client();
    for _ in 0..200 {
        assert_eq!(client.ask(chat("m")).status(), 200);
    }
    // 200 draws at 3 : 1: fewer than 100 or more than 190 for the first happens once in 10^12 runs.
    assert!((100..=190).contains(&a.count()), "{} of 200", a.count());
    assert_eq!((a.count() + b.count(), c.count()), (200, 0));
}

fn check_error(reply: &Reply, status: u16, kind: &str, says: &str) {
    let error = &reply.json()["error"];
    assert_eq!(reply.status(), status, "{error}");
    assert_eq!(error["type"], kind, "{error}");
    assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    let keys: Vec<_> = error.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["code", "message", "param", "type"]);
    assert!(reply.head.field("x-request-id").is_some_and(|id| !id.is_empty()));
}

fn what_has_no_route_is_refused_in_openais_form(leg: Leg) {
    let engine = Engine::named("e");
    let headed = json!({"name": "t/h", "model": "h", "rules": [
        {"headers": {"x-a": {"exact": "1"}}, "targets": [{"backend": "t/b"}]}
    ]});
    let routes = vec![route("m", "t/b"), route("empty", "t/empty"), route("lost", "t/lost"), headed];
    let backends = vec![backend("t/b", &[engine.address]), backend("t/empty", &[])];
    let proxy = Proxy::start(leg, &snapshot(routes, backends));
    let mut client = proxy.client();
    let unknown = client.ask(chat("nobody"));
    check_error(&unknown, 404, "not_found_error", "the model `nobody` does not exist");
    assert_eq!(
        (&unknown.json()["error"]["code"], &unknown.json()["error"]["param"]),
        (&json!("model_not_found"), &json!("model"))
    );
    check_error(&client.ask(post(CHAT, "{}")), 404, "not_found_error", "names no model");
    check_error(&client.ask(post(CHAT, r#"{"model":" "}"#)), 404, "not_found_error", "names no model");
    check_error(&client.ask(chat("h")), 404, "not_found_error", "route not found");
    check_error(&client.ask(chat("lost")), 404, "not_found_error", "t/lost");
    let none = client.ask(chat("empty"));
    check_error(&none, 503, "server_error", "no available pods");
    assert_eq!(none.head.field("retry-after"), Some("1"));
    check_error(&client.ask(get("/v1/responses/resp_1")), 404, "not_found_error", "not recorded here");
    check_error(&client.ask(get("/nothing")), 404, "not_found_error", "Nothing is served");
    let encoded = post_with(CHAT, "Content-Encoding: gzip\r\n", r#"{"model":"m"}"#);
    check_error(&proxy.ask(encoded), 415, "invalid_request_error", "compressed");
    let identity = post_with(CHAT, "Content-Encoding: identity\r\n", r#"{"model":"m"}"#);
    assert_eq!(client.ask(identity).status(), 200);
    assert_eq!(engine.count(), 1);
    proxy.settled();
}

fn the_table_answers_for_models_and_health(leg: Leg) {
    let engine = Engine::named("e");
    let routes = vec![with(route("meta/llama", "t/b"), json!({"adapters": ["lora-1"]})), route("m", "t/b")];
    let proxy = Proxy::start(leg, &snapshot(routes, vec![backend("t/b", &[engine.address])]));
    let mut client = proxy.client();
    let list = client.ask(get("/v1/models")).json();
    let mut ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!((ids, &list["object"]), (vec!["lora-1", "m", "meta/llama"], &json!("list")));
    for path in ["/v1/models/meta/llama", "/v1/models/meta%2Fllama", "/v1/models/meta%2fllama"] {
        let model = client.ask(get(path));
        assert_eq!((model.status(), &model.json()["id"]), (200, &json!("meta/llama")), "{path}");
    }
    check_error(&client.ask(get("/v1/models/nobody")), 404, "not_found_error", "`nobody` does not exist");
    assert_eq!(client.ask(get("/healthz")).status(), 200);
    let ready = client.ask(get("/readyz"));
    assert_eq!((ready.status(), ready.json()), (200, json!({"message": "router is ready"})));
    let ready = proxy.admin("/readyz");
    assert_eq!(ready.json()["driver"].as_str().unwrap().starts_with("uring"), leg == Leg::Uring);
    let table = &ready.json()["table"];
    let age = table["age_seconds"].as_f64().unwrap();
    assert!(table["version"] == proxy.shared().table.load().version().version && (0.0..60.0).contains(&age), "{table}");
    let head = client.send("HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n").head();
    assert_eq!(head.status(), 200);
    assert_eq!(client.ask(get("/healthz")).status(), 200, "HEAD was answered without a body");
    assert_eq!(engine.count(), 0);
}

fn bodies_that_two_readers_could_read_differently_are_refused(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for (body, says) in [
        (br#"{"model":"m","model":"m"}"#.as_slice(), "at byte 13"),
        (br#"{"model":"m","mod\u0065l":"n"}"#, "at byte 13"),
        (b"\xef\xbb\xbf{\"model\":\"m\"}", "byte order mark"),
        (b"{\"model\":\"m\",\"x\":\"\xff\"}", "UTF-8 (at byte 18)"),
        (deep.as_bytes(), "128 levels"),
        (b"[]", "not a JSON object"),
        (br#"{"model":"m"} {}"#, "something follows"),
        (br#"{"model":"m","#, "ends before"),
        (br#"{"model":7}"#, "wrong type"),
        (b"", "empty"),
    ] {
        let reply = client.ask(post(CHAT, body));
        check_error(&reply, 400, "invalid_request_error", says);
    }
    assert_eq!(engine.count(), 0);
    assert_eq!(client.ask(chat("m")).status(), 200, "the connection is still good");
}
