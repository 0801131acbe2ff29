//! Warning events: what is wrong with an object, where `kubectl describe` shows it. They follow from statuses that were
//! written, so there are no more of them than writes, and fewer: at most 5 a second. What does not fit is dropped and
//! counted, for the condition says the same.
//!
//! An event is named after what it says, so that saying it again, even from another replica, counts it once more instead of
//! adding one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use xxhash_rust::xxh3::xxh3_64;

use super::Term;
use super::counts::Counts;
use super::desired::PENDING;
use super::says::{Says, Told};
use crate::refusal::sentence;

const CONTROLLER: &str = "serving.volcano.sh/kthena-controlplane";
const BETWEEN: Duration = Duration::from_millis(200);
const ANSWER_TIME: Duration = Duration::from_secs(4);
/// The API server's limits, in bytes.
const NOTE: usize = 1024;
const NAME: usize = 253;
const INSTANCE: usize = 128;
/// That wait to be written.
const QUEUE: usize = 256;

/// One that is to be written by whoever leads still.
#[derive(Debug)]
struct Warning {
    event: Box<Event>,
    term: Term,
}

/// Where warnings are handed in.
#[derive(Debug, Clone)]
pub(super) struct Warnings {
    queue: mpsc::Sender<Warning>,
    instance: String,
    counts: Counts,
}

impl Warnings {
    /// And what writes them: a future that does not end before all of these are dropped.
    pub(super) fn new(client: Client, instance: String, counts: Counts) -> (Self, impl Future<Output = ()>) {
        let (queue, queued) = mpsc::channel(QUEUE);
        (Self { queue, instance, counts: counts.clone() }, write_all(client, queued, counts))
    }

    /// What has become wrong with an object whose status said `before`.
    pub(super) fn tell(&self, regarding: &ObjectReference, before: Option<&Says>, after: &Says, term: &Term) {
        for told in warnings(before, after) {
            let event = Box::new(event(regarding, told, &self.instance, Timestamp::now()));
            if self.queue.try_send(Warning { event, term: term.clone() }).is_err() {
                self.counts.event("dropped");
            }
        }
    }
}

/// Conditions that are False and were not so, with this reason, in this generation. That data planes have not answered yet is not wrong,
/// and what is not accepted need not be said twice.
fn warnings<'a>(before: Option<&'a Says>, after: &'a Says) -> impl Iterator<Item = &'a Told> {
    let before = before.filter(|before| before.generation == after.generation);
    let accepted = after.condition("Accepted").map(|told| told.reason.as_str());
    let news = move |told: &&Told| {
        let known = before.and_then(|before| before.condition(&told.kind)).is_some_and(|old| old.same(told));
        let again = told.kind != "Accepted" && Some(told.reason.as_str()) == accepted;
        !told.holds && !known && !again && told.reason != PENDING
    };
    after.conditions.iter().filter(news)
}

fn event(regarding: &ObjectReference, told: &Told, instance: &str, now: Timestamp) -> Event {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let says = [&text(&regarding.uid), &told.kind, &told.reason, &told.message].map(String::as_str).join("\n");
    let name = format!(
        "{}.{:016x}",
        cut(&text(&regarding.name), NAME - 17).trim_end_matches(['-', '.']),
        xxh3_64(says.as_bytes())
    );
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: regarding.namespace.clone(), ..ObjectMeta::default() },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(instance, INSTANCE).to_owned()),
        action: Some(told.kind.clone()),
        reason: Some(told.reason.clone()),
        note: Some(cut(&told.message, NOTE).to_owned()),
        regarding: Some(regarding.clone()),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

async fn write_all(client: Client, mut queued: mpsc::Receiver<Warning>, counts: Counts) {
    while let Some(Warning { event, term }) = queued.recv().await {
        let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
        let api = Api::namespaced(client.clone(), namespace);
        let written =
            if term.lasts() { timeout(ANSWER_TIME, write(&api, &event, &term)).await } else { Ok(Ok("dropped")) };
        let result = written.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIME:?}")));
        counts.event(result.as_ref().map_or("failed", |result| result));
        if let Err(error) = result {
            tracing::warn!(event = event.metadata.name, error, "an event is not written");
        }
        sleep(BETWEEN).await;
    }
}

async fn write(api: &Api<Event>, event: &Event, term: &Term) -> Result<&'static str, String> {
    match api.create(&PostParams::default(), event).await {
        Ok(_) => Ok("created"),
        Err(Error::Api(status)) if status.code == 409 => {
            if term.lasts() {
                repeat(api, event, term).await.map_err(|error| sentence(&error))
            } else {
                Ok("dropped")
            }
        }
        Err(error) => Err(sentence(&error)),
    }
}

/// It is there already: it happened once more. As with a status, `term` is asked right before the write, and the version that was read
/// settles what comes after that.
async fn repeat(api: &Api<Event>, event: &Event, term: &Term) -> Result<&'static str, Error> {
    let name = event.metadata.name.as_deref().unwrap_or_default();
    let there = api.get(name).await?;
    if !term.lasts() {
        return Ok("dropped");
    }
    let count = there.series.map_or(1, |series| series.count).saturating_add(1);
    let again = json!({
        "metadata": {"resourceVersion": there.metadata.resource_version},
        "series": {"count": count, "lastObservedTime": event.event_time},
    });
    api.patch(name, &PatchParams::default(), &Patch::Merge(again)).await?;
    Ok("repeated")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(generation: i64, conditions: &[(&str, bool, &str)]) -> Says {
        let told = |&(kind, holds, reason): &(&str, bool, &str)| Told::new(kind, holds, reason, "m");
        Says { generation, conditions: conditions.iter().map(told).collect(), data_planes: None, last_good: None }
    }

    #[track_caller]
    fn check(before: Option<&Says>, after: &Says, expected: &[&str]) {
        let found: Vec<&str> = warnings(before, after).map(|told| told.reason.as_str()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_turns_false_is_a_warning_once_per_generation() {
        let good = says(1, &[("Accepted", true, "Accepted"), ("Programmed", true, "Programmed")]);
        let refused = says(1, &[("Accepted", true, "Accepted"), ("Programmed", false, "Refused")]);
        check(None, &good, &[]);
        check(Some(&good), &refused, &["Refused"]);
        check(Some(&refused), &refused, &[]);
        check(Some(&refused), &good, &[]);
        check(Some(&refused), &Says { generation: 2, ..refused.clone() }, &["Refused"]);
    }

    #[test]
    fn what_is_not_accepted_is_said_once_and_waiting_is_not_wrong() {
        check(None, &says(1, &[("Accepted", false, "Invalid"), ("Programmed", false, "Invalid")]), &["Invalid"]);
        check(None, &says(1, &[("Accepted", true, "Accepted"), ("Programmed", false, PENDING)]), &[]);
    }

    fn regarding(name: &str, uid: &str) -> ObjectReference {
        ObjectReference { name: Some(name.into()), uid: Some(uid.into()), ..ObjectReference::default() }
    }

    #[test]
    fn an_event_is_named_after_what_it_says_of_which_object() {
        let name = |uid: &str, message: &str| {
            let told = Told::new("Accepted", false, "Invalid", message);
            event(&regarding("r", uid), &told, "i", Timestamp::UNIX_EPOCH).metadata.name.unwrap()
        };
        assert_eq!(name("1", "m"), name("1", "m"));
        assert_ne!(name("1", "m"), name("2", "m"));
        assert_ne!(name("1", "m"), name("1", "n"));
    }

    #[test]
    fn the_limits_of_the_api_server_are_kept() {
        let told = Told::new("Accepted", false, "Invalid", &"é".repeat(2000));
        let long = format!("{}.b", "a".repeat(235));
        let event = event(&regarding(&long, "1"), &told, &"i".repeat(300), Timestamp::UNIX_EPOCH);
        let name = event.metadata.name.unwrap();
        assert!(crate::naming::is_subdomain(&name), "{name}");
        assert_eq!((event.note.unwrap().len(), event.reporting_instance.unwrap().len()), (NOTE, INSTANCE));
    }
}
