//! The scheduler's ConfigMap has no status, so whoever leads keeps its last good form in an annotation of it, while what it says is
//! refused: `due` says what is to be written, from what was read and what became of it, and the rest writes that, over the version
//! that was read and no other: who wrote since is not written over, whoever leads by then.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::chance::{jittered, random};
use crate::lease::Leadership;
use crate::publish::{Fallback, GoodForm};
use crate::refusal::sentence;
use crate::run::Round;
use crate::source::manifest::SCHEDULER_LAST_GOOD;
use crate::world::{ObjectName, Scheduler};

const MANAGER: &str = "kthena-controlplane-configuration";
/// For a write; as long as that of a status.
const ANSWER_TIME: Duration = Duration::from_secs(4);
/// After a write: what comes of it is read meanwhile.
const PAUSE: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// What is to be kept by which ConfigMap.
#[derive(Debug, Clone, PartialEq)]
struct Due {
    name: ObjectName,
    /// Which of all that ever had its name.
    uid: Arc<str>,
    /// The resourceVersion from which that follows.
    version: i64,
    /// None where nothing is needed any more.
    form: Option<Arc<GoodForm>>,
}

/// None where it keeps that already, or lives in no cluster. A form that is kept and is not known to be good stays, and so does one that
/// is later than what is known here.
fn due(round: &Round) -> Option<Due> {
    let Scheduler { name, held } = round.world.scheduler.as_ref()?;
    let kept = held.last_good.as_deref();
    let (is_kept, is_later) = (kept.is_some(), |version| kept.is_some_and(|kept| kept.generation > version));
    let (due, form) = match &round.verdicts.scheduler.as_ref()?.fallback {
        Fallback::Missing => return None,
        Fallback::Unneeded => (is_kept, None),
        Fallback::TooLarge(version) => (is_kept && !is_later(*version), None),
        Fallback::Kept(good) => {
            let differs = kept.is_none_or(|kept| good.spec != **kept.spec);
            (differs && !is_later(good.generation), Some(good.clone()))
        }
    };
    let (name, uid, version) = (name.clone(), held.uid.clone(), held.generation);
    (due && !uid.is_empty() && version > 0).then_some(Due { name, uid, version, form })
}

impl Due {
    /// By which another ConfigMap of its name is left alone, and none is made; and so is this one if it is not as it was read.
    fn patch(&self) -> Value {
        let Self { name, uid, version, form } = self;
        let mut patch = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "namespace": *name.namespace, "name": *name.name, "uid": **uid, "resourceVersion": version.to_string(),
            },
        });
        if let Some(GoodForm { generation, spec }) = form.as_deref() {
            let kept = json!({"uid": **uid, "resourceVersion": generation.to_string(), "text": spec}).to_string();
            patch["metadata"]["annotations"] = json!({SCHEDULER_LAST_GOOD: kept});
        }
        patch
    }
}

/// Keeps it so while this process leads; ends when nothing can change any more.
pub(super) async fn run(
    client: Client,
    mut rounds: watch::Receiver<Option<Arc<Round>>>,
    mut leadership: watch::Receiver<Leadership>,
) {
    let leads = |leadership: &watch::Receiver<Leadership>| leadership.borrow().term(Instant::now()).is_some();
    loop {
        let due = rounds.borrow_and_update().as_deref().and_then(due);
        leadership.mark_unchanged();
        let Some(due) = due.filter(|_| leads(&leadership)) else {
            let changed = tokio::select! {
                changed = rounds.changed() => changed,
                changed = leadership.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
            continue;
        };
        let pause = match write(&client, &due).await {
            Ok(()) => PAUSE,
            Err(why) => {
                tracing::warn!(object = %due.name, why, "the last good form of the scheduler's configuration is not kept");
                RETRY
            }
        };
        sleep(jittered(pause, random())).await;
    }
}

async fn write(client: &Client, due: &Due) -> Result<(), String> {
    let api = Api::<ConfigMap>::namespaced(client.clone(), &due.name.namespace);
    let parameters = PatchParams::apply(MANAGER).force();
    let patch = due.patch();
    match timeout(ANSWER_TIME, api.patch(&due.name.name, &parameters, &Patch::Apply(patch))).await {
        Ok(Ok(_)) => Ok(()),
        // It is another one by now, or says something else, and what is read of that says what is due.
        Ok(Err(Error::Api(status))) if status.code == 409 => Ok(()),
        Ok(Err(error)) => Err(sentence(&error)),
        Err(_) => Err(format!("the API server did not answer within {ANSWER_TIME:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{Memory, Settings, build};
    use crate::world::{Held, LastGood, Seniority, World};

    const GOOD: &str = "scheduler: {plugins: {Score: {enabled: [{name: gpu-usage, weight: 1}]}}}";

    /// A round of a ConfigMap that says this at version 30 and keeps that of some version, after it said something before at version 10.
    fn round(uid: &str, before: &str, now: &str, kept: Option<(i64, &str)>) -> Round {
        let world = |generation, text: &str| {
            let form = |(generation, text): (i64, &str)| LastGood { generation, spec: Arc::new(text.to_owned()) };
            let last_good = kept.map(|kept| Arc::new(form(kept)));
            let spec = Ok(Arc::new(text.to_owned()));
            let held = Held { uid: uid.into(), generation, seniority: Seniority::Created(1), spec, last_good };
            World { scheduler: Some(Scheduler { name: ObjectName::new("k", "c"), held }), ..World::default() }
        };
        let mut memory = Memory::default();
        build(&world(10, before), &Settings::default(), &mut memory);
        let built = build(&world(30, now), &Settings::default(), &mut memory);
        Round { world: world(30, now), verdicts: built.verdicts, snapshot: Arc::new(built.snapshot) }
    }

    /// What is due is a text and its version, or nothing in the place of one.
    #[track_caller]
    fn check((before, now): (&str, &str), kept: Option<(i64, &str)>, expected: Option<Option<(i64, &str)>>) {
        let due = due(&round("u", before, now, kept));
        let form = |due: &Due| due.form.as_ref().map(|good| (good.generation, good.spec.as_str().unwrap().to_owned()));
        let expected = expected.map(|form| form.map(|(version, text)| (version, text.to_owned())));
        assert_eq!(due.as_ref().map(form), expected, "{before} {now} {kept:?}");
    }

    #[test]
    fn the_form_that_is_in_force_is_kept_as_long_as_it_is_needed() {
        let (bad, other) = ("scheduler: 7", "scheduler: {}");
        check((GOOD, GOOD), None, None);
        check((GOOD, bad), None, Some(Some((10, GOOD))));
        check((GOOD, bad), Some((10, GOOD)), None);
        check((GOOD, bad), Some((9, GOOD)), None);
        check((GOOD, bad), Some((9, other)), Some(Some((10, GOOD))));
        // An earlier release kept it.
        check((GOOD, bad), Some((0, other)), Some(Some((10, GOOD))));
        // After a restart.
        check((bad, bad), Some((10, GOOD)), None);
        check((bad, bad), None, None);
        check((bad, bad), Some((10, bad)), None);
        check((bad, GOOD), Some((9, other)), Some(None));
    }

    #[test]
    fn c11_who_missed_an_edit_leaves_the_later_form_that_another_one_kept() {
        let bad = "scheduler: 7";
        check((GOOD, bad), Some((20, "scheduler: {}")), None);
        // As another release took it.
        check((GOOD, bad), Some((20, "scheduler: 8")), None);
    }

    #[test]
    fn one_of_a_directory_has_no_annotations() {
        assert_eq!(due(&round("", GOOD, "scheduler: 7", None)), None);
    }

    #[test]
    fn what_is_written_is_of_this_very_config_map_as_it_was_read_and_takes_nothing_else_along() {
        let due = due(&round("u", GOOD, "scheduler: 7", None)).unwrap();
        let kept = json!({"uid": "u", "resourceVersion": "10", "text": GOOD}).to_string();
        let expected = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "namespace": "k", "name": "c", "uid": "u", "resourceVersion": "30",
                "annotations": {"networking.serving.volcano.sh/last-good-router-configuration": kept},
            },
        });
        assert_eq!(due.patch(), expected);
        assert!(Due { form: None, ..due }.patch()["metadata"]["annotations"].is_null());
    }
}
