//! The server, by real TLS on loopback.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::certificates::server_config;
use crate::certificates::testing::{Made, made};

/// For what should come at once.
const SOON: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    counts: Arc<Counts>,
    certificates: watch::Sender<Option<Arc<CertifiedKey>>>,
    bundle: String,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn running() -> Running {
    running_with(|_| {}).await
}

async fn running_with(change: impl FnOnce(&mut Webhook)) -> Running {
    let Made { bundle, key } = made(&BTreeSet::from(["127.0.0.1".to_owned()]));
    let (certificates, newest) = watch::channel(Some(Arc::new(key)));
    let mut webhook =
        Webhook::bind("127.0.0.1:0".parse().unwrap(), server_config(newest, &["http/1.1"])).await.unwrap();
    change(&mut webhook);
    let (address, counts) = (webhook.address(), webhook.counts());
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(webhook.serve(async { drop(stopped.await) }));
    Running { address, counts, certificates, bundle, stop, served }
}

async fn connect(address: SocketAddr, bundle: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(bundle.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::from(address.ip());
    timeout(SOON, TlsConnector::from(config).connect(name, stream)).await.expect("a handshake in time")
}

async fn send(stream: &mut TlsStream<TcpStream>, head: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!("{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// One answer with a length; its end is not waited for.
async fn answer(stream: &mut TlsStream<TcpStream>) -> (u16, String) {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let length = |text: &str| -> Option<usize> {
        let end = text.find("\r\n\r\n")? + 4;
        let head = text[..end].to_ascii_lowercase();
        Some(end + head.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?)
    };
    while length(&text).is_none_or(|length| text.len() < length) {
        let read = timeout(SOON, stream.read(&mut buffer)).await.expect("an answer in time").unwrap();
        assert_ne!(read, 0, "no whole answer: {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn review(name: &str) -> String {
    let object = json!({"apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelServer",
                        "metadata": {"name": name}, "spec": {}});
    let request = json!({"uid": "7", "operation": "CREATE", "object": object});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

#[tokio::test]
async fn reviews_are_answered_over_tls_several_on_one_connection() {
    let server = running().await;
    let mut stream = connect(server.address, &server.bundle).await.unwrap();
    for _ in 0..2 {
        let (status, body) = send(&mut stream, "POST /validate", &review("a")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["response"]["uid"], &body["response"]["allowed"]), (200, &json!("7"), &json!(false)));
        assert_eq!(body["response"]["status"]["code"], 422);
    }
    assert_eq!(server.counts.refused.load(Relaxed), 2);
}

#[tokio::test]
async fn what_is_no_review_is_refused_in_a_sentence() {
    let server = running().await;
    for (head, body, expected, part) in [
        ("POST /validate", "{", 400, "not an AdmissionReview"),
        (
            "POST /validate",
            r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#,
            400,
            "without a request",
        ),
        ("GET /validate", "", 405, "POST"),
        ("POST /", "", 404, "/validate"),
    ] {
        let mut stream = connect(server.address, &server.bundle).await.unwrap();
        let (status, said) = send(&mut stream, head, body).await;
        assert!(status == expected && said.contains(part), "{head}: {status} {said}");
    }
    assert_eq!(server.counts.malformed.load(Relaxed), 4);
}

#[tokio::test]
async fn a_body_of_more_than_3_mib_is_not_read() {
    let server = running().await;
    let mut stream = connect(server.address, &server.bundle).await.unwrap();
    let head = format!("POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", (3 << 20) + 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.0, 413);
}

#[tokio::test]
async fn another_certificate_is_served_without_a_restart_and_connections_go_on() {
    let server = running().await;
    let mut before = connect(server.address, &server.bundle).await.unwrap();
    let next = made(&BTreeSet::from(["127.0.0.1".to_owned()]));
    server.certificates.send_replace(Some(Arc::new(next.key)));
    connect(server.address, &next.bundle).await.unwrap();
    connect(server.address, &server.bundle).await.expect_err("the old CA did not sign it");
    assert_eq!(send(&mut before, "POST /validate", &review("a")).await.0, 200);
}

#[tokio::test]
async fn until_there_is_a_certificate_handshakes_fail() {
    let server = running().await;
    server.certificates.send_replace(None);
    connect(server.address, &server.bundle).await.expect_err("nothing to serve");
}

#[tokio::test]
async fn kept_connections_make_room_for_new_ones() {
    let server = running().await;
    let mut kept = Vec::new();
    for _ in 0..serve::CONNECTIONS {
        let mut stream = connect(server.address, &server.bundle).await.unwrap();
        assert_eq!(send(&mut stream, "POST /validate", &review("a")).await.0, 200);
        kept.push(stream);
    }
    let mut late = connect(server.address, &server.bundle).await.unwrap();
    assert_eq!(send(&mut late, "POST /validate", &review("a")).await.0, 200);
    assert_eq!(timeout(SOON, kept[0].read(&mut [0])).await.expect("the oldest ends").unwrap(), 0);
}

#[tokio::test]
async fn what_was_asked_is_answered_before_the_end() {
    let server = running_with(|webhook| webhook.lead = Duration::ZERO).await;
    let mut stream = connect(server.address, &server.bundle).await.unwrap();
    let body = review("a");
    let (first, rest) = body.split_at(body.len() / 2);
    let head = format!("POST /validate HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{first}", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // Another connection's whole exchange: by then the first half has been read.
    let mut other = connect(server.address, &server.bundle).await.unwrap();
    send(&mut other, "POST /validate", &body).await;
    server.stop.send(()).unwrap();
    assert_eq!(timeout(SOON, other.read(&mut [0])).await.expect("idle connections end").unwrap(), 0);
    stream.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut stream).await.0, 200);
    timeout(SOON, server.served).await.expect("the server ends").unwrap();
}

/// An API server learns a moment later that a pod goes, and may have chosen a connection of it for its next request.
#[tokio::test]
async fn who_asks_a_server_that_is_to_end_is_answered_and_connects_elsewhere_next() {
    let server = running().await;
    let mut kept = connect(server.address, &server.bundle).await.unwrap();
    send(&mut kept, "POST /validate", &review("a")).await;
    server.stop.send(()).unwrap();
    let began = tokio::time::Instant::now();
    let mut new = connect(server.address, &server.bundle).await.unwrap();
    for stream in [&mut kept, &mut new] {
        // Both may have to be asked once more where the server has not seen yet that it is to end.
        loop {
            assert_eq!(send(stream, "POST /validate", &review("a")).await.0, 200);
            let ended = timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
            if ended.is_ok_and(|read| read.unwrap() == 0) {
                break;
            }
        }
    }
    assert!(began.elapsed() < Duration::from_secs(4), "they ended by themselves");
    timeout(SOON, server.served).await.expect("the server ends").unwrap();
}
