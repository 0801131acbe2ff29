//! Where the lease lies.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use kube::{Client, Error};

/// Why it could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// Another wrote it after it was read.
    #[error("it was written by another meanwhile")]
    Conflict,
    #[error("the API server did not answer within {0:?}")]
    Late(Duration),
    #[error("{0}")]
    Other(String),
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            // Of a creation this is AlreadyExists. One that was deleted meanwhile is created at the next look.
            Error::Api(status) if status.code == 409 => Self::Conflict,
            Error::Api(status) => Self::Other(status.message.clone()),
            other => Self::Other(other.to_string()),
        }
    }
}

/// One lease.
pub(super) trait Store: Send + Sync {
    /// None where there is none.
    fn read(&self) -> impl Future<Output = Result<Option<Lease>, StoreError>> + Send;

    /// Creates it where it has no resourceVersion, else replaces just that version.
    fn write(&self, lease: Lease) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A Lease of the cluster.
#[derive(Debug)]
pub(super) struct InCluster {
    leases: Api<Lease>,
    name: String,
}

impl InCluster {
    pub(super) fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), name: name.to_owned() }
    }
}

impl Store for InCluster {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        Ok(self.leases.get_opt(&self.name).await?)
    }

    async fn write(&self, mut lease: Lease) -> Result<(), StoreError> {
        let parameters = PostParams::default();
        match &lease.metadata.resource_version {
            Some(_) => self.leases.replace(&self.name, &parameters, &lease).await?,
            None => {
                lease.metadata.name = Some(self.name.clone());
                self.leases.create(&parameters, &lease).await?
            }
        };
        Ok(())
    }
}
