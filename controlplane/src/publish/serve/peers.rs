//! The gRPC service of `peers.proto`: lets other replicas in, and nobody else.

use std::sync::Arc;
use std::time::Duration;

use api::proto::peers_server::Peers;
use api::proto::{PeerEnd, PeerReport, Subscribe};
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::{Request, Response, Status, Streaming};

use super::Counts;
use super::hold::{EXPIRED, Hold};
use super::transport::Link;
use crate::peer::Ear;

pub(super) const NAME: &str = "kthena.dataplane.v1.Peers";
/// Four times what a peer puts into a message.
pub(super) const MESSAGE_BYTES: usize = 4 << 20;
/// A replica whose proof has run out comes again with a newer one; so, once a day, does one that need not prove anything.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) ear: Arc<Ear>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) counts: Arc<Counts>,
}

#[tonic::async_trait]
impl Peers for Door {
    async fn tell(&self, request: Request<Streaming<PeerReport>>) -> Result<Response<PeerEnd>, Status> {
        let (metadata, extensions, said) = request.into_parts();
        let link = extensions.get::<Link>().cloned().ok_or_else(|| Status::internal("no connection"))?;
        let identify = self.ear.identify();
        let identity = identify.identify(&metadata, &Subscribe::default()).await?;
        link.known();
        let excused = &self.counts.excused;
        let mut hold = Hold::of(&identity, &**identify, Duration::ZERO, excused);
        let mut closing = self.closing.clone();
        tokio::select! {
            heard = self.ear.listen(&identity.uid, said) => heard.map(|()| Response::new(PeerEnd {})),
            () = hold.over(excused) => Err(Status::unauthenticated(EXPIRED)),
            () = sleep(LONGEST) => Err(Status::unavailable("come again: this has lasted long enough")),
            _ = closing.wait_for(|closing| *closing) => Err(Status::unavailable("the control plane ends")),
        }
    }
}
