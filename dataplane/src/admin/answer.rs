//! What the admin listeners say: a function of the shared state and the request.

use std::collections::HashSet;
use std::sync::Arc;

use api::id::{BackendName, RouteName};
use api::kv::Trust;
use dataplane_core::index::Seat;
use dataplane_core::kv::Seated;
use dataplane_core::plan::Decision;
use dataplane_core::table::{BackendTable, Distance, Membership, Table};
use serde_json::{Value, json};

use crate::agent;
use crate::escape::unescaped;
use crate::metrics::{self, Gauges, Kv};
use crate::recorder::Record;
use crate::shared::Shared;
use crate::tables::Tables;

/// Which listener is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Health and metrics only.
    Metrics,
    /// Everything.
    Debug,
}

/// A request, as far as it matters.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    /// Without the `?`.
    pub query: &'a str,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// `content-type`
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    fn json(status: u16, value: &Value) -> Self {
        let body = serde_json::to_vec(value).expect("a value is always JSON");
        Self { status, content_type: "application/json", body }
    }
}

/// Answers a request.
pub fn answer(shared: &Shared, tables: &Tables, view: View, ask: &Ask<'_>) -> Reply {
    match (ask.method, ask.path) {
        ("GET" | "HEAD", "/healthz") => Reply::json(200, &json!({"message": "ok"})),
        ("GET" | "HEAD", "/readyz") => readyz(shared),
        ("GET" | "HEAD", "/metrics") => {
            let body = metrics::encode(&shared.metrics, &gauges(shared, tables));
            Reply { status: 200, content_type: "text/plain; version=0.0.4; charset=utf-8", body }
        }
        _ if view == View::Metrics => unknown(ask),
        ("GET", "/debug/table") => Reply::json(200, &table(shared, tables)),
        ("GET", "/debug/decision") => decision(shared, ask.query),
        ("GET", path) if path.starts_with(DUMPS) => {
            dump(shared, tables, &path[DUMPS.len()..]).unwrap_or_else(|| unknown(ask))
        }
        ("GET", "/debug/log-level") => Reply::json(200, &json!({"level": crate::logging::level()})),
        ("PUT" | "POST", "/debug/log-level") => log_level(ask.query),
        _ => unknown(ask),
    }
}

/// Kthena's dumps are below it.
const DUMPS: &str = "/debug/config_dump/";

/// All of a kind, or one: where Kthena's router has them, with what a table knows.
fn dump(shared: &Shared, tables: &Tables, path: &str) -> Option<Reply> {
    let parts: Vec<&str> = path.split('/').collect();
    let (plural, one) = match parts[..] {
        [plural] => (plural, None),
        ["namespaces", namespace, plural, name] => (plural, Some((namespace, name))),
        _ => return None,
    };
    let none = || Value::Array(Vec::new());
    let (kind, all) = match plural {
        "modelroutes" => ("ModelRoute", routes(shared)),
        "modelservers" => ("ModelServer", backends(shared)),
        "pods" => ("Pod", endpoints(shared, tables)),
        // Nobody reads these.
        "gateways" => ("Gateway", none()),
        "httproutes" => ("HTTPRoute", none()),
        "inferencepools" => ("InferencePool", none()),
        _ => return None,
    };
    let Some((namespace, name)) = one else { return Some(Reply::json(200, &json!({plural: all}))) };
    if name.is_empty() {
        return Some(Reply::json(400, &json!({"error": "namespace and name parameters are required"})));
    }
    let full = format!("{namespace}/{name}");
    let found = all.as_array().into_iter().flatten().find(|one| one["name"] == *full);
    let missing = || Reply::json(404, &json!({"error": format!("{kind} not found")}));
    Some(found.map_or_else(missing, |found| Reply::json(200, found)))
}

fn unknown(ask: &Ask<'_>) -> Reply {
    Reply::json(404, &json!({"error": format!("nothing is served at {} {}", ask.method, ask.path)}))
}

fn readyz(shared: &Shared) -> Reply {
    let ready = shared.ready();
    let status = shared.table_status();
    let message = if ready { "router is ready" } else { "router is not ready" };
    let version = shared.table.load().version();
    let body = json!({
        "message": message,
        "driver": shared.driver.as_str(),
        "draining": shared.draining(),
        "table": {
            "epoch": version.epoch,
            "version": version.version,
            "age_seconds": status.confirmed.elapsed().as_secs_f64(),
            "refused": status.refused,
            "refusal": status.refusal,
        },
        "control_plane": shared.agent.as_deref().map(control_plane),
    });
    Reply::json(if ready { 200 } else { 503 }, &body)
}

fn control_plane(agent: &agent::Status) -> Value {
    let agent::Look { address, connected, since, streams, error, zone, from_disk, applied, kv_refused } = agent.look();
    json!({
        "address": address,
        "connected": connected,
        "since_seconds": since.elapsed().as_secs_f64(),
        "streams": streams,
        "error": error,
        "zone": zone,
        "table_from_disk": from_disk,
        "applied_version": applied.map(|(version, _)| version.version),
        "applied_ms": applied.map(|(_, took)| took.as_secs_f64() * 1e3),
        "kv_messages_refused": kv_refused,
    })
}

fn gauges(shared: &Shared, tables: &Tables) -> Gauges {
    let status = shared.table_status();
    let table = shared.table.load();
    let now_ms = shared.now_ms();
    let slots = table.backends().flat_map(|b| b.slots.iter());
    // An endpoint of several backends counts once.
    let ejected: HashSet<_> =
        slots.filter(|e| e.live.health().is_ejected(now_ms)).map(|e| Arc::as_ptr(&e.live)).collect();
    let index = tables.index_stats();
    let agent = shared.agent.as_deref().map(agent::Status::look);
    Gauges {
        driver: shared.driver.as_str(),
        control_plane: agent.as_ref().map(|look| (look.connected, look.streams)),
        table_version: table.version(),
        table_age_s: status.confirmed.elapsed().as_secs_f64(),
        snapshots_refused: status.refused,
        prefix_entries: index.marks as u64,
        prefix_bytes: index.bytes as u64,
        prefix_evictions: index.evictions,
        prefix_marks_dropped: index.overflow,
        prefix_uses: index.uses as u64,
        fleet_lost: tables.fleet_lost(),
        fleet_untold: index.untold,
        buffered_bytes: shared.buffered_bytes() as u64,
        now_ms,
        panics: crate::rt::panics(),
        ejected: ejected.len() as u64,
        prefix_marks_expired: index.expired,
        attempts: attempts(&table),
        kv: agent.map(|look| Kv {
            stats: tables.kv_stats(),
            bytes: index.reported_bytes as u64,
            refused: look.kv_refused,
        }),
        process: process_metrics::families(),
    }
}

fn attempts(table: &Table) -> Vec<(Arc<str>, u64)> {
    table.endpoints().iter().map(|m| (m.entry.endpoint.name.clone(), m.entry.live.attempts())).collect()
}

fn table(shared: &Shared, tables: &Tables) -> Value {
    let table = shared.table.load();
    let version = table.version();
    json!({
        "epoch": version.epoch,
        "version": version.version,
        "models": table.models().iter().map(|m| &**m).collect::<Vec<_>>(),
        "routes": routes(shared),
        "backends": backends(shared),
        "endpoints": endpoints(shared, tables),
    })
}

fn routes(shared: &Shared) -> Value {
    let table = shared.table.load();
    let list = table.routes().iter().map(|route| {
        let rules = route.rules.iter().map(|rule| {
            let mut before = 0;
            let targets = rule.targets.iter().map(|target| {
                let weight = target.up_to - before;
                before = target.up_to;
                json!({"backend": target.name.as_str(), "weight": weight, "missing": target.backend.is_none()})
            });
            json!({"name": &*rule.name, "targets": targets.collect::<Vec<_>>()})
        });
        json!({
            "name": route.name.as_str(),
            "modelName": route.model.as_ref().map(|m| m.as_str()),
            "loraAdapters": route.adapters.iter().map(|m| m.as_str()).collect::<Vec<_>>(),
            "rules": rules.collect::<Vec<_>>(),
            "countsTokens": route.counts_tokens(),
        })
    });
    Value::Array(list.collect())
}

fn backends(shared: &Shared) -> Value {
    let table = shared.table.load();
    let list = table.backends().map(|b| {
        json!({
            "name": b.name.as_str(),
            "engine": format!("{:?}", b.engine),
            "model": b.model.as_ref().map(|m| m.as_str()),
            "timeouts": {
                "connectSeconds": b.timeouts.connect.as_secs_f64(),
                "firstByteSeconds": b.timeouts.first_byte.as_secs_f64(),
                "idleSeconds": b.timeouts.idle.as_secs_f64(),
                "totalSeconds": b.timeouts.total.as_secs_f64(),
            },
            "retry": {
                "attempts": b.retry.attempts,
                "intervalSeconds": b.retry.interval.as_secs_f64(),
                "budgetPercent": b.retry.budget_percent,
            },
            "associatedPods": b.slots.iter().map(|e| &*e.endpoint.name).collect::<Vec<_>>(),
            "medianPrefillTokensPerSecond": b.live.median_speed(),
            "bytesPerToken": b.live.bytes_per_token(),
            "proxies": b.live.proxies(),
            "decidedTokensPerSecond": b.live.token_rate(),
            "othersTokensPerSecond": b.live.others_rate(),
        })
    });
    Value::Array(list.collect())
}

fn endpoints(shared: &Shared, tables: &Tables) -> Value {
    let table = shared.table.load();
    let now_ms = shared.now_ms();
    let kv = tables.kv_stats();
    let told = |membership: &Membership<'_>| {
        let seated = membership.entry.seat.and_then(|seat| kv.look.seated.get(&Seat(seat)).copied());
        seated.unwrap_or(Seated { trust: Trust::Predicted, blocks: 0 })
    };
    Value::Array(table.endpoints().iter().map(|m| endpoint(m, told(m), now_ms)).collect())
}

/// What depends on a backend is the first one's.
fn endpoint(Membership { entry, backends }: &Membership<'_>, cache: Seated, now_ms: u64) -> Value {
    let (live, first) = (&entry.live, backends[0]);
    json!({
        "name": &*entry.endpoint.name,
        "address": entry.endpoint.address.to_string(),
        "distance": match entry.distance {
            Distance::Node => "node",
            Distance::Zone => "zone",
            Distance::Far => "far",
        },
        "modelServers": backends.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(),
        "inFlight": live.in_flight(),
        "queueDepth": live.queue_depth(now_ms),
        "running": live.running(now_ms),
        "queuedTokens": live.queued_tokens(live.speed(first.live.median_speed()), now_ms),
        "prefillTokensPerSecond": live.measured_speed(),
        "failures": live.health().failures(),
        "ejected": live.health().is_ejected(now_ms),
        "share": live.health().share(&first.ejection, now_ms),
        "cacheTrust": cache.trust.name(),
        "cacheBlocks": cache.blocks,
    })
}

fn decision(shared: &Shared, query: &str) -> Reply {
    let Some(id) = query.split('&').find_map(|pair| pair.strip_prefix("id=")).and_then(unescaped) else {
        return Reply::json(400, &json!({"error": "name the request: /debug/decision?id=<x-request-id>"}));
    };
    match shared.recorder.find(&id, told) {
        Some(told) => Reply::json(200, &told),
        None => Reply::json(404, &json!({"error": format!("request {id} is not among the last ones")})),
    }
}

fn told(r: &Record) -> Value {
    json!({
        "request_id": &*r.request_id,
        "model": &*r.model,
        "model_route": r.route.as_ref().map(RouteName::as_str),
        "backend": r.backend.as_ref().map(BackendName::as_str),
        "endpoint": r.endpoint.as_ref().map(|(name, address)| json!({"name": &**name, "address": address.to_string()})),
        "attempts": r.attempts,
        "status": r.status,
        "blocks": r.blocks.0,
        "cached_blocks": r.blocks.1,
        "decision": r.decision.as_ref().map(|(decision, backend)| considered(decision, backend.upgrade().as_deref())),
    })
}

/// Slots are told by number once their table is gone.
fn considered(decision: &Decision, backend: Option<&BackendTable>) -> Value {
    let candidates = decision.candidates.iter().enumerate().map(|(n, c)| {
        json!({
            "slot": c.slot,
            "endpoint": backend.map(|b| &*b.slots[c.slot as usize].endpoint.name),
            "chosen": n == usize::from(decision.chosen),
            "matched_blocks": c.matched_blocks,
            "queued_tokens": c.queued_tokens,
            "guessed_tokens": c.guessed_tokens,
            "running": c.running,
            "missing_tokens_weighted": c.missing_tokens,
            "prefill_tokens_per_second": c.speed,
            "cost_seconds": c.cost,
            "score": c.score,
        })
    });
    json!({
        "verdict": format!("{:?}", decision.verdict),
        "health": format!("{:?}", decision.health),
        "candidates": candidates.collect::<Vec<_>>(),
    })
}

fn log_level(query: &str) -> Reply {
    let Some(level) = query.split('&').find_map(|pair| pair.strip_prefix("level=")) else {
        return Reply::json(400, &json!({"error": "name the level: /debug/log-level?level=debug"}));
    };
    match crate::logging::set_level(level) {
        Ok(()) => Reply::json(200, &json!({"level": level})),
        Err(sentence) => Reply::json(400, &json!({"error": sentence})),
    }
}
