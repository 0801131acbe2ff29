//! Lets connections in. Until it is known whose a connection is, it is a stranger's: of those there is room for so many and no more, each
//! has so much time and no more, and none of them keeps another waiting.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::transport::{Connection, Link, Listener, Wrap};

/// For the handshake, and to subscribe and to prove who it is: somewhat more than what a stream has for that.
const STRANGER_TIME: Duration = Duration::from_secs(15);
/// While there is no room for more, who is still a stranger after this time goes. Who means it well needs a fraction of it.
const CROWDED_TIME: Duration = Duration::from_secs(1);
/// After a connection that could not be accepted.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// Where connections go to.
pub(super) type Admitted = mpsc::Sender<Connection>;

/// Accepts connections until the end, with room for so many strangers, and ends when none of them is left.
pub(super) async fn open(listener: Listener, admitted: Admitted, room: usize, mut closing: watch::Receiver<bool>) {
    let Listener { socket, wrap, .. } = listener;
    let places = Arc::new(Semaphore::new(room));
    let crowded = watch::Sender::new(false);
    let mut strangers = JoinSet::new();
    loop {
        let next = async { (accept(&socket).await, place(&places, &crowded).await) };
        let (stream, place) = tokio::select! {
            next = next => next,
            _ = closing.wait_for(|closing| *closing) => break,
        };
        while strangers.try_join_next().is_some() {}
        let (wrap, admitted, crowded) = (wrap.clone(), admitted.clone(), crowded.subscribe());
        strangers.spawn(meet(stream, Way { wrap, admitted }, crowded, place));
    }
    drop((socket, admitted));
    crowded.send_replace(true);
    while strangers.join_next().await.is_some() {}
}

async fn accept(socket: &TcpListener) -> TcpStream {
    loop {
        match socket.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                // Such as having no descriptors left: the next try would fail at once, too.
                tracing::warn!(%error, "a data plane's connection cannot be accepted");
                sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn place(places: &Arc<Semaphore>, crowded: &watch::Sender<bool>) -> OwnedSemaphorePermit {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return place;
    }
    crowded.send_replace(true);
    let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
    crowded.send_replace(false);
    place
}

/// How a connection comes in.
struct Way {
    wrap: Wrap,
    admitted: Admitted,
}

impl Way {
    /// Ends when it is known whose connection it is, or when it is gone.
    async fn lead(self, stream: TcpStream, link: Link) -> io::Result<()> {
        let mut known = link.watch();
        let connection = self.wrap.wrap(stream, link).await?;
        // An error means that nobody serves any more.
        let _ = self.admitted.send(connection).await;
        // An error means that the connection has ended.
        let _ = known.wait_for(|known| *known).await;
        Ok(())
    }
}

async fn meet(stream: TcpStream, way: Way, mut crowded: watch::Receiver<bool>, place: OwnedSemaphorePermit) {
    let _place = place;
    let link = match Link::of(&stream) {
        Ok(link) => link,
        Err(error) => return tracing::warn!(%error, "a data plane's connection cannot be kept"),
    };
    let cut = link.cut.clone();
    let pushed_out = async {
        sleep(CROWDED_TIME).await;
        // An error means that nobody is let in any more.
        let _ = crowded.wait_for(|crowded| *crowded).await;
    };
    tokio::select! {
        led = timeout(STRANGER_TIME, way.lead(stream, link)) => match led {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return tracing::debug!(%error, "a handshake with a data plane failed"),
            Err(_) => {}
        },
        () = pushed_out => {}
    }
    tracing::debug!("a connection is cut off, for it is not known in time whose it is");
    cut.cut();
}
