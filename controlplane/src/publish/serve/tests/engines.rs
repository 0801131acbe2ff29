//! From an engine's metrics to what a data plane hears of it.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::*;
use crate::engine::{Shard, Told};
use crate::world::Engines;

const VLLM: &str = include_str!("../../../../tests/recorded/vllm-0.32.0.prom");

/// An engine that answers everything with its newest text.
async fn engine(text: watch::Receiver<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The request comes in one piece, and is always the same.
            let _ = stream.read(&mut [0; 1024]).await;
            let text = text.borrow().clone();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
            let _ = stream.write_all((head + &text).as_bytes()).await;
        }
    });
    address
}

fn busy(running: &str) -> String {
    let series = |name: &str, value: &str| format!("vllm:{name}{{engine=\"0\",model_name=\"tiny\"}} {value}\n");
    let (idle, waits) = (series("num_requests_running", "0.0"), series("num_requests_waiting", "0.0"));
    assert!(VLLM.contains(&idle) && VLLM.contains(&waits));
    VLLM.replace(&idle, &series("num_requests_running", running))
        .replace(&waits, &series("num_requests_waiting", "2.0"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_hears_what_an_engine_says() {
    let text = watch::channel(busy("3.0")).0;
    let address = engine(text.subscribe()).await;
    let spec = json!({
        "inferenceEngine": "vLLM",
        "workloadSelector": {"matchLabels": {"app": "x"}},
        "workloadPort": {"port": address.port()},
    });
    let round = Arc::new(crate::engine::tests::round(&[("s".to_owned(), spec)], &[address.ip()]));
    let handle = round.snapshot.backends[0].endpoints[0].handle;
    let site = Site::start(Options::default()).await;
    site.send(Snapshot::clone(&round.snapshot));
    let rounds = watch::channel(Some(round)).0;
    let shard = watch::channel(Shard::alone()).1;
    let engines = watch::channel(Engines::default()).0;
    let told =
        Told { loads: site.loads.clone(), engines, first: oneshot::channel().0, asked: watch::channel(Vec::new()).0 };
    let watching = tokio::spawn(crate::engine::watch(rounds.subscribe(), shard, told, crate::engine::PERIOD));
    let mut plane = site.join().await;
    plane.apply().await;
    for running in [3, 5] {
        text.send_replace(busy(&format!("{running}.0")));
        let deadline = Instant::now() + Duration::from_secs(10);
        while plane.engines.get(&handle).is_none_or(|said| said.running != running) {
            assert!(Instant::now() < deadline, "heard {:?}", plane.engines);
            plane.drain(Duration::from_millis(10)).await;
        }
        assert_eq!(plane.engines[&handle].waiting, 2);
    }
    drop(rounds);
    tokio::time::timeout(Duration::from_secs(10), watching).await.expect("it ends with the source").unwrap();
}
