//! From what is told to what is meant, and back.

use std::collections::HashMap;
use std::sync::Arc;

use api::id::{EndpointKey, ModelName};
use api::limits::{MAX_LOADED_ADAPTERS, MAX_NAME_BYTES};
use api::predictions::{self, Mark};
use api::proto::{EngineLoad, LoadedAdapters, PeerEngine, PeerFacts, PeerKey, PeerLoad, PeerPredictions};

use crate::publish::serve::Load;
use crate::world::{Facts, Unready};

/// A peer says what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("something is said of no endpoint")]
    NoKey,
    #[error("an endpoint's pod has a UID of more than {MAX_NAME_BYTES} bytes")]
    LongUid,
    #[error("an endpoint's port or rank is beyond 65535")]
    Number,
    #[error("something is said of what is no object")]
    NoObject,
    #[error("an object's name has more than {MAX_NAME_BYTES} bytes")]
    LongName,
    #[error(transparent)]
    Predictions(#[from] predictions::NotWhole),
    #[error(transparent)]
    Caches(#[from] api::kv::Fault),
}

pub(super) fn key_in(key: Option<&PeerKey>) -> Result<EndpointKey, WireError> {
    let PeerKey { uid, port, rank } = key.ok_or(WireError::NoKey)?;
    if uid.len() > MAX_NAME_BYTES {
        return Err(WireError::LongUid);
    }
    let number = |number: u32| u16::try_from(number).map_err(|_| WireError::Number);
    Ok(EndpointKey { uid: uid.as_str().into(), port: number(*port)?, rank: number(*rank)? })
}

pub(super) fn key_out(EndpointKey { uid, port, rank }: &EndpointKey) -> Option<PeerKey> {
    Some(PeerKey { uid: uid.to_string(), port: u32::from(*port), rank: u32::from(*rank) })
}

pub(super) fn load_in(load: &PeerLoad) -> Load {
    let PeerLoad { key: _, queued_tokens, running, ttft, queue_depth } = *load;
    Load { queued_tokens, running, ttft, queue_depth }
}

pub(super) fn load_out(key: &EndpointKey, load: Load) -> PeerLoad {
    let Load { queued_tokens, running, ttft, queue_depth } = load;
    PeerLoad { key: key_out(key), queued_tokens, running, ttft, queue_depth }
}

/// As of when it was read, which its age tells.
pub(super) fn engine_in(handle: u32, said: &PeerEngine) -> EngineLoad {
    let PeerEngine { key: _, age_ms: _, running, waiting, cache_usage, ttft, tpot } = *said;
    EngineLoad { handle, age_ms: 0, running, waiting, cache_usage, ttft, tpot }
}

pub(super) fn engine_out(key: &EndpointKey, said: EngineLoad) -> PeerEngine {
    let EngineLoad { handle: _, age_ms, running, waiting, cache_usage, ttft, tpot } = said;
    PeerEngine { key: key_out(key), age_ms, running, waiting, cache_usage, ttft, tpot }
}

/// None where they are withdrawn.
pub(super) fn facts_in(said: &PeerFacts) -> Option<Arc<Facts>> {
    let PeerFacts { key: _, withdrawn, adapters, unready, unready_models, cache_tokens } = said;
    if *withdrawn {
        return None;
    }
    let names = |names: &[String]| {
        names.iter().take(MAX_LOADED_ADAPTERS).map(|name| ModelName::from(name.as_str())).collect::<Vec<_>>()
    };
    let unready = match (unready, unready_models.is_empty()) {
        (true, _) => Unready::All,
        (false, true) => Unready::Nothing,
        (false, false) => Unready::Models(names(unready_models).into_iter().collect()),
    };
    let adapters = adapters.as_ref().map(|adapters| names(&adapters.names));
    Some(Arc::new(Facts { adapters, unready, cache_tokens: cache_tokens.filter(|&tokens| tokens > 0) }))
}

pub(super) fn facts_out(key: &EndpointKey, facts: Option<&Facts>) -> PeerFacts {
    let Some(Facts { adapters, unready, cache_tokens }) = facts else {
        return PeerFacts { key: key_out(key), withdrawn: true, ..PeerFacts::default() };
    };
    let names = |names: &[ModelName]| names.iter().map(ModelName::to_string).collect();
    PeerFacts {
        key: key_out(key),
        withdrawn: false,
        adapters: adapters.as_ref().map(|adapters| LoadedAdapters { names: names(adapters) }),
        unready: *unready == Unready::All,
        unready_models: match unready {
            Unready::Models(models) => models.iter().map(ModelName::to_string).collect(),
            Unready::Nothing | Unready::All => Vec::new(),
        },
        cache_tokens: *cache_tokens,
    }
}

/// Those of endpoints that are known here.
pub(super) fn predictions_in(
    said: &PeerPredictions,
    handles: &HashMap<EndpointKey, u32>,
) -> Result<Vec<Mark>, WireError> {
    let PeerPredictions { keys, entries, warming: _ } = said;
    let handle = |key| Ok(handles.get(&key_in(Some(key))?).copied());
    let known = keys.iter().map(handle).collect::<Result<Vec<Option<u32>>, WireError>>()?;
    let of = |mark: Mark| {
        let handle = known.get(mark.handle as usize).copied().flatten()?;
        Some(Mark { handle, ..mark })
    };
    Ok(predictions::unpack(entries)?.filter_map(of).collect())
}

/// Those of endpoints that have a name.
pub(super) fn predictions_out(marks: &[Mark], keys: &HashMap<u32, EndpointKey>) -> PeerPredictions {
    let (mut named, mut places) = (Vec::new(), HashMap::<u32, u32>::new());
    let mut place = |handle: u32| {
        if let Some(place) = places.get(&handle) {
            return Some(*place);
        }
        let place = named.len() as u32;
        named.extend(key_out(keys.get(&handle)?));
        places.insert(handle, place);
        Some(place)
    };
    let of = |mark: &Mark| Some(Mark { handle: place(mark.handle)?, ..*mark });
    let entries = predictions::pack(marks.iter().filter_map(of));
    PeerPredictions { keys: named, entries, warming: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> EndpointKey {
        EndpointKey { uid: "pod-1".into(), port: 8000, rank: 3 }
    }

    #[test]
    fn facts_come_through_as_they_are() {
        let adapters = Some(vec!["a".into(), "b".into()]);
        for facts in [
            Facts::default(),
            Facts { adapters: Some(Vec::new()), unready: Unready::All, cache_tokens: None },
            Facts { adapters, unready: Unready::Models(["m".into()].into()), cache_tokens: Some(2_560) },
        ] {
            let told = facts_out(&key(), Some(&facts));
            assert_eq!((key_in(told.key.as_ref()), facts_in(&told).as_deref()), (Ok(key()), Some(&facts)));
        }
        assert_eq!(facts_in(&facts_out(&key(), None)), None);
    }

    #[test]
    fn predictions_are_of_endpoints_that_both_know() {
        let other = EndpointKey { uid: "pod-2".into(), ..key() };
        let here: HashMap<u32, EndpointKey> = [(7, key()), (8, other.clone())].into();
        let there: HashMap<EndpointKey, u32> = [(other, 70), (EndpointKey { rank: 9, ..key() }, 71)].into();
        let mark = |handle, position| Mark { hash: 5, handle, position };
        let told = predictions_out(&[mark(7, 0), mark(8, 0), mark(8, 1), mark(9, 0)], &here);
        assert_eq!(told.keys.len(), 2);
        assert_eq!(predictions_in(&told, &there), Ok(vec![mark(70, 0), mark(70, 1)]));
        let ragged = PeerPredictions { entries: vec![0; 15], ..told };
        assert!(matches!(predictions_in(&ragged, &there), Err(WireError::Predictions(_))));
    }

    #[test]
    fn what_names_no_endpoint_is_refused() {
        let check = |edit: fn(&mut PeerKey), expected| {
            let mut key = key_out(&key()).unwrap();
            edit(&mut key);
            assert_eq!(key_in(Some(&key)), Err(expected));
        };
        check(|key| key.port = 65_536, WireError::Number);
        check(|key| key.rank = u32::MAX, WireError::Number);
        check(|key| key.uid = "x".repeat(MAX_NAME_BYTES + 1), WireError::LongUid);
        assert_eq!(key_in(None), Err(WireError::NoKey));
    }
}
