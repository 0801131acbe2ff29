//! What a status ought to say: pure, from an object's verdict and from how far its newest form has come.

use super::reach::{Fleet, Newest, Reach, reach};
use super::says::{Counts, Says, Told};
use crate::publish::{Condition, Fallback, ObjectVerdict, ProviderVerdict, Reason, RouteVerdict, ServerVerdict};

/// The verdict on an object of any kind that has a status.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict<'a> {
    Route(&'a RouteVerdict),
    Server(&'a ServerVerdict),
    Provider(&'a ProviderVerdict),
    /// Of one that decides nothing in data planes.
    Object(&'a ObjectVerdict),
}

/// What must differ for data planes to have something new to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) generation: i64,
    accepted: (bool, Reason),
    published: bool,
}

impl Verdict<'_> {
    pub(super) fn form(&self) -> Form {
        let accepted = self.accepted();
        let published = match self {
            Self::Route(verdict) => verdict.published,
            Self::Server(_) => true,
            Self::Provider(_) | Self::Object(_) => false,
        };
        Form { generation: self.generation(), accepted: (accepted.holds, accepted.reason), published }
    }

    pub(super) fn generation(&self) -> i64 {
        match self {
            Self::Route(verdict) => verdict.generation,
            Self::Server(verdict) => verdict.generation,
            Self::Provider(verdict) => verdict.generation,
            Self::Object(verdict) => verdict.generation,
        }
    }

    fn accepted(&self) -> &Condition {
        match self {
            Self::Route(verdict) => &verdict.accepted,
            Self::Server(verdict) => &verdict.accepted,
            Self::Provider(verdict) => &verdict.accepted,
            Self::Object(verdict) => &verdict.accepted,
        }
    }

    /// What is in force in the place of a refused form. Nobody runs a provider, or what is judged alone.
    pub(super) fn fallback(&self) -> &Fallback {
        match self {
            Self::Route(verdict) => &verdict.fallback,
            Self::Server(verdict) => &verdict.fallback,
            Self::Provider(_) | Self::Object(_) => &Fallback::Unneeded,
        }
    }

    /// Whether data planes are to run it as it is written.
    pub(super) fn sent(&self) -> bool {
        match self {
            Self::Provider(_) | Self::Object(_) => false,
            Self::Route(_) | Self::Server(_) => self.accepted().holds,
        }
    }

    /// How far it has come.
    pub(super) fn reach(&self, newest: Newest<'_>, fleet: &Fleet) -> Reach {
        if self.sent() { reach(newest, fleet) } else { Reach::NotSent }
    }

    /// `said` is what the status says now.
    pub(super) fn desired(&self, reach: &Reach, said: Option<&Says>) -> Says {
        let generation = self.generation();
        let accepted = told("Accepted", self.accepted());
        let last_good = keeps(self.fallback(), said.and_then(|said| said.last_good));
        // Of the same form; what is said of another one is no news of this one.
        let said = said.filter(|said| {
            said.generation == generation && said.condition("Accepted").is_some_and(|it| it.same(&accepted))
        });
        let (programmed, data_planes) = match said.and_then(|said| kept(reach, said)) {
            Some(kept) => kept,
            None => programmed(reach, self.accepted()),
        };
        let (conditions, data_planes) = match self {
            Self::Route(verdict) => {
                (vec![accepted, told("ResolvedRefs", &verdict.resolved_refs), programmed], data_planes)
            }
            Self::Server(verdict) => {
                let ready = told("Ready", &verdict.ready);
                (vec![noted(accepted, &verdict.notes), programmed, ready], data_planes)
            }
            Self::Provider(verdict) => {
                let credentials = told("CredentialsResolved", &verdict.credentials);
                (vec![accepted, credentials, provider_ready(verdict)], None)
            }
            Self::Object(_) => (vec![accepted], None),
        };
        Says { generation, conditions, data_planes, last_good }
    }
}

/// The generation of the form that a status is to keep. One that is kept goes only once it is not needed any more, or for a later
/// one: another replica may know more than this one.
fn keeps(fallback: &Fallback, kept: Option<i64>) -> Option<i64> {
    match fallback {
        Fallback::Unneeded | Fallback::TooLarge(_) => None,
        Fallback::Missing => kept,
        Fallback::Kept(good) => kept.max(Some(good.generation)),
    }
}

fn kept(reach: &Reach, said: &Says) -> Option<(Told, Option<Counts>)> {
    let programmed = said.condition("Programmed").filter(|_| stays(reach, said))?;
    Some((programmed.clone(), said.data_planes))
}

/// That data planes join, leave or come back is no news of an object that is everywhere, or that was refused.
pub(super) fn stays(reach: &Reach, said: &Says) -> bool {
    let Some(programmed) = said.condition("Programmed") else { return false };
    match reach {
        Reach::NotSent | Reach::Refused { .. } => false,
        Reach::Everywhere(_) => programmed.holds,
        Reach::Nobody => true,
        Reach::OnItsWay(_) | Reach::Unheard(_) => programmed.holds || programmed.reason == REFUSED,
    }
}

pub(super) const REFUSED: &str = "Refused";
pub(super) const PENDING: &str = "Pending";

fn programmed(reach: &Reach, accepted: &Condition) -> (Told, Option<Counts>) {
    let no = |reason: &str, message: String| Told::new("Programmed", false, reason, &message);
    match reach {
        Reach::NotSent => {
            let reason = accepted.reason.to_string();
            (no(&reason, "data planes do not run it as it is written, see Accepted".to_owned()), None)
        }
        Reach::Nobody => (no(PENDING, "no data plane is connected".to_owned()), Some(Counts::of(0, 0))),
        Reach::OnItsWay(counts) => {
            let sentence = format!("{} of {} data planes run it", counts.acknowledged, counts.connected);
            (no(PENDING, sentence), Some(*counts))
        }
        Reach::Unheard(counts) => {
            let Counts { acknowledged, connected } = counts;
            let sentence = format!(
                "{acknowledged} of {connected} data planes run it, and another replica of the control plane that may have \
                 more is not heard"
            );
            (no(PENDING, sentence), Some(*counts))
        }
        Reach::Refused { counts, reason } => {
            let by = counts.connected - counts.acknowledged;
            let sentence = format!("{by} of {} data planes do not run it: {reason}", counts.connected);
            (no(REFUSED, sentence), Some(*counts))
        }
        Reach::Everywhere(counts) => {
            (Told::new("Programmed", true, "Programmed", "all connected data planes run it"), Some(*counts))
        }
    }
}

/// What of an accepted object has no effect is said where it is said that it is accepted.
fn noted(accepted: Told, notes: &[String]) -> Told {
    if accepted.holds && !notes.is_empty() {
        return Told::new(&accepted.kind, true, &accepted.reason, &notes.join("; "));
    }
    accepted
}

/// In the reference's words.
fn provider_ready(verdict: &ProviderVerdict) -> Told {
    let ProviderVerdict { generation: _, accepted, credentials } = verdict;
    if !accepted.holds {
        return Told::new("Ready", false, "ConfigurationInvalid", "External provider configuration is invalid");
    }
    if !credentials.holds {
        return told("Ready", credentials);
    }
    Told::new("Ready", true, "Ready", "External provider configuration is ready")
}

fn told(kind: &str, condition: &Condition) -> Told {
    let Condition { holds, reason, message } = condition;
    Told::new(kind, *holds, &reason.to_string(), message)
}
