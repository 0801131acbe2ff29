//! Who is told of what is heard, and how it stands.

use std::sync::Arc;

use api::proto::KvTrust;

use crate::kv::store::{Digest, News, TextBlock};
use crate::kv::supervise::place::{Own, Place, on_the_wire};
use crate::publish::serve::{Lane, Standing};

/// Who is told.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Data planes, of all endpoints, sampled.
    pub(super) data_planes: Arc<Lane>,
    /// Peers, of those that are heard here, all of it; none for a replica that is alone.
    pub(super) peers: Option<Arc<Lane>>,
}

impl Lanes {
    pub(super) fn flush(&self) {
        self.data_planes.flush();
        if let Some(peers) = &self.peers {
            peers.flush();
        }
    }

    pub(super) fn stand(&self, place: &Place) {
        if let Some(handle) = place.handle {
            self.data_planes.stand(&place.model, handle, place.standing());
        }
    }

    /// What became of what is in force.
    pub(super) fn news(&self, place: &mut Place, forgotten: bool, mut blocks: Vec<TextBlock>) {
        let Some(handle) = place.handle else { return };
        if forgotten {
            place.told = Digest::default();
        }
        place.turn(&mut blocks, self.data_planes.level(&place.model));
        if forgotten || !blocks.is_empty() {
            self.data_planes.tell(&place.model, handle, &News { forgotten, blocks }, place.told);
        }
        self.stand(place);
    }

    pub(super) fn stand_for_peers(&self, place: &Place, own: &Own, digest: Digest) {
        let (Some(peers), Some(handle)) = (&self.peers, place.handle) else { return };
        let standing = Standing { trust: on_the_wire(own.trust()), capacity_tokens: own.capacity_tokens, digest };
        peers.stand(&place.model, handle, standing);
    }

    /// It is not heard here any more. It stays on the lane, for those who come later are not to take it from an older word.
    pub(super) fn withdraw_from_peers(&self, place: &Place) {
        let (Some(peers), Some(handle)) = (&self.peers, place.handle) else { return };
        let unknown = Standing { trust: KvTrust::Unspecified, capacity_tokens: 0, digest: Digest::default() };
        peers.stand(&place.model, handle, unknown);
        peers.tell(&place.model, handle, &News { forgotten: true, blocks: Vec::new() }, Digest::default());
    }
}
