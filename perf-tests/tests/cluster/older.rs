//! A data plane from before there were regexes in routes: a real one, for which everything that its control plane sends is read first as
//! such a data plane would read it. A match of a kind that it does not know reads as none, which is refused.

use std::net::SocketAddr;
use std::pin::Pin;

use api::proto::data_plane_client::DataPlaneClient;
use api::proto::data_plane_server::{DataPlane, DataPlaneServer};
use api::proto::string_match::Match;
use api::proto::to_data_plane::Message;
use api::proto::{FromDataPlane, ToDataPlane};
use futures_util::stream::unfold;
use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// The stream's way to an older data plane. Dropped, it is gone.
pub struct Older {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Older {
    /// Leads to the control plane at this port of loopback.
    pub async fn than(control: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let incoming = unfold(listener, |listener| async { Some((listener.accept().await.map(|it| it.0), listener)) });
        let service = DataPlaneServer::new(Relay(([127, 0, 0, 1], control).into()));
        let task = tokio::spawn(async move {
            Server::builder().serve_with_incoming(service, incoming).await.unwrap();
        });
        Self { port, task }
    }
}

impl Drop for Older {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Relay(SocketAddr);

type Told = Pin<Box<dyn Stream<Item = Result<ToDataPlane, Status>> + Send>>;

#[tonic::async_trait]
impl DataPlane for Relay {
    type StreamStream = Told;

    async fn stream(&self, request: Request<Streaming<FromDataPlane>>) -> Result<Response<Told>, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.0)).unwrap();
        let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let said = request.into_inner().take_while(|said| std::future::ready(said.is_ok()));
        let said = said.map(|said| said.expect("it ends at the first error"));
        let told = DataPlaneClient::new(channel).stream(said).await?.into_inner();
        Ok(Response::new(told.map(|told| told.map(without_regexes)).boxed()))
    }
}

fn without_regexes(mut told: ToDataPlane) -> ToDataPlane {
    let Some(Message::Config(update)) = &mut told.message else { return told };
    let upserts = update.delta.iter_mut().flat_map(|delta| &mut delta.route_upserts);
    let rules = upserts.filter_map(|upsert| upsert.route.as_mut()).flat_map(|route| &mut route.rules);
    for uri in rules.filter_map(|rule| rule.uri.as_mut()) {
        uri.r#match = uri.r#match.take().filter(|kind| !matches!(kind, Match::Regex(_)));
    }
    told
}
