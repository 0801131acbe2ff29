//! Who the other replicas are: the pods of our own Service, as its EndpointSlices say, ready or not.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::Resource as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::params::ListParams;
use kube::{Client, Resource as _};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;

use super::{MOST, Member, Members};
use crate::api_server::{Follower, List, News, Over};
use crate::metrics::Watches;

/// Before a change counts, for several slices change together.
const QUIET: Duration = Duration::from_millis(100);

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
pub(crate) async fn follow(client: Client, place: Place, counts: Arc<Watches>, known: watch::Sender<Members>) {
    let (held, mut all) = watch::channel(Slices::new());
    let Place { namespace, service, .. } = place.clone();
    let following = Follower::new(client, Followed { namespace, service, held }, counts).run();
    let telling = async {
        while all.changed().await.is_ok() {
            sleep(QUIET).await;
            let now = members(all.borrow_and_update().values(), &place);
            known.send_if_modified(|known| {
                *known != now && {
                    *known = now;
                    true
                }
            });
        }
    };
    tokio::select! {
        () = following => {}
        () = telling => {}
        () = known.closed() => {}
    }
}

/// By name.
type Slices = BTreeMap<String, EndpointSlice>;

/// The slices of our Service, and who holds them.
struct Followed {
    namespace: String,
    service: String,
    held: watch::Sender<Slices>,
}

impl fmt::Display for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpointslices of {} in {}", self.service, self.namespace)
    }
}

impl List for Followed {
    type Entry = (String, EndpointSlice);

    fn kind(&self) -> &'static str {
        EndpointSlice::KIND
    }

    fn path(&self) -> String {
        EndpointSlice::url_path(&(), Some(&self.namespace))
    }

    fn params(&self) -> ListParams {
        ListParams::default().labels(&format!("kubernetes.io/service-name={}", self.service))
    }

    fn remedy(&self, code: u16) -> &'static str {
        match code {
            401 | 403 => {
                ": the other replicas are not known; the role of this control plane has to allow list and watch"
            }
            _ => ": the other replicas are known as they were",
        }
    }

    fn entry(&self, value: Value) -> Option<Self::Entry> {
        let slice = serde_json::from_value::<EndpointSlice>(value);
        let slice =
            slice.inspect_err(|error| tracing::error!(list = %self, %error, "an object is passed over")).ok()?;
        Some((slice.metadata.name.clone()?, slice))
    }

    async fn tell(&mut self, news: News<Self::Entry>) -> Result<(), Over> {
        match news {
            News::Listed(all, _) => drop(self.held.send_replace(all.into_iter().collect())),
            News::Put(Some((name, slice)), _) => self.held.send_modify(|held| drop(held.insert(name, slice))),
            News::Gone(last, _) => {
                let name = last["metadata"]["name"].as_str().unwrap_or_default();
                self.held.send_modify(|held| drop(held.remove(name)));
            }
            News::Put(None, _) | News::Nothing(_) | News::Failed(_) | News::Denied => {}
        }
        if self.held.is_closed() { Err(Over) } else { Ok(()) }
    }
}

/// A pod that has addresses of both families is dialled by the first, which is IPv4.
fn members<'s>(slices: impl IntoIterator<Item = &'s EndpointSlice>, Place { me, port, .. }: &Place) -> Members {
    let mut slices: Vec<&EndpointSlice> = slices.into_iter().collect();
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
mod tests;
