//! Reads objects and writes their statuses: carries out what `plan` decides.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::kept;
use super::key::{Key, conditions, is_shared, resource};
use super::plan::{Outcome, Task};
use super::says::Says;
use crate::object::Kind;
use crate::refusal::{retry_after, sentence};
use crate::world::ObjectName;

/// The field manager of all statuses.
const MANAGER: &str = "kthena-controlplane-status";
/// For the read and the write of one status. Whoever leads gives up longer than this before another may take over, see
/// [`crate::lease::Options`], so that a write has ended by then.
const ANSWER_TIME: Duration = Duration::from_secs(4);
/// For one page.
const LIST_TIME: Duration = Duration::from_secs(30);
const PAGE: u32 = 500;

/// All objects whose status is written.
#[derive(Clone)]
pub(super) struct Statuses {
    client: Client,
    /// All where it is empty.
    namespaces: Vec<String>,
}

impl Statuses {
    pub(super) fn new(client: Client, namespaces: Vec<String>) -> Self {
        Self { client, namespaces }
    }

    /// What all of them say; those that say nothing that could stay are left out.
    pub(super) async fn list(&self) -> Result<HashMap<Key, Says>, String> {
        let mut all = HashMap::new();
        for kind in Kind::ALL {
            if self.namespaces.is_empty() {
                pages(kind, &Api::all_with(self.client.clone(), &resource(kind)), &mut all).await?;
            }
            for namespace in &self.namespaces {
                let api = Api::namespaced_with(self.client.clone(), namespace, &resource(kind));
                pages(kind, &api, &mut all).await?;
            }
        }
        Ok(all)
    }

    /// Writes one status, unless it says so already, or says something else than was known. `leads` is asked at the last
    /// moment; what comes after that moment the resourceVersion settles. A reference to the object comes along where it was written.
    pub(super) async fn write(&self, task: &Task, leads: impl Fn() -> bool) -> (Outcome, Option<ObjectReference>) {
        match timeout(ANSWER_TIME, self.attempt(task, leads)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => (meaning(task, &error), None),
            Err(_) => {
                let within = ANSWER_TIME;
                tracing::warn!(object = %task.key, ?within, "the API server did not answer, so a status is not written");
                (Outcome::Failed(None), None)
            }
        }
    }

    async fn attempt(
        &self,
        task: &Task,
        leads: impl Fn() -> bool,
    ) -> Result<(Outcome, Option<ObjectReference>), Error> {
        let Task { key: Key { kind, name }, said, wanted, uid, fallback } = task;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &name.namespace, &resource(*kind));
        let object = api.get(&name.name).await?;
        let other = !uid.is_empty() && object.metadata.uid.as_deref() != Some(uid);
        if other || object.metadata.generation != Some(wanted.generation) {
            return Ok((Outcome::Stale, None));
        }
        let says = says(*kind, &object);
        if says != *said {
            return Ok((Outcome::Found(says), None));
        }
        let before = &object.data["status"];
        let mut status = wanted.status(before, is_shared(*kind), Timestamp::now());
        if let Some(form) = kept::form(fallback, before, &object.metadata) {
            status[kept::FIELD] = form;
        }
        if !leads() {
            return Ok((Outcome::Lost, None));
        }
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = patch(task, &object, status);
        let written = api.patch_status(&name.name, &parameters, &Patch::Apply(&patch)).await;
        match written {
            Err(error) if kept::is_unknown(&error) && leads() => {
                tracing::warn!(object = %task.key, "the last good form is not kept: bring the definitions up to date");
                let patch = kept::without(patch);
                api.patch_status(&name.name, &parameters, &Patch::Apply(&patch)).await?;
            }
            done => drop(done?),
        }
        Ok((Outcome::Written, Some(reference(task, &object))))
    }
}

/// What a status says that is this very object's.
fn says(kind: Kind, object: &DynamicObject) -> Option<Says> {
    let status = &object.data["status"];
    let says = Says::read(status, conditions(kind), is_shared(kind))?;
    let own = kept::is_own(&status[kept::FIELD], &object.metadata);
    Some(Says { last_good: says.last_good.filter(|_| own), ..says })
}

async fn pages(kind: Kind, api: &Api<DynamicObject>, all: &mut HashMap<Key, Says>) -> Result<(), String> {
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let listed = timeout(LIST_TIME, api.list(&parameters)).await;
        let listed = listed.map_err(|_| format!("no answer within {LIST_TIME:?}"));
        let page = match listed.and_then(|listed| listed.map_err(|error| sentence(&error))) {
            Ok(page) => page,
            Err(why) => {
                let why = format!("{kind}: {why}");
                // Of a kind that decides nothing, nothing is lost by that: a status is read before it is written. Others do not wait for it.
                if is_shared(kind) {
                    tracing::debug!("cannot list objects, so what their statuses say is read one by one: {why}");
                    return Ok(());
                }
                return Err(why);
            }
        };
        for object in page.items {
            let Some(says) = says(kind, &object) else { continue };
            let name = ObjectName::new(
                object.metadata.namespace.unwrap_or_default(),
                object.metadata.name.unwrap_or_default(),
            );
            all.insert(Key { kind, name }, says);
        }
        match page.metadata.continue_.filter(|more| !more.is_empty()) {
            Some(more) => parameters = parameters.continue_token(&more),
            None => return Ok(()),
        }
    }
}

fn patch(task: &Task, object: &DynamicObject, status: Value) -> Value {
    let Key { kind, name } = &task.key;
    let ObjectName { namespace, name } = name;
    // With force, for nobody else is to write these fields, of a list of conditions our own alone; but only over what was read.
    let version = &object.metadata.resource_version;
    json!({
        "apiVersion": resource(*kind).api_version, "kind": kind.name(),
        "metadata": {"namespace": **namespace, "name": **name, "resourceVersion": version},
        "status": status,
    })
}

fn reference(task: &Task, object: &DynamicObject) -> ObjectReference {
    let Key { kind, name } = &task.key;
    ObjectReference {
        api_version: Some(resource(*kind).api_version),
        kind: Some(kind.name().to_owned()),
        namespace: Some(name.namespace.to_string()),
        name: Some(name.name.to_string()),
        uid: object.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn meaning(task: &Task, error: &Error) -> Outcome {
    match error {
        Error::Api(status) if status.code == 409 => Outcome::Conflict,
        Error::Api(status) if status.code == 404 => Outcome::Gone,
        error => {
            tracing::warn!(object = %task.key, error = sentence(error), "a status is not written");
            let Error::Api(status) = error else { return Outcome::Failed(None) };
            Outcome::Failed(retry_after(status))
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::publish::Fallback;
    use crate::status::says::Told;

    fn task() -> Task {
        let key = Key { kind: Kind::ModelRoute, name: ObjectName::new("ns", "r") };
        let conditions = vec![Told::new("Accepted", true, "Accepted", "")];
        let wanted = Says { generation: 3, conditions, data_planes: None, last_good: None };
        Task { key, said: None, wanted, uid: "u".into(), fallback: Fallback::Unneeded }
    }

    #[test]
    fn a_patch_is_of_the_version_that_was_read_and_of_nothing_but_the_status() {
        let mut object = DynamicObject::new("r", &resource(Kind::ModelRoute));
        object.metadata.resource_version = Some("77".into());
        let patch = patch(&task(), &object, json!({"observedGeneration": 3}));
        let expected = json!({
            "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
            "metadata": {"namespace": "ns", "name": "r", "resourceVersion": "77"},
            "status": {"observedGeneration": 3},
        });
        assert_eq!(patch, expected);
    }

    #[test]
    fn answers_mean_what_they_mean() {
        let check = |code: u16, expected: Outcome| {
            let error = Error::Api(Status { code, ..Status::failure("no", "") }.boxed());
            assert_eq!(meaning(&task(), &error), expected, "{code}");
        };
        check(409, Outcome::Conflict);
        check(404, Outcome::Gone);
        for code in [401, 403, 422, 429, 500, 503] {
            check(code, Outcome::Failed(None));
        }
        let mut status = Status { code: 429, ..Status::failure("slow down", "") };
        status.details = serde_json::from_value(json!({"retryAfterSeconds": 7})).unwrap();
        let error = Error::Api(status.boxed());
        assert_eq!(meaning(&task(), &error), Outcome::Failed(Some(Duration::from_secs(7))));
    }
}
