//! A Lease of the cluster elects which replica writes.
//!
//! Every replica looks at it every 2 s. Whoever holds it renews it each time; the others wait until it has not changed for its
//! duration, by their own monotonic clock, and never compare the times that are written in it, for wall clocks differ and jump.
//! `decide` is pure: the lease as read → what to do. A write carries the resourceVersion that was read, so of two that take it
//! at once one gets it. The holder gives up well before the others may take over: what it had on its way then, with its own
//! limit on answers, has ended by then.

use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use prometheus::{IntGauge, Registry};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::chance::{jittered, random};

mod decide;
mod store;
#[cfg(test)]
mod tests;

use decide::{Observer, Step};
use store::{InCluster, Store, StoreError};

/// Which lease, for whom, and its times.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the lease is.
    pub namespace: String,
    /// What it is called.
    pub name: String,
    /// What this process is called in it. No other may have this name, not even the same pod's process before it.
    pub identity: String,
    /// Others take over when the lease has not changed for this time. Whole seconds.
    pub duration: Duration,
    /// The holder takes itself for the leader for this time after it asked to renew; shorter than `duration` by more than a
    /// write takes.
    pub renewed: Duration,
    /// Between two looks, give or take a fifth.
    pub interval: Duration,
}

impl Options {
    /// With Kubernetes' usual times: 15 s, 10 s and 2 s.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            duration: Duration::from_secs(15),
            renewed: Duration::from_secs(10),
            interval: Duration::from_secs(2),
        }
    }
}

/// Whether this process is the one that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leadership {
    /// Another is, or none.
    Follows {
        /// Who, as far as is known.
        leader: Option<String>,
    },
    /// This one is, for a time.
    Leads {
        /// Counts the times that this process began to lead; within one, nobody else led.
        term: u64,
        /// When that ends, unless the lease is renewed before.
        until: Instant,
    },
}

impl Leadership {
    /// The term, where this process leads at `now`. A process that was stopped finds the time over, whatever it was told last.
    pub fn term(&self, now: Instant) -> Option<u64> {
        match self {
            Self::Leads { term, until } if now < *until => Some(*term),
            Self::Leads { .. } | Self::Follows { .. } => None,
        }
    }
}

/// For one look, with its write.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Stands for election until `stop`, and then lets go of the lease if it is held, so that another takes it at its next look.
/// Whoever writes as the leader must have ended before `stop`, or ask [`Leadership::term`] before each write.
///
/// Registers its metric; a registry takes one of these.
pub fn run<F: Future<Output = ()> + Send>(
    client: Client,
    options: Options,
    registry: &Registry,
    stop: F,
) -> (watch::Receiver<Leadership>, impl Future<Output = ()> + Send + use<F>) {
    let store = InCluster::new(client, &options.namespace, &options.name);
    let gauge = IntGauge::new("kthena_controlplane_leader", "1 while this replica is the one that writes status.");
    let gauge = gauge.expect("the name is valid");
    registry.register(Box::new(gauge.clone())).expect("a registry takes one of these");
    stand(store, options, gauge, stop)
}

fn stand<S: Store, F: Future<Output = ()> + Send>(
    store: S,
    options: Options,
    gauge: IntGauge,
    stop: F,
) -> (watch::Receiver<Leadership>, impl Future<Output = ()> + Send + use<S, F>) {
    let (told, receiver) = watch::channel(Leadership::Follows { leader: None });
    let mut candidate = Candidate { store, options, gauge, told, observer: Observer::default(), terms: 0 };
    let standing = async move {
        tokio::select! {
            never = candidate.run() => never,
            () = stop => {}
        }
        candidate.release().await;
    };
    (receiver, standing)
}

#[derive(Debug)]
struct Candidate<S> {
    store: S,
    options: Options,
    gauge: IntGauge,
    told: watch::Sender<Leadership>,
    observer: Observer,
    /// Begun so far.
    terms: u64,
}

/// What a look came to.
enum Stands {
    /// It is held, and was before.
    Renewed,
    /// It was taken.
    Taken,
    Follows(String),
}

impl<S: Store> Candidate<S> {
    async fn run(&mut self) {
        let mut complained = String::new();
        loop {
            // What is sent from here on cannot reach the lease earlier, so others begin to count later.
            let asked = Instant::now();
            let looked = timeout(ANSWER_TIME, self.look()).await.unwrap_or(Err(StoreError::Late(ANSWER_TIME)));
            match looked {
                Ok(stands) => {
                    self.tell(stands, asked);
                    complained.clear();
                }
                Err(StoreError::Conflict) => tracing::debug!("the lease was written by another meanwhile"),
                Err(error) => {
                    let sentence = error.to_string();
                    if sentence != complained {
                        tracing::warn!(lease = self.options.name, %error, "cannot stand for election");
                        complained = sentence;
                    }
                }
            }
            self.expire();
            sleep(jittered(self.options.interval, random())).await;
        }
    }

    async fn look(&mut self) -> Result<Stands, StoreError> {
        let Options { identity, duration, .. } = &self.options;
        let read = self.store.read().await?;
        let step = self.observer.judge(read.as_ref(), identity, *duration, Instant::now());
        let taken = match step {
            Step::Wait { holder } => return Ok(Stands::Follows(holder)),
            Step::Renew => Stands::Renewed,
            Step::Take => Stands::Taken,
        };
        let lease = decide::held(read, identity, *duration, Timestamp::now());
        self.store.write(lease).await?;
        Ok(taken)
    }

    fn tell(&mut self, stands: Stands, asked: Instant) {
        let now = Instant::now();
        let term = match stands {
            Stands::Follows(holder) => return self.follow(Some(holder)),
            Stands::Renewed => self.told.borrow().term(now),
            Stands::Taken => None,
        };
        let term = term.unwrap_or_else(|| {
            self.terms += 1;
            tracing::info!(lease = self.options.name, term = self.terms, "leads");
            self.terms
        });
        self.told.send_replace(Leadership::Leads { term, until: asked + self.options.renewed });
        self.gauge.set(1);
    }

    fn follow(&self, leader: Option<String>) {
        self.gauge.set(0);
        let told = Leadership::Follows { leader };
        self.told.send_if_modified(|known| {
            let news = *known != told;
            if news {
                tracing::info!(lease = self.options.name, ?told, "does not lead");
                *known = told;
            }
            news
        });
    }

    /// Says so where the time is over.
    fn expire(&self) {
        let over = matches!(&*self.told.borrow(), Leadership::Leads { until, .. } if *until <= Instant::now());
        if over {
            self.follow(None);
        }
    }

    async fn release(self) {
        let led = self.told.borrow().term(Instant::now()).is_some();
        // First nobody takes this process for the leader any more, then another may lead.
        self.follow(None);
        if !led {
            return;
        }
        let releasing = async {
            match self.let_go().await {
                // A renewal that was on its way came between.
                Err(StoreError::Conflict) => self.let_go().await,
                done => done,
            }
        };
        match timeout(ANSWER_TIME, releasing).await.unwrap_or(Err(StoreError::Late(ANSWER_TIME))) {
            Ok(()) => tracing::info!(lease = self.options.name, "let go of the lease"),
            Err(error) => tracing::warn!(lease = self.options.name, %error, "the lease will run out by itself"),
        }
    }
    async fn let_go(&self) -> Result<(), StoreError> {
        match self.store.read().await? {
            Some(lease) if decide::is_held_by(&lease, &self.options.identity) => {
                self.store.write(decide::free(lease, Timestamp::now())).await
            }
            _ => Ok(()),
        }
    }
}
