//! The thread on which the source is followed.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use kube::Config;
use tokio::sync::watch;

use super::StartError;
use crate::api_server;
use crate::metrics::Watches;
use crate::source::directory::{self, Directory};
use crate::source::kubernetes::{self, Posts, Scope, Waiting};
use crate::source::{Forms, Reached, Reading};

/// A running thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Looking {
    /// What has not been read yet.
    pub(super) waiting: watch::Receiver<Waiting>,
    /// How far all has been read.
    pub(super) reached: watch::Receiver<Reached>,
    /// What was read last; none until all has been read once.
    pub(super) readings: watch::Receiver<Option<Arc<Reading>>>,
    /// Closed to end it.
    stop: watch::Sender<()>,
    thread: JoinHandle<()>,
}

impl Looking {
    /// With what was kept of it in another life of the process.
    pub(super) fn at_directory(root: &Path, kept: Forms) -> Result<Self, StartError> {
        let (directory, reading) = Directory::open_with(root, kept).map_err(StartError::Source)?;
        let (tell, readings) = watch::channel(Some(Arc::new(reading)));
        let (stop, stopped) = watch::channel(());
        let thread =
            directory::watch(directory, stopped, move |reading| drop(tell.send_replace(Some(Arc::new(reading)))));
        let (waiting, reached) = (watch::channel(Waiting::new()).1, watch::channel(Reached::default()).1);
        Ok(Self { waiting, reached, readings, stop, thread: thread.map_err(StartError::Thread)? })
    }

    pub(super) fn at_cluster(config: Config, scope: Scope, counts: Arc<Watches>) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        // The client lives on the runtime that made it.
        let client = {
            let _inside = runtime.enter();
            api_server::client(config)
                .map_err(|error| StartError::Source(format!("the cluster's configuration: {error}")))?
        };
        let (stop, mut stopped) = watch::channel(());
        let (told, waiting) = watch::channel(vec!["the cluster".to_owned()]);
        let (far, reached) = watch::channel(Reached::default());
        let posts = Posts { waiting: told, reached: far };
        let (tell, readings) = watch::channel(None);
        let read = move |reading| drop(tell.send_replace(Some(Arc::new(reading))));
        let following = async move {
            tokio::select! {
                () = kubernetes::watch(client, &scope, counts, posts, read) => {}
                () = async { while stopped.changed().await.is_ok() {} } => {}
            }
        };
        let thread = std::thread::Builder::new().name("cluster".into()).spawn(move || runtime.block_on(following));
        Ok(Self { waiting, reached, readings, stop, thread: thread.map_err(StartError::Thread)? })
    }

    /// Ends it, and waits until it has ended.
    pub(super) fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that followed the source panicked");
        }
    }
}
