//! Statuses as a fleet comes and goes, on a clock of the test's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::decode::Object;
use api::snapshot::{Snapshot, Version};
use serde_json::json;
use tokio::time::Instant;

use super::key::Key;
use super::plan::{Next, Outcome, Planner, Task};
use super::reach::Fleet;
use super::says::{Counts, Says};
use crate::crd::{ModelRouteSpec, ModelServerSpec};
use crate::object::Kind;
use crate::peer::Others;
use crate::publish::serve::{Progress, Refused};
use crate::publish::{Memory, Settings, build};
use crate::run::Round;
use crate::world::{Held, Life, ObjectName, Pod, Seniority, World};

mod desired;
mod fleet;
mod kept;
mod replicas;
mod storms;

fn name(name: &str) -> ObjectName {
    ObjectName::new("ns", name)
}

fn route(route: &str) -> Key {
    Key { kind: Kind::ModelRoute, name: name(route) }
}

fn server(server: &str) -> Key {
    Key { kind: Kind::ModelServer, name: name(server) }
}

/// What goes wrong with a write.
type Fault = dyn FnMut(&Key) -> Option<Outcome>;

/// The API server's statuses, the objects, the data planes and the planner between them.
struct Site {
    start: Instant,
    now: Instant,
    world: World,
    memory: Memory,
    version: u64,
    round: Option<Arc<Round>>,
    progress: Arc<Progress>,
    others: Arc<Others>,
    planner: Planner,
    /// What the API server has.
    statuses: HashMap<Key, Says>,
    /// Attempts, and when.
    attempts: Vec<(Duration, Key, Outcome)>,
    /// What becomes of an attempt that would be written.
    fault: Box<Fault>,
}

impl Site {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            now,
            world: World::default(),
            memory: Memory::default(),
            version: 0,
            round: None,
            progress: Arc::default(),
            others: Arc::default(),
            planner: Planner::new(HashMap::new(), now),
            statuses: HashMap::new(),
            attempts: Vec::new(),
            fault: Box::new(|_| None),
        }
    }

    /// Routes `r0`, `r1`, … to a server that is there.
    fn with_routes(count: usize) -> Self {
        let mut site = Self::new();
        site.server("s");
        (0..count).for_each(|n| site.route(&format!("r{n}"), "s"));
        site
    }

    /// A route is made, or edited once more.
    fn route(&mut self, route: &str, to: &str) {
        let rule = json!({"targetModels": [{"modelServerName": to}]});
        let spec: ModelRouteSpec = serde_json::from_value(json!({"modelName": "m", "rules": [rule]})).unwrap();
        let held = self.world.routes.entry(name(route)).or_insert_with(|| held(spec.clone()));
        (held.generation, held.spec) = (held.generation + 1, Ok(Arc::new(spec)));
    }

    fn server(&mut self, server: &str) {
        let spec: ModelServerSpec = serde_json::from_value(json!({
            "inferenceEngine": "vLLM", "workloadPort": {"port": 8000},
            "workloadSelector": {"matchLabels": {"app": server}},
        }))
        .unwrap();
        let held = self.world.servers.entry(name(server)).or_insert_with(|| held(spec));
        held.generation += 1;
    }

    fn pod(&mut self, server: &str, life: Life) {
        let pod = Pod {
            name: name("p"),
            uid: "u".into(),
            labels: [("app".to_owned(), server.to_owned())].into(),
            node: None,
            ips: vec!["10.0.0.1".parse().unwrap()],
            life,
            started: None,
        };
        self.world.pods.insert(name("p"), Arc::new(pod));
    }

    /// Another round of what is there now.
    fn build(&mut self) {
        let built = build(&self.world, &Settings::default(), &mut self.memory);
        self.version += 1;
        let version = Version { epoch: 0, version: self.version };
        let snapshot = Arc::new(Snapshot { version, ..built.snapshot });
        self.round = Some(Arc::new(Round { world: self.world.clone(), verdicts: built.verdicts, snapshot }));
    }

    /// So many data planes, of which so many have the newest round, and all have this one or a newer one.
    fn data_planes(&mut self, connected: usize, applied: usize, reached: Option<u64>) {
        let of = |version| Version { epoch: 0, version };
        let refused = self.progress.refused.clone();
        let (source, reached) = (of(self.version), reached.map(of));
        self.progress = Arc::new(Progress { source, connected, applied, reached, refused, ..Progress::default() });
    }

    /// All of so many have the newest round.
    fn all_have_it(&mut self, connected: usize) {
        self.data_planes(connected, connected, (connected > 0).then_some(self.version));
    }

    fn refuse(&mut self, refused: &[(Object, usize)]) {
        let entry = |(object, by): &(Object, usize)| (object.clone(), Refused { by: *by, reason: "no".into() });
        let refused: BTreeMap<_, _> = refused.iter().map(entry).collect();
        self.progress = Arc::new(Progress { refused, ..(*self.progress).clone() });
    }

    /// Another process leads from here on.
    fn another_leads(&mut self) {
        self.planner = Planner::new(self.statuses.clone(), self.now);
    }

    /// Time passes, and the planner gets its way.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            if let Some(round) = &self.round {
                let fleet = Fleet { own: self.progress.clone(), others: self.others.clone() };
                self.planner.observe(round, &fleet, self.now);
            }
            let until = match self.planner.next(self.now) {
                Next::Write(task) => {
                    self.attempt(&task);
                    continue;
                }
                Next::Wait(until) => until.unwrap_or(end).max(self.now).min(end),
            };
            self.now = until;
            if self.now == end {
                return;
            }
        }
    }

    fn attempt(&mut self, task: &Task) {
        let there = self.statuses.get(&task.key);
        let outcome = if there != task.said.as_ref() {
            Outcome::Found(there.cloned())
        } else {
            (self.fault)(&task.key).unwrap_or(Outcome::Written)
        };
        if outcome == Outcome::Written {
            self.statuses.insert(task.key.clone(), task.wanted.clone());
        }
        self.attempts.push((self.now.duration_since(self.start), task.key.clone(), outcome.clone()));
        self.planner.done(task, &outcome, self.now, 0.5);
    }

    /// Writes since the last call.
    fn writes(&mut self) -> Vec<(Duration, Key)> {
        let attempts = std::mem::take(&mut self.attempts).into_iter();
        attempts.filter(|(_, _, outcome)| *outcome == Outcome::Written).map(|(at, key, _)| (at, key)).collect()
    }

    /// `True`, or the reason why not.
    fn condition(&self, key: &Key, kind: &str) -> String {
        let Some(told) = self.statuses.get(key).and_then(|says| says.condition(kind)) else { return "none".into() };
        if told.holds { "True".into() } else { told.reason.clone() }
    }

    fn programmed(&self, key: &Key) -> (String, Option<Counts>) {
        (self.condition(key, "Programmed"), self.statuses.get(key).and_then(|says| says.data_planes))
    }
}

fn held<T>(spec: T) -> Held<T> {
    let (uid, seniority, spec) = ("first".into(), Seniority::Created(1), Ok(Arc::new(spec)));
    Held { uid, generation: 0, seniority, spec, last_good: None }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The most that came within any one second.
fn most_in_a_second(times: impl Iterator<Item = Duration>) -> usize {
    let times: Vec<_> = times.collect();
    let within = |start: &Duration| times.iter().filter(|at| (*start..*start + seconds(1)).contains(*at)).count();
    times.iter().map(within).max().unwrap_or(0)
}
