//! How long until another data plane hears of a request, beside many that are there: from before the client connects until the sum of the
//! others' load that has it arrives. The data plane that hears is a bare subscriber.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use api::proto::config_ack::Result as Answer;
use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Said;
use api::proto::to_data_plane::Message as Told;
use api::proto::{Applied, ConfigAck, FromDataPlane, LoadSum, Subscribe};
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::client::{self, End, Question};
use super::edits::Spread;
use super::subscribers::Subscribers;
use crate::load::rng::Rng;

/// After so long something is taken as lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests come at any time of whatever goes on at intervals.
const PAUSE_MS: f64 = 50.0;

/// How much of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Data planes that are there, with the one that is asked and the one that hears.
    pub data_planes: usize,
    /// Requests, one after the other.
    pub requests: usize,
}

/// Asks a data plane of this control plane; how long it took each time until the other heard.
pub async fn run(plan: Plan, question: &Question, control: SocketAddr) -> anyhow::Result<Spread> {
    let others = Subscribers::start(plan.data_planes.saturating_sub(2), control);
    let (running, mut heard) = watch::channel(None);
    let listener = tokio::spawn(listen(control, running));
    let (mut times, mut rng) = (Vec::new(), Rng::new(1));
    for _ in 0..plan.requests {
        until(&mut heard, |running| running == Some(0)).await?;
        sleep(Duration::from_secs_f64(rng.unit() * PAUSE_MS / 1e3)).await;
        let begin = Instant::now();
        let asked = question.clone();
        let asking = tokio::spawn(async move { client::ask(&asked, || {}).await });
        until(&mut heard, |running| running.is_some_and(|running| running > 0)).await?;
        times.push(begin.elapsed());
        let end = asking.await?;
        ensure!(end == End::Whole, "{end:?}");
    }
    listener.abort();
    drop(others);
    Ok(Spread::of(times))
}

async fn until(
    heard: &mut watch::Receiver<Option<u32>>,
    condition: impl Fn(Option<u32>) -> bool,
) -> anyhow::Result<()> {
    timeout(PATIENCE, heard.wait_for(|running| condition(*running))).await.context("nothing was heard")??;
    Ok(())
}

/// Hears as a data plane does; tells how many requests run at the others', once it was told anything.
async fn listen(control: SocketAddr, running: watch::Sender<Option<u32>>) -> anyhow::Result<()> {
    let channel = Channel::from_shared(format!("http://{control}"))?.tcp_nodelay(true).connect().await?;
    let (outbound, queue) = mpsc::channel(4);
    let hello = Subscribe { node: "listener".into(), load: true, instance: u64::MAX, ..Subscribe::default() };
    outbound.send(FromDataPlane { message: Some(Said::Subscribe(hello)) }).await?;
    let messages = unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
    let mut inbound = DataPlaneClient::new(channel).stream(messages).await?.into_inner();
    while let Some(told) = inbound.message().await? {
        match told.message {
            Some(Told::Config(update)) if !update.more => {
                let version = update.delta.and_then(|delta| delta.version);
                let result = Some(Answer::Applied(Applied { version, content_hash: 0 }));
                let ack = ConfigAck { nonce: update.nonce, result };
                outbound.send(FromDataPlane { message: Some(Said::Config(ack)) }).await?;
            }
            // There is one endpoint; a sum without it says that nothing changed there.
            Some(Told::Load(LoadSum { endpoints, .. })) => {
                let new = endpoints.first().map(|endpoint| endpoint.running);
                running.send_if_modified(|running| {
                    let now = new.or(running.or(Some(0)));
                    std::mem::replace(running, now) != now
                });
            }
            _ => {}
        }
    }
    Ok(())
}
