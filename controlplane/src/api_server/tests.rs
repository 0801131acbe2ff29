//! What goes to an API server, and what is made of its answers.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Error;
use kube::api::Api;

use super::*;
use crate::refusal::retry_after;

/// What it was shown.
type Shown = Arc<Mutex<Vec<String>>>;

/// A client, with the token of that file, of a server that answers this to everything.
fn client_of(
    token: Option<&Path>,
    code: u16,
    retry_after: Option<&'static str>,
    body: &'static str,
) -> (Client, Shown) {
    let shown = Shown::default();
    let log = shown.clone();
    let server = tower::service_fn(move |request: Request<Asked>| {
        let authorization = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        log.lock().unwrap().push(authorization.unwrap_or_default());
        let answer = Response::builder().status(code);
        let answer = retry_after.into_iter().fold(answer, |answer, value| answer.header("Retry-After", value));
        async move { Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()) }
    });
    (around(ClientBuilder::new(server, "ns"), token.map(Into::into)), shown)
}

async fn ask(client: &Client) -> Error {
    Api::<Pod>::default_namespaced(client.clone()).get("p").await.unwrap_err()
}

#[tokio::test]
async fn c16_a_rotated_token_is_shown_at_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let (client, shown) = client_of(Some(&path), 401, None, "Unauthorized");
    let Error::Service(none) = ask(&client).await else { panic!("there is no token yet") };
    assert!(none.to_string().contains("token: No such file"), "{none}");
    for token in ["old\n", "new"] {
        std::fs::write(&path, token).unwrap();
        let Error::Api(status) = ask(&client).await else { panic!() };
        assert_eq!(status.code, 401);
    }
    // Between two of them there may be none for a moment, or half of one.
    std::fs::write(&path, "").unwrap();
    ask(&client).await;
    std::fs::remove_file(&path).unwrap();
    ask(&client).await;
    assert_eq!(*shown.lock().unwrap(), ["Bearer old", "Bearer new", "Bearer new", "Bearer new"]);
}

/// What is heard of a refusal: how long to wait, and its sentence.
async fn heard_of(code: u16, header: Option<&'static str>, body: &'static str) -> (Option<Duration>, String) {
    let Error::Api(status) = ask(&client_of(None, code, header, body).0).await else { panic!() };
    assert_eq!(status.code, code);
    (retry_after(&status), status.message.clone())
}

#[tokio::test]
async fn c17_when_to_come_again_is_heard_wherever_it_is_said() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    // As priority and fairness refuses, and as a storage that is behind does.
    let heard = heard_of(429, Some("7"), "Too many requests, please try again later.\n").await;
    assert_eq!(heard, (seconds(7), "Too many requests, please try again later.".to_owned()));
    let status = r#"{"kind":"Status","code":429,"message":"slow down","details":{"retryAfterSeconds":3}}"#;
    assert_eq!(heard_of(429, None, status).await, (seconds(3), "slow down".to_owned()));
    assert_eq!(heard_of(429, Some("5"), status).await, (seconds(5), "slow down".to_owned()));
    let bare = r#"{"kind":"Status","code":503,"message":"starting"}"#;
    assert_eq!(heard_of(503, Some("1"), bare).await, (seconds(1), "starting".to_owned()));
    assert_eq!(heard_of(503, Some("Wed, 21 Oct 2026 07:28:00 GMT"), bare).await, (None, "starting".to_owned()));
    assert_eq!(heard_of(500, Some("9"), bare.replace("503", "500").leak()).await, (None, "starting".to_owned()));
}
