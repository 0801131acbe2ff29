//! Last good forms of a directory's objects, kept on disk while what is written in their place cannot be taken: so they outlive the
//! process as those of a cluster do in their statuses.
//!
//! `wanted` says what is to be kept, from what was read and what became of it. `format` makes the bytes of one file's objects, and
//! reads them. `folder` holds one entry for each such file, written whole or not at all, and takes away what is not wanted. Here is
//! the thread that brings the folder up to date; what it finds at the start goes into [`crate::source::directory::Directory`].

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};

use crate::run::Round;
use crate::source::Reading;

mod folder;
mod format;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use folder::Folder;

use wanted::wanted;

/// After a failure, until it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// Writing may take this part of the time; where it takes long, the pause grows, up to this.
const SHARE: u32 = 20;
const LONGEST: Duration = Duration::from_secs(1);
/// At the end of the process, for what was sent last. A disk may hang.
const AT_THE_END: Duration = Duration::from_secs(5);

/// What was read last, and what became of it.
#[derive(Debug)]
pub(crate) struct Latest {
    pub(crate) reading: Arc<Reading>,
    pub(crate) round: Arc<Round>,
}

/// The thread that keeps the folder up to date.
#[derive(Debug)]
pub(crate) struct Keeping {
    thread: JoinHandle<()>,
    /// Gone once the thread has ended.
    ended: oneshot::Receiver<()>,
}

impl Keeping {
    /// Waits until what was sent last is written, once the sender is dropped; false where that takes too long.
    pub(crate) async fn end(self) -> bool {
        if timeout(AT_THE_END, self.ended).await.is_err() {
            tracing::warn!(waited = ?AT_THE_END, "the disk does not take the last good forms; those of before stay there");
            return false;
        }
        if self.thread.join().is_err() {
            tracing::error!("the thread that kept last good forms panicked");
        }
        true
    }
}

/// Keeps the folder up to date on a thread of its own, for a disk may be slow, until the sender is dropped and what it sent last is
/// written.
pub(crate) fn keep(mut folder: Folder, mut latest: watch::Receiver<Option<Arc<Latest>>>) -> io::Result<Keeping> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let following = async move {
        let mut failure = None;
        loop {
            let ended = tokio::select! {
                changed = latest.changed() => changed.is_err(),
                () = sleep(AGAIN), if failure.is_some() => false,
            };
            if ended {
                return;
            }
            let Some(newest) = latest.borrow_and_update().clone() else { continue };
            let begin = Instant::now();
            let now = folder.bring(&wanted(&newest.reading, &newest.round)).err().map(|error| error.to_string());
            if let Some(error) = now.as_ref().filter(|_| now != failure) {
                tracing::warn!(error, "last good forms are not kept on disk");
            }
            failure = now;
            sleep((begin.elapsed() * SHARE).min(LONGEST)).await;
        }
    };
    let (ending, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("last-good".into()).spawn(move || {
        let _ending: oneshot::Sender<()> = ending;
        runtime.block_on(following);
    })?;
    Ok(Keeping { thread, ended })
}
