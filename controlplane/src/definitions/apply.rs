//! Carrying the plans out.

use std::fmt;
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams, ValidationDirective};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::plan::{Plan, plan};
use super::{MANAGER, Release};
use crate::object::Kind;

/// How often one definition is read anew because somebody else changed it meanwhile.
const TRIES: usize = 10;
/// How long the API server may take until it serves a definition.
const ESTABLISHED: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What became of a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was another one.
    Updated,
    /// It was as it should be.
    Unchanged,
    /// It is of this newer release and stayed.
    Kept(Release),
}

/// Why a definition could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused it, or did not answer.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// Its annotation may mean a newer schema.
    #[error("annotation {annotation}: {0}; take it away to have the definition replaced", annotation = super::RELEASE)]
    Unclear(String),
    /// It was changed by somebody else at each try.
    #[error("somebody else changes it all the time")]
    Contended,
    /// The API server does not serve it.
    #[error("it is not established after {ESTABLISHED:?}: {0}")]
    NotEstablished(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Updated => f.write_str("updated"),
            Self::Unchanged => f.write_str("unchanged"),
            Self::Kept(release) => write!(f, "kept: its schema is of {release}, which is newer"),
        }
    }
}

/// Brings the definition of a kind up to date as `release` knows it, and waits until it is served.
pub async fn apply(client: &Client, kind: Kind, release: &Release) -> Result<Outcome, Error> {
    let resource = ApiResource::erase::<CustomResourceDefinition>(&());
    // Untyped, so that nothing of the schema is lost on its way.
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let name = format!("{}.{}", kind.plural(), kind.group());
    for _ in 0..TRIES {
        if let Some(outcome) = once(&api, &name, kind, release).await? {
            established(&api, &name).await?;
            return Ok(outcome);
        }
    }
    Err(Error::Contended)
}

/// None where somebody else was faster.
async fn once(api: &Api<DynamicObject>, name: &str, kind: Kind, release: &Release) -> Result<Option<Outcome>, Error> {
    let held = api.get_opt(name).await?.map(|held| serde_json::to_value(held).expect("it was JSON"));
    let before = held.as_ref().and_then(|held| held["metadata"]["resourceVersion"].as_str());
    let done = match plan(kind, release, held.as_ref()) {
        Plan::Keep(newer) => return Ok(Some(Outcome::Kept(newer))),
        Plan::Unclear(sentence) => return Err(Error::Unclear(sentence)),
        Plan::Create(wanted) => create(api, wanted).await.map(|()| Outcome::Created),
        Plan::Apply(wanted) => {
            let patched = api.patch(name, &parameters(), &Patch::Apply(&wanted)).await;
            let unchanged = |after: DynamicObject| after.metadata.resource_version.as_deref() == before;
            patched.map(|after| if unchanged(after) { Outcome::Unchanged } else { Outcome::Updated })
        }
    };
    match done {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        other => Ok(other.map(Some)?),
    }
}

/// Not by apply, which would overwrite what somebody else created meanwhile.
async fn create(api: &Api<DynamicObject>, wanted: Value) -> kube::Result<()> {
    let wanted: DynamicObject = serde_json::from_value(wanted).expect("a definition is an object");
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    api.create(&parameters, &wanted).await.map(drop)
}

fn parameters() -> PatchParams {
    PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::apply(MANAGER).force() }
}

async fn established(api: &Api<DynamicObject>, name: &str) -> Result<(), Error> {
    let deadline = Instant::now() + ESTABLISHED;
    loop {
        let conditions = api.get(name).await?.data["status"]["conditions"].take();
        let is = |name: &str| {
            let named = |condition: &&Value| condition["type"] == name && condition["status"] == "True";
            conditions.as_array().and_then(|all| all.iter().find(named)).is_some()
        };
        match is("Established") {
            true => return Ok(()),
            false if Instant::now() > deadline => return Err(Error::NotEstablished(conditions.to_string())),
            false => sleep(LOOK_EVERY).await,
        }
    }
}
