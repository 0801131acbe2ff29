//! How a stream begins: the subscription, whose it is, and the welcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use api::limits::{MAX_LISTS, MAX_NAME_BYTES, MAX_RESOURCE_VERSION_BYTES, MAX_VERSION_BYTES};
use api::proto::from_data_plane::Message as Said;
use api::proto::to_data_plane::Message as Told;
use api::proto::{FromDataPlane, Subscribe, Welcome};
use tokio::time::timeout;
use tonic::Status;

use super::super::hold::Hold;
use super::super::identify::{Holds, Identity, Proof};
use super::super::progress::DataPlane;
use super::super::{Hub, random};
use super::{Call, Stream, now, own};

/// For the first message.
const SUBSCRIBE: Duration = Duration::from_secs(10);
/// After a proof has run out: data planes open the next stream, with a newer proof, somewhat before they are told that this one ends.
const GRACE: Duration = Duration::from_secs(60);

pub(super) async fn begin(hub: &Arc<Hub>, call: &mut Call) -> Result<(Stream, Hold), Status> {
    let mut closing = hub.closing.subscribe();
    let first = tokio::select! {
        first = timeout(SUBSCRIBE, call.inbound.message()) => first,
        // The server ends once its streams have, and this one has nothing to say.
        _ = closing.wait_for(|closing| *closing) => return Err(Status::unavailable("the control plane ends")),
    };
    let first = first.map_err(|_| Status::deadline_exceeded("no subscription within 10 s"))??;
    let Some(FromDataPlane { message: Some(Said::Subscribe(subscribe)) }) = first else {
        return Err(Status::invalid_argument("the first message is a subscription"));
    };
    if [&subscribe.node, &subscribe.zone, &subscribe.namespace].iter().any(|name| name.len() > MAX_NAME_BYTES) {
        return Err(Status::invalid_argument(format!("a name is longer than {MAX_NAME_BYTES} bytes")));
    }
    let versions = &subscribe.resource_versions;
    let is_long =
        |(list, version): (&String, &String)| list.len() > MAX_NAME_BYTES || version.len() > MAX_RESOURCE_VERSION_BYTES;
    if versions.len() > MAX_LISTS || versions.iter().any(is_long) {
        return Err(Status::invalid_argument("more resource versions, or longer ones, than a state has"));
    }
    let identity = prove(hub, call, &subscribe).await?;
    if hub.registry.streams() >= hub.options.streams {
        return Err(Status::resource_exhausted("too many data planes are connected"));
    }
    let hold = Hold::of(&identity, &*hub.identify, GRACE, &hub.counts.excused);
    let zone = hub.zones.borrow().get(&identity.node).cloned().unwrap_or_else(|| subscribe.zone.clone());
    let data_plane = DataPlane {
        node: identity.node,
        namespace: identity.namespace,
        pod: identity.pod,
        uid: identity.uid,
        zone: zone.clone(),
        proof_ends_s: identity.proof.map(|proof| proof.ends.as_second()),
        version: shown(&subscribe.version).to_owned(),
        instance: subscribe.instance,
        applied: None,
        refused: BTreeMap::new(),
        stuck: None,
    };
    let seat = hub.registry.join(data_plane);
    hub.counts.streams.fetch_add(1, Relaxed);
    let life = hub.options.stream_life.mul_f64(0.8 + 0.4 * (random() as f64 / u64::MAX as f64));
    let welcome = Welcome {
        epoch: hub.epoch,
        load_interval_ms: hub.load_interval().as_millis() as u32,
        zone,
        life_s: (told_life(life, identity.proof).as_secs() as u32).max(1),
    };
    let mut stream = Stream::new(hub.clone(), &subscribe, seat, now() + life);
    stream.tell_registry(None);
    stream.send(call, own(Told::Welcome(welcome))).await?;
    Ok((stream, hold))
}

/// The next stream is to come by the next proof, where there is one by then.
fn told_life(life: Duration, proof: Option<Proof>) -> Duration {
    match proof.map(|proof| proof.holds) {
        Some(Holds::For(time)) => life.min(time + GRACE),
        Some(Holds::PastItsEnd) | None => life,
    }
}

/// It becomes a label, and is for people: what a data plane says is not shown as it comes.
fn shown(version: &str) -> &str {
    let is_plain = version.len() <= MAX_VERSION_BYTES && version.bytes().all(|byte| byte.is_ascii_graphic());
    match version {
        "" => "unknown",
        plain if is_plain => plain,
        _ => "invalid",
    }
}

async fn prove(hub: &Hub, call: &mut Call, subscribe: &Subscribe) -> Result<Identity, Status> {
    // What proves it is not kept for as long as the stream is.
    let metadata = std::mem::take(&mut call.metadata);
    let identity = hub.identify.identify(&metadata, subscribe).await.inspect_err(|_| {
        hub.counts.unproved.fetch_add(1, Relaxed);
    })?;
    call.link.known();
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_shown_where_it_can_be() {
        let longest = "9".repeat(MAX_VERSION_BYTES);
        for plain in ["0.1.0", "1.2.3-rc.1+5e0b", &longest] {
            assert_eq!(shown(plain), plain);
        }
        assert_eq!(shown(""), "unknown");
        for bad in ["1 2", "1\n2", "\u{e9}", &format!("{longest}9")] {
            assert_eq!(shown(bad), "invalid", "{bad:?}");
        }
    }
}
