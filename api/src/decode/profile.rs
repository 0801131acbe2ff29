//! Scheduler profiles.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use super::field::{count, name, needs, number, object};
use super::path::{Path, Problems};
use super::{Object, Reason};
use crate::limits::{
    MAX_BLOCKS, MAX_FILTERS, MAX_PREFIX_TOP_K, MAX_SCORER_WEIGHT, MAX_SCORERS, MAX_SESSION_HEADER_BYTES, MAX_WAITING,
    PREFIX_BLOCKS, PREFIX_TOP_K, SESSION_HEADER, TTFT_WEIGHT,
};
use crate::proto;
use crate::snapshot::{Filter, Profile, Scorer, Scorers};

pub(crate) fn profile(problems: &mut Problems, at: &Path<'_>, wire: proto::Profile) -> Profile {
    let proto::Profile { name: wire_name, filters, scorers: wire_scorers, needs: needed } = wire;
    problems.object = object(&wire_name, Object::Profile);
    needs(problems, at, needed);
    name(problems, &at.field("name"), &wire_name);
    count(problems, &at.field("filters"), filters.len(), ("filters", MAX_FILTERS));
    let profile = Profile {
        name: wire_name.into(),
        filters: (filters.into_iter().enumerate())
            .map(|(i, wire)| filter(problems, &at.item("filters", i), wire))
            .collect(),
        scorers: match wire_scorers {
            None | Some(proto::profile::Scorers::LocalityCost(proto::LocalityCost {})) => Scorers::LocalityCost,
            Some(proto::profile::Scorers::Weighted(wire)) => weighted(problems, &at.field("weighted"), wire),
        },
    };
    problems.object = None;
    profile
}

fn filter(problems: &mut Problems, at: &Path<'_>, wire: proto::Filter) -> Filter {
    use proto::filter::Filter as Wire;
    match wire.filter {
        Some(Wire::LeastRequest(proto::LeastRequestFilter { max_waiting })) => {
            let at = at.field("leastRequest");
            let range = (MAX_WAITING, 1..=u32::MAX);
            Filter::LeastRequest { max_waiting: number(problems, &at.field("maxWaiting"), max_waiting, range) }
        }
        Some(Wire::LoraAffinity(proto::LoraAffinity {})) => Filter::LoraAffinity,
        None => {
            problems.add(at, Reason::Missing("say `leastRequest` or `loraAffinity`"));
            Filter::LoraAffinity
        }
    }
}

fn weighted(problems: &mut Problems, at: &Path<'_>, wire: proto::WeightedScorers) -> Scorers {
    let list = at.field("scorers");
    count(problems, &list, wire.scorers.len(), ("scorers", MAX_SCORERS));
    if wire.scorers.is_empty() {
        problems.add(&list, Reason::Missing("list at least one scorer, or use localityCost"));
    } else if wire.scorers.iter().all(|s| s.weight == Some(0)) {
        problems.add(&list, Reason::NoWeight);
    }
    let mut seen: Vec<Option<Discriminant<_>>> = Vec::with_capacity(wire.scorers.len().min(MAX_SCORERS));
    let mut scorers = Vec::with_capacity(wire.scorers.len().min(MAX_SCORERS));
    for (i, wire) in wire.scorers.into_iter().take(MAX_SCORERS).enumerate() {
        let here = at.item("scorers", i);
        let kind = wire.scorer.as_ref().map(discriminant);
        if let Some(first) = seen.iter().position(|other| kind.is_some() && *other == kind) {
            let (found, first) = (i.to_string(), at.item("scorers", first).to_string());
            problems.add(&here, Reason::Duplicate { what: "the scorer at index", found, first });
        }
        seen.push(kind);
        let weight = number(problems, &here.field("weight"), wire.weight, (1, 0..=MAX_SCORER_WEIGHT));
        scorers.push((scorer(problems, &here, wire.scorer), weight));
    }
    Scorers::Weighted(scorers)
}

fn scorer(problems: &mut Problems, at: &Path<'_>, wire: Option<proto::weighted_scorer::Scorer>) -> Scorer {
    use proto::weighted_scorer::Scorer as Wire;
    match wire {
        Some(Wire::LeastRequest(proto::LeastRequest {})) => Scorer::LeastRequest,
        Some(Wire::LeastLatency(proto::LeastLatency { ttft_weight })) => {
            let at = at.field("leastLatency");
            let range = (TTFT_WEIGHT, 0.0..=1.0);
            Scorer::LeastLatency { ttft_weight: number(problems, &at.field("ttftWeight"), ttft_weight, range) }
        }
        Some(Wire::GpuUsage(proto::GpuUsage {})) => Scorer::GpuUsage,
        Some(Wire::PrefixCache(proto::PrefixCache { max_blocks, top_k })) => {
            let at = at.field("prefixCache");
            let most = u32::try_from(MAX_BLOCKS).expect("65,536 fits");
            Scorer::PrefixCache {
                max_blocks: number(problems, &at.field("maxBlocks"), max_blocks, (PREFIX_BLOCKS, 1..=most)),
                top_k: number(problems, &at.field("topK"), top_k, (PREFIX_TOP_K, 1..=MAX_PREFIX_TOP_K)),
            }
        }
        Some(Wire::Random(proto::Random {})) => Scorer::Random,
        Some(Wire::KvCacheAware(proto::KvCacheAware { max_blocks })) => {
            let at = at.field("kvCacheAware");
            let range = (PREFIX_BLOCKS, 1..=u32::try_from(MAX_BLOCKS).expect("65,536 fits"));
            Scorer::KvCacheAware { max_blocks: number(problems, &at.field("maxBlocks"), max_blocks, range) }
        }
        Some(Wire::SessionAffinity(proto::SessionAffinity { header })) => {
            let at = at.field("sessionAffinity");
            let header = header.as_deref().unwrap_or(SESSION_HEADER);
            Scorer::SessionAffinity { header: session_header(problems, &at.field("header"), header) }
        }
        None => {
            let known = "say `leastRequest`, `leastLatency`, `gpuUsage`, `prefixCache`, `random`, `kvCacheAware` or `sessionAffinity`";
            problems.add(at, Reason::Missing(known));
            Scorer::Random
        }
    }
}

/// A header's name in lower case, as requests are searched for it.
pub(super) fn session_header(problems: &mut Problems, at: &Path<'_>, header: &str) -> Arc<str> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if header.len() > MAX_SESSION_HEADER_BYTES {
        problems.add(at, Reason::TooLong { found: header.len(), max: MAX_SESSION_HEADER_BYTES });
    } else if header.is_empty() || !header.bytes().all(token) {
        problems
            .add(at, Reason::Malformed { found: header.to_owned(), wanted: "write a header's name, as X-Session-ID" });
    }
    header.to_ascii_lowercase().into()
}
