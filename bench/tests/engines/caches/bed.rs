//! Two engines that publish what they cache, both planes, and requests: those that engines answer, and those that only look.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bench::engine::{Config, Engine, KvCommand, KvConfig, ModelConfig, Pace, Running};
use dataplane::config::{ControlPlane, Expose};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Serving, request};
use crate::http::{Answer, Connection};
use crate::stage::{Plane, until};
use crate::{PORTS, ips};

pub(crate) const MODEL: &str = "sim";
pub(crate) const ADAPTER: &str = "sql";
/// Tokens in the full blocks of each text: so many are cached of it, or none.
pub(crate) const TOKENS: u64 = 6 * BLOCK_TOKENS;
const BLOCK_TOKENS: u64 = 16;
/// Where engines publish, and where they say it again.
const KV_PORTS: [u16; 2] = [28_003, 28_004];
/// No engine goes on for so long: it answers 400 and caches nothing, and yet somebody has decided where to ask.
const TOO_MANY: u32 = 1_000_000;
/// Between two looks while something is waited for.
const PACE: Duration = Duration::from_millis(20);
/// For what is waited for to come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Looks after everything has come; of those before, every so manieth is at what was predicted only.
const AFTER: usize = 10;
const PREDICTED_EVERY: usize = 10;

/// Whose blocks a request's are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whose {
    pub(crate) model: &'static str,
    pub(crate) salt: Option<&'static str>,
}

pub(crate) const BASE: Whose = Whose { model: MODEL, salt: None };

/// What came of a request through the proxy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) engine: SocketAddr,
    /// Tokens that it was sent there for.
    pub(crate) believed: u64,
    /// Those that the engine had; none where it refused the request.
    pub(crate) cached: Option<u64>,
}

/// What became of texts that an engine had cached until a fault.
#[derive(Debug)]
pub(crate) struct Ride {
    /// How long after the fault the last of them was sent there for what is gone.
    pub(crate) falsely: Duration,
    /// How many were, of how many.
    pub(crate) false_hits: (usize, usize),
    /// When the data plane trusted both engines again, and held of each just as many blocks as that had; its page is up to a second
    /// old.
    pub(crate) back: Duration,
}

/// See the module. The second engine is the one that everything is cached at.
pub(crate) struct Bed {
    proxy: Connection,
    // Before the control plane, which waits for its streams.
    plane: Option<Plane>,
    control: Option<Serving>,
    engines: Vec<Running>,
    ips: [IpAddr; 2],
    fleet: Fleet,
}

impl Bed {
    /// Both engines are trusted to hold nothing.
    pub(crate) fn start(test: u8) -> Self {
        let ips = ips(test);
        let fleet = Fleet::new("caches", "vLLM", MODEL, &format!("workloadPort: {{port: {}}}", PORTS[0]), &ips);
        fleet.put(
            "route.yaml",
            &format!(
                "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: r}}\n\
                 spec: {{modelName: {MODEL}, loraAdapters: [{ADAPTER}], rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n"
            ),
        );
        let vocabularies = fleet.folder.join("vocabularies").join(MODEL);
        std::fs::create_dir_all(&vocabularies).unwrap();
        std::fs::write(vocabularies.join("tokenizer.json"), r#"{"model": {"type": "Quads"}}"#).unwrap();
        let engines = ips.iter().map(|ip| engine(&fleet, *ip)).collect();
        let control = fleet.control(([127, 0, 0, 1], 0).into());
        let plane = plane(&fleet, control.address);
        let proxy = Connection::open(plane.listen());
        let bed = Self { proxy, plane: Some(plane), control: Some(control), engines, ips, fleet };
        bed.known();
        bed
    }

    pub(crate) fn holder(&self) -> SocketAddr {
        self.engines[1].addr
    }

    /// The second engine answers these itself.
    pub(crate) fn warm<'t>(&self, whose: Whose, texts: impl IntoIterator<Item = &'t String>) {
        let mut engine = Connection::open(self.holder());
        for text in texts {
            let (status, body) = engine.ask(&completion(whose, text, 1));
            assert_eq!(status, 200, "{body}");
        }
    }

    /// Waits until the data plane knows what both have cached.
    pub(crate) fn known(&self) {
        until("the data plane knows what both have cached", || self.agrees());
    }

    pub(crate) fn ask(&mut self, whose: Whose, text: &str) -> Seen {
        let answer = self.proxy.exchange(&completion(whose, text, 1));
        assert_eq!(answer.status, 200, "{}", answer.body);
        let usage: Value = serde_json::from_str(&answer.body).unwrap();
        let cached = usage["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
        Seen { cached: Some(cached.unwrap()), ..seen(&answer) }
    }

    /// Where a request goes that no engine answers: nothing is cached for it, and nothing that is cached is used.
    fn look(&mut self, text: &str) -> Seen {
        let answer = self.proxy.exchange(&completion(BASE, text, TOO_MANY));
        assert_eq!(answer.status, 400, "{}", answer.body);
        seen(&answer)
    }

    /// All of these texts are sent where they are cached.
    pub(crate) fn all_go_there<'t>(&mut self, texts: impl IntoIterator<Item = &'t String>) {
        let there = Seen { engine: self.holder(), believed: TOKENS, cached: None };
        for text in texts {
            assert_eq!(self.look(text), there, "{text}");
        }
    }

    /// Of these texts, which nobody has cached, those that the proxy sent to the second engine: that is all it knows of them.
    pub(crate) fn predicted(&mut self, texts: Vec<String>) -> Vec<String> {
        let holder = self.holder();
        texts.into_iter().filter(|text| self.ask(BASE, text).engine == holder).collect()
    }

    /// Looks at one lost text after another until the data plane knows again what both have cached, and at some more.
    pub(crate) fn ride(&mut self, since: Instant, lost: &[String], predicted: &[String]) -> Ride {
        let (mut lost, mut predicted) = (lost.iter(), predicted.iter());
        let mut ride = Ride { falsely: Duration::ZERO, false_hits: (0, 0), back: Duration::MAX };
        let mut after = 0;
        while after < AFTER {
            let of_predicted = if ride.false_hits.1.is_multiple_of(PREDICTED_EVERY) { predicted.next() } else { None };
            let Some(text) = of_predicted.or_else(|| lost.next()) else { panic!("it never ends: {ride:?}") };
            let seen = self.look(text);
            ride.false_hits.1 += 1;
            if seen.believed > 0 {
                (ride.falsely, ride.false_hits.0) = (since.elapsed(), ride.false_hits.0 + 1);
            }
            if ride.back == Duration::MAX && self.agrees() {
                ride.back = since.elapsed();
            }
            after += usize::from(ride.back != Duration::MAX);
            assert!(since.elapsed() < PATIENCE, "it is not known again: {ride:?}, {:?}", self.caches());
            std::thread::park_timeout(PACE);
        }
        ride
    }

    /// The second engine loses all that it has cached, as it does when it is told to.
    pub(crate) fn lose_cache(&self) {
        let mut engine = Connection::open(self.holder());
        assert_eq!(engine.ask(&request("POST", "/reset_prefix_cache", "")).0, 200);
        assert!(self.engines[1].cached_blocks().is_empty());
    }

    /// The next messages of the second engine reach nobody.
    pub(crate) fn lose_messages(&self, count: u32) {
        self.fleet.stage.runtime.block_on(self.engines[1].kv(KvCommand::Drop(count)));
    }

    /// The second engine dies, and another begins where it was.
    pub(crate) fn restart_engine(&mut self) {
        let second = self.engines.pop().unwrap();
        self.fleet.stage.runtime.block_on(second.kill());
        self.engines.push(engine(&self.fleet, self.ips[1]));
    }

    /// The control plane ends; what happens before another begins where it was.
    pub(crate) fn restart_control(&mut self, meanwhile: impl FnOnce(&Self)) {
        let address = self.control.take().unwrap().address;
        meanwhile(self);
        self.control = Some(self.fleet.control(address));
    }

    /// The same with the data plane, which has its last table on disk.
    pub(crate) fn restart_plane(&mut self, meanwhile: impl FnOnce(&Self)) {
        self.plane.take().unwrap().stop();
        meanwhile(self);
        let plane = plane(&self.fleet, self.control.as_ref().unwrap().address);
        self.proxy = Connection::open(plane.listen());
        self.plane = Some(plane);
    }

    /// By engine: how far the data plane believes what it caches, and how many blocks it holds of it.
    fn caches(&self) -> Vec<(String, u64)> {
        let endpoints = self.plane.as_ref().unwrap().endpoints();
        let of = |engine: &Running| {
            let address = engine.addr.to_string();
            let endpoint = endpoints.iter().find(|endpoint| endpoint["address"] == *address).unwrap();
            (endpoint["cacheTrust"].as_str().unwrap().to_owned(), endpoint["cacheBlocks"].as_u64().unwrap())
        };
        self.engines.iter().map(of).collect()
    }

    fn agrees(&self) -> bool {
        let engines = self.engines.iter().map(|engine| engine.cached_blocks().len() as u64);
        self.caches().into_iter().zip(engines).all(|((trust, held), cached)| trust == "trusted" && held == cached)
    }
}

/// So many texts of six blocks and a bit, of which no two share any.
pub(crate) fn texts(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{:.<384}the end", format!("{name} {n} "))).collect()
}

fn engine(fleet: &Fleet, ip: IpAddr) -> Running {
    let engine = ModelConfig {
        cache_blocks: 8_000,
        prefill_tokens_per_s: 10_000_000,
        pace: Pace::Stream(10),
        ..ModelConfig::default()
    };
    let [publish, replay] = KV_PORTS.map(|port| SocketAddr::new(ip, port));
    let config = Config {
        listen: (ip, PORTS[0]).into(),
        loras: vec![ADAPTER.to_owned()],
        engine,
        prompt_tokens_details: true,
        kv: Some(KvConfig { publish, replay: Some(replay), ..KvConfig::default() }),
        ..Config::default()
    };
    let mut engine = None;
    // The one before it may not have let go of all its ports yet.
    until("an engine has its ports", || {
        engine = fleet.stage.runtime.block_on(Engine::start(config.clone())).ok();
        engine.is_some()
    });
    engine.unwrap()
}

fn plane(fleet: &Fleet, control: SocketAddr) -> Plane {
    let source = ControlPlane { state_dir: Some(fleet.folder.join("state")), ..ControlPlane::at(control) };
    let plane = Plane::with(source, Expose { endpoint: true, decision: true });
    until("it is ready", || plane.ready());
    plane
}

fn completion(whose: Whose, text: &str, max_tokens: u32) -> String {
    let mut body = json!({"model": whose.model, "prompt": text, "max_tokens": max_tokens});
    if let Some(salt) = whose.salt {
        body["cache_salt"] = salt.into();
    }
    request("POST", "/v1/completions", &body.to_string())
}

/// As the answer's head says it.
fn seen(answer: &Answer) -> Seen {
    let decision = answer.field("x-kthena-decision").unwrap();
    let matched = decision.split(' ').find_map(|pair| pair.strip_prefix("matched_blocks="));
    let blocks: u64 = matched.unwrap().parse().unwrap();
    let engine = answer.field("x-kthena-endpoint").unwrap().parse().unwrap();
    Seen { engine, believed: blocks * BLOCK_TOKENS, cached: None }
}
