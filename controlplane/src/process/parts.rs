//! What runs beside the stream: the webhook, the election, and whoever is elected writes statuses.

use std::convert::Infallible;
use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use kube::Client;
use prometheus::Registry;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::cluster::{Failure, Member, stopped};
use crate::admin::View;
use crate::certificates::Certificates;
use crate::chance::random;
use crate::run::Plane;
use crate::webhook::{self, Reach, Webhook};
use crate::{lease, status};

/// The Lease that elects who writes.
const LEASE: &str = "kthena-controlplane";

/// All of it, started.
pub(super) struct Parts {
    /// These are dropped at the end.
    tasks: JoinSet<()>,
    webhook: Option<Webhook>,
    /// Stands for election until the writer has ended.
    election: BoxFuture<'static, ()>,
    writer: BoxFuture<'static, ()>,
    /// Dropped once the writer has ended.
    written: oneshot::Sender<()>,
    /// Dropped to end the writer.
    ending: watch::Sender<()>,
}

impl Parts {
    pub(super) fn new(member: Member, webhook: Option<Webhook>, plane: &Plane, registry: &Registry) -> Self {
        let Member { client, home, typed, tasks, .. } = member;
        let instance = instance();
        let (written, over) = oneshot::channel();
        let options = lease::Options::new(&home, LEASE, &instance);
        let (leadership, election) = lease::run(client.clone(), options, registry, async { drop(over.await) });
        let (rounds, progress, others) = (plane.rounds(), plane.progress(), plane.others());
        let inputs = status::Inputs { rounds, progress, others, leadership };
        let (ending, ended) = watch::channel(());
        let options = status::Options { namespaces: typed.namespaces, instance };
        let writer = status::run(client, options, inputs, registry, stopped(ended));
        Self { tasks, webhook, election: Box::pin(election), writer: Box::pin(writer), written, ending }
    }

    /// Until the end is asked for, and until what was begun is done: who writes ends before another may be elected.
    pub(super) async fn run(self, ended: watch::Receiver<()>) {
        let Self { tasks, webhook, election, writer, written, ending } = self;
        let answering = async {
            match webhook {
                Some(webhook) => webhook.serve(stopped(ended.clone())).await,
                None => stopped(ended.clone()).await,
            }
        };
        let writing = async {
            writer.await;
            drop(written);
        };
        let asked = async {
            stopped(ended.clone()).await;
            drop(ending);
        };
        tokio::select! {
            _ = async { tokio::join!(answering, writing, election, asked) } => {}
            never = mourn(tasks) => match never {},
        }
    }
}

/// A task that panics, such as the one that keeps the certificates, must not be missed only when they have expired.
async fn mourn(mut tasks: JoinSet<()>) -> Infallible {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a task of the control plane has died: restart it");
        }
    }
    std::future::pending().await
}

/// Binds the webhook and tries whether the API server reaches it, which is part of being ready.
pub(super) async fn webhook(
    address: SocketAddr,
    certificates: &Certificates,
    client: &Client,
    home: &str,
    tasks: &mut JoinSet<()>,
    view: &mut View,
) -> Result<Webhook, Failure> {
    let webhook = Webhook::bind(address, certificates.server_config(&["http/1.1"])).await.map_err(Failure::Webhook)?;
    let (reached, trying) = webhook::reach(client.clone(), home.to_owned());
    tasks.spawn(trying);
    view.reviews = Some(webhook.counts());
    view.waiting.push(Box::new(move || match &*reached.borrow() {
        Reach::Reached => Vec::new(),
        Reach::Not(why) => vec![format!("the webhook: {why}")],
    }));
    tracing::info!(address = %webhook.address(), "the webhook listens");
    Ok(webhook)
}

/// What this process is called, as no other is nor was: the pod, and a number by chance.
fn instance() -> String {
    let host = rustix::system::uname();
    let number = (random() * f64::from(u32::MAX)) as u32;
    format!("{}_{number:08x}", host.nodename().to_string_lossy())
}
