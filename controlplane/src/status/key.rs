//! Objects that have a status, by kind and name.

use std::fmt;
use std::sync::Arc;

use api::decode::Object;
use kube::core::{ApiResource, GroupVersionKind};

use super::desired::Verdict;
use crate::crd;
use crate::object::Kind;
use crate::run::Round;
use crate::world::{ObjectName, Seniority};

/// One object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) name: ObjectName,
}

impl Key {
    /// As data planes call it.
    pub(super) fn object(&self) -> Object {
        let name = self.name.to_string();
        if self.kind == Kind::ModelRoute { Object::Route(name.into()) } else { Object::Backend(name.into()) }
    }

    pub(super) fn verdict<'a>(&self, round: &'a Round) -> Option<Verdict<'a>> {
        let verdicts = &round.verdicts;
        match self.kind {
            Kind::ModelRoute => verdicts.routes.get(&self.name).map(Verdict::Route),
            Kind::ModelServer => verdicts.servers.get(&self.name).map(Verdict::Server),
            Kind::ExternalModelProvider => verdicts.providers.get(&self.name).map(Verdict::Provider),
            kind @ (Kind::ModelServing
            | Kind::ModelBooster
            | Kind::AutoscalingPolicy
            | Kind::AutoscalingPolicyBinding) => verdicts.judged.get(&(kind, self.name.clone())).map(Verdict::Object),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// The conditions of a kind that are ours, as `desired` orders them.
pub(super) fn conditions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::ModelRoute => &["Accepted", "ResolvedRefs", "Programmed"],
        Kind::ModelServer => &["Accepted", "Programmed", "Ready"],
        Kind::ExternalModelProvider => &["Accepted", "CredentialsResolved", "Ready"],
        Kind::ModelServing | Kind::ModelBooster | Kind::AutoscalingPolicy | Kind::AutoscalingPolicyBinding => {
            &["Accepted"]
        }
    }
}

/// Whether the rest of a kind's status is a controller's, perhaps of Kthena's own: then our conditions are all that is written, and
/// which generation they speak of they say themselves.
pub(super) fn is_shared(kind: Kind) -> bool {
    !kind.is_published()
}

/// How the API server calls a kind.
pub(super) fn resource(kind: Kind) -> ApiResource {
    let named = GroupVersionKind::gvk(kind.group(), crd::VERSION, kind.name());
    ApiResource::from_gvk_with_plural(&named, kind.plural())
}

/// Which of all objects that ever had its name: one that was made anew within a second differs by its UID alone.
pub(super) type Which<'a> = (&'a Arc<str>, &'a Seniority);

/// All objects of a round that live in a cluster, with their verdicts and which of their name they are. One of a directory has no status.
pub(super) fn judged(round: &Round) -> impl Iterator<Item = (Key, Verdict<'_>, Which<'_>)> {
    let Round { world, verdicts, snapshot: _ } = round;
    let key = |kind, name: &ObjectName| Key { kind, name: name.clone() };
    let routes = verdicts.routes.iter().filter_map(move |(name, verdict)| {
        let held = world.routes.get(name)?;
        Some((key(Kind::ModelRoute, name), Verdict::Route(verdict), (&held.uid, &held.seniority)))
    });
    let servers = verdicts.servers.iter().filter_map(move |(name, verdict)| {
        let held = world.servers.get(name)?;
        Some((key(Kind::ModelServer, name), Verdict::Server(verdict), (&held.uid, &held.seniority)))
    });
    let providers = verdicts.providers.iter().filter_map(move |(name, verdict)| {
        let held = world.providers.get(name)?;
        Some((key(Kind::ExternalModelProvider, name), Verdict::Provider(verdict), (&held.uid, &held.seniority)))
    });
    let alone = verdicts.judged.iter().filter_map(move |((kind, name), verdict)| {
        let held = world.judged.get(&(*kind, name.clone()))?;
        Some((key(*kind, name), Verdict::Object(verdict), (&held.uid, &held.seniority)))
    });
    let all = routes.chain(servers).chain(providers).chain(alone);
    all.filter(|(_, _, (_, seniority))| matches!(seniority, Seniority::Created(_)))
}
