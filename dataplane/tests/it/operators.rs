//! What operators see: headers, logs, metrics, the decision, the admin listeners.

use std::time::{Duration, Instant};

use dataplane::config::{AccessLog, Config, LogFormat, LogOutput};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::engine::{Engine, Refusing, Then};
use crate::support::legs::{Leg, on_every_driver};
use crate::support::proxy::Proxy;
use crate::support::snapshot::{backend, route, serving, serving_with, snapshot};
use crate::support::until;
use crate::support::wire::{CHAT, EVENTS, LAST, answer, chat, chunk, get, post, post_with, stream};

on_every_driver!(
    a_request_has_one_id_everywhere,
    fields_of_one_hop_stay_there,
    credentials_pass_unless_they_are_stripped,
    the_decision_is_shown_on_request,
    metrics_have_the_references_names,
    a_stall_within_a_stream_shows,
    the_time_that_a_client_takes_is_not_the_proxys,
    random_models_make_no_series,
    the_access_log_is_text_or_json,
    dumps_are_where_the_reference_has_them,
    admin_listeners_are_bounded,
    the_log_level_can_be_changed,
);

fn a_request_has_one_id_everywhere(leg: Leg) {
    let engine = Engine::fixed(answer("200 OK", "{}").replace("\r\n\r\n", "\r\nX-Request-Id: engine's\r\n\r\n"));
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let ids = |reply: &crate::support::client::Reply| {
        let back: Vec<String> = reply.head.all("x-request-id").iter().map(ToString::to_string).collect();
        let sent = engine.last();
        (back, sent.head.all("x-request-id").iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let kept = ids(&client.ask(post_with(CHAT, "X-Request-ID: my-id-1\r\n", r#"{"model":"m"}"#)));
    assert_eq!(kept, (vec!["my-id-1".into()], vec!["my-id-1".into()]));
    let (back, sent) = ids(&client.ask(chat("m")));
    assert_eq!((back.len(), back[0].len(), &back), (1, 36, &sent), "a made id is a UUID");
    let (again, _) = ids(&client.ask(chat("m")));
    assert_ne!(again, back);
    let (odd, _) =
        ids(&client.ask(post_with(CHAT, &format!("X-Request-ID: {}\r\n", "x".repeat(500)), r#"{"model":"m"}"#)));
    assert_eq!(odd[0].len(), 36, "an id too long is replaced");
    let refused = client.ask(post_with(CHAT, "X-Request-ID: my-id-2\r\n", r#"{"model":"nobody"}"#));
    assert_eq!(refused.head.all("x-request-id"), ["my-id-2"]);
}

fn fields_of_one_hop_stay_there(leg: Leg) {
    let own = "\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop-Back\r\nX-Hop-Back: 1\r\nProxy-Authenticate: x\r\nUpgrade: h2c\
               \r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-End: \u{e9}\r\n\r\n";
    let engine = Engine::fixed(answer("200 OK", "{}").replace("\r\n\r\n", own));
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let fields = "Connection: keep-alive, X-Hop, X-Request-Id\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\n\
                  Proxy-Authorization: x\r\nProxy-Connection: keep-alive\r\nHTTP2-Settings: AA\r\nX-Forwarded-For: 10.0.0.9\r\n\
                  X-Forwarded-Proto: https\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\
                  X-Request-Id: id-1\r\nX-End: 1\r\nX-End: 2\r\n";
    let reply = client.ask(post_with(CHAT, fields, r#"{"model":"m"}"#));
    let sent = engine.last().head;
    for gone in "x-hop keep-alive te upgrade proxy-authorization proxy-connection http2-settings".split(' ') {
        assert!(sent.field(gone).is_none(), "{gone} went upstream: {sent:?}");
    }
    assert_eq!(sent.all("host"), ["proxy.test"]);
    assert_eq!(sent.all("x-forwarded-for").join(", "), "10.0.0.9, 127.0.0.1");
    assert_eq!(sent.all("x-forwarded-proto").len(), 1);
    assert_eq!(sent.all("x-request-id"), ["id-1"], "what the proxy sets cannot be named away");
    assert_eq!(sent.all("traceparent"), ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]);
    assert_eq!(sent.all("x-end"), ["1", "2"]);
    for gone in "x-hop-back keep-alive proxy-authenticate upgrade".split(' ') {
        assert!(reply.head.field(gone).is_none(), "{gone} came back: {:?}", reply.head);
    }
    assert_eq!(reply.head.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(reply.head.all("x-end"), ["\u{e9}"]);
    client.ask(chat("m"));
    assert_eq!(engine.last().head.all("x-forwarded-for"), ["127.0.0.1"]);
}

fn credentials_pass_unless_they_are_stripped(leg: Leg) {
    let engine = Engine::named("e");
    let strip = crate::support::snapshot::with(backend("t/s", &[engine.address]), json!({"credentials": "STRIP"}));
    let routes = vec![route("m", "t/b"), route("s", "t/s")];
    let proxy = Proxy::start(leg, &snapshot(routes, vec![backend("t/b", &[engine.address]), strip]));
    for (model, expected) in [("m", Some("Bearer k")), ("s", None)] {
        let body = format!(r#"{{"model":"{model}"}}"#);
        proxy.ask(post_with(CHAT, "Authorization: Bearer k\r\nX-Api-Key: k\r\n", body));
        let head = engine.last().head;
        assert_eq!((head.field("authorization"), head.field("x-api-key").is_some()), (expected, expected.is_some()));
    }
}

fn the_decision_is_shown_on_request(leg: Leg) {
    let (refusing, engine) = (Refusing::new(), Engine::named("e"));
    let proxy = Proxy::with(leg, &serving(&[refusing.address, engine.address]), |config: &mut Config, _| {
        (config.expose.endpoint, config.expose.decision) = (true, true);
    });
    let asked = json!({"model": "m", "messages": [{"role": "user", "content": "word ".repeat(400)}]}).to_string();
    let reply = proxy.ask(post_with(CHAT, "X-Request-ID: seen-1\r\n", asked));
    assert_eq!(reply.head.field("x-kthena-endpoint"), Some(engine.address.to_string().as_str()));
    assert!(reply.head.field("x-kthena-decision").unwrap().contains("endpoint=t/b-1"), "{:?}", reply.head);
    let mut told = Value::Null;
    until("the decision is on record", || {
        let reply = proxy.debug("/debug/decision?id=seen-1");
        told = reply.json();
        reply.status() == 200
    });
    assert_eq!((&told["model"], &told["backend"], &told["status"]), (&json!("m"), &json!("t/b"), &json!(200)));
    assert_eq!(told["endpoint"]["address"], engine.address.to_string());
    let candidates = told["decision"]["candidates"].as_array().unwrap();
    assert!(!candidates.is_empty() && candidates.iter().all(|c| c["endpoint"].is_string()), "{told}");
    for candidate in candidates {
        let term = |name: &str| candidate[name].as_f64().unwrap_or_else(|| panic!("no {name} in {candidate}"));
        let load = term("queued_tokens") + term("guessed_tokens") + 100.0 * term("running");
        let cost = (load + term("missing_tokens_weighted")) / term("prefill_tokens_per_second");
        assert!(
            term("missing_tokens_weighted") > 400.0,
            "nobody has a block of it, and each weighs more than its work"
        );
        assert!((cost / term("cost_seconds") - 1.0).abs() < 1e-3, "{cost} is not the sum of {candidate}");
    }
    assert_eq!(proxy.debug("/debug/decision?id=never").status(), 404);
    assert_eq!(proxy.debug("/debug/decision").status(), 400);
    assert_eq!(proxy.admin("/debug/table").status(), 404, "the port of metrics shows no more than metrics");
    let plain = Proxy::start(leg, &serving(&[engine.address]));
    assert!(!plain.ask(chat("m")).head.0.contains("x-kthena"));
    plain.settled();
    let table = plain.debug("/debug/table").json();
    assert_eq!(table["models"], json!(["m"]));
    assert_eq!((table["routes"].as_array().unwrap().len(), table["backends"][0]["name"].as_str()), (1, Some("t/b")));
    assert_eq!(table["endpoints"][0]["inFlight"], 0);
}

fn a_stall_within_a_stream_shows(leg: Leg) {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let event = chunk("data: {\"choices\":[]}\n\n");
    let engine = Engine::start(move |conn, _| {
        conn.write(format!("{EVENTS}{}", event.repeat(40)));
        wait.lock().unwrap().recv().unwrap();
        conn.write(format!("{event}{}{LAST}", chunk("data: [DONE]\n\n")));
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    client.send(stream("m")).through("\n\n");
    let stalled = Instant::now();
    until("it has stalled", || stalled.elapsed() > Duration::from_millis(150));
    go.send(()).unwrap();
    client.through("[DONE]");
    let within = |le: &str| proxy.metric("kthena_router_inter_event_gap_seconds_bucket", &[&format!("le=\"{le}\"")]);
    until("all gaps are counted", || within("+Inf") >= 40.0);
    assert_eq!(within("+Inf") - within("0.1"), 1.0, "one gap of more than 0.1 s, where the mean is 4 ms");
}

fn the_time_that_a_client_takes_is_not_the_proxys(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let request = chat("m");
    let (head, rest) = request.split_at(request.len() - 5);
    let mut client = proxy.client();
    client.send(head);
    let begun = Instant::now();
    until("the client has taken its time", || begun.elapsed() > Duration::from_millis(300));
    assert_eq!(client.send(rest).head().status(), 200);
    until("it is counted", || proxy.metric("kthena_router_added_latency_seconds_count", &[]) == 1.0);
    let added = proxy.metric("kthena_router_added_latency_seconds_bucket", &["le=\"0.25\""]);
    assert_eq!(added, 1.0);
}

const DESTINATION: &str = "model_route backend_type backend_name upstream_model";
/// Families of Kthena's that apply, with their labels beside those of the destination, and their buckets: dashboards ask by both.
const REFERENCE: [(&str, &str, &str); 7] = [
    ("requests_total", "model path status_code error_type +", ""),
    ("request_duration_seconds", "model path status_code +", ".005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 30 60"),
    ("tokens_total", "model path token_type +", ""),
    ("scheduler_plugin_duration_seconds", "model plugin type", ".001 .005 .01 .05 .1 .5"),
    ("active_downstream_requests", "model", ""),
    ("active_upstream_requests", "model_server +", ""),
    ("prefix_cache_match_ratio", "model", "0 .1 .25 .5 .75 .9 .95 .99 1"),
];

/// That each series of the family has these labels, and where it is a histogram these buckets.
fn has_labels_and_buckets(text: &str, family: &str, labels: &str, buckets: &str) {
    let of = |suffix: &str| {
        let start = format!("kthena_router_{family}{suffix}{{");
        text.lines().filter_map(|line| line.strip_prefix(&start)?.split_once('}')).map(|(labels, _)| labels).collect()
    };
    let series: Vec<&str> = of(if buckets.is_empty() { "" } else { "_bucket" });
    assert!(!series.is_empty(), "no {family} in\n{text}");
    let has = |series: &str, label: &str| series.split(',').any(|pair| pair.split('=').next() == Some(label));
    let labels = labels.replace('+', DESTINATION);
    for (series, label) in series.iter().flat_map(|series| labels.split(' ').map(move |label| (series, label))) {
        assert!(has(series, label), "{family} has no {label}: {series}");
    }
    let bounds: Vec<f64> =
        series.iter().filter_map(|series| series.split("le=\"").nth(1)?.split('"').next()?.parse().ok()).collect();
    for bucket in buckets.split_whitespace() {
        let bound: f64 = bucket.parse().unwrap();
        assert!(bounds.contains(&bound), "{family} has no bucket of {bound}: {bounds:?}");
    }
}

fn metrics_have_the_references_names(leg: Leg) {
    let events = format!("{EVENTS}{0}{0}{1}{LAST}", chunk("data: {\"choices\":[]}\n\n"), chunk("data: [DONE]\n\n"));
    let engine = Engine::start(move |conn, seen| {
        conn.write(if seen.text().contains("stream") { events.clone() } else { answer("200 OK", "{}") });
        Then::Keep
    });
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    assert_eq!((proxy.ask(chat("m")).status(), proxy.ask(stream("m")).status()), (200, 200));
    let long = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(300));
    assert_eq!(proxy.ask(post(CHAT, long)).status(), 200);
    let labels = "model=\"m\",path=\"/v1/chat/completions\",status_code=\"200\",error_type=\"successful_request\",\
                  model_route=\"t/m\",backend_type=\"model_server\",backend_name=\"t/b\",upstream_model=\"none\"";
    until("all are counted", || proxy.metric("kthena_router_requests_total", &[labels]) == 3.0);
    let text = proxy.admin("/metrics").text();
    for (name, labels) in [
        ("request_duration_seconds_bucket", "model=\"m\",path=\"/v1/chat/completions\",status_code=\"200\""),
        ("tokens_total", "model=\"m\",path=\"/v1/chat/completions\",token_type=\"input\""),
        ("time_to_first_token_seconds_count", "model=\"m\",backend_name=\"t/b\""),
        ("inter_event_gap_seconds_count", "model=\"m\",backend_name=\"t/b\""),
        ("added_latency_seconds_count", "model=\"m\",backend_name=\"t/b\""),
        ("active_downstream_requests", "model=\"m\""),
        ("active_upstream_requests", "model_server=\"t/b\",model_route=\"t/m\""),
        ("scheduler_plugin_duration_seconds_count", "model=\"m\",plugin=\"profile\",type=\"score\""),
        ("scheduler_plugin_duration_seconds_count", "model=\"m\",plugin=\"filters\",type=\"filter\""),
        ("scheduler_plugin_duration_seconds_count", "model=\"m\",plugin=\"locality-cost\",type=\"score\""),
        ("streams_total", "outcome=\"ok\""),
        ("io_driver", if leg == Leg::Uring { "driver=\"uring" } else { "driver=\"epoll" }),
        ("limit_hits_total", "limit=\"body\""),
        ("config_version", "epoch=\""),
    ] {
        let line = format!("kthena_router_{name}{{{labels}");
        assert!(text.lines().any(|l| l.starts_with(&line)), "no {line} in\n{text}");
    }
    for (name, labels, buckets) in REFERENCE {
        has_labels_and_buckets(&text, name, labels, buckets);
    }
    for name in ["active_requests", "retries_total", "upstream_connects_total", "config_age_seconds", "panics_total"] {
        assert!(text.contains(&format!("\nkthena_router_{name} ")), "no {name} in\n{text}");
    }
}

fn random_models_make_no_series(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let mut client = proxy.client();
    let sizes = [5, 300].map(|n| {
        for n in 0..n {
            let model = format!("rnd-{leg:?}-{n}\\n\\\"}} x");
            let request = post_with(&format!("/v1/p{n}/x"), "", format!(r#"{{"model":"{model}"}}"#));
            assert_eq!(client.ask(request).status(), 404);
        }
        proxy.settled();
        let text = proxy.admin("/metrics").text();
        assert!(!text.contains("rnd-"), "{text}");
        text.lines().count()
    });
    assert_eq!(sizes[0], sizes[1], "300 more models make no more series");
    let unknown =
        proxy.metric("kthena_router_requests_total", &["model=\"unknown\"", "error_type=\"route_not_found\""]);
    assert_eq!(unknown, 305.0);
}

fn the_access_log_is_text_or_json(leg: Leg) {
    let engine = Engine::named("e");
    for format in [LogFormat::Text, LogFormat::Json] {
        let proxy = Proxy::with(leg, &serving(&[engine.address]), |config, folder| {
            config.access_log = AccessLog { enabled: true, format, output: LogOutput::File(folder.join("access.log")) };
        });
        proxy.ask(post_with(CHAT, "X-Request-ID: log-1\r\n", r#"{"model":"m"}"#));
        proxy.ask(post_with(CHAT, "X-Request-ID: log-2\r\n", r#"{"model":"no\nbody \u001b[31m"}"#));
        let path = proxy.folder().file("access.log");
        let mut text = String::new();
        until("two lines are in the file", || {
            text = std::fs::read_to_string(&path).unwrap_or_default();
            text.matches('\n').count() >= 2
        });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "a model's name makes no line: {text}");
        assert!(!text.contains('\u{1b}'));
        match format {
            LogFormat::Json => {
                let [first, second] = [0, 1].map(|n| serde_json::from_str::<Value>(lines[n]).unwrap());
                assert_eq!((&first["request_id"], &first["status_code"]), (&json!("log-1"), &json!(200)));
                assert_eq!((&first["model_server"], &first["upstream_attempts"]), (&json!("t/b"), &json!(1)));
                assert_eq!(first["endpoint"], engine.address.to_string());
                assert!(first["ttft_us"].is_u64() && first["bytes_in"] == 13, "{first}");
                assert_eq!(
                    (&second["status_code"], &second["error"]["type"]),
                    (&json!(404), &json!("route_not_found"))
                );
                assert_eq!(second["model_name"], "no\nbody \u{1b}[31m");
            }
            LogFormat::Text => {
                let first = lines[0];
                for part in [
                    "\"POST /v1/chat/completions HTTP/1.1\" 200 model_name=m",
                    " request_id=log-1 ",
                    " selected_pod=b-0 ",
                    " upstream_status_code=200 upstream_attempts=1",
                    &format!(" endpoint={}", engine.address),
                ] {
                    assert!(first.contains(part), "{part} is not in {first}");
                }
                assert!(lines[1].contains("error=route_not_found:"), "{}", lines[1]);
            }
        }
    }
}

fn dumps_are_where_the_reference_has_them(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let dump = |path: &str| {
        let reply = proxy.debug(&format!("/debug/config_dump/{path}"));
        (reply.status(), reply.json())
    };
    let empty = ["gateways", "httproutes", "inferencepools"];
    for plural in ["modelroutes", "modelservers", "pods"].into_iter().chain(empty) {
        let (status, all) = dump(plural);
        let all = all[plural].as_array().unwrap();
        assert_eq!((status, all.is_empty()), (200, empty.contains(&plural)), "{plural}");
        for one in all {
            let (namespace, name) = one["name"].as_str().unwrap().split_once('/').unwrap();
            assert_eq!(dump(&format!("namespaces/{namespace}/{plural}/{name}")), (200, one.clone()));
        }
    }
    let missing = |plural: &str| dump(&format!("namespaces/t/{plural}/nobody"));
    assert_eq!(missing("modelservers"), (404, json!({"error": "ModelServer not found"})));
    assert_eq!(missing("httproutes"), (404, json!({"error": "HTTPRoute not found"})));
    // `//` reaches nobody: the codec refuses it.
    assert_eq!(dump("namespaces/t/pods/"), (400, json!({"error": "namespace and name parameters are required"})));
    assert_eq!(missing("secrets").0, 404);
}

fn admin_listeners_are_bounded(leg: Leg) {
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving_with(&[engine.address], json!({})));
    let begun = Instant::now();
    let mut slow = Client::connect(proxy.metrics_address());
    slow.send("GET /healthz HTTP/1.1\r\nHos");
    for address in [proxy.metrics_address(), proxy.debug_address()] {
        let big = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Big: {}\r\n\r\n", "x".repeat(17 << 10));
        let mut client = Client::connect(address);
        let (bytes, _) = client.try_send(big).rest();
        assert!(!String::from_utf8_lossy(&bytes).starts_with("HTTP/1.1 200"), "a head of 17 KiB is refused");
        let with_body =
            Client::connect(address).ask("POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(with_body.status(), 400);
        assert_eq!(Client::connect(address).ask(get("/healthz")).status(), 200);
    }
    let mut idle: Vec<_> = (0..64).map(|_| Client::connect(proxy.metrics_address())).collect();
    until("a connection beyond the 64th is closed", || {
        Client::connect(proxy.metrics_address()).try_send("GET").rest().0.is_empty()
    });
    assert_eq!(proxy.ask(chat("m")).status(), 200, "the data port does not care");
    assert_eq!(idle[0].ask(get("/healthz")).status(), 200, "those before it are served");
    drop(idle);
    until("there is room again", || {
        let mut client = Client::connect(proxy.metrics_address());
        client.try_send(get("/healthz"));
        client.rest().0.starts_with(b"HTTP/1.1 200")
    });
    assert_eq!(slow.rest().0, b"", "a head that does not come is given up");
    assert!(begun.elapsed() >= Duration::from_secs(5), "not before its time: {:?}", begun.elapsed());
}

fn the_log_level_can_be_changed(leg: Leg) {
    dataplane::logging::start();
    let engine = Engine::named("e");
    let proxy = Proxy::start(leg, &serving(&[engine.address]));
    let put = |level: &str| {
        let request = format!("PUT /debug/log-level?level={level} HTTP/1.1\r\nHost: x\r\n\r\n");
        Client::connect(proxy.debug_address()).ask(request).status()
    };
    // Other tests of this process do the same, so only what all of them set is looked at.
    assert_eq!((put("error"), put("loud")), (200, 400));
    assert_eq!(proxy.debug("/debug/log-level").json()["level"], "error");
}
