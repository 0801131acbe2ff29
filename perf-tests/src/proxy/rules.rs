//! Which request meets which fault.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::asked::{Asked, Verb};

/// What may happen on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends and the API server has not seen the request.
    Cut,
    /// The API server does what was asked, and the connection ends instead of the answer.
    CutAnswer,
    /// The API server does what was asked; instead of the answer every connection ends, and the proxy is away from then on.
    LastAnswer,
    /// The request waits for `Proxy::let_go` and goes on then though its client may have left: a network delivers what it was given.
    Hold,
    /// The request goes on after that long.
    Delay(Duration),
    /// The API server has not seen the request. 409, 410, 429, 500…
    Refuse {
        /// The HTTP status.
        code: u16,
        /// The header of that name.
        retry_after_s: Option<u32>,
    },
    /// A list is the one that the same request got at first (see `Proxy::remember_anew`). The first itself does not meet it.
    OlderList,
    /// An event of a watch does not arrive. Bookmarks do.
    LoseEvent,
    /// Instead of an event a watch gets the error 410 and ends: its version is too old.
    Expire,
}

/// A fault is met by whole requests or by the events of watches, also of those that began before it was commanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Request,
    Event,
}

impl Fault {
    fn scope(&self) -> Scope {
        match self {
            Self::LoseEvent | Self::Expire => Scope::Event,
            Self::Cut
            | Self::CutAnswer
            | Self::LastAnswer
            | Self::Hold
            | Self::Delay(_)
            | Self::Refuse { .. }
            | Self::OlderList => Scope::Request,
        }
    }

    fn is_for(&self, asked: &Asked) -> bool {
        *self != Self::OlderList || asked.verb == Verb::List
    }
}

/// Which requests: those that have all that is said.
#[derive(Clone, Debug, Default)]
pub struct When {
    /// Any where there is none.
    pub verb: Option<Verb>,
    /// As in [`Asked`].
    pub resource: Option<String>,
    /// Of the request: one for all namespaces has none.
    pub namespace: Option<String>,
    /// Of a single object. Such requests are counted if they write.
    pub name: Option<String>,
    /// Only what changes something.
    pub writes: bool,
}

impl When {
    /// Requests of this verb about this resource.
    pub fn of(verb: Verb, resource: &str) -> Self {
        Self { verb: Some(verb), resource: Some(resource.to_owned()), ..Self::default() }
    }

    /// All that change something.
    pub fn writes() -> Self {
        Self { writes: true, ..Self::default() }
    }

    /// All like this one.
    pub fn like(asked: &Asked) -> Self {
        let Asked { verb, resource, namespace, name } = asked.clone();
        Self { verb: Some(verb), resource: Some(resource), namespace, name, writes: false }
    }

    fn holds(&self, asked: &Asked) -> bool {
        let Self { verb, resource, namespace, name, writes } = self;
        (!writes || asked.writes())
            && name.as_ref().is_none_or(|name| asked.name.as_ref() == Some(name))
            && verb.is_none_or(|verb| verb == asked.verb)
            && resource.as_ref().is_none_or(|resource| *resource == asked.resource)
            && namespace.as_ref().is_none_or(|namespace| asked.namespace.as_ref() == Some(namespace))
    }
}

/// How many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Often {
    /// So many, then none.
    First(u32),
    /// Every nth.
    EachNth(u32),
    /// The nth alone.
    Nth(u32),
    /// All, until it is lifted.
    Always,
}

#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// How many. Of requests that only read the names of objects are left out.
    seen: HashMap<Asked, usize>,
    /// Those that change something, one by one.
    written: Vec<(Instant, Asked)>,
}

#[derive(Debug)]
struct Rule {
    when: When,
    fault: Fault,
    often: Often,
    lifted: bool,
    matched: u32,
    hits: u32,
}

impl Rule {
    /// Whether this one meets the fault.
    fn meets(&mut self) -> bool {
        self.matched = self.matched.saturating_add(1);
        let hit = match self.often {
            Often::First(count) => self.hits < count,
            Often::EachNth(n) => self.matched.is_multiple_of(n),
            Often::Nth(n) => self.matched == n,
            Often::Always => true,
        };
        self.hits += u32::from(hit);
        hit
    }
}

impl Rules {
    pub(super) fn inject(&mut self, when: When, fault: Fault, often: Often) -> usize {
        self.rules.push(Rule { when, fault, often, lifted: false, matched: 0, hits: 0 });
        self.rules.len() - 1
    }

    pub(super) fn lift(&mut self, id: usize) {
        self.rules[id].lifted = true;
    }

    pub(super) fn hits(&self, id: usize) -> u32 {
        self.rules[id].hits
    }

    pub(super) fn saw(&mut self, asked: &Asked) {
        let name = asked.name.clone().filter(|_| asked.writes());
        *self.seen.entry(Asked { name, ..asked.clone() }).or_default() += 1;
        if asked.writes() {
            self.written.push((Instant::now(), asked.clone()));
        }
    }

    pub(super) fn written(&self, when: &When) -> Vec<Instant> {
        self.written.iter().filter(|(_, asked)| when.holds(asked)).map(|(at, _)| *at).collect()
    }

    pub(super) fn writes(&self) -> BTreeMap<Asked, usize> {
        let writes = self.seen.iter().filter(|(asked, _)| asked.writes());
        writes.map(|(asked, count)| (asked.clone(), *count)).collect()
    }

    pub(super) fn count(&self, when: &When) -> usize {
        self.seen.iter().filter(|(asked, _)| when.holds(asked)).map(|(_, count)| count).sum()
    }

    pub(super) fn meet(&mut self, asked: &Asked, scope: Scope) -> Option<Fault> {
        let rules = self.rules.iter_mut().filter(|rule| !rule.lifted && rule.fault.scope() == scope);
        let mut described = rules.filter(|rule| rule.when.holds(asked) && rule.fault.is_for(asked));
        described.find_map(|rule| rule.meets().then(|| rule.fault.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(verb: Verb, resource: &str) -> Asked {
        Asked { verb, resource: resource.to_owned(), namespace: Some("n".to_owned()), name: None }
    }

    /// Which of six requests met it.
    fn met(often: Often) -> [bool; 6] {
        let mut rules = Rules::default();
        rules.inject(When::of(Verb::List, "pods"), Fault::Cut, often);
        [(); 6].map(|()| rules.meet(&asked(Verb::List, "pods"), Scope::Request).is_some())
    }

    #[test]
    fn a_fault_is_met_as_often_as_was_said() {
        assert_eq!(met(Often::First(2)), [true, true, false, false, false, false]);
        assert_eq!(met(Often::EachNth(3)), [false, false, true, false, false, true]);
        assert_eq!(met(Often::Nth(3)), [false, false, true, false, false, false]);
        assert_eq!(met(Often::Always), [true; 6]);
    }

    #[test]
    fn a_fault_is_met_only_by_what_it_is_for() {
        let mut rules = Rules::default();
        let id = rules.inject(When::of(Verb::Watch, "pods"), Fault::LoseEvent, Often::Always);
        assert_eq!(rules.meet(&asked(Verb::Watch, "pods"), Scope::Request), None);
        assert_eq!(rules.meet(&asked(Verb::Watch, "nodes"), Scope::Event), None);
        let elsewhere = When { namespace: Some("m".to_owned()), ..When::default() };
        rules.inject(elsewhere, Fault::Cut, Often::Always);
        assert_eq!(rules.meet(&asked(Verb::Watch, "pods"), Scope::Request), None);
        assert_eq!(rules.meet(&asked(Verb::Watch, "pods"), Scope::Event), Some(Fault::LoseEvent));
        rules.lift(id);
        assert_eq!(rules.meet(&asked(Verb::Watch, "pods"), Scope::Event), None);
        assert_eq!(rules.hits(id), 1);
    }

    #[test]
    fn writes_are_counted_by_object_and_a_fault_may_be_of_one_object() {
        let mut rules = Rules::default();
        let named = |verb, name: &str| Asked { name: Some(name.to_owned()), ..asked(verb, "pods") };
        let (get, one, other) = (named(Verb::Get, "one"), named(Verb::Patch, "one"), named(Verb::Patch, "other"));
        for asked in [&get, &one, &one, &other] {
            rules.saw(asked);
        }
        assert_eq!(rules.writes(), [(one.clone(), 2), (other.clone(), 1)].into());
        assert_eq!(rules.count(&When::like(&one)), 2);
        assert_eq!((rules.written(&When::like(&one)).len(), rules.written(&When::writes()).len()), (2, 3));
        rules.inject(When::like(&one), Fault::Cut, Often::Nth(2));
        let met = [&one, &other, &get, &one].map(|asked| rules.meet(asked, Scope::Request));
        assert_eq!(met, [None, None, None, Some(Fault::Cut)]);
    }

    #[test]
    fn a_rule_that_is_used_up_lets_the_next_one_have_its_turn() {
        let mut rules = Rules::default();
        let refuse = |code| Fault::Refuse { code, retry_after_s: None };
        rules.inject(When::default(), refuse(429), Often::First(1));
        rules.inject(When::default(), refuse(409), Often::First(1));
        let codes = [(); 3].map(|()| rules.meet(&asked(Verb::Get, "pods"), Scope::Request));
        assert_eq!(codes, [Some(refuse(429)), Some(refuse(409)), None]);
    }
}
