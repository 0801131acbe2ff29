//! Raw sessions: what was sent goes out as it did, and what comes back is compared to the byte.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);

/// Plays all sessions but the skipped ones; how many that were.
pub(crate) async fn play_all(recorded: &Value, addr: impl Fn(u64) -> SocketAddr, skipped: &[&str]) -> usize {
    let mut played = 0;
    for (name, session) in recorded.as_object().unwrap() {
        if !skipped.contains(&name.as_str()) {
            play(name, session, addr(session["port"].as_u64().unwrap())).await;
            played += 1;
        }
    }
    played
}

async fn play(name: &str, session: &Value, addr: SocketAddr) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let mut events = session["events"].as_array().unwrap().iter().peekable();
    let (mut seen, mut end) = (Vec::new(), "open");
    while let Some(sent) = events.next_if(|event| event["dir"] == "send") {
        stream.write_all(sent["data"].as_str().unwrap().as_bytes()).await.unwrap();
        let mut expected = String::new();
        while let Some(event) = events.next_if(|event| event["dir"] == "recv") {
            expected += event["data"].as_str().unwrap();
        }
        seen.clear();
        while seen.len() < expected.len() {
            let read = timeout(DEADLINE, stream.read_buf(&mut seen)).await;
            let read = read.unwrap_or_else(|_| panic!("{name}: silence after {}", String::from_utf8_lossy(&seen)));
            assert!(matches!(read, Ok(1..)), "{name}: {read:?} after {}", String::from_utf8_lossy(&seen));
        }
        assert_eq!(masked(&String::from_utf8_lossy(&seen)), masked(&expected), "{name}");
    }
    let recorded_end = session["end"].as_str().unwrap();
    if !recorded_end.starts_with("still open") {
        end = match timeout(DEADLINE, stream.read_buf(&mut seen)).await.unwrap() {
            Ok(0) => "FIN from server",
            Ok(_) => "more",
            Err(_) => "RST from server",
        };
        assert_eq!(end, recorded_end, "{name}");
    }
    let open = stream.try_read(&mut [0; 1]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert_eq!(open, end == "open", "{name}");
}

/// Without what is new each time.
fn masked(text: &str) -> String {
    let line = |line: &str| if line.starts_with("x-request-id: ") { "x-request-id: *" } else { line }.to_owned();
    text.split("\r\n").map(line).collect::<Vec<_>>().join("\r\n")
}

/// Begins a stream and leaves after its first bytes.
pub(crate) async fn leave(addr: SocketAddr, path: &str, body: &Value) {
    let body = body.to_string();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).await.unwrap();
    assert!(timeout(DEADLINE, stream.read(&mut [0; 64])).await.unwrap().unwrap() > 0);
}
