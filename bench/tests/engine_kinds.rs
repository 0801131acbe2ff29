//! The simulated Triton and TorchServe answer as the recorded ones did: whole exchanges by status, headers and body, and
//! raw sessions to the byte, with what becomes of the connection.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "engine_kinds/exchange.rs"]
mod exchange;
#[path = "engine_kinds/session.rs"]
mod session;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bench::engine::{torchserve, triton};
use exchange::{End, Got, ask};
use serde_json::Value;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The models of the recordings, and `broken` beside them where it was there.
async fn triton_of(broken: bool) -> triton::Running {
    triton_with(broken, Duration::from_secs(3)).await
}

async fn triton_with(broken: bool, timeout: Duration) -> triton::Running {
    let slowq = triton::Model { queue: 3, queue_timeout: Some(timeout), ..triton::Model::unary("slowq") };
    let mut models =
        vec![triton::Model::unary("echo"), triton::Model::streaming("gen"), triton::Model::unary("ident"), slowq];
    if broken {
        models.insert(0, triton::Model { loads: false, ..triton::Model::unary("broken") });
    }
    triton::start(triton::Config { listen: ANY, metrics: ANY, models }).await.unwrap()
}

fn torchserve_config() -> torchserve::Config {
    let small = torchserve::Model { queue: 2, ..torchserve::Model::new("small") };
    let models = vec![torchserve::Model::new("gen"), small];
    torchserve::Config { inference: ANY, management: ANY, metrics: ANY, models, token: None, prometheus: true }
}

fn recording(engine: &str, name: &str) -> Value {
    let path = format!("{}/fixtures/{engine}/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

/// Recorded with a path that is masked in the body, but counted in its length.
const MASKED: &str = "err_model_exception";
/// Bodies of these are compared by their keys: they name processes, sizes and times.
const SHAPES: [&str; 3] = ["mgmt_describe", "mgmt_describe_no_worker", "model_metadata"];

fn check(name: &str, got: &Got, recorded: &Value) {
    assert_eq!(Value::from(got.status), recorded["status"], "{name}: {got:?}");
    assert_eq!(Value::from(got.reason.as_str()), recorded["reason"], "{name}");
    let headers = recorded["headers"].as_object().unwrap();
    let names: BTreeSet<&str> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, headers.keys().map(String::as_str).collect(), "{name}: {got:?}");
    for (header, value) in &got.headers {
        let any_length = SHAPES.contains(&name) || name == MASKED;
        let of_its_own = header == "x-request-id" || (any_length && header.eq_ignore_ascii_case("content-length"));
        assert!(
            of_its_own || headers[header] == value.as_str(),
            "{name}: {header}: {value}, recorded {}",
            headers[header]
        );
    }
    let body = recorded["body"].as_str().unwrap_or_default();
    match (SHAPES.contains(&name), serde_json::from_str::<Value>(body)) {
        (true, Ok(recorded)) => {
            assert_eq!(keys(&serde_json::from_str(&got.body).unwrap()), keys(&recorded), "{name}");
        }
        (_, Ok(recorded)) if !body.is_empty() => {
            assert_eq!(serde_json::from_str::<Value>(&got.body).unwrap(), recorded, "{name}");
        }
        _ => assert_eq!(got.body, body, "{name}"),
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(fields) => {
            let nested =
                fields.iter().flat_map(|(key, field)| keys(field).into_iter().map(move |k| format!("{key}.{k}")));
            fields.keys().cloned().chain(nested).collect()
        }
        Value::Array(items) => items.first().map(keys).unwrap_or_default(),
        _ => BTreeSet::new(),
    }
}

#[tokio::test]
async fn triton_answers_as_recorded() {
    let triton = triton_of(true).await;
    for name in [
        "infer_json",
        "infer_json_version",
        "infer_requested_outputs",
        "generate",
        "generate_stream",
        "generate_stream_midstream_error",
        "generate_stream_unary_model",
        "err_generate_stream_first_error",
        "generate_decoupled_many",
        "generate_decoupled_one",
        "err_infer_decoupled",
        "err_infer_bad_json",
        "err_infer_empty_body",
        "err_infer_missing_input",
        "err_infer_unknown_model",
        "err_infer_unknown_version",
        "err_infer_broken_model",
        "err_model_error",
        "err_model_exception",
        "err_model_unavailable",
        "err_infer_get",
        "health_live",
        "health_ready_one_model_broken",
        "model_ready",
        "model_ready_unknown",
        "model_ready_broken",
        "options_infer",
        "openai_chat_path",
        "metrics_path_on_http_port",
        "repository_index_get",
        "repository_index_ready_only",
        "server_metadata",
        "model_metadata",
        "model_metadata_unknown",
        "err_generate_bad_json",
        "err_generate_stream_unknown_model",
        "err_generate_stream_missing_input",
        "generate_get",
    ] {
        let recorded = recording("triton", name);
        let got = ask(triton.addr, &recorded["request"]).await;
        assert_eq!(got.end, End::Open, "{name}");
        check(name, &got, &recorded);
    }
    assert_eq!(triton.stats().in_flight, 0);
}

#[tokio::test]
async fn torchserve_answers_as_recorded() {
    let torchserve = torchserve::start(torchserve_config()).await.unwrap();
    for name in [
        "ping",
        "head_ping",
        "ping_management_port",
        "root_get",
        "predict_json",
        "predict_json_version",
        "predict_stream",
        "predict_stream_event_stream",
        "predict_stream_fail_midway",
        "predict_raise",
        "predict_custom_status",
        "predict_custom_status_503",
        "predict_request_id",
        "predict_get_query",
        "predict_no_content_type",
        "kserve_v1_predict",
        "kserve_v2_infer",
        "err_bad_json",
        "err_empty_body",
        "err_predict_unknown_model",
        "err_predict_unknown_version",
        "err_predict_no_model",
        "openai_chat_path",
        "metrics_on_inference_port",
        "models_on_inference_port",
        "mgmt_list",
        "mgmt_list_limit",
        "mgmt_describe",
        "mgmt_describe_unknown",
        "mgmt_unregister_disabled",
        "mgmt_scale_bad",
        "mgmt_scale_to_zero",
        "mgmt_describe_no_worker",
        "err_no_worker",
        "mgmt_scale_back",
    ] {
        let recorded = recording("torchserve", name);
        let addr = match recorded["request"]["port"].as_u64() {
            Some(8081) => torchserve.management,
            _ => torchserve.addr,
        };
        let got = ask(addr, &recorded["request"]).await;
        let broken = got.status >= 400 || name == "predict_stream_fail_midway";
        assert_eq!(got.end, if broken { End::Reset } else { End::Open }, "{name}: {got:?}");
        check(name, &got, &recorded);
    }
    assert_eq!(torchserve.stats().in_flight, 0);
}

#[tokio::test]
async fn torchserve_wants_its_token_where_it_has_one_and_shows_no_metrics_by_default() {
    let config = torchserve::Config { token: Some("key".to_owned()), prometheus: false, ..torchserve_config() };
    let torchserve = torchserve::start(config).await.unwrap();
    for (name, addr) in [
        ("auth_predict_no_token", torchserve.addr),
        ("auth_ping_no_token", torchserve.addr),
        ("auth_models_no_token", torchserve.management),
        ("metrics_mode_log", torchserve.metrics),
    ] {
        let recorded = recording("torchserve", name);
        check(name, &ask(addr, &recorded["request"]).await, &recorded);
    }
}

#[tokio::test]
async fn a_handler_that_takes_too_long_loses_its_worker() {
    let rt = torchserve::Model { response_timeout: Duration::from_millis(20), ..torchserve::Model::new("rt") };
    let torchserve = torchserve::start(torchserve::Config { models: vec![rt], ..torchserve_config() }).await.unwrap();
    let recorded = recording("torchserve", "err_response_timeout");
    check("err_response_timeout", &ask(torchserve.addr, &recorded["request"]).await, &recorded);
}

#[tokio::test]
async fn raw_sessions_go_as_recorded() {
    let triton = triton_of(true).await;
    let ports = |port: u64| if port == 8002 { triton.metrics } else { triton.addr };
    let skipped = ["sigterm_stream"];
    assert_eq!(session::play_all(&recording("triton", "raw"), ports, &skipped).await, 27);
    let torchserve = torchserve::start(torchserve_config()).await.unwrap();
    let ports = |port: u64| match port {
        8082 | 28082 => torchserve.metrics,
        _ => torchserve.addr,
    };
    // A shutdown, a page of measurements, a crash at HTTP/2, and answers out of order are not played.
    let skipped = [
        "sigterm_stream",
        "metrics_connection_close",
        "head_metrics",
        "h2c_preface",
        "pipelined",
        "pipelined_slow_then_ping",
        "encoded_path",
    ];
    assert_eq!(session::play_all(&recording("torchserve", "raw"), ports, &skipped).await, 27);
}

/// One runs, as many wait as may, and the next is refused as recorded.
async fn fill(addr: SocketAddr, recorded: &Value, waits: usize, waiting: impl AsyncFn() -> usize) -> Got {
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..=waits {
        let request = recorded["request"].clone();
        held.spawn(async move { ask(addr, &request).await.status });
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while waiting().await < waits {
        assert!(std::time::Instant::now() < deadline, "nothing waits");
    }
    let refused = ask(addr, &recorded["request"]).await;
    while let Some(status) = held.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    refused
}

#[tokio::test]
async fn a_full_queue_refuses_as_recorded_and_shows_what_waits() {
    let triton = triton_with(false, Duration::from_secs(60)).await;
    let metrics = triton.metrics;
    let get = |path: &str| serde_json::json!({"method": "GET", "path": path});
    let pending = async || {
        let page = ask(metrics, &get("/metrics")).await.body;
        let line =
            page.lines().find(|line| line.starts_with("nv_inference_pending_request_count{model=\"slowq\"")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let recorded = recording("triton", "queue_full_7");
    check("queue_full_7", &fill(triton.addr, &recorded, 3, pending).await, &recorded);

    let torchserve = torchserve::start(torchserve_config()).await.unwrap();
    let management = torchserve.management;
    let pending = async || {
        let described: Value = serde_json::from_str(&ask(management, &get("/models/small")).await.body).unwrap();
        described[0]["jobQueueStatus"]["pendingRequests"].as_u64().unwrap() as usize
    };
    let recorded = recording("torchserve", "queue_full_7");
    check("queue_full_7", &fill(torchserve.addr, &recorded, 2, pending).await, &recorded);
}

#[tokio::test]
async fn what_waited_too_long_for_triton_is_refused_when_its_turn_comes() {
    let triton = triton_of(false).await;
    let recorded = recording("triton", "queue_timeout_override");
    let mut first = recorded["request"].clone();
    first["body"]["inputs"][1]["data"] = serde_json::json!([1_000]);
    let addr = triton.addr;
    let first = tokio::spawn(async move { ask(addr, &first).await.status });
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while triton.stats().in_flight == 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    check("queue_timeout_override", &ask(addr, &recorded["request"]).await, &recorded);
    assert_eq!(first.await.unwrap(), 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_gets_silence_from_triton_and_400_from_torchserve() {
    let request = |value: usize, path: &str| serde_json::json!({"method": "GET", "path": path, "headers": {"X-Big": "x".repeat(value)}});
    let triton = triton_of(false).await;
    let got = ask(triton.addr, &request(8_191, "/v2/health/live")).await;
    assert_eq!((got.status, got.end), (200, End::Open));
    let got = ask(triton.addr, &request(9_000, "/v2/health/live")).await;
    assert_eq!((got.status, got.end), (0, End::Closed), "without a word");
    let torchserve = torchserve::start(torchserve_config()).await.unwrap();
    assert_eq!(ask(torchserve.addr, &request(7 << 10, "/ping")).await.status, 200);
    let got = ask(torchserve.addr, &request(9 << 10, "/ping")).await;
    assert_eq!((got.status, got.end), (400, End::Reset));
}

#[tokio::test]
async fn a_stream_that_is_left_is_cancelled_by_triton_and_runs_on_in_torchserve() {
    let triton = triton_of(false).await;
    let stream = serde_json::json!({"text_input": "x", "max_tokens": 1_000, "itl_ms": 5});
    session::leave(triton.addr, "/v2/models/gen/generate_stream", &stream).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while triton.stats().aborted == 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", triton.stats());
        tokio::task::yield_now().await;
    }
    let torchserve = torchserve::start(torchserve_config()).await.unwrap();
    let stream = serde_json::json!({"prompt": "x", "max_tokens": 40, "itl_ms": 5, "stream": true});
    session::leave(torchserve.addr, "/predictions/gen", &stream).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while torchserve.stats().in_flight > 0 {
        assert!(std::time::Instant::now() < deadline, "{:?}", torchserve.stats());
        tokio::task::yield_now().await;
    }
    assert_eq!((torchserve.stats().finished, torchserve.stats().aborted), (1, 0));
}

#[tokio::test]
async fn metrics_are_the_recorded_families_with_the_recorded_labels() {
    let page = |engine: &str| {
        std::fs::read_to_string(format!("{}/fixtures/{engine}/metrics.prom", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let comments =
        |page: &str| -> BTreeSet<String> { page.lines().filter(|l| l.starts_with('#')).map(str::to_owned).collect() };
    let series = |page: &str| -> BTreeSet<String> {
        let series = page.lines().filter(|line| !line.starts_with('#'));
        series.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let get = serde_json::json!({"method": "GET", "path": "/metrics"});
    let triton = triton_of(false).await;
    let (ours, theirs) = (ask(triton.metrics, &get).await.body, page("triton"));
    let pool = |line: &String| line.contains("nv_pinned_memory_pool");
    assert_eq!(comments(&ours), comments(&theirs).into_iter().filter(|line| !pool(line)).collect());
    assert_eq!(series(&ours), series(&theirs).into_iter().filter(|line| !pool(line)).collect());

    let torchserve = torchserve::start(torchserve_config()).await.unwrap();
    for path in ["/predictions/gen", "/predictions/gen/1.0", "/predictions/small"] {
        ask(torchserve.addr, &serde_json::json!({"method": "POST", "path": path, "body": {}})).await;
    }
    let (ours, theirs) = (ask(torchserve.metrics, &get).await.body, page("torchserve"));
    assert_eq!(
        comments(&ours),
        comments(&theirs).into_iter().filter(|line| !line.contains("PredictionTime")).collect()
    );
    let known = |line: &String| !line.contains("PredictionTime") && !line.contains("WorkerLoadTime");
    let missing: Vec<String> = series(&theirs).difference(&series(&ours)).filter(|line| known(line)).cloned().collect();
    assert_eq!(missing, [] as [&str; 0], "{ours}");
}
