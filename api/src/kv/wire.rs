//! Wire ↔ domain.

use super::{Digest, Digests, Entries, Fault, Rank, Trust, Update};
use crate::id::ModelName;
use crate::limits::{MAX_KV_DIGESTS, MAX_KV_LEVEL, MAX_KV_RANKS, MAX_MODEL_NAME_BYTES};
use crate::proto;

impl TryFrom<proto::KvUpdate> for Update {
    type Error = Fault;

    fn try_from(wire: proto::KvUpdate) -> Result<Self, Fault> {
        let proto::KvUpdate { epoch, model, generation, sequence, reset, level, entries, ranks } = wire;
        let model = name(model)?;
        at_most("ranks", ranks.len(), MAX_KV_RANKS)?;
        let level = u8::try_from(level).ok().filter(|level| *level <= MAX_KV_LEVEL).ok_or(Fault::Level(level))?;
        let ranks = ranks.into_iter().map(Rank::try_from).collect::<Result<_, _>>()?;
        Ok(Self { epoch, model, generation, sequence, reset, level, ranks, entries: Entries::checked(entries)? })
    }
}

impl From<Update> for proto::KvUpdate {
    fn from(update: Update) -> Self {
        let Update { epoch, model, generation, sequence, reset, level, ranks, entries } = update;
        Self {
            epoch,
            model: model.to_string(),
            generation,
            sequence,
            reset,
            level: level.into(),
            entries: entries.into_bytes(),
            ranks: ranks.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::KvRank> for Rank {
    type Error = Fault;

    fn try_from(wire: proto::KvRank) -> Result<Self, Fault> {
        use proto::KvTrust;
        let proto::KvRank { handle, trust, forget, capacity_tokens, emptied } = wire;
        let trust = match KvTrust::try_from(trust).map_err(|_| Fault::Trust(trust))? {
            KvTrust::Unspecified => Trust::Predicted,
            KvTrust::Cold => Trust::Cold,
            KvTrust::Replaying => Trust::Replaying,
            KvTrust::Trusted => Trust::Trusted,
            KvTrust::Gapped => Trust::Gapped,
        };
        Ok(Self { handle, trust, forget, emptied, capacity_tokens: (capacity_tokens > 0).then_some(capacity_tokens) })
    }
}

impl From<Rank> for proto::KvRank {
    fn from(rank: Rank) -> Self {
        use proto::KvTrust;
        let Rank { handle, trust, forget, emptied, capacity_tokens } = rank;
        let trust = match trust {
            Trust::Predicted => KvTrust::Unspecified,
            Trust::Cold => KvTrust::Cold,
            Trust::Replaying => KvTrust::Replaying,
            Trust::Trusted => KvTrust::Trusted,
            Trust::Gapped => KvTrust::Gapped,
        };
        Self { handle, trust: trust.into(), forget, emptied, capacity_tokens: capacity_tokens.unwrap_or(0) }
    }
}

impl TryFrom<proto::KvDigests> for Digests {
    type Error = Fault;

    fn try_from(wire: proto::KvDigests) -> Result<Self, Fault> {
        let proto::KvDigests { epoch, model, generation, endpoints } = wire;
        let model = name(model)?;
        at_most("digests", endpoints.len(), MAX_KV_DIGESTS)?;
        let digest = |wire| {
            let proto::KvDigest { handle, xor, blocks } = wire;
            Digest { handle, xor, blocks }
        };
        Ok(Self { epoch, model, generation, endpoints: endpoints.into_iter().map(digest).collect() })
    }
}

impl From<Digests> for proto::KvDigests {
    fn from(digests: Digests) -> Self {
        let Digests { epoch, model, generation, endpoints } = digests;
        let digest = |digest| {
            let Digest { handle, xor, blocks } = digest;
            proto::KvDigest { handle, xor, blocks }
        };
        Self { epoch, model: model.to_string(), generation, endpoints: endpoints.into_iter().map(digest).collect() }
    }
}

fn name(model: String) -> Result<ModelName, Fault> {
    if model.is_empty() || model.len() > MAX_MODEL_NAME_BYTES {
        return Err(Fault::Model(model.len()));
    }
    Ok(model.into())
}

fn at_most(what: &'static str, found: usize, max: usize) -> Result<(), Fault> {
    if found > max { Err(Fault::TooMany { what, found, max }) } else { Ok(()) }
}
