//! What engines said of themselves to all replicas, together. Ours counts before a peer's, for while one takes over from another
//! both may say something. What nobody says any more counts on for a moment: who takes over has to ask first, and an engine that
//! is not ready must not come back for that moment.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use api::id::EndpointKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::hear::Heard;
use crate::world::{Engines, Facts};

/// Somewhat more than a replica needs to take over.
const LINGERS: Duration = Duration::from_secs(5);

/// Puts together what we and the peers know, until there is nobody to tell any more.
pub(super) async fn pool(
    mut own: watch::Receiver<Engines>,
    mut heard: watch::Receiver<Heard>,
    engines: watch::Sender<Engines>,
) {
    let mut pool = Pool::default();
    loop {
        let now = pool.all(&own.borrow_and_update(), &heard.borrow_and_update(), Instant::now());
        engines.send_if_modified(|known| {
            *known != now && {
                *known = now;
                true
            }
        });
        let over = pool.next_over();
        let lingering = async {
            match over {
                Some(over) => sleep_until(over).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Ok(()) = own.changed() => {}
            Ok(()) = heard.changed() => {}
            () = lingering => {}
            () = engines.closed() => return,
        }
    }
}

#[derive(Debug, Default)]
struct Pool {
    said: BTreeMap<EndpointKey, Arc<Facts>>,
    lingering: BTreeMap<EndpointKey, (Arc<Facts>, Instant)>,
}

impl Pool {
    fn all(&mut self, own: &Engines, heard: &Heard, now: Instant) -> Engines {
        let mut said: BTreeMap<EndpointKey, Arc<Facts>> = BTreeMap::new();
        let clone = |(key, facts): (&EndpointKey, &Arc<Facts>)| (key.clone(), facts.clone());
        said.extend(heard.facts().map(clone));
        said.extend(own.iter().map(clone));
        let before = std::mem::replace(&mut self.said, said);
        let silent = before.into_iter().filter(|(key, _)| !self.said.contains_key(key));
        self.lingering.extend(silent.map(|(key, facts)| (key, (facts, now + LINGERS))));
        self.lingering.retain(|key, (_, over)| *over > now && !self.said.contains_key(key));
        let lingering = self.lingering.iter().map(|(key, (facts, _))| (key, facts));
        lingering.chain(&self.said).map(clone).collect()
    }

    fn next_over(&self) -> Option<Instant> {
        self.lingering.values().map(|(_, over)| *over).min()
    }
}
