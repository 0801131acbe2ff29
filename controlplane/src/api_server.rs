//! How the API server is asked. kube's client does the asking; two things that it leaves out stand around it here.
//!
//! `token`: the token is read from its file for each request, so that a rotated one counts at once. kube reads it again when a
//! minute has passed by the wall clock: set back by an hour, that clock would have an expired token shown for an hour.
//! `advice`: a server under load says in a header when it wants to be asked again, and kube looks at bodies only.
//!
//! And `follow` keeps a `list` current, in one way whatever it is of: `pause` says how long it waits after a failure, `version` whether an
//! answer is of the past.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Body;
use kube::client::{Body as Asked, ClientBuilder};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

mod advice;
mod failure;
mod follow;
mod list;
mod pause;
#[cfg(test)]
pub(crate) mod testing;
mod token;
mod version;

pub(crate) use follow::Follower;
pub(crate) use list::{List, News, Over};
use token::TokenFile;
pub(crate) use version::number;

/// Where the cluster is, by this file, or by what is around us. Whether it answers is another question.
pub(crate) async fn config(kubeconfig: Option<&Path>) -> Result<Config, String> {
    let Some(path) = kubeconfig else {
        return Config::infer().await.map_err(|error| error.to_string());
    };
    let read = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await;
    config.map_err(|error| error.to_string())
}

/// A client of the API server that this configuration names.
pub(crate) fn client(mut config: Config) -> kube::Result<Client> {
    // Whoever asks knows when to ask again, and says so; kube would try fifteen times first.
    config.default_retry = false;
    let token = config.auth_info.token_file.take();
    if token.is_some() {
        // As in client-go: of the two, the file counts.
        config.auth_info.token = None;
    }
    Ok(around(ClientBuilder::try_from(config)?, token.map(PathBuf::from)))
}

/// What this module adds, around whatever asks.
pub(crate) fn around<S, B>(asks: ClientBuilder<S>, token: Option<PathBuf>) -> Client
where
    S: Service<Request<Asked>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    asks.with_layer(&Asking { token: token.map(|path| Arc::new(TokenFile::new(path))) }).build()
}

/// Puts the two around a service.
#[derive(Debug, Clone)]
struct Asking {
    token: Option<Arc<TokenFile>>,
}

impl<S> Layer<S> for Asking {
    type Service = Asker<S>;

    fn layer(&self, inner: S) -> Asker<S> {
        Asker { inner, token: self.token.clone() }
    }
}

#[derive(Debug)]
struct Asker<S> {
    inner: S,
    token: Option<Arc<TokenFile>>,
}

impl<S, B> Service<Request<Asked>> for Asker<S>
where
    S: Service<Request<Asked>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Asked>) -> Self::Future {
        match self.token.as_ref().map(|token| token.read()).transpose() {
            Ok(bearer) => request.headers_mut().extend(bearer.map(|bearer| (AUTHORIZATION, bearer))),
            Err(error) => return Box::pin(async { Err(error.into()) }),
        }
        let answering = self.inner.call(request);
        Box::pin(async { advice::heard(answering.await.map_err(Into::into)?).await })
    }
}

#[cfg(test)]
mod tests;
