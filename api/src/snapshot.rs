//! The agreed state: what a control plane publishes, what a snapshot file holds, and what a data plane compiles into
//! its table. Plain values, comparable, already checked: a value of these types has passed [`crate::decode`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{BackendName, EndpointKey, ModelName, ProfileName, RouteName};
use crate::seen::Seen;
use crate::template::ChatTemplate;

/// Which state this is. Versions count within an epoch; an epoch is one serving process of the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version {
    /// Random per serving process; 0 for a file.
    pub epoch: u64,
    /// Counts up within the epoch.
    pub version: u64,
}

/// Everything a data plane needs to decide: one version over all of it, applied whole.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Which state this is.
    pub version: Version,
    /// Salts every prefix hash, so that tenants cannot construct collisions.
    pub fleet_seed: u64,
    /// In order of precedence (oldest first): of two routes with the same model the earlier one is tried first.
    pub routes: Vec<Route>,
    /// Groups of engines, by unique name.
    pub backends: Vec<Backend>,
    /// Scheduler profiles, by unique name. A backend that names none uses `locality-cost` alone.
    pub profiles: Vec<Profile>,
    /// How far what it was made of had been read. It is not content.
    pub seen: Seen,
}

/// A ModelRoute: which backends answer for a model name.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// `namespace/name`.
    pub name: RouteName,
    /// The model that clients ask for; may be virtual.
    pub model: Option<ModelName>,
    /// Further names that clients ask for; a match by one of these forwards the name unchanged.
    pub adapters: Vec<ModelName>,
    /// The first rule that matches is used. Shared by the states that have the same ones.
    pub rules: Arc<[Rule]>,
    /// How many tokens its clients may use together.
    pub rate_limit: Option<RateLimit>,
}

/// A token budget. It is carried, and decides about [`UsageInjection::Policy`]; nothing enforces it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// What is limited.
    pub tokens: TokenLimit,
    /// The time over which a budget fills up.
    pub unit: RateUnit,
    /// Where the count is kept.
    pub store: RateStore,
}

/// Tokens per unit; a limit always limits something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenLimit {
    /// Of prompts.
    Input(NonZeroU32),
    /// Of answers.
    Output(NonZeroU32),
    /// Of both, each by itself.
    Both {
        /// Of prompts.
        input: NonZeroU32,
        /// Of answers.
        output: NonZeroU32,
    },
}

impl TokenLimit {
    /// None where neither is limited.
    pub fn new(input: Option<NonZeroU32>, output: Option<NonZeroU32>) -> Option<Self> {
        match (input, output) {
            (Some(input), Some(output)) => Some(Self::Both { input, output }),
            (Some(input), None) => Some(Self::Input(input)),
            (None, Some(output)) => Some(Self::Output(output)),
            (None, None) => None,
        }
    }

    /// The limit of prompt tokens.
    pub fn input(self) -> Option<NonZeroU32> {
        match self {
            Self::Input(input) | Self::Both { input, .. } => Some(input),
            Self::Output(_) => None,
        }
    }

    /// The limit of answer tokens.
    pub fn output(self) -> Option<NonZeroU32> {
        match self {
            Self::Output(output) | Self::Both { output, .. } => Some(output),
            Self::Input(_) => None,
        }
    }
}

/// The time over which a token budget fills up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RateUnit {
    /// One second.
    #[default]
    Second,
    /// 60 s.
    Minute,
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
    /// 30 days.
    Month,
}

/// Where tokens are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateStore {
    /// Each proxy counts for itself.
    Local,
    /// The whole fleet counts together, in the Redis at this `host:port`.
    Redis(Arc<str>),
}

/// Conditions and where the request goes when all of them hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// A label for people.
    pub name: String,
    /// By lower-case header name. An absent header is the empty string.
    pub headers: BTreeMap<String, StringMatch>,
    /// Applied to the path without the query.
    pub uri: Option<StringMatch>,
    /// Compared with the request's model.
    pub body_model: Option<ModelName>,
    /// At least one, with a positive sum of weights.
    pub targets: Vec<Target>,
}

/// A condition on a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// Equal, byte for byte.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// RE2 syntax, unanchored; known to compile.
    Regex(String),
}

/// One weighted choice of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A backend of the same snapshot, or one that is missing: then the target answers 404.
    pub backend: BackendName,
    /// Relative to the sum of the rule's weights; 0 takes no traffic.
    pub weight: u32,
}

/// The program behind a backend's endpoints; it decides which quirks are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Engine {
    /// vLLM's OpenAI server.
    #[default]
    Vllm,
    /// SGLang.
    Sglang,
    /// Triton's HTTP endpoint, model in the path.
    Triton,
    /// TorchServe's inference endpoint, model in the path.
    Torchserve,
}

/// A ModelServer: engines that serve the same model, and how they are to be treated.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// `namespace/name`.
    pub name: BackendName,
    /// Its engine.
    pub engine: Engine,
    /// Replaces the request's model, unless the route matched by an adapter name.
    pub model: Option<ModelName>,
    /// Its members, each endpoint once. Other backends may have the same ones.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// The scheduler profile; none is the default one.
    pub profile: Option<ProfileName>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// When a failed attempt is tried elsewhere.
    pub retry: Retry,
    /// Passive health.
    pub ejection: Ejection,
    /// Requests that may be in flight at one endpoint, those of its other backends included.
    pub max_in_flight: u32,
    /// Whether `stream_options.include_usage` is set on streamed requests that lack it.
    pub usage: UsageInjection,
    /// Whether the client's credentials reach the engine.
    pub credentials: Credentials,
    /// How its engines write a conversation, where known.
    pub chat_template: Option<Arc<ChatTemplate>>,
}

/// What an endpoint does where prefill and decode are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Role {
    /// The whole request.
    #[default]
    Both,
    /// The prompt only.
    Prefill,
    /// The answer only.
    Decode,
}

/// One engine address as a member of a backend. All but `labels`, `role`, `group` and `revision` is the same in every
/// backend that has an endpoint of this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The handle by which the load and KV lanes name it: one for each key, never reused within an epoch.
    pub handle: u32,
    /// Its identity across snapshots.
    pub key: EndpointKey,
    /// The pod's `namespace/name`, or any name in a file.
    pub name: Arc<str>,
    /// IPv4 or IPv6, never a host name.
    pub address: SocketAddr,
    /// The pod's labels, as far as the backend looks at them.
    pub labels: BTreeMap<String, String>,
    /// Prefill, decode or both.
    pub role: Role,
    /// The group that pairs prefill with decode, if any.
    pub group: Option<Arc<str>>,
    /// The revision of its ModelServing, if any.
    pub revision: Option<Arc<str>>,
    /// The node it runs on, if known.
    pub node: Option<Arc<str>>,
    /// The zone it runs in, if known.
    pub zone: Option<Arc<str>>,
    /// LoRA adapters that it has loaded; none where that is unknown.
    pub adapters: Option<Vec<ModelName>>,
    /// How many tokens its KV cache holds, where known.
    pub cache_tokens: Option<u64>,
}

/// Every wait on an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect.
    pub connect: Duration,
    /// From the last byte of the request to the first of the answer.
    pub first_byte: Duration,
    /// Between two reads of an answer.
    pub idle: Duration,
    /// From the first byte of the request to the last of the answer.
    pub total: Duration,
}

/// When a failed attempt is repeated at another endpoint. Only while nothing has gone to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Attempts beyond the first.
    pub attempts: u8,
    /// Pause before each of them.
    pub interval: Duration,
    /// Retries may be this share of the backend's requests, in percent.
    pub budget_percent: u8,
}

/// When an endpoint that fails is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row that eject.
    pub failures: u32,
    /// The first ejection's length; doubled by each further one in a row.
    pub base: Duration,
    /// The longest ejection.
    pub max: Duration,
    /// No more than this share of a backend is ejected at once, in percent.
    pub max_percent: u8,
    /// After an ejection, the time over which the endpoint's share grows back.
    pub slow_start: Duration,
}

/// Whether usage is asked for on streams whose client did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageInjection {
    /// On every streamed OpenAI request.
    #[default]
    Always,
    /// Only where a policy counts tokens: where the matched route has a rate limit.
    Policy,
    /// Never.
    Never,
}

/// What happens to `Authorization`, `Proxy-Authorization` and `X-Api-Key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Credentials {
    /// They reach the engine.
    #[default]
    Pass,
    /// They are removed.
    Strip,
}

/// How endpoints are filtered and scored.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Unique in the snapshot.
    pub name: ProfileName,
    /// Applied in order; each removes endpoints.
    pub filters: Vec<Filter>,
    /// Scores are summed by weight. `locality-cost` stands alone.
    pub scorers: Scorers,
}

/// Either our own cost, or a weighted sum of Kthena's scores.
#[derive(Debug, Clone, PartialEq)]
pub enum Scorers {
    /// Locality-weighted marginal cost, the least wins.
    LocalityCost,
    /// Each 0 to 100 times its weight, the most wins.
    Weighted(Vec<(Scorer, u32)>),
}

/// Removes endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Keeps endpoints whose engine reports fewer waiting requests.
    LeastRequest {
        /// The bound; default 10.
        max_waiting: u32,
    },
    /// Keeps endpoints that have the requested adapter loaded.
    LoraAffinity,
}

/// Scores endpoints from 0 to 100.
#[derive(Debug, Clone, PartialEq)]
pub enum Scorer {
    /// By requests in flight and what the engine reports.
    LeastRequest,
    /// By measured time to first token and per output token.
    LeastLatency {
        /// α of `α·ttft + (1−α)·tpot`, 0 to 1, default 0.5.
        ttft_weight: f64,
    },
    /// By free KV cache.
    GpuUsage,
    /// By the share of the prompt's blocks that the endpoint is predicted to hold.
    PrefixCache {
        /// Blocks looked at; default 128.
        max_blocks: u32,
        /// Endpoints that get a score; default 5.
        top_k: u32,
    },
    /// Uniform.
    Random,
    /// By the share of the prompt's blocks that the endpoint holds, of all endpoints.
    KvCacheAware {
        /// Blocks looked at; default 128.
        max_blocks: u32,
    },
    /// The endpoint of the client's session.
    SessionAffinity {
        /// The header that names the session, in lower case; default `x-session-id`.
        header: Arc<str>,
    },
}
