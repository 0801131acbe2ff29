//! Three replicas, one Secret, and clients that learn late. After each event every client that could be there is made to verify what
//! every replica serves.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::super::Contents;
use super::super::held::Held;
use super::super::plan::{Step, Stood};
use super::{due, hosts, issue};

/// For a new bundle to come to a client: less than what the plan allows.
pub(super) const CLIENT_LAG: SignedDuration = SignedDuration::from_mins(9);
/// A replica that runs reads the Secret at least so often.
const READ_LAG: SignedDuration = SignedDuration::from_mins(9);

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Wait(SignedDuration),
    /// A replica looks at the Secret.
    Read(usize),
    /// A replica does what its last look made due.
    Act(usize),
    /// A replica forgets everything but starts again.
    Kill(usize),
    /// Somebody damages the Secret.
    ForgetCaKey,
}

#[derive(Debug, Default)]
struct Replica {
    read: Option<Look>,
    published: Option<Timestamp>,
    /// Since when it has seen this leaf.
    leaf: Option<(String, Timestamp)>,
}

/// What a replica read, of which version, and when.
#[derive(Debug, Clone)]
struct Look {
    contents: Contents,
    held: Rc<Held>,
    version: u64,
    at: Timestamp,
}

#[derive(Debug)]
pub(super) struct Fleet {
    now: Timestamp,
    secret: Contents,
    version: u64,
    /// Bundles that clients were given, and when. The last one is the newest.
    given: Vec<(Timestamp, String)>,
    replicas: [Replica; 3],
    /// Clients have reason to be out of step, for there was nothing left to verify: until then, or until they are given what is new.
    excused: Option<Timestamp>,
    /// Until when the last leaf was valid.
    until: Timestamp,
    /// By bundle and chain: until when who trusts the one verifies the other.
    known: HashMap<(String, String), Option<Timestamp>>,
}

impl Fleet {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            now,
            secret: Contents::default(),
            version: 0,
            given: Vec::new(),
            replicas: Default::default(),
            excused: None,
            until: now,
            known: HashMap::new(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn secret(&self) -> &Contents {
        &self.secret
    }

    pub(super) fn play(&mut self, event: Event) {
        match event {
            Event::Wait(time) => self.wait(time),
            Event::Read(replica) => self.read(replica),
            Event::Act(replica) => self.act(replica),
            Event::Kill(replica) => self.replicas[replica] = Replica::default(),
            Event::ForgetCaKey => {
                self.secret.ca_key.clear();
                self.version += 1;
            }
        }
        self.verify();
    }

    /// Everybody looks and acts for as long as a rotation takes.
    pub(super) fn settle(&mut self) {
        for _ in 0..60 {
            for replica in 0..3 {
                self.read(replica);
                self.act(replica);
            }
            self.play(Event::Wait(SignedDuration::from_mins(1)));
        }
    }

    /// A replica that has not read for long is as good as gone.
    pub(super) fn wait(&mut self, time: SignedDuration) {
        self.now += time;
        for replica in &mut self.replicas {
            if replica.read.as_ref().is_some_and(|look| self.now.duration_since(look.at) > READ_LAG) {
                *replica = Replica::default();
            }
        }
    }

    fn read(&mut self, replica: usize) {
        let replica = &mut self.replicas[replica];
        if replica.read.as_ref().is_none_or(|look| look.contents.bundle != self.secret.bundle) {
            replica.published = None;
        }
        if replica.leaf.as_ref().is_none_or(|(chain, _)| *chain != self.secret.chain) {
            replica.leaf = Some((self.secret.chain.clone(), self.now));
        }
        let held = match &replica.read {
            Some(look) if look.version == self.version => look.held.clone(),
            _ => Rc::new(Held::read(&self.secret)),
        };
        replica.read = Some(Look { contents: self.secret.clone(), held, version: self.version, at: self.now });
    }

    fn act(&mut self, replica: usize) {
        let replica = &mut self.replicas[replica];
        let Some(Look { contents, held, version, at: _ }) = &replica.read else { return };
        // Another wrote in between: the API server refuses the older resourceVersion. And what a look gives to clients, it gives at
        // once: what takes long is cut off.
        if *version != self.version {
            return;
        }
        let stood = Stood {
            bundle: replica.published.map(|since| since_then(since, self.now)),
            leaf: replica.leaf.as_ref().map_or(Duration::ZERO, |(_, since)| since_then(*since, self.now)),
        };
        let Some(step) = due(held, stood, &hosts(), self.now) else {
            let given = self.given.last().is_some_and(|(_, bundle)| *bundle == contents.bundle);
            if !given {
                self.given.push((self.now, contents.bundle.clone()));
                self.excused = self.excused.map(|_| self.now + CLIENT_LAG);
            }
            if !given || replica.published.is_none() {
                replica.published = Some(self.now);
            }
            return;
        };
        self.secret = issue(step, contents, held, &hosts(), self.now).expect("what is due can be done");
        self.version += 1;
        if !matches!(step, Step::BeginAnew | Step::MakeLeaf) {
            return;
        }
        let nothing_was_served = self.until <= self.now;
        self.until = Held::read(&self.secret).leaf.expect("it was just made").life.until;
        if nothing_was_served {
            let given = self.given.last().is_some_and(|(_, bundle)| *bundle == self.secret.bundle);
            self.excused = Some(if given { self.now + CLIENT_LAG } else { Timestamp::MAX });
        }
    }

    /// Each certificate that is served, against each bundle that a client may still have.
    fn verify(&mut self) {
        if self.excused.is_some_and(|until| self.now <= until) {
            return;
        }
        self.excused = None;
        let newest = self.given.len().saturating_sub(1);
        for index in 0..self.given.len() {
            let replaced = self.given.get(index + 1).map(|(at, _)| *at);
            if index != newest && replaced.is_none_or(|at| self.now.duration_since(at) >= CLIENT_LAG) {
                continue;
            }
            let bundle = &self.given[index].1;
            for Look { contents, held, .. } in self.replicas.iter().filter_map(|replica| replica.read.as_ref()) {
                let verify = || {
                    let contents = Contents { bundle: bundle.clone(), ..contents.clone() };
                    Held::read(&contents).leaf.map(|leaf| leaf.life.until)
                };
                let key = (bundle.clone(), contents.chain.clone());
                let until = *self.known.entry(key).or_insert_with(verify);
                // Nobody renewed it, for all were away.
                let expired = held.leaf.as_ref().is_none_or(|leaf| leaf.life.until <= self.now);
                assert!(
                    expired || until.is_some_and(|until| self.now < until),
                    "a client of bundle {index} refuses what is served at {}",
                    self.now
                );
            }
        }
    }
}

fn since_then(since: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(since).unsigned_abs()
}
