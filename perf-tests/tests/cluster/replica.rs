//! A control plane's status writer on a thread of its own, under an identity of its own, that a test can stop in the middle of
//! whatever it does.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use controlplane::lease::{self, Leadership};
use controlplane::publish::serve::Progress;
use controlplane::run::Round;
use controlplane::status;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use prometheus::{Registry, TextEncoder};
use tokio::sync::{oneshot, watch};

use crate::charted::ACCOUNT;

/// Under which the audit log knows it, and in which times its lease runs out.
#[derive(Clone)]
pub struct Identity {
    /// Whose token it has.
    pub pod: String,
    pub namespace: String,
    pub lease: Duration,
    /// How it reaches the API server.
    pub kubeconfig: PathBuf,
}

/// Dropped, it is let run, told to stop, and waited for.
pub struct Replica {
    pub rounds: watch::Sender<Option<Arc<Round>>>,
    pub progress: watch::Sender<Arc<Progress>>,
    pub leadership: watch::Receiver<Leadership>,
    pub registry: Registry,
    freeze: tokio::sync::mpsc::UnboundedSender<mpsc::Receiver<()>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Replica {
    /// Runs one.
    pub fn start(identity: Identity) -> Self {
        let (rounds, newest) = watch::channel(None);
        let (progress, acknowledged) = watch::channel(Arc::default());
        let (stop, stopped) = oneshot::channel();
        let (freeze, mut frozen) = tokio::sync::mpsc::unbounded_channel::<mpsc::Receiver<()>>();
        let (told, leadership) = mpsc::channel();
        let registry = Registry::new();
        let metrics = registry.clone();
        let running = async move {
            let client = client(&identity).await;
            let mut options = lease::Options::new(&identity.namespace, ACCOUNT, &identity.pod);
            options.duration = identity.lease;
            (options.renewed, options.interval) = (identity.lease / 2, identity.lease / 8);
            let (lease_stop, lease_stopped) = oneshot::channel::<()>();
            let stopping = async { drop(lease_stopped.await) };
            let (leadership, standing) = lease::run(client.clone(), options, &metrics, stopping);
            told.send(leadership.clone()).unwrap();
            // There is no other replica that has data planes.
            let (_alone, others) = watch::channel(Arc::default());
            let inputs = status::Inputs { rounds: newest, progress: acknowledged, others, leadership };
            let options = status::Options { namespaces: vec![identity.namespace], instance: identity.pod };
            let freezing = async move {
                while let Some(thawed) = frozen.recv().await {
                    // The whole thread stands still, whatever else is under way on it, as under SIGSTOP.
                    let _ = thawed.recv();
                }
            };
            let writing = async move {
                let stopped = async { drop(stopped.await) };
                status::run(client, options, inputs, &metrics, stopped).await;
                drop(lease_stop);
            };
            tokio::select! {
                _ = async { tokio::join!(standing, writing) } => {}
                () = freezing => {}
            }
        };
        let thread = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(running);
        });
        let leadership = leadership.recv().unwrap();
        Self { rounds, progress, leadership, registry, freeze, stop: Some(stop), thread: Some(thread) }
    }

    /// Stands still until the sender is dropped.
    pub fn freeze(&self) -> mpsc::Sender<()> {
        let (thaw, thawed) = mpsc::channel();
        self.freeze.send(thawed).unwrap();
        thaw
    }

    /// A sample of one of its metrics, as in a scrape; 0 where there is none.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_none_or(|ended| ended.is_ok()), "the replica's thread panicked");
    }
}

async fn client(identity: &Identity) -> Client {
    let config = Kubeconfig::read_from(&identity.kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}
