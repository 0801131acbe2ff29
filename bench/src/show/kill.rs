//! Engines die and come back, one after the other, while requests come at a steady rate.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::client::{self, Counts, Question};

/// How much of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Requests a second, half of them streams.
    pub rate: f64,
    /// From the start to the last request.
    pub time: Duration,
    /// Between two kills.
    pub every: Duration,
    /// From a kill to the restart.
    pub down: Duration,
}

/// Who is killed.
pub trait Victims {
    /// Ends engine `n` as kill -9 does.
    fn kill(&mut self, n: usize) -> impl Future<Output = anyhow::Result<()>>;
    /// Starts engine `n` again and waits until it listens.
    fn restart(&mut self, n: usize) -> impl Future<Output = anyhow::Result<()>>;
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// Kills.
    pub kills: u64,
    /// Answers that are one piece.
    pub unary: Counts,
    /// Answers in events.
    pub streams: Counts,
}

impl Seen {
    /// Requests that failed although nothing of an answer had gone to the client.
    pub fn failed(&self) -> u64 {
        self.unary.failed + self.streams.failed
    }
}

/// Sends and kills; `engines` is how many there are.
pub async fn run(question: &Question, plan: Plan, engines: usize, victims: &mut impl Victims) -> anyhow::Result<Seen> {
    let end = Instant::now() + plan.time;
    let stop = || Instant::now() >= end;
    let unary = [Question { stream: false, ..question.clone() }];
    let streams = [Question { stream: true, ..question.clone() }];
    let kills = async {
        let mut kills = 0_u64;
        while Instant::now() + plan.every < end {
            tokio::time::sleep(plan.every - plan.down).await;
            let n = kills as usize % engines;
            victims.kill(n).await?;
            kills += 1;
            tokio::time::sleep(plan.down).await;
            victims.restart(n).await?;
        }
        anyhow::Ok(kills)
    };
    let rate = plan.rate / 2.0;
    let (kills, unary, streams) =
        tokio::join!(kills, client::open_loop(&unary, rate, stop), client::open_loop(&streams, rate, stop));
    Ok(Seen { kills: kills?, unary, streams })
}
