//! Which lists are read.

use std::sync::Arc;

use kube::Resource as _;
use kube::core::params::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

use super::Scope;
use crate::crd;
use crate::object::Kind;
use crate::source::manifest::{CREDENTIAL_LABEL, SCHEDULER};

/// Objects of one kind, in one namespace or in all.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    what: What,
    namespace: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Ours(Kind),
    Pods,
    /// Only their metadata, of which labels say the zone.
    Nodes,
    /// Only those that are labelled as ours. What they hold is let go on arrival: which keys they have is what counts.
    Credentials,
    /// The ConfigMap of the scheduler, by its name.
    Scheduler,
}

/// Items of one answer: large lists come in pages, so that neither side holds all of one as text.
const PAGE: u32 = 500;

impl Watched {
    /// All that is read; last what nothing that is published depends on.
    pub(super) fn all(scope: &Scope) -> Vec<Self> {
        use Kind::{ExternalModelProvider, ModelRoute, ModelServer};
        let kinds = [ModelServer, ModelRoute, ExternalModelProvider].map(What::Ours);
        let namespaced = kinds.into_iter().chain([What::Pods, What::Credentials]);
        let places: Vec<Option<Arc<str>>> = match &scope.namespaces[..] {
            [] => vec![None],
            namespaces => namespaces.iter().map(|namespace| Some(namespace.as_str().into())).collect(),
        };
        let in_each = |what| places.iter().map(move |place: &Option<Arc<str>>| Self { what, namespace: place.clone() });
        let of_each = namespaced.flat_map(in_each);
        let scheduler = Self { what: What::Scheduler, namespace: Some(scope.home.as_str().into()) };
        let judged = Kind::ALL.into_iter().filter(|kind| !kind.is_published()).map(What::Ours).flat_map(in_each);
        of_each.chain([Self { what: What::Nodes, namespace: None }, scheduler]).chain(judged).collect()
    }

    /// As in `kind`.
    pub(super) fn kind(&self) -> &'static str {
        match self.what {
            What::Ours(kind) => kind.name(),
            What::Pods => "Pod",
            What::Nodes => "Node",
            What::Credentials => "Secret",
            What::Scheduler => "ConfigMap",
        }
    }

    /// By what data planes are told how far it was read.
    pub(super) fn list(&self) -> Arc<str> {
        match &self.namespace {
            Some(namespace) => format!("{}/{namespace}", self.kind()).into(),
            None => self.kind().into(),
        }
    }

    /// As in `apiVersion`.
    pub(super) fn api_version(&self) -> String {
        self.resource().api_version
    }

    /// Whether an answer brings metadata only.
    pub(super) fn metadata_only(&self) -> bool {
        self.what == What::Nodes
    }

    /// Whether one may do without: a control plane that may only read namespaces is not allowed to see nodes, and then knows no
    /// zones; and a cluster of an earlier release neither has all kinds nor allows them.
    pub(super) fn is_optional(&self) -> bool {
        self.what == What::Nodes || !self.is_published()
    }

    /// Whether what data planes are told depends on it.
    pub(super) fn is_published(&self) -> bool {
        !matches!(self.what, What::Ours(kind) if !kind.is_published())
    }

    /// What is to be done where the API server does not know or not give the list.
    pub(super) fn remedy(&self, code: u16) -> &'static str {
        match (self.what, code) {
            (What::Ours(_), 404) => ": install the definitions of helm/crds",
            (What::Nodes, 401 | 403) => ": without nodes no zone is known; a ClusterRole has to allow list and watch",
            (_, 401 | 403) => ": the role of this control plane has to allow list and watch",
            _ => "",
        }
    }

    /// The path at the API server.
    pub(super) fn path(&self) -> String {
        DynamicObject::url_path(&self.resource(), self.namespace.as_deref())
    }

    /// For one page of the list, and of the watch the selectors.
    pub(super) fn params(&self) -> ListParams {
        let params = ListParams::default().limit(PAGE);
        match self.what {
            What::Credentials => params.labels(&format!("{CREDENTIAL_LABEL}=true")),
            What::Scheduler => params.fields(&format!("metadata.name={}", SCHEDULER.0)),
            _ => params,
        }
    }

    fn resource(&self) -> ApiResource {
        let (group, version, plural) = match self.what {
            What::Ours(kind) => (kind.group(), crd::VERSION, kind.plural()),
            What::Pods => ("", "v1", "pods"),
            What::Nodes => ("", "v1", "nodes"),
            What::Credentials => ("", "v1", "secrets"),
            What::Scheduler => ("", "v1", "configmaps"),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.kind()), plural)
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} in {namespace}", self.resource().plural),
            None => f.write_str(&self.resource().plural),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(namespaces: &[&str]) -> Vec<String> {
        let namespaces = namespaces.iter().map(ToString::to_string).collect();
        Watched::all(&Scope { namespaces, home: "system".to_owned() }).iter().map(Watched::path).collect()
    }

    #[test]
    fn of_nodes_alone_the_metadata_is_enough_for_of_secrets_the_keys_count() {
        let all = Watched::all(&Scope { namespaces: Vec::new(), home: "system".to_owned() });
        let kinds: Vec<&str> = all.iter().filter(|watched| watched.metadata_only()).map(Watched::kind).collect();
        assert_eq!(kinds, ["Node"]);
    }

    #[test]
    fn what_nothing_published_depends_on_can_be_done_without() {
        let all = Watched::all(&Scope::default());
        let kinds: Vec<&str> = all.iter().filter(|watched| watched.is_optional()).map(Watched::kind).collect();
        assert_eq!(kinds, ["Node", "ModelServing", "ModelBooster", "AutoscalingPolicy", "AutoscalingPolicyBinding"]);
    }

    #[test]
    fn all_namespaces_take_one_list_of_each_kind() {
        assert_eq!(
            paths(&[]),
            [
                "/apis/networking.serving.volcano.sh/v1alpha1/modelservers",
                "/apis/networking.serving.volcano.sh/v1alpha1/modelroutes",
                "/apis/networking.serving.volcano.sh/v1alpha1/externalmodelproviders",
                "/api/v1/pods",
                "/api/v1/secrets",
                "/api/v1/nodes",
                "/api/v1/namespaces/system/configmaps",
                "/apis/workload.serving.volcano.sh/v1alpha1/modelservings",
                "/apis/workload.serving.volcano.sh/v1alpha1/modelboosters",
                "/apis/workload.serving.volcano.sh/v1alpha1/autoscalingpolicies",
                "/apis/workload.serving.volcano.sh/v1alpha1/autoscalingpolicybindings",
            ]
        );
    }

    #[test]
    fn some_namespaces_take_lists_of_their_own() {
        let paths = paths(&["a", "b"]);
        assert_eq!(paths.len(), 20);
        assert!(paths.contains(&"/api/v1/namespaces/b/pods".to_owned()), "{paths:?}");
        assert!(!paths.contains(&"/api/v1/pods".to_owned()), "{paths:?}");
    }
}
