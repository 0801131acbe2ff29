//! What a status says, as we write it: from its JSON, and back to it.

use jiff::Timestamp;
use serde_json::{Value, json};

/// Of a sentence; the rest of a longer one is in the log.
const LONGEST: usize = 4096;

/// Our part of a status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Says {
    /// Which generation it speaks of.
    pub(super) generation: i64,
    /// In the order in which they are written.
    pub(super) conditions: Vec<Told>,
    pub(super) data_planes: Option<Counts>,
    /// The generation of the form that it keeps while the newest one is refused.
    pub(super) last_good: Option<i64>,
}

/// One condition, without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) kind: String,
    pub(super) holds: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// Data planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: usize,
    pub(super) connected: usize,
}

impl Counts {
    pub(super) fn of(acknowledged: usize, connected: usize) -> Self {
        Self { acknowledged, connected }
    }

    fn read(status: &Value) -> Option<Self> {
        let number = |field: &str| usize::try_from(status["dataPlanes"][field].as_u64().unwrap_or(0)).ok();
        status.get("dataPlanes").filter(|counts| !counts.is_null())?;
        Some(Self { acknowledged: number("acknowledged")?, connected: number("connected")? })
    }
}

impl Told {
    pub(super) fn new(kind: &str, holds: bool, reason: &str, message: &str) -> Self {
        let message = if message.len() > LONGEST {
            let cut = message.floor_char_boundary(LONGEST - '…'.len_utf8());
            format!("{}…", &message[..cut])
        } else {
            message.to_owned()
        };
        Self { kind: kind.to_owned(), holds, reason: reason.to_owned(), message }
    }

    /// But for the sentence.
    pub(super) fn same(&self, other: &Self) -> bool {
        (&self.kind, self.holds, &self.reason) == (&other.kind, other.holds, &other.reason)
    }

    fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }
}

impl Says {
    /// Of an object's status, those conditions that are of `kinds`, in their order. None where one is missing, is Unknown, or speaks of
    /// another generation than the whole: then it says nothing that could stay. Of a status that is shared the whole is what the first
    /// of them speaks of.
    pub(super) fn read(status: &Value, kinds: &[&str], shared: bool) -> Option<Self> {
        let whole = if shared { entry(status, kinds.first()?)? } else { status };
        let generation = whole["observedGeneration"].as_i64()?;
        let conditions = kinds.iter().map(|kind| {
            let found = entry(status, kind).filter(|found| found["observedGeneration"] == generation)?;
            let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
            let holds = match found["status"].as_str()? {
                "True" => true,
                "False" => false,
                _ => return None,
            };
            Some(Told { kind: (*kind).to_owned(), holds, reason: text("reason"), message: text("message") })
        });
        let (data_planes, last_good) = (Counts::read(status), status["lastGood"]["generation"].as_i64());
        Some(Self { generation, conditions: conditions.collect::<Option<_>>()?, data_planes, last_good })
    }

    pub(super) fn condition(&self, kind: &str) -> Option<&Told> {
        self.conditions.iter().find(|told| told.kind == kind)
    }

    /// The status as it is written over `before`, but for the form that it keeps; one that is shared says nothing but conditions. Only what
    /// turns has a new time.
    pub(super) fn status(&self, before: &Value, shared: bool, now: Timestamp) -> Value {
        let condition = |told: &Told| {
            let stays = entry(before, &told.kind).filter(|old| old["status"] == told.status());
            let since = stays.and_then(|old| old["lastTransitionTime"].as_str()).map(str::to_owned);
            json!({
                "type": told.kind, "status": told.status(), "reason": told.reason, "message": told.message,
                "observedGeneration": self.generation,
                "lastTransitionTime": since.unwrap_or_else(|| now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            })
        };
        let conditions: Vec<Value> = self.conditions.iter().map(condition).collect();
        let mut status = json!({ "conditions": conditions });
        if !shared {
            status["observedGeneration"] = self.generation.into();
        }
        if let Some(Counts { acknowledged, connected }) = self.data_planes {
            status["dataPlanes"] = json!({"acknowledged": acknowledged, "connected": connected});
        }
        status
    }
}

fn entry<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [&str; 2] = ["Accepted", "Programmed"];

    fn says(holds: bool) -> Says {
        Says {
            generation: 3,
            conditions: vec![Told::new("Accepted", true, "Accepted", ""), Told::new("Programmed", holds, "R", "m")],
            data_planes: Some(Counts::of(1, 2)),
            last_good: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = says(true).status(&json!({}), false, at(0));
        assert_eq!(Says::read(&written, &KINDS, false), Some(says(true)));
        let mut keeping = written;
        keeping["lastGood"] = json!({"generation": 2, "uid": "u", "spec": {}});
        assert_eq!(Says::read(&keeping, &KINDS, false), Some(Says { last_good: Some(2), ..says(true) }));
    }

    #[test]
    fn only_a_condition_that_turns_has_a_new_time() {
        let first = says(false).status(&json!({}), false, at(0));
        let other = Says { generation: 4, ..says(true) };
        let second = other.status(&first, false, at(60));
        let times = second["conditions"].as_array().unwrap().iter().map(|it| it["lastTransitionTime"].as_str());
        let times: Vec<_> = times.map(Option::unwrap).collect();
        assert_eq!(times, ["1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"]);
    }

    #[test]
    fn a_status_that_lacks_something_says_nothing() {
        let whole = says(true).status(&json!({}), false, at(0));
        let without = |change: &dyn Fn(&mut Value)| {
            let mut status = whole.clone();
            change(&mut status);
            Says::read(&status, &KINDS, false)
        };
        assert_eq!(Says::read(&json!(null), &KINDS, false), None);
        assert_eq!(without(&|status| status["observedGeneration"] = json!(null)), None);
        assert_eq!(without(&|status| status["conditions"][1]["type"] = json!("Other")), None);
        assert_eq!(without(&|status| status["conditions"][1]["status"] = json!("Unknown")), None);
        assert_eq!(without(&|status| status["conditions"][1]["observedGeneration"] = json!(2)), None);
        let uncounted = without(&|status| status["dataPlanes"] = json!(null)).unwrap();
        assert_eq!(uncounted.data_planes, None);
    }

    #[test]
    fn conditions_of_others_are_not_ours() {
        let mut status = says(true).status(&json!({}), false, at(0));
        status["conditions"].as_array_mut().unwrap().push(json!({"type": "Theirs", "status": "False"}));
        assert_eq!(Says::read(&status, &KINDS, false), Some(says(true)));
    }

    #[test]
    fn of_a_status_that_is_shared_our_conditions_are_ours_and_nothing_else() {
        let alone =
            Says { conditions: vec![Told::new("Accepted", true, "Accepted", "")], data_planes: None, ..says(true) };
        let mut status = alone.status(&json!({}), true, at(0));
        assert_eq!(status.as_object().unwrap().keys().collect::<Vec<_>>(), ["conditions"]);
        // The other one has not come as far, and speaks of itself.
        status["observedGeneration"] = json!(1);
        status["conditions"].as_array_mut().unwrap().insert(0, json!({"type": "Available", "observedGeneration": 1}));
        assert_eq!(Says::read(&status, &["Accepted"], true), Some(alone));
        assert_eq!(Says::read(&status, &["Accepted"], false), None);
        assert_eq!(Says::read(&json!({"observedGeneration": 1}), &["Accepted"], true), None);
    }

    #[test]
    fn sentences_are_bounded() {
        let told = Told::new("Accepted", false, "Invalid", &"é".repeat(5000));
        assert!(told.message.len() <= LONGEST && told.message.ends_with("é…"), "{}", told.message.len());
    }
}
