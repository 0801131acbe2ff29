//! SGLang's load events: a socket of their own, a message whenever the load has changed and once a second in any case.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zeromq::{PubSocket, Socket, SocketSend};

use super::payload::write;
use super::publish::{bind, message};
use crate::engine::driver::Jobs;
use crate::engine::model::{LoadStat, ModelConfig};

pub(crate) const TOPIC: &str = "load";
/// An engine looks at every fifth step of its scheduler.
const LOOK: Duration = Duration::from_millis(20);
const AT_LEAST: Duration = Duration::from_secs(1);

/// The publisher's place and its task, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct LoadPublishing {
    pub(crate) place: SocketAddr,
    task: JoinHandle<()>,
}

impl LoadPublishing {
    pub(crate) async fn start(place: SocketAddr, rank: u32, model: &ModelConfig, jobs: Jobs) -> io::Result<Self> {
        let mut socket = PubSocket::new();
        let place = bind(&mut socket, place).await?;
        let most = model.cache_blocks as u64 * u64::from(crate::engine::text::BLOCK_TOKENS);
        let fixed = Fixed { rank, max_tokens: most, max_running: model.max_num_seqs as u64 };
        Ok(Self { place, task: tokio::spawn(publish(socket, fixed, jobs)) })
    }
}

impl Drop for LoadPublishing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What does not change.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    rank: u32,
    max_tokens: u64,
    max_running: u64,
}

async fn publish(mut socket: PubSocket, fixed: Fixed, jobs: Jobs) {
    let mut last: Option<(LoadStat, Instant)> = None;
    for sequence in 0_u64.. {
        let load = loop {
            let now = jobs.load();
            if last.is_none_or(|(load, said)| load != now || said.elapsed() >= AT_LEAST) {
                break now;
            }
            tokio::time::sleep(LOOK).await;
        };
        last = Some((load, Instant::now()));
        let topic = Bytes::from_static(TOPIC.as_bytes());
        let frames = vec![topic, Bytes::copy_from_slice(&sequence.to_be_bytes()), payload(fixed, load).into()];
        // Nobody hears it: the next one says all again.
        let _ = socket.send(message(frames)).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// As msgspec writes SGLang's `LoadStat`.
fn payload(Fixed { rank, max_tokens, max_running }: Fixed, load: LoadStat) -> Vec<u8> {
    let LoadStat { running, waiting, used_tokens, waiting_uncached_tokens, prefilled_tokens, prefill_busy_us } = load;
    let total = used_tokens + waiting_uncached_tokens;
    let mut out = Vec::new();
    write(
        &mut out,
        &json!([
            "LoadStat",
            running,
            waiting,
            used_tokens,
            max_tokens,
            rank,
            waiting_uncached_tokens,
            total,
            max_running,
            prefilled_tokens,
            prefill_busy_us
        ]),
    );
    out
}
