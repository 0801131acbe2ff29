//! All shapes, forms and fields that are in the field, and what is not believed.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::pack::pack;
use crate::kv::decode::{Fault, FramingError, answer, batch, live, load};
use crate::kv::event::{Adapter, Attention, Batch, Event, Extra, Load, Removed, Salting, Stored, Tier};

fn read(events: Value) -> Result<Batch, Fault> {
    batch(&pack(&json!([1.5, events])))
}

#[track_caller]
fn one(event: Value) -> Event {
    let mut batch = read(json!([event])).unwrap();
    assert_eq!((batch.events.len(), batch.passed_over), (1, 0), "{event}");
    batch.events.remove(0)
}

#[track_caller]
fn stored(event: Value) -> Stored {
    match one(event) {
        Event::Stored(stored) => stored,
        other => panic!("{other:?}"),
    }
}

fn plain() -> Stored {
    Stored::plain(vec![7, 8], Some(6), vec![1, 2, 3, 4], 2)
}

/// The fields that every store has.
fn named(more: Value) -> Value {
    let mut event = json!({"type": "BlockStored", "block_hashes": [7, 8], "parent_block_hash": 6,
        "token_ids": [1, 2, 3, 4], "block_size": 2});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

#[test]
fn a_store_is_the_same_in_all_three_shapes() {
    assert_eq!(stored(named(json!({"an_unknown_key": {"x": [1]}}))), plain());
    let short = json!(["BlockStored", [7, 8], 6, [1, 2, 3, 4], 2]);
    assert_eq!(stored(short), plain());
    let old = json!(["BlockStored", [7, 8], 6, [1, 2, 3, 4], 2, null, "GPU", {"cache_salt": "s"}]);
    assert_eq!(stored(old), Stored { salt: Some("s".into()), ..plain() });
    let long = json!([
        "BlockStored",
        [7, 8],
        6,
        [1, 2, 3, 4],
        2,
        3,
        "CPU",
        "a",
        [["a", "s"], null],
        4,
        "sliding_window",
        128,
        "LOCAL",
        "kvcr",
        "a later field"
    ]);
    let expected = Stored {
        tier: Tier::Host,
        group: 4,
        attention: Some(Attention::Partial),
        adapter: Adapter::Name("a".into()),
        extras: vec![[Extra::Text("a".into()), Extra::Text("s".into())].into(), [].into()],
        ..plain()
    };
    assert_eq!(expected.salting(), Salting::Salt("s"));
    assert_eq!(stored(long), expected);
    let by_name = json!({"lora_id": 3, "medium": "CPU", "lora_name": "a", "extra_keys": [["a", "s"], null], "group_idx": 4,
        "kv_cache_spec_kind": "sliding_window", "locality": "LOCAL", "ownership": "kvcr"});
    assert_eq!(stored(named(by_name)), expected);
}

#[test]
fn a_batch_may_be_a_map_and_may_lack_its_rank() {
    let events = json!([["AllBlocksCleared"], {"type": "AllBlocksCleared"}]);
    let expected = |rank| Batch { time_s: 2.0, rank, events: vec![Event::Cleared; 2], passed_over: 0 };
    let check = |value: Value, rank| {
        assert_eq!(batch(&pack(&value)), Ok(expected(rank)));
        assert!(expected(rank).clears());
    };
    check(json!([2, events]), None);
    check(json!([2.0, events, null]), None);
    check(json!([2.0, events, 3, "later"]), Some(3));
    check(json!({"ts": 2.0, "events": events, "data_parallel_rank": 3, "later": 1}), Some(3));
    check(json!({"attn_dp_rank": 3, "events": events, "ts": 2.0}), Some(3));
}

#[test]
fn hashes_are_numbers_of_either_sign_or_bytes() {
    let bytes = "0x00112233445566778899aabbccddeeff";
    let removed = |hash: Value| match one(json!(["BlockRemoved", [hash], "DISK", 2])) {
        Event::Removed(Removed { hashes, tier: Tier::Disk, group: 2 }) => hashes[0],
        other => panic!("{other:?}"),
    };
    assert_eq!(removed(json!(u64::MAX)), u64::MAX);
    assert_eq!(removed(json!(-2)), u64::MAX - 1);
    assert_eq!(removed(json!(i64::MIN)), 1 << 63);
    assert_eq!(removed(json!(bytes)), 0x8899_aabb_ccdd_eeff);
    assert_eq!(read(json!([["BlockRemoved", ["0x00"]]])), Err(Fault::Value("a hash of less than 8 bytes")));
}

#[test]
fn adapters_salts_pictures_and_pairs() {
    assert_eq!(stored(named(json!({"lora_id": 3}))).adapter, Adapter::Number(3));
    assert_eq!(stored(named(json!({"cache_salt": "s"}))).salting(), Salting::Salt("s"));
    let extras = |keys: Value| stored(named(json!({"lora_name": "a", "extra_keys": keys})));
    assert_eq!(extras(json!([["a"], ["a"]])).salting(), Salting::None);
    assert_eq!(extras(json!([["a", "s", "t"], null])).salting(), Salting::Unclear, "which of them is the salt?");
    let media = extras(json!([["a"], ["a", ["p", 3]]]));
    assert_eq!((media.salting(), media.text_blocks()), (Salting::None, 1));
    let embedded = extras(json!([["0xab"], null]));
    assert_eq!((embedded.salting(), embedded.text_blocks()), (Salting::Unclear, 0));
    assert_eq!(stored(named(json!({"token_ids": [[1, 2], [2, 3], [3, 4], [4, 5]]}))), plain());
    assert_eq!(stored(named(json!({"token_ids": [], "medium": "CPU_PINNED"}))).tokens, [0; 0], "offloaded");
}

#[test]
fn a_store_that_is_not_believed_is_passed_over_and_the_rest_is_not() {
    for (strange, why) in [
        (named(json!({"medium": "TAPE"})), "nobody knows how near that is"),
        (named(json!({"locality": "REMOTE"})), "it lies elsewhere"),
        (named(json!({"ownership": "somebody"})), "nobody knows whose it is"),
        (named(json!({"block_hashes": [7, 7]})), "a block twice"),
        (named(json!({"parent_block_hash": 8})), "a block that is its own ancestor"),
        (named(json!({"block_hashes": [], "token_ids": []})), "no block"),
        (named(json!({"token_ids": [1, 2, 3]})), "a block that is not full"),
        (named(json!({"block_size": 0})), "blocks of nothing"),
        (named(json!({"token_ids": ["1", 2, 3, 4]})), "a token that is a text"),
        (named(json!({"token_ids": [1_u64 << 32, 2, 3, 4]})), "a token that no vocabulary has"),
        (named(json!({"extra_keys": [["s"]]})), "keys of one block of two"),
        (named(json!({"extra_keys": [[{"x": 1}], null]})), "keys of a kind that is not known"),
        (json!(["BlockStored", [7, 8], 6]), "no tokens"),
        (json!({"type": "BlockMoved", "block_hashes": [7]}), "an event of a later engine"),
        (json!(["BlockRemoved", [7], "TAPE"]), "what was never believed to be there"),
    ] {
        let batch = read(json!([strange, ["AllBlocksCleared"]])).unwrap();
        assert_eq!((batch.passed_over, &batch.events[..]), (1, &[Event::Cleared][..]), "{why}");
    }
}

#[test]
fn what_may_have_been_a_removal_makes_the_batch_an_error() {
    let check = |value: Value, fault: Fault| assert_eq!(batch(&pack(&value)), Err(fault), "{value}");
    check(json!([1.0, [["BlockRemoved"]]]), Fault::Missing("block_hashes"));
    check(json!([1.0, [["BlockRemoved", "all"]]]), Fault::Type("block hashes"));
    check(json!([1.0, [["BlockRemoved", [1], 5]]]), Fault::Type("medium"));
    check(json!([1.0, [["BlockRemoved", [1], null, -1]]]), Fault::Type("group_idx"));
    check(json!([1.0, [{"block_hashes": [1]}]]), Fault::Missing("an event's type"));
    check(json!([1.0, [[]]]), Fault::Type("an event"));
    check(json!([1.0, [5]]), Fault::Type("an event"));
    check(json!([1.0, 5]), Fault::Type("events"));
    check(json!([1.0]), Fault::Missing("events"));
    check(json!(["now", []]), Fault::Type("ts"));
    check(json!("a text"), Fault::Type("a batch"));
    assert_eq!(batch(b""), Err(Fault::Short));
    assert_eq!(batch(&[0x92, 0x01, 0x90, 0x00]), Err(Fault::Long));
    assert_eq!(batch(&[0x92, 0x01, 0xc1]), Err(Fault::Reserved));
    assert_eq!(batch(&[0x92, 0x01, 0xdd, 0xff, 0xff, 0xff, 0xff]), Err(Fault::Short), "a length of 4 billion");
    assert_eq!(batch(&[&[0x92, 0x01][..], &[0x91; 20]].concat()), Err(Fault::TooMany("values within values")));
}

#[test]
fn frames_are_counted() {
    let frames = |count: usize| vec![b"12345678".as_slice(); count];
    assert_eq!(live(&frames(3)).unwrap().1, b"12345678");
    assert_eq!(live(&frames(2)), Err(FramingError::Frames(2)));
    assert_eq!(answer(&frames(5)), Err(FramingError::Frames(5)));
    assert_eq!(live(&[b"".as_slice(), b"1", b""]), Err(FramingError::Sequence(1)));
}

#[test]
fn a_load_event_of_any_length_is_read() {
    let whole = json!(["LoadStat", 1, 2, 3, 0, 1, 5, 6, 7, 8, 9, "later"]);
    let expected = Load {
        running: 1,
        waiting: 2,
        used_tokens: 3,
        max_tokens: 0,
        rank: Some(1),
        waiting_uncached_tokens: 5,
        total_tokens: 6,
        max_running: 7,
        prefilled_tokens: 8,
        prefill_busy_us: 9,
    };
    assert_eq!(load(&pack(&whole)), Ok(expected));
    let short = Load { running: 1, waiting: 2, used_tokens: 3, max_tokens: 4, ..Load::default() };
    assert_eq!(load(&pack(&json!(["LoadStat", 1, 2, 3, 4, null]))), Ok(short));
    assert_eq!(load(&pack(&json!(["LoadStat", 1, 2, 3]))), Err(Fault::Missing("a number of a load event")));
    assert_eq!(load(&pack(&json!(["Load", 1, 2, 3, 4]))), Err(Fault::Value("a load event's type")));
    assert_eq!(load(&pack(&json!(["LoadStat", 1, 2, 3, -4]))), Err(Fault::Type("a number of a load event")));
    assert_eq!(load(&pack(&json!(["LoadStat", 1, 2, 3, 4.5]))), Err(Fault::Type("a number of a load event")));
    assert_eq!(load(&pack(&json!({"num_running_reqs": 1}))), Err(Fault::Type("a load event")));
    let long = json!(["LoadStat", 1, 2, 3, 4, null, 5, 6, 7, 8, 9, "x".repeat(4_096)]);
    assert_eq!(load(&pack(&long)), Err(Fault::TooMany("bytes of a load event")));
}

proptest! {
    #[test]
    fn a_load_event_says_what_was_written(numbers: [u64; 9], rank: Option<u32>, parts in 5_usize..=11, nils: [bool; 9]) {
        let number = |at: usize| if nils[at] { 0 } else { numbers[at] };
        let value = |at: usize| if nils[at] { Value::Null } else { json!(numbers[at]) };
        let mut whole = vec![json!("LoadStat")];
        whole.extend((0..4).map(value));
        whole.push(json!(rank));
        whole.extend((4..9).map(value));
        whole.truncate(parts);
        let told = |at: usize, place: usize| if place < parts { number(at) } else { 0 };
        let expected = Load {
            running: number(0),
            waiting: number(1),
            used_tokens: number(2),
            max_tokens: number(3),
            rank: rank.filter(|_| parts > 5),
            waiting_uncached_tokens: told(4, 6),
            total_tokens: told(5, 7),
            max_running: told(6, 8),
            prefilled_tokens: told(7, 9),
            prefill_busy_us: told(8, 10),
        };
        prop_assert_eq!(load(&pack(&Value::Array(whole))), Ok(expected));
    }
}

fn any_store() -> impl Strategy<Value = Stored> {
    let medium = prop_oneof![Just(Tier::Device), Just(Tier::Host), Just(Tier::Disk), Just(Tier::External)];
    let adapter = prop_oneof![
        Just(Adapter::None),
        "[a-z]{1,8}".prop_map(|name| Adapter::Name(name.into())),
        any::<i64>().prop_map(Adapter::Number)
    ];
    let hashes = proptest::collection::btree_set(any::<u64>(), 1..20);
    let kind = proptest::option::of(any::<bool>());
    (hashes, any::<bool>(), 1_u32..9, medium, 0_u32..3, adapter, kind, any::<u32>()).prop_map(
        |(hashes, root, block_size, tier, group, adapter, kind, token)| {
            let mut hashes: Vec<u64> = hashes.into_iter().collect();
            let parent = if root || hashes.len() == 1 { None } else { hashes.pop() };
            let tokens = (0..hashes.len() as u32 * block_size).map(|n| token.wrapping_add(n)).collect();
            let attention = kind.map(|full| if full { Attention::Full } else { Attention::Partial });
            Stored { hashes, parent, tokens, block_size, tier, group, attention, adapter, salt: None, extras: vec![] }
        },
    )
}

fn written(stored: &Stored, by_name: bool) -> Value {
    let medium = ["GPU", "CPU", "DISK", "EXTERNAL"][stored.tier as usize];
    let (id, name) = match &stored.adapter {
        Adapter::None => (None, None),
        Adapter::Name(name) => (None, Some(name)),
        Adapter::Number(id) => (Some(id), None),
    };
    let kind = stored.attention.map(|kind| if kind == Attention::Full { "mla_attention" } else { "mamba" });
    let Stored { hashes, parent, tokens, block_size, group, .. } = stored;
    if by_name {
        return json!({"type": "BlockStored", "block_hashes": hashes, "parent_block_hash": parent, "token_ids": tokens,
            "block_size": block_size, "lora_id": id, "medium": medium, "lora_name": name, "group_idx": group,
            "kv_cache_spec_kind": kind});
    }
    json!(["BlockStored", hashes, parent, tokens, block_size, id, medium, name, null, group, kind])
}

proptest! {
    #[test]
    fn what_is_written_is_read(stores in proptest::collection::vec(any_store(), 0..6), by_name: bool, rank: Option<u32>) {
        let events: Vec<Value> = stores.iter().map(|stored| written(stored, by_name)).collect();
        let expected =
            Batch { time_s: 0.5, rank, events: stores.into_iter().map(Event::Stored).collect(), passed_over: 0 };
        prop_assert_eq!(batch(&pack(&json!([0.5, events, rank]))), Ok(expected));
    }
}
