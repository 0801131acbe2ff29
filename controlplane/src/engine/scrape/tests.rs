use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What one gets from an engine that answers this, as it is on the wire, and nothing more.
async fn answered(answer: String) -> Result<String, ScrapeError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 1024];
        let length = stream.read(&mut asked).await.unwrap();
        assert!(asked[..length].starts_with(b"GET /metrics HTTP/1.1\r\n"));
        // Who has heard enough leaves.
        let _ = stream.write_all(answer.as_bytes()).await;
    };
    tokio::join!(get(address, "/metrics"), engine).0?.ok()
}

#[tokio::test]
async fn the_text_is_what_the_engine_answers() {
    let text = answered("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na 1".into()).await;
    assert_eq!(text.unwrap(), "a 1");
    let text = answered("HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n3\r\na 1\r\n0\r\n\r\n".into()).await;
    assert_eq!(text.unwrap(), "a 1");
}

#[tokio::test]
async fn anything_else_is_an_error() {
    let none = answered("HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\na 1".into()).await;
    assert!(matches!(none, Err(ScrapeError::Status(StatusCode::NOT_FOUND))), "{none:?}");
    let short = answered("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\na 1".into()).await;
    assert!(matches!(short, Err(ScrapeError::Body(_))), "{short:?}");
    let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MOST_BYTES + 1));
    let large = answered(large).await;
    assert!(matches!(large, Err(ScrapeError::Body(_))), "{large:?}");
    let other = answered("SSH-2.0\r\n".into()).await;
    assert!(matches!(other, Err(ScrapeError::Http(_))), "{other:?}");
}

#[tokio::test]
async fn a_document_is_posted_with_its_length() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let engine = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"{}") {
            assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(asked).unwrap()
    };
    let (reply, asked) = tokio::join!(post(address, "/x", "{}"), engine);
    assert_eq!(reply.unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(asked.starts_with("POST /x HTTP/1.1\r\n") && asked.contains("content-length: 2\r\n"), "{asked}");
}
