//! Which pods are a server's endpoints.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::id::EndpointKey;
use api::limits::{MAX_LABELS, MAX_NAME_BYTES};
use api::snapshot::{Endpoint, Role};

use super::handles::Handles;
use super::memory::Rounds;
use super::server::{Pool, Split};
use super::verdict::LeftOut;
use crate::world::{Facts, Life, ObjectName, Pod, World};

/// Set by ModelServing on its pods.
const REVISION_LABEL: &str = "modelserving.volcano.sh/revision";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// What clusters from before 1.17 have.
const OLD_ZONE_LABEL: &str = "failure-domain.beta.kubernetes.io/zone";

/// Endpoints of the last build, so that what has not changed is not made again.
pub(super) type EndpointMemory = Rounds<(ObjectName, ObjectName), Made>;

/// An endpoint and all that it was made of.
#[derive(Debug)]
pub(super) struct Made {
    pool: Arc<Pool>,
    pod: Arc<Pod>,
    node: Option<Arc<BTreeMap<String, String>>>,
    facts: Option<Arc<Facts>>,
    endpoint: Arc<Endpoint>,
}

/// Pods by the labels that some server selects by.
#[derive(Debug)]
pub(super) struct PodIndex<'w> {
    by_label: HashMap<Label<'w>, Vec<&'w Arc<Pod>>>,
}

type Label<'w> = (&'w str, &'w str, &'w str);

impl<'w> PodIndex<'w> {
    /// Only what is asked for is indexed: pods have many labels, selectors few.
    pub(super) fn new(world: &'w World, pools: impl Iterator<Item = (&'w ObjectName, &'w Pool)>) -> Self {
        let mut by_label: HashMap<Label<'w>, Vec<&'w Arc<Pod>>> = HashMap::new();
        for (name, pool) in pools {
            for (key, value) in &pool.selects {
                by_label.entry((&name.namespace, key, value)).or_default();
            }
        }
        for pod in world.pods.values() {
            for (key, value) in &pod.labels {
                if let Some(pods) = by_label.get_mut(&(&*pod.name.namespace, key.as_str(), value.as_str())) {
                    pods.push(pod);
                }
            }
        }
        Self { by_label }
    }

    /// The pods that have all of a server's labels, by name.
    fn selected<'p>(&'p self, server: &'p ObjectName, pool: &'p Pool) -> impl Iterator<Item = &'w Arc<Pod>> + 'p {
        let lists = pool.selects.iter().filter_map(|(key, value)| self.by_label.get(&(&*server.namespace, key, value)));
        let fewest = lists.min_by_key(|pods| pods.len());
        let has_all = |pod: &&&'w Arc<Pod>| pool.selects.iter().all(|(key, value)| pod.labels.get(key) == Some(value));
        fewest.into_iter().flatten().filter(has_all).copied()
    }
}

/// What a server's selector came to.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// By pod name.
    pub(super) endpoints: Vec<Arc<Endpoint>>,
    pub(super) left_out: Vec<(ObjectName, LeftOut)>,
}

/// Makes endpoints of pods.
#[derive(Debug)]
pub(super) struct Maker<'m, 'w> {
    pub(super) world: &'w World,
    pub(super) index: PodIndex<'w>,
    pub(super) handles: &'m mut Handles,
    pub(super) memory: &'m mut EndpointMemory,
    /// How many more endpoints the snapshot holds.
    pub(super) room: usize,
}

impl Maker<'_, '_> {
    /// The endpoints of one server: of the selected pods those that are ready and have a place in it.
    pub(super) fn members(&mut self, server: &ObjectName, pool: &Arc<Pool>) -> Members {
        let (mut able, mut left_out) = (Vec::new(), Vec::new());
        let selected: Vec<&Arc<Pod>> = self.index.selected(server, pool).collect();
        for pod in selected {
            match self.endpoint(server, pool, pod) {
                Ok(endpoint) => able.push((pod, endpoint)),
                Err(why) => left_out.push((pod.name.clone(), why)),
            }
        }
        let roles: Vec<(Role, bool)> =
            able.iter().map(|(_, endpoint)| (endpoint.role, self.unready(pool, endpoint))).collect();
        let mut endpoints = Vec::with_capacity(able.len());
        for ((pod, endpoint), out) in able.into_iter().zip(taken_out(&roles)) {
            match out {
                false => endpoints.push(endpoint),
                true => left_out.push((pod.name.clone(), LeftOut::Unready)),
            }
        }
        Members { endpoints, left_out }
    }

    /// Whether its engine says that it does not serve what the server asks of it.
    fn unready(&self, pool: &Pool, endpoint: &Endpoint) -> bool {
        let facts = self.world.engines.of(&endpoint.key);
        facts.is_some_and(|facts| facts.unready.is_for(pool.backend.model.as_ref()))
    }

    fn endpoint(&mut self, server: &ObjectName, pool: &Arc<Pool>, pod: &Arc<Pod>) -> Result<Arc<Endpoint>, LeftOut> {
        if pod.life != Life::Ready {
            return Err(LeftOut::Life(pod.life));
        }
        let node = pod.node.as_ref().and_then(|name| self.world.nodes.get(name));
        let id = EndpointKey { uid: Arc::clone(&pod.uid), port: pool.port, rank: 0 };
        let facts = self.world.engines.of(&id);
        let key = (server.clone(), pod.name.clone());
        let made = self.memory.take(&key).filter(|made| made.is_of((pool, pod), node, facts));
        let endpoint = match made {
            Some(made) => made.endpoint,
            None => Arc::new(self.make(pool, pod, id)?),
        };
        self.room = self.room.checked_sub(1).ok_or(LeftOut::TooMany)?;
        let made = Made {
            pool: Arc::clone(pool),
            pod: Arc::clone(pod),
            node: node.cloned(),
            facts: facts.cloned(),
            endpoint: Arc::clone(&endpoint),
        };
        self.memory.put(key, made);
        Ok(endpoint)
    }

    fn make(&mut self, pool: &Pool, pod: &Pod, key: EndpointKey) -> Result<Endpoint, LeftOut> {
        let address = pod.address().ok_or(LeftOut::NoAddress)?;
        let (role, group) = part(pool.split.as_ref(), &pod.labels)?;
        let node = pod.node.as_ref().and_then(|name| self.world.nodes.get(name));
        let facts = self.world.engines.of(&key);
        let adapters = facts.and_then(|facts| facts.adapters.clone());
        let cache_tokens = facts.and_then(|facts| facts.cache_tokens);
        let zone = node.and_then(|labels| zone(labels));
        Ok(Endpoint {
            handle: self.handles.of(&key).ok_or(LeftOut::NoHandle)?,
            key,
            name: pod.name.to_string().into(),
            address: (address, pool.port).into(),
            labels: publishable(&pod.labels),
            role,
            group,
            revision: text(pod.labels.get(REVISION_LABEL)),
            node: pod.node.clone(),
            zone: text(zone),
            adapters,
            cache_tokens,
        })
    }
}

/// Where nodes are, as far as they say.
pub fn zones(world: &World) -> BTreeMap<String, String> {
    let nodes = world.nodes.iter();
    nodes.filter_map(|(name, labels)| Some((name.to_string(), zone(labels)?.clone()))).collect()
}

fn zone(labels: &BTreeMap<String, String>) -> Option<&String> {
    labels.get(ZONE_LABEL).or_else(|| labels.get(OLD_ZONE_LABEL))
}

impl Made {
    fn is_of(
        &self,
        (pool, pod): (&Arc<Pool>, &Arc<Pod>),
        node: Option<&Arc<BTreeMap<String, String>>>,
        facts: Option<&Arc<Facts>>,
    ) -> bool {
        let same = Arc::ptr_eq(&self.pool, pool) && Arc::ptr_eq(&self.pod, pod);
        // Facts that are put together are made anew whenever those of any engine change.
        same && is_one(self.node.as_ref(), node) && self.facts.as_ref() == facts
    }
}

fn is_one<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// Which of these are taken out, given whether their engines say that they are not ready: of each role at most half, for
/// engines that all say so at once are more likely asked wrongly than all broken. The first ones go.
fn taken_out(members: &[(Role, bool)]) -> Vec<bool> {
    let of = |wanted: Role| members.iter().filter(move |(role, _)| *role == wanted).count();
    let mut room: HashMap<Role, usize> =
        [Role::Both, Role::Prefill, Role::Decode].map(|role| (role, of(role) / 2)).into();
    let mut take = |(role, unready): &(Role, bool)| {
        let room = room.entry(*role).or_default();
        let out = *unready && *room > 0;
        *room -= usize::from(out);
        out
    };
    members.iter().map(&mut take).collect()
}

/// A pod's role and group. As in Kthena, one that has the labels of both roles decodes.
fn part(split: Option<&Split>, labels: &BTreeMap<String, String>) -> Result<(Role, Option<Arc<str>>), LeftOut> {
    let Some(Split { group_key, prefill, decode }) = split else { return Ok((Role::Both, None)) };
    let has = |wanted: &BTreeMap<String, String>| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
    let role = match (has(decode), has(prefill)) {
        (true, _) => Role::Decode,
        (false, true) => Role::Prefill,
        (false, false) => return Err(LeftOut::NoRole),
    };
    let group = text(labels.get(&**group_key)).ok_or(LeftOut::NoGroup)?;
    Ok((role, Some(group)))
}

/// As many labels as an endpoint takes, in the order of their keys.
fn publishable(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fits = |text: &str| text.len() <= MAX_NAME_BYTES;
    let labels = labels.iter().filter(|(key, value)| fits(key) && fits(value)).take(MAX_LABELS);
    labels.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn text(value: Option<&String>) -> Option<Arc<str>> {
    value.filter(|text| !text.is_empty()).map(|text| text.as_str().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members as letters: their role, in capitals where they say that they are not ready. Those that stay.
    fn stay(members: &str) -> String {
        let member = |letter: char| match letter.to_ascii_lowercase() {
            'p' => (Role::Prefill, letter.is_uppercase()),
            'd' => (Role::Decode, letter.is_uppercase()),
            _ => (Role::Both, letter.is_uppercase()),
        };
        let out = taken_out(&members.chars().map(member).collect::<Vec<_>>());
        members.chars().zip(out).filter(|(_, out)| !out).map(|(letter, _)| letter).collect()
    }

    #[test]
    fn of_each_role_at_most_half_is_taken_out() {
        for (members, expected) in [
            ("", ""),
            ("a", "a"),
            ("A", "A"),
            ("aA", "a"),
            ("AA", "A"),
            ("AaA", "aA"),
            ("aAAb", "ab"),
            ("AAAA", "AA"),
            ("Pdddd", "Pdddd"),
            ("PpDDd", "pDd"),
        ] {
            assert_eq!(stay(members), expected, "{members}");
        }
    }
}
