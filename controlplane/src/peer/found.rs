//! Who the other replicas are: the pods of our own Service, as its EndpointSlices say, ready or not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, WatchParams};
use kube::core::WatchEvent;
use kube::{Client, Error};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{MOST, Member, Members};
use crate::chance::{jittered, random};

/// Between two readings of the list, for several of its slices change together.
const QUIET: Duration = Duration::from_millis(100);
/// The server ends a watch after so long, in seconds,
const WATCH: u32 = 60;
/// so that a connection that says nothing for longer is dead.
const SILENCE: Duration = Duration::from_secs(75);
const ANSWER: Duration = Duration::from_secs(10);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// Where the slices are, and who we are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) service: String,
    /// Our pod's UID.
    pub(crate) me: Arc<str>,
    /// Where replicas listen, all alike.
    pub(crate) port: u16,
}

/// Follows the list until nobody wants it. What is held stays while it cannot be read.
pub(crate) async fn follow(client: Client, place: Place, members: watch::Sender<Members>) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, &place.namespace);
    let mut told = String::new();
    while !members.is_closed() {
        match turn(&slices, &place, &members).await {
            Ok(()) => {
                told.clear();
                sleep(QUIET).await;
            }
            Err(error) => {
                let sentence = error.to_string();
                if told != sentence {
                    tracing::warn!(%error, "the other replicas are not known: EndpointSlices cannot be followed");
                    told = sentence;
                }
                sleep(jittered(PAUSE, random())).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("no answer in time")]
    Late,
}

/// Reads the list, which is short, and waits until there is another one.
async fn turn(slices: &Api<EndpointSlice>, place: &Place, told: &watch::Sender<Members>) -> Result<(), TurnError> {
    let selector = format!("kubernetes.io/service-name={}", place.service);
    let params = ListParams::default().labels(&selector);
    let list = timeout(ANSWER, slices.list(&params)).await.map_err(|_| TurnError::Late)??;
    let now = members(&list.items, place);
    told.send_if_modified(|known| {
        *known != now && {
            *known = now;
            true
        }
    });
    let version = list.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().labels(&selector).timeout(WATCH);
    let opening = slices.watch(&params, &version);
    let mut events = pin!(timeout(ANSWER, opening).await.map_err(|_| TurnError::Late)??);
    while let Some(event) = timeout(SILENCE, events.try_next()).await.map_err(|_| TurnError::Late)?? {
        if !matches!(event, WatchEvent::Bookmark(_)) {
            return Ok(());
        }
    }
    Ok(())
}

/// A pod that has addresses of both families is dialled by the first, which is IPv4.
fn members(slices: &[EndpointSlice], Place { me, port, .. }: &Place) -> Members {
    let mut slices: Vec<&EndpointSlice> = slices.iter().collect();
    slices.sort_by_key(|slice| &slice.address_type);
    let mut all = BTreeMap::new();
    for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
        let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
        let name = target.and_then(|target| target.uid.as_deref());
        let ip = endpoint.addresses.first().and_then(|ip| ip.parse::<IpAddr>().ok());
        if let (Some(name), Some(ip)) = (name, ip)
            && (all.len() <= MOST || name == &**me)
        {
            all.entry(Arc::<str>::from(name)).or_insert(SocketAddr::new(ip, *port));
        }
    }
    let all = all.into_iter().map(|(name, address)| Member { name, address }).collect();
    Members { me: me.clone(), all }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn place() -> Place {
        Place { namespace: "n".into(), service: "s".into(), me: "b".into(), port: 15010 }
    }

    fn slice(family: &str, endpoints: Value) -> EndpointSlice {
        serde_json::from_value(json!({"metadata": {}, "addressType": family, "endpoints": endpoints})).unwrap()
    }

    fn pod(uid: &str, ip: &str, ready: bool) -> Value {
        json!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": "x", "uid": uid}})
    }

    fn found(slices: &[EndpointSlice]) -> String {
        let Members { me, all } = members(slices, &place());
        let all: Vec<_> = all.iter().map(|member| format!("{}={}", member.name, member.address)).collect();
        format!("{me}: {}", all.join(" "))
    }

    #[test]
    fn pods_of_the_service_are_the_replicas_ready_or_not() {
        let v6 = slice("IPv6", json!([pod("a", "fd00::1", true), pod("c", "fd00::3", true)]));
        let v4 = slice("IPv4", json!([pod("b", "10.0.0.2", false), pod("a", "10.0.0.1", true)]));
        assert_eq!(found(&[v6, v4]), "b: a=10.0.0.1:15010 b=10.0.0.2:15010 c=[fd00::3]:15010");
        assert_eq!(found(&[]), "b: ");
    }

    #[test]
    fn what_is_no_pod_is_no_replica() {
        let odd = json!([{"addresses": ["10.0.0.1"]}, pod("a", "not.an.address", true), {"addresses": []},
                         {"addresses": ["10.0.0.9"], "targetRef": {"kind": "Node", "uid": "n"}}]);
        assert_eq!(found(&[slice("IPv4", odd)]), "b: ");
    }

    #[test]
    fn there_are_not_more_than_that() {
        let many: Vec<Value> = (0..100).map(|i| pod(&format!("p{i}"), "10.0.0.1", true)).collect();
        assert_eq!(members(&[slice("IPv4", json!(many))], &place()).all.len(), MOST + 1);
    }
}
