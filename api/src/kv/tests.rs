use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::limits::{MAX_KV_DIGESTS, MAX_KV_ENTRIES, MAX_KV_LEVEL, MAX_KV_RANKS, MAX_MODEL_NAME_BYTES};
use crate::proto;

fn entry() -> impl Strategy<Value = Entry> {
    let said = prop::sample::select(vec![Said::Held, Said::Gone]);
    (any::<u64>(), any::<u32>(), any::<u16>(), said).prop_map(|(hash, handle, position, said)| Entry {
        hash,
        handle,
        position,
        said,
    })
}

fn rank() -> impl Strategy<Value = Rank> {
    let trust = prop::sample::select(Trust::ALL.map(|(trust, _)| trust).to_vec());
    (any::<u32>(), trust, any::<[bool; 2]>(), option::of(1u64..)).prop_map(|(handle, trust, told, capacity_tokens)| {
        Rank { handle, trust, forget: told[0], emptied: told[1], capacity_tokens }
    })
}

prop_compose! {
    fn update()(
        (epoch, generation, sequence) in any::<(u64, u64, u64)>(),
        model in "[a-zé/-]{1,12}",
        reset in any::<bool>(),
        level in 0..=MAX_KV_LEVEL,
        ranks in vec(rank(), 0..4),
        entries in vec(entry(), 0..20),
    ) -> Update {
        let (model, entries) = (model.into(), Entries::pack(entries));
        Update { epoch, model, generation, sequence, reset, level, ranks, entries }
    }
}

fn digests() -> impl Strategy<Value = Digests> {
    let digest = any::<(u32, u64, u64)>().prop_map(|(handle, xor, blocks)| Digest { handle, xor, blocks });
    (any::<u64>(), "[a-z]{1,9}", any::<u64>(), vec(digest, 0..9))
        .prop_map(|(epoch, model, generation, endpoints)| Digests { epoch, model: model.into(), generation, endpoints })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(update in update(), digests in digests()) {
        prop_assert_eq!(Update::try_from(proto::KvUpdate::from(update.clone())), Ok(update));
        prop_assert_eq!(Digests::try_from(proto::KvDigests::from(digests.clone())), Ok(digests));
    }

    #[test]
    fn entries_are_read_in_the_order_they_were_packed(entries in vec(entry(), 0..50)) {
        let packed = Entries::pack(entries.clone());
        prop_assert_eq!(packed.len(), entries.len());
        prop_assert_eq!(packed.iter().collect::<Vec<_>>(), entries);
    }

    #[test]
    fn any_bytes_are_entries_or_a_fault(bytes in vec(any::<u8>(), 0..100)) {
        match Entries::checked(bytes.clone()) {
            Ok(entries) => prop_assert_eq!(Entries::pack(entries.iter()).into_bytes(), bytes),
            Err(Fault::Ragged(length)) => prop_assert!(length % ENTRY_BYTES != 0),
            Err(Fault::Flags { at, flags }) => {
                prop_assert_eq!(flags, u16::from_le_bytes([bytes[at * 16 + 14], bytes[at * 16 + 15]]));
                prop_assert!(flags > 1);
            }
            Err(fault) => prop_assert!(false, "{fault}"),
        }
    }
}

#[test]
fn an_entry_lies_in_the_bytes_as_the_wire_says() {
    let entry = Entry { hash: 0x0807_0605_0403_0201, handle: 0x0c0b_0a09, position: 0x0e0d, said: Said::Gone };
    assert_eq!(Entries::pack([entry]).into_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 1, 0]);
}

fn check(change: impl FnOnce(&mut proto::KvUpdate), expected: Result<(), Fault>) {
    let mut wire = proto::KvUpdate { model: "m".into(), ..proto::KvUpdate::default() };
    change(&mut wire);
    assert_eq!(Update::try_from(wire).map(drop), expected);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    check(|_| {}, Ok(()));
    check(|wire| wire.model.clear(), Err(Fault::Model(0)));
    check(|wire| wire.model = "x".repeat(MAX_MODEL_NAME_BYTES), Ok(()));
    check(|wire| wire.model = "x".repeat(MAX_MODEL_NAME_BYTES + 1), Err(Fault::Model(MAX_MODEL_NAME_BYTES + 1)));
    check(|wire| wire.level = 16, Ok(()));
    check(|wire| wire.level = 17, Err(Fault::Level(17)));
    check(|wire| wire.level = 256, Err(Fault::Level(256)));
    check(|wire| wire.entries = vec![0; 17], Err(Fault::Ragged(17)));
    check(|wire| wire.entries = vec![0; MAX_KV_ENTRIES * ENTRY_BYTES], Ok(()));
    let many = |what, max| Fault::TooMany { what, found: max + 1, max };
    let entries = many("entries", MAX_KV_ENTRIES);
    check(|wire| wire.entries = vec![0; (MAX_KV_ENTRIES + 1) * ENTRY_BYTES], Err(entries));
    check(|wire| wire.ranks = vec![proto::KvRank::default(); MAX_KV_RANKS + 1], Err(many("ranks", MAX_KV_RANKS)));
    check(|wire| wire.ranks = vec![proto::KvRank { trust: 5, ..Default::default() }], Err(Fault::Trust(5)));
    let mut flagged = vec![0; 32];
    flagged[31] = 0x80;
    check(|wire| wire.entries = flagged, Err(Fault::Flags { at: 1, flags: 0x8000 }));
    let endpoints = vec![proto::KvDigest::default(); MAX_KV_DIGESTS + 1];
    let digests = proto::KvDigests { model: "m".into(), endpoints, ..Default::default() };
    assert_eq!(Digests::try_from(digests), Err(many("digests", MAX_KV_DIGESTS)));
}

#[test]
fn numbers_and_names_of_trust_agree() {
    for (trust, name) in Trust::ALL {
        assert_eq!(trust.name(), name);
    }
}
