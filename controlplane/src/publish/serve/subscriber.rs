//! What one data plane holds, what is on its way to it, and what it refused. Pure: the stream's task carries it out.

use std::sync::Arc;

use api::proto::config_ack::Result as Answer;
use api::proto::{ConfigAck, Refused, Subscribe};
use api::seen::Seen;
use api::snapshot::Version;

use super::archive::{Archive, Holds, Mark, Needed, Published, State, Update};
use super::poison::Poison;

#[derive(Debug)]
struct Flight {
    nonce: u64,
    base: Option<Mark>,
    target: Mark,
    /// The target is kept: it may be refused, and is what is held once it is not.
    needed: Option<Needed>,
}

/// One data plane.
#[derive(Debug)]
pub(super) struct Subscriber {
    held: Option<Mark>,
    /// What it had seen when it came.
    seen: Seen,
    /// What is held is kept: objects that are refused stay in the form that they have there.
    needed: Option<Needed>,
    /// It was sent what it holds on this stream.
    ours: bool,
    flight: Option<Flight>,
    poison: Poison,
    /// The version that the poison was last compared with.
    compared: Option<Version>,
    /// The content of a state that was refused without a name: it is not sent again.
    stuck: Option<u64>,
    answers: u64,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The change is in force.
    Applied,
    /// It is not, and what held it up is put aside.
    Refused,
    /// It holds something else; it gets the full state.
    Resync,
    /// It makes no sense; the stream is to be ended.
    Nonsense(&'static str),
}

impl Subscriber {
    pub(super) fn new(subscribe: &Subscribe, archive: &Archive) -> Self {
        let held = subscribe.held.map(|held| Mark {
            version: Version { epoch: held.epoch, version: held.version },
            content_hash: subscribe.content_hash,
        });
        let needed = held.and_then(|held| archive.need(held.content_hash));
        let seen = subscribe.resource_versions.clone().into_iter().collect();
        let poison = Poison::default();
        Self { held, seen, needed, ours: false, flight: None, poison, compared: None, stuck: None, answers: 0 }
    }

    /// What is to be sent next; none while a change is on its way or where nothing is to be changed. A stream's first
    /// change may have no content: by it a data plane learns that what it holds, from disk perhaps, is still the newest.
    pub(super) fn next(&mut self, current: &Published, archive: &Archive) -> Option<Arc<Update>> {
        let told = self.answers > 0;
        if self.flight.is_some() || (told && self.held == Some(current.state.mark)) {
            return None;
        }
        let target = self.view(&current.state, archive);
        if (told && self.held == Some(target.mark)) || self.stuck == Some(target.mark.content_hash) {
            return None;
        }
        let newcomer = (!told).then_some(&self.seen);
        let holds = Holds { mark: self.held, newcomer, told: self.needed.as_ref().filter(|_| self.ours) };
        let update = archive.update(holds, &target);
        let (base, target, needed) = (update.base, update.target, update.needed.clone());
        self.flight = Some(Flight { nonce: update.nonce, base, target, needed });
        Some(update)
    }

    fn view(&mut self, current: &State, archive: &Archive) -> State {
        if self.compared.replace(current.mark.version) != Some(current.mark.version) {
            self.poison.prune(&current.snapshot);
        }
        archive.view(current, self.held, &self.poison)
    }

    /// Takes an answer in.
    pub(super) fn hear(&mut self, ack: ConfigAck, archive: &Archive) -> Heard {
        let Some(flight) = self.flight.take_if(|flight| flight.nonce == ack.nonce) else {
            return Heard::Nonsense("an answer to nothing that was sent");
        };
        self.answers += 1;
        match ack.result {
            Some(Answer::Applied(_)) => {
                (self.held, self.needed, self.ours) = (Some(flight.target), flight.needed, true);
                self.stuck = None;
                Heard::Applied
            }
            Some(Answer::Refused(refused)) => {
                self.refuse(refused, flight.target, archive);
                Heard::Refused
            }
            Some(Answer::Resync(_)) if flight.base.is_some() => {
                (self.held, self.needed) = (None, None);
                Heard::Resync
            }
            Some(Answer::Resync(_)) => Heard::Nonsense("a full state has no base that could be wrong"),
            None => Heard::Nonsense("an answer that says nothing"),
        }
    }

    fn refuse(&mut self, refused: Refused, target: Mark, archive: &Archive) {
        // Where it is not known any more what was refused, there is something newer to be tried.
        if let Some(tried) = archive.snapshot(target.content_hash)
            && !self.poison.refuse(refused.refusals, &tried, |told| archive.share(told))
        {
            self.stuck = Some(target.content_hash);
        }
    }

    /// What it had seen when it came.
    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// What it holds.
    pub(super) fn held(&self) -> Option<Mark> {
        self.held
    }

    /// What it refused.
    pub(super) fn poison(&self) -> &Poison {
        &self.poison
    }

    /// Whether it refused a state without saying which object is at fault.
    pub(super) fn stuck(&self) -> bool {
        self.stuck.is_some()
    }
}

#[cfg(test)]
mod tests;
