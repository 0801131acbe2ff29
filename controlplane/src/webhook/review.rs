//! One question of the API server, answered: an AdmissionReview goes in, an AdmissionReview comes out. Pure.
//!
//! A CREATE is judged as [`object::admit`] does; an UPDATE only where its spec differs from the old one's, so that an object from before a
//! rule can still lose its finalizers and get labels. Nothing else is judged. Fields that the schema lacks never arrive, for the API server
//! prunes them; a field that it has and we have not comes from a newer release's definitions, and is a warning.

use kube::core::Status;
use kube::core::response::{StatusCause, StatusDetails, StatusSummary};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::notes;
use crate::object::{self, Kind, Object, Unknown};
use crate::problem::Problem;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Why it is no question of an API server.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It cannot be read.
    #[error("not an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// It is something else.
    #[error("not an AdmissionReview of {API_VERSION}, but {kind:?} of {api_version:?}")]
    Other {
        /// What it says it is.
        api_version: String,
        /// What it says it is.
        kind: String,
    },
    /// It is an answer.
    #[error("an AdmissionReview without a request")]
    NoRequest,
}

/// What the API server asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

/// Of its fields those that are looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    uid: String,
    operation: Operation,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Operation {
    Create,
    Update,
    /// Deletions, connections, and whatever may come.
    #[serde(other)]
    Other,
}

impl Request {
    /// Reads a body.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let Review { api_version, kind, request } = serde_json::from_slice(body)?;
        if api_version != API_VERSION || kind != KIND {
            return Err(Malformed::Other { api_version, kind });
        }
        request.ok_or(Malformed::NoRequest)
    }

    /// Judges it.
    pub fn judge(self) -> Answer {
        let Self { uid, operation, object, old_object } = self;
        let old = match operation {
            Operation::Create => None,
            Operation::Update if object["spec"] == old_object["spec"] => return Answer::allowed(uid, Vec::new()),
            Operation::Update => Some(old_object),
            Operation::Other => return Answer::allowed(uid, Vec::new()),
        };
        let Some(kind) = Kind::of(&object) else {
            let warning =
                "not one of Kthena's kinds: name only these in the rules of the ValidatingWebhookConfiguration";
            return Answer::allowed(uid, vec![warning.to_owned()]);
        };
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        match verdict(kind, object, old) {
            Ok(warnings) => Answer::allowed(uid, warnings),
            Err(problems) => Answer::refused(uid, kind, name, &problems),
        }
    }
}

/// What of the object has no effect, or what is wrong with it.
fn verdict(kind: Kind, mut object: Value, mut old: Option<Value>) -> Result<Vec<String>, Vec<Problem>> {
    // With an update comes the stored status, whatever release wrote it; it is not what the user asks for.
    for object in [Some(&mut object), old.as_mut()].into_iter().flatten() {
        object.as_object_mut().map(|fields| fields.remove("status"));
    }
    let mut warnings = notes::unknown_fields(kind, &object);
    let object = object::admit(kind, object, Unknown::Drop)?;
    // An old object that would not be admitted today has no typed form to compare with; it is being mended.
    let problems = match old.map(|old| object::admit(kind, old, Unknown::Drop)) {
        Some(Ok(old)) => object.replaces(&old),
        Some(Err(_)) | None => Vec::new(),
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    warnings.extend(published(object)?);
    Ok(warnings)
}

/// What the publisher would say of it.
fn published(object: Object) -> Result<Vec<String>, Vec<Problem>> {
    let notes::Alone { refusal, notes } = notes::alone(object);
    match refusal {
        Some(sentence) => Err(vec![Problem { path: "spec".to_owned(), sentence }]),
        None => Ok(notes),
    }
}

/// What the API server is told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Debug, Serialize)]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Box<Status>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Answer {
    fn allowed(uid: String, warnings: Vec<String>) -> Self {
        Self::of(Response { uid, allowed: true, status: None, warnings })
    }

    /// As the API server words its own refusals by a schema: kubectl prints each cause with its field.
    fn refused(uid: String, kind: Kind, name: String, problems: &[Problem]) -> Self {
        let message = problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; ");
        let cause = |problem: &Problem| StatusCause {
            reason: "FieldValueInvalid".to_owned(),
            message: problem.sentence.clone(),
            field: problem.path.clone(),
        };
        let details = StatusDetails {
            name,
            group: kind.group().to_owned(),
            kind: kind.name().to_owned(),
            uid: String::new(),
            causes: problems.iter().map(cause).collect(),
            retry_after_seconds: 0,
        };
        let status = Status {
            status: Some(StatusSummary::Failure),
            code: 422,
            message,
            metadata: None,
            reason: "Invalid".to_owned(),
            details: Some(details),
        };
        Self::of(Response { uid, allowed: false, status: Some(Box::new(status)), warnings: Vec::new() })
    }

    fn of(response: Response) -> Self {
        Self { api_version: API_VERSION, kind: KIND, response }
    }

    /// Whether the API server may go on.
    pub fn is_allowed(&self) -> bool {
        self.response.allowed
    }

    /// What the user is told although it may.
    pub fn warnings(&self) -> &[String] {
        &self.response.warnings
    }

    /// The refusal, where it is one.
    pub fn status(&self) -> Option<&Status> {
        self.response.status.as_deref()
    }
}
