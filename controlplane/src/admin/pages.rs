//! Values as JSON, for people and scripts.

use api::decode::Object;
use api::snapshot::{Engine, Snapshot, Version};
use serde_json::{Value, json};

use super::view::Look;
use crate::engine::Asked;
use crate::kv::supervise::Row;
use crate::object::Kind;
use crate::publish::serve::{DataPlane, Outstanding};
use crate::publish::{Condition, ProviderVerdict, RouteVerdict, SchedulerVerdict, ServerVerdict};
use crate::run::Round;
use crate::world::ObjectName;

/// What data planes are told, in the form of a snapshot file. The seed is a secret: with it prompts could be made that
/// collide with those of others.
pub(super) fn config_dump(snapshot: &Snapshot) -> String {
    api::json::snapshot_to_json(&Snapshot { fleet_seed: 0, ..snapshot.clone() })
}

/// What became of each object.
pub(super) fn objects(round: &Round) -> Value {
    let verdicts = &round.verdicts;
    let routes: Vec<Value> = verdicts.routes.iter().map(|(name, verdict)| route(name, verdict)).collect();
    let servers: Vec<Value> = verdicts.servers.iter().map(|(name, verdict)| server(name, verdict)).collect();
    let providers: Vec<Value> = verdicts.providers.iter().map(|(name, verdict)| provider(name, verdict)).collect();
    let mut all = json!({
        "version": round.snapshot.version.version,
        "modelroutes": routes,
        "modelservers": servers,
        "externalmodelproviders": providers,
        "scheduler": verdicts.scheduler.as_ref().map(scheduler),
    });
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_published()) {
        let of_kind = verdicts.judged.iter().filter(|((of, _), _)| *of == kind);
        let said = of_kind.map(|((_, name), verdict)| object(name, verdict.generation, &verdict.accepted));
        all[kind.plural()] = said.collect();
    }
    all
}

/// What is said of an object of any kind.
fn object(name: &ObjectName, generation: i64, accepted: &Condition) -> Value {
    json!({
        "namespace": &*name.namespace,
        "name": &*name.name,
        "generation": generation,
        "accepted": condition(accepted),
    })
}

fn route(name: &ObjectName, verdict: &RouteVerdict) -> Value {
    let mut route = object(name, verdict.generation, &verdict.accepted);
    route["resolved_refs"] = condition(&verdict.resolved_refs);
    route["published"] = verdict.published.into();
    route
}

fn server(name: &ObjectName, verdict: &ServerVerdict) -> Value {
    let left_out = verdict.left_out.iter();
    let left_out = left_out.map(|(pod, why)| json!({"pod": pod.to_string(), "reason": why.to_string()}));
    let mut server = object(name, verdict.generation, &verdict.accepted);
    server["ready"] = condition(&verdict.ready);
    server["endpoints"] = json!(verdict.endpoints);
    server["left_out"] = left_out.collect();
    server["notes"] = json!(verdict.notes);
    server
}

fn provider(name: &ObjectName, verdict: &ProviderVerdict) -> Value {
    let mut provider = object(name, verdict.generation, &verdict.accepted);
    provider["credentials"] = condition(&verdict.credentials);
    provider
}

fn scheduler(verdict: &SchedulerVerdict) -> Value {
    json!({
        "namespace": &*verdict.name.namespace,
        "name": &*verdict.name.name,
        "accepted": condition(&verdict.accepted),
        "notes": verdict.notes,
    })
}

fn condition(condition: &Condition) -> Value {
    json!({
        "status": condition.holds,
        "reason": condition.reason.to_string(),
        "message": condition.message,
    })
}

/// Who is connected, and what each has.
pub(super) fn data_planes(look: &Look) -> Value {
    let newest = look.progress.version;
    let loads = look.outstanding();
    let rows = look.data_planes.iter().map(|row| data_plane(row, newest, loads.get(&row.instance)));
    let rows: Vec<Value> = rows.collect();
    json!({
        "newest": look.published().then(|| version(newest)),
        "source_version": look.progress.source.version,
        "data_planes": rows,
    })
}

fn data_plane(row: &DataPlane, newest: Version, load: Option<&Outstanding>) -> Value {
    let refused = row.refused.iter();
    let refused = refused.map(|(object, reason)| {
        let (kind, name) = named(object);
        json!({"kind": kind, "name": name, "reason": reason})
    });
    json!({
        "node": row.node,
        "namespace": row.namespace,
        "pod": row.pod,
        "uid": row.uid,
        "zone": row.zone,
        "token_ends_s": row.proof_ends_s,
        "version": row.version,
        "instance": row.instance,
        "applied": row.applied.map(version),
        "newest": row.applied == Some(newest),
        "refused": refused.collect::<Vec<_>>(),
        "stuck": row.stuck,
        "load": load.map(outstanding),
    })
}

fn outstanding(load: &Outstanding) -> Value {
    let Outstanding { endpoints, queued_tokens, running, queue_depth } = load;
    json!({"endpoints": endpoints, "queued_tokens": queued_tokens, "running": running, "queue_depth": queue_depth})
}

/// Which engines' caches are heard, how far each may be believed, and why others are not.
pub(super) fn kv(look: &Look) -> Value {
    let level = |model: &str| look.lane.as_ref().map(|lane| lane.level(model));
    let row = |row: &Row| {
        let ranks = row.ranks.iter().map(|status| {
            json!({"trust": format!("{:?}", status.trust), "messages": status.counts.applied, "gaps": status.counts.gaps,
                "restarts": status.counts.restarts, "connections": status.connections, "fault": status.fault})
        });
        json!({
            "uid": &*row.key.uid,
            "port": row.key.port,
            "model": row.model,
            "level": level(&row.model),
            "state": row.state.word(),
            "reason": row.state.reason(),
            "trust": format!("{:?}", row.trust),
            "chats": {"check": row.chats.word(), "reason": row.chats.reason()},
            "token_blocks": row.held.blocks,
            "text_blocks": row.held.told,
            "bytes": row.held.bytes,
            "ranks": ranks.collect::<Vec<_>>(),
        })
    };
    json!({"endpoints": look.heard.iter().map(row).collect::<Vec<_>>()})
}

/// Which engines this replica asks, and what is wrong with their answers.
pub(super) fn engines(look: &Look) -> Value {
    let row = |Asked { address, engine, topic, endpoints, fault }: &Asked| {
        json!({
            "address": address.to_string(),
            "engine": engine_name(*engine),
            "asked_for": topic,
            "endpoints": endpoints,
            "fault": fault.as_deref(),
        })
    };
    json!({"engines": look.asked.iter().map(row).collect::<Vec<_>>()})
}

/// As objects say it.
pub(super) fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Vllm => "vLLM",
        Engine::Sglang => "SGLang",
        Engine::Triton => "Triton",
        Engine::Torchserve => "TorchServe",
    }
}

fn version(version: Version) -> Value {
    json!({"epoch": version.epoch, "version": version.version})
}

fn named(object: &Object) -> (&'static str, &str) {
    match object {
        Object::Route(name) => ("route", name.as_str()),
        Object::Backend(name) => ("backend", name.as_str()),
        Object::Profile(name) => ("profile", name.as_str()),
    }
}
