//! What a peer says of caches: whether it counts, and what becomes of the rest where it cannot be read.

use api::proto::{BackendShare, KvRank, KvTrust};

use super::*;
use crate::publish::serve::Local;

fn ear() -> Arc<Ear> {
    let options = Options { epoch: 1, load_kept: Duration::from_secs(1), identify: Arc::new(Local) };
    let shared = Shared {
        loads: Arc::new(Loads::new(1)),
        predictions: Arc::new(Predictions::new()),
        index: Arc::new(Index::new(watch::channel(None).1)),
        caches: Caches::of_nobody(),
    };
    Arc::new(Ear::new(options, shared))
}

fn first(epoch: u64, tells_caches: bool) -> PeerReport {
    PeerReport { epoch, member: format!("peer-{epoch}"), tells_caches, ..PeerReport::default() }
}

#[test]
fn only_who_tells_caches_has_a_part_in_hearing_them() {
    let ear = ear();
    let _seats = [first(5, true), first(6, false)].map(|first| ear.sit("", &first).unwrap());
    let (heard, names) = (ear.heard(), |names: BTreeSet<Arc<str>>| names.into_iter().collect::<Vec<_>>().join(" "));
    assert_eq!(names(heard.borrow().names()), "peer-5 peer-6");
    assert_eq!(names(heard.borrow().tellers()), "peer-5");
}

#[test]
fn what_cannot_be_read_of_caches_ends_no_stream_and_is_counted() {
    let ear = ear();
    let mut seat = ear.sit("", &first(5, true)).unwrap();
    let of = |model: &str, trust: i32| {
        let ranks = vec![KvRank { handle: 1, trust, forget: true, ..KvRank::default() }];
        KvUpdate { model: model.into(), ranks, ..KvUpdate::default() }
    };
    let kv = vec![of("m", KvTrust::Trusted.into()), of("m", 99), of("", 1)];
    let shares = vec![BackendShare::default()];
    assert!(seat.take(PeerReport { kv, shares, ..first(5, true) }).is_ok());
    assert_eq!(ear.caches.board.sums().peer_faults, 2);
    assert_eq!(ear.heard().borrow().names().len(), 1);
}
