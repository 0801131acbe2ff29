//! Every bound that both planes must agree on, with its unit.

use std::time::Duration;

/// Bytes of prompt text in one block of the prefix chain.
pub const BLOCK_BYTES: usize = 64;
/// Every so many blocks a decision leaves a mark in the prefix table.
pub const MARK_EVERY_BLOCKS: usize = 16;
/// Blocks of one prompt that are hashed at most; the rest is not looked at (4 MiB of text).
pub const MAX_BLOCKS: usize = 65_536;

/// Routes in one snapshot.
pub const MAX_ROUTES: usize = 20_000;
/// Backends in one snapshot.
pub const MAX_BACKENDS: usize = 20_000;
/// Endpoints in one snapshot.
pub const MAX_ENDPOINTS: usize = 100_000;
/// Profiles in one snapshot.
pub const MAX_PROFILES: usize = 1_000;
/// Lists of which a snapshot says how far they had been read.
pub const MAX_LISTS: usize = 4_096;
/// Bytes of what a data plane says its version is.
pub const MAX_VERSION_BYTES: usize = 64;
/// Bytes of a resourceVersion.
pub const MAX_RESOURCE_VERSION_BYTES: usize = 64;
/// Rules of one route, as in the CRD.
pub const MAX_RULES: usize = 16;
/// Targets of one rule, as in the CRD.
pub const MAX_TARGETS: usize = 16;
/// LoRA names of one route, as in the CRD.
pub const MAX_ADAPTERS: usize = 10;
/// Header conditions of one rule.
pub const MAX_HEADER_MATCHES: usize = 16;
/// Bytes of a model name, as in the CRD.
pub const MAX_MODEL_NAME_BYTES: usize = 256;
/// Bytes of any other name.
pub const MAX_NAME_BYTES: usize = 512;
/// Bytes of a pattern in a match.
pub const MAX_PATTERN_BYTES: usize = 4_096;
/// Bytes that one compiled regex may take.
pub const MAX_REGEX_BYTES: usize = 1 << 20;
/// The highest weight of a target, as in the CRD.
pub const MAX_WEIGHT: u32 = 100;
/// Bytes of a snapshot file.
pub const MAX_SNAPSHOT_BYTES: usize = 256 << 20;

/// Bytes of all that is refused at once with the forms that are held: a message of 1 MiB has room for them.
pub const MAX_REFUSAL_BYTES: usize = 960 << 10;
/// Of these, bytes of held forms.
pub const MAX_HELD_BYTES: usize = 512 << 10;
/// Handles from here on are of endpoints that only a held form knows.
pub const HELD_HANDLES: u32 = 1 << 31;

/// Connecting to an engine.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Until the first byte of an answer.
pub const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
/// Between two reads of an answer.
pub const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// A whole request.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(3_600);
/// The longest any of them can be set to.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(86_400);
/// Attempts beyond the first.
pub const RETRY_ATTEMPTS: u8 = 1;
/// Most attempts that can be asked for.
pub const MAX_RETRY_ATTEMPTS: u8 = 5;
/// Share of a backend's requests that may be retries, in percent.
pub const RETRY_BUDGET_PERCENT: u8 = 20;
/// Requests in flight at one endpoint.
pub const MAX_IN_FLIGHT: u32 = 4_096;
/// Failures in a row that eject an endpoint.
pub const EJECT_FAILURES: u32 = 5;
/// The first ejection.
pub const EJECT_BASE: Duration = Duration::from_secs(1);
/// The longest ejection.
pub const EJECT_MAX: Duration = Duration::from_secs(60);
/// Share of a backend that may be ejected, in percent.
pub const EJECT_MAX_PERCENT: u8 = 50;
/// How long an endpoint's share grows back.
pub const SLOW_START: Duration = Duration::from_secs(10);
/// Tokens that an engine's cache is taken to hold when nobody says.
pub const CACHE_TOKENS: u64 = 400_000;

/// The highest that the requests in flight at one endpoint can be set to.
pub const HIGHEST_IN_FLIGHT: u32 = 1_000_000;
/// Pause before a retry: another endpoint is tried at once.
pub const RETRY_INTERVAL: Duration = Duration::ZERO;
/// The longest pause before a retry that can be set.
pub const MAX_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// Labels of one endpoint.
pub const MAX_LABELS: usize = 64;
/// LoRA adapters that one endpoint has loaded.
pub const MAX_LOADED_ADAPTERS: usize = 1_024;
/// Filters of one profile.
pub const MAX_FILTERS: usize = 16;
/// Scorers of one profile.
pub const MAX_SCORERS: usize = 16;
/// The highest weight of a scorer.
pub const MAX_SCORER_WEIGHT: u32 = 1_000_000;
/// Waiting requests at which the least-request filter removes an endpoint.
pub const MAX_WAITING: u32 = 10;
/// The weight of the time to first token in the least-latency score.
pub const TTFT_WEIGHT: f64 = 0.5;
/// Blocks that the prefix-cache score looks at.
pub const PREFIX_BLOCKS: u32 = 128;
/// Endpoints that get a prefix-cache score.
pub const PREFIX_TOP_K: u32 = 5;
/// The header that names a session, in lower case.
pub const SESSION_HEADER: &str = "x-session-id";
/// Bytes of such a header's name.
pub const MAX_SESSION_HEADER_BYTES: usize = 128;
/// Most endpoints that can be given a prefix-cache score.
pub const MAX_PREFIX_TOP_K: u32 = 1_000;
/// Bytes of a chat template.
pub const MAX_TEMPLATE_BYTES: usize = 128 << 10;
/// Variables that a chat template is given besides the conversation.
pub const MAX_TEMPLATE_TOKENS: usize = 64;
/// Bytes of one of them, and of what a tokenizer puts before a prompt.
pub const MAX_TOKEN_BYTES: usize = 1_024;
/// Problems that one refusal lists.
pub const MAX_PROBLEMS: usize = 1_000;

/// The highest sampling level of the KV lane: one block of a whole prompt.
pub const MAX_KV_LEVEL: u8 = 16;
/// Entries of one message of the KV lane, which stays under 1 MiB.
pub const MAX_KV_ENTRIES: usize = 65_536;
/// Endpoints whose trust one message of the KV lane tells.
pub const MAX_KV_RANKS: usize = 65_536;
/// Digests of one message of the KV lane.
pub const MAX_KV_DIGESTS: usize = 32_768;
/// Models that the KV lane tells of at once.
pub const MAX_KV_MODELS: usize = 1_024;
/// How long a data plane's predictions for an endpoint live while that is trusted: an event takes their place by then.
pub const PREDICTION_UNDER_EVENTS: Duration = Duration::from_secs(5);
