//! Helper threads for work that would hold a core for more than about 100 µs, such as inspecting a body of megabytes.

use std::io;
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};

use crate::rt::{self, Inbox};

type Job = Box<dyn FnOnce() + Send>;

/// Jobs that wait at most, per thread.
const QUEUE: usize = 64;

/// The way to the helper threads.
#[derive(Debug, Clone)]
pub struct Offload {
    jobs: Sender<Job>,
}

/// All helper threads are busy and their queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Offload {
    /// Starts so many threads; they end when the last [`Offload`] is gone.
    pub fn start(threads: usize) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (jobs, queue) = bounded(QUEUE * threads);
        let spawn = |n: usize| {
            let queue = queue.clone();
            std::thread::Builder::new().name(format!("offload-{n}")).spawn(move || work(&queue))
        };
        let threads = (0..threads).map(spawn).collect::<io::Result<_>>()?;
        Ok((Self { jobs }, threads))
    }

    /// Gives `job` to a helper thread.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<Pending<T>, Busy> {
        let (post, inbox) = rt::mailbox(1);
        let job = Box::new(move || {
            // A panic must not end the thread; the waiting request gets nothing and is refused.
            let value = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).ok();
            // Whoever waited may be gone.
            let _ = post.post(value);
        });
        self.jobs.try_send(job).map_err(|_| Busy)?;
        Ok(Pending(inbox))
    }

    /// The same for what can be left undone: only while no more than a job for each thread waits, so that such work never
    /// takes the room of what has to be done.
    pub fn run_if_quiet<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Pending<T>, Busy> {
        let room = self.jobs.capacity().unwrap_or(usize::MAX);
        if self.jobs.len().saturating_mul(QUEUE) > room {
            return Err(Busy);
        }
        self.run(job)
    }
}

/// A job on its way.
#[derive(Debug)]
pub struct Pending<T>(Inbox<Option<T>>);

impl<T> Pending<T> {
    /// Waits for its value; none if it panicked.
    pub async fn value(mut self) -> Option<T> {
        self.0.recv().await
    }
}

fn work(queue: &Receiver<Job>) {
    while let Ok(job) = queue.recv() {
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_left_undone_leaves_room_for_what_cannot() {
        let (offload, _) = Offload::start(1).unwrap();
        let ((begun, began), (go, wait)) = (bounded::<()>(1), bounded::<()>(1));
        let busy = offload.run(move || begun.send(()).is_ok() && wait.recv().is_ok());
        began.recv().unwrap();
        assert!(busy.is_ok() && offload.run_if_quiet(|| ()).is_ok() && offload.run_if_quiet(|| ()).is_ok());
        assert!(matches!(offload.run_if_quiet(|| ()), Err(Busy)), "two jobs wait for one thread");
        assert!(offload.run(|| ()).is_ok());
        go.send(()).unwrap();
    }
}
