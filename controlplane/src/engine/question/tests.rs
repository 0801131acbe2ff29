use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Barrier;

use super::*;

const TIME: Duration = Duration::from_secs(10);
/// What TorchServe says to who shows no token, as it was recorded.
const NO_TOKEN: &str = r#"{
  "code": 400,
  "type": "InvalidKeyException",
  "message": "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
}
"#;
/// What TorchServe says of a model.
const MODEL: &str = r#"[{"workers": [{"status": "READY"}], "jobQueueStatus": {"pendingRequests": 3}}]"#;

/// An engine that answers these paths, and 404 elsewhere.
async fn engine(answers: &'static [(&'static str, u16, &'static str)]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            let asked = String::from_utf8(asked).unwrap();
            let path = asked.split(' ').nth(1).unwrap();
            let (_, status, body) = answers.iter().find(|(known, ..)| *known == path).unwrap_or(&("", 404, ""));
            let answer = format!("HTTP/1.1 {status} \r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

fn place(engine: Engine, topic: Topic, address: SocketAddr) -> Place {
    Place { address, topic, engine, path: "/metrics".into() }
}

async fn facts(engine: Engine, address: SocketAddr) -> Result<Facts, String> {
    let answer = ask(&place(engine, Topic::Models, address), &Ask::default(), TIME).await;
    answer.map(|answer| answer.facts.unwrap()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn only_vllms_503_says_that_it_is_not_ready() {
    const LIST: &str = r#"{"data": [{"id": "m", "parent": null}, {"id": "sql", "parent": "m"}]}"#;
    let loaded = Facts { adapters: Some(vec!["sql".into()]), ..Facts::default() };
    let dead = engine(&[("/health", 503, ""), ("/v1/models", 200, LIST)]).await;
    assert_eq!(facts(Engine::Vllm, dead).await.unwrap().unready, Unready::All);
    assert_eq!(facts(Engine::Sglang, dead).await.unwrap(), loaded);
    for health in
        [engine(&[("/health", 500, ""), ("/v1/models", 200, LIST)]).await, engine(&[("/v1/models", 200, LIST)]).await]
    {
        assert_eq!(facts(Engine::Vllm, health).await.unwrap(), loaded);
    }
    let locked = engine(&[("/health", 200, ""), ("/v1/models", 401, "{}")]).await;
    assert_eq!(facts(Engine::Vllm, locked).await, Err("it answers 401 Unauthorized".to_owned()));
}

#[tokio::test]
async fn torchserves_metrics_are_read_where_its_management_wants_a_token() {
    let management = engine(&[("/models?limit=32", 400, NO_TOKEN)]).await;
    let metrics = engine(&[("/metrics", 200, "ts_queue_latency_microseconds{model_name=\"m\",} 5.0\n")]).await;
    let asking =
        |otherwise| Ask { otherwise: Some(place(Engine::Torchserve, Topic::Metrics, otherwise)), ..Ask::default() };
    let place = place(Engine::Torchserve, Topic::Models, management);
    let answer = ask(&place, &asking(metrics), TIME).await.unwrap();
    assert!(answer.load.is_some() && answer.facts.is_none());
    let fault = answer.fault.unwrap().to_string();
    assert!(
        fault.starts_with("it answers 400 Bad Request: ") && fault.contains("disable_token_authorization"),
        "{fault}"
    );
    let neither = ask(&place, &asking(management), TIME).await.unwrap_err();
    assert_eq!(neither.to_string(), format!("{fault}; and of its metrics: it answers 404 Not Found"));
    let odd = ask(&Place { address: metrics, ..place }, &Ask::default(), TIME).await.unwrap_err();
    assert_eq!(odd.to_string(), "it answers 404 Not Found");
}

#[tokio::test]
async fn torchserve_is_asked_for_each_of_its_models() {
    const LIST: &str = r#"{"models": [{"modelName": "a", "modelUrl": "a.mar"}]}"#;
    let address = engine(&[("/models?limit=32", 200, LIST), ("/models/a", 200, MODEL)]).await;
    let asking = Ask { models: ["a".into(), "gone".into()].into(), ..Ask::default() };
    let answer = ask(&place(Engine::Torchserve, Topic::Models, address), &asking, TIME).await.unwrap();
    assert_eq!(answer.load, Some(Reading::of_queue(3.0)));
    assert_eq!(answer.facts.unwrap().unready, Unready::Models(["gone".into()].into()));
}

/// As where a NetworkPolicy drops what is sent to it. Connections wait in the listener's queue.
#[tokio::test]
async fn torchserves_metrics_are_read_where_its_management_is_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let metrics = engine(&[("/metrics", 200, "ts_queue_latency_microseconds{model_name=\"m\",} 5.0\n")]).await;
    let otherwise = Some(place(Engine::Torchserve, Topic::Metrics, metrics));
    let asking = Ask { otherwise, ..Ask::default() };
    let place = place(Engine::Torchserve, Topic::Models, silent.local_addr().unwrap());
    let answer = ask(&place, &asking, Duration::from_secs(2)).await.unwrap();
    assert!(answer.load.is_some() && answer.facts.is_none());
    assert!(matches!(answer.fault, Some(AskError::Late)), "{:?}", answer.fault);
}

/// An engine that describes no model before four are asked for.
async fn slow_engine(list: &'static str, model: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, four) = (listener.local_addr().unwrap(), Arc::new(Barrier::new(4)));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let four = four.clone();
            tokio::spawn(async move {
                let mut asked = [0; 1_024];
                let n = stream.read(&mut asked).await.unwrap();
                let body = if asked[..n].starts_with(b"GET /models?") { list } else { model };
                if body == model {
                    four.wait().await;
                }
                let answer = format!("HTTP/1.1 200 \r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn torchserves_models_do_not_wait_for_one_another() {
    let address = slow_engine(r#"{"models": []}"#, MODEL).await;
    let models = (0..32).map(|n| ModelName::from(format!("m{n}"))).collect();
    let asking = Ask { models, ..Ask::default() };
    let answer = ask(&place(Engine::Torchserve, Topic::Models, address), &asking, TIME).await.unwrap();
    assert_eq!(answer.load, Some(Reading::of_queue(96.0)));
}

#[tokio::test]
async fn who_does_not_answer_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = place(Engine::Triton, Topic::Metrics, listener.local_addr().unwrap());
    let late = ask(&place, &Ask::default(), Duration::from_millis(10)).await;
    assert!(matches!(late, Err(AskError::Late)));
}

#[tokio::test]
async fn a_management_that_is_spared_is_not_asked() {
    let metrics = engine(&[("/metrics", 200, "ts_queue_latency_microseconds{model_name=\"m\",} 5.0\n")]).await;
    let management = engine(&[("/models?limit=32", 200, r#"{"models": []}"#)]).await;
    let otherwise = Some(place(Engine::Torchserve, Topic::Metrics, metrics));
    let place = place(Engine::Torchserve, Topic::Models, management);
    let asking = Ask { otherwise, ..Ask::default() };
    assert!(ask(&place, &asking, TIME).await.unwrap().facts.is_some());
    let spared = ask(&place, &Ask { spare: true, ..asking }, TIME).await.unwrap();
    assert!(spared.load.is_some() && spared.facts.is_none() && matches!(spared.fault, Some(AskError::Spared)));
}
