//! What each kind of event means.

use super::super::*;
use crate::kv::event::{Adapter, Attention, Removed, Stored};

const RANK: RankId = RankId(4);

struct Case(Store);

impl Case {
    fn new(most_blocks: usize) -> Self {
        let mut store = Store::new();
        store.admit(RANK, most_blocks);
        Self(store)
    }

    fn events(&mut self, events: Vec<Event>) -> Vec<Change> {
        let mut changes = Vec::new();
        self.0.apply(RANK, &Batch { events, ..Batch::default() }, &mut changes);
        changes
    }

    /// Positions of what is gained (+) and lost (-).
    fn moves(&mut self, event: Event) -> Vec<String> {
        let told = |change: &Change| {
            let sign = if change.held { '+' } else { '-' };
            format!("{sign}{}{:?}", change.position, change.tier)
        };
        self.events(vec![event]).iter().map(told).collect()
    }

    fn rank(&self) -> &Rank {
        self.0.rank(RANK).unwrap()
    }
}

/// Blocks of two tokens, each block's twice its hash.
pub(super) fn store(parent: Option<u64>, hashes: &[u64]) -> Stored {
    let tokens = hashes.iter().flat_map(|hash| [*hash as u32; 2]).collect();
    Stored::plain(hashes.to_vec(), parent, tokens, 2)
}

fn stored(parent: Option<u64>, hashes: &[u64]) -> Event {
    Event::Stored(store(parent, hashes))
}

fn removed(hashes: &[u64], tier: Tier) -> Event {
    Event::Removed(Removed { hashes: hashes.to_vec(), tier, group: 0 })
}

#[test]
fn blocks_come_and_go() {
    let mut case = Case::new(100);
    assert_eq!(case.moves(stored(None, &[1, 2])), ["+0Device", "+1Device"]);
    assert_eq!(case.moves(stored(Some(2), &[3])), ["+2Device"]);
    assert_eq!(case.moves(removed(&[3, 2], Tier::Device)), ["-2Device", "-1Device"]);
    assert_eq!(case.moves(removed(&[3], Tier::Device)), [""; 0]);
    assert_eq!((case.rank().len(), case.rank().leaves(), case.rank().tally().unknown), (1, 1, 1));
    assert_eq!(case.moves(Event::Cleared), ["-0Device"]);
    assert!(case.rank().is_empty());
}

#[test]
fn what_was_stored_twice_is_removed_twice() {
    let mut case = Case::new(100);
    assert_eq!(case.moves(stored(None, &[1])).len(), 1);
    assert_eq!(case.moves(stored(None, &[1])), [""; 0]);
    assert_eq!(case.moves(removed(&[1], Tier::Device)), [""; 0]);
    assert_eq!(case.moves(removed(&[1], Tier::Device)), ["-0Device"]);
}

#[test]
fn tiers_are_counted_apart_and_offloaded_blocks_need_no_tokens() {
    let mut case = Case::new(100);
    case.moves(stored(None, &[1, 2]));
    let offload = Stored { tokens: Vec::new(), tier: Tier::Host, ..store(None, &[1, 2, 9]) };
    assert_eq!(case.moves(Event::Stored(offload)), ["+0Host", "+1Host"]);
    assert_eq!(case.rank().tally().unknown, 1, "nobody knows what 9 is");
    assert_eq!(case.moves(removed(&[2], Tier::Device)), ["-1Device"]);
    assert_eq!(case.rank().tiers(0, 2).collect::<Vec<_>>(), [Tier::Host]);
    assert_eq!(case.moves(removed(&[2], Tier::Disk)), [""; 0]);
    assert_eq!(case.moves(removed(&[2], Tier::Host)), ["-1Host"]);
}

#[test]
fn a_block_whose_parent_is_not_known_is_not_taken_for_a_beginning() {
    let mut case = Case::new(100);
    assert_eq!(case.moves(stored(Some(7), &[8, 9])), [""; 0]);
    assert_eq!((case.rank().len(), case.rank().tally().orphans), (0, 2));
}

#[test]
fn a_parent_that_is_removed_before_its_children_stays_to_be_their_parent() {
    let mut case = Case::new(100);
    case.moves(stored(None, &[1, 2]));
    assert_eq!(case.moves(removed(&[1], Tier::Device)), ["-0Device"]);
    assert_eq!(case.moves(stored(Some(1), &[3])), ["+1Device"], "1 is known, if not held");
    assert_eq!(case.moves(stored(None, &[1])), ["+0Device"]);
    assert_eq!(case.moves(removed(&[1, 2, 3], Tier::Device)).len(), 3);
    assert!(case.rank().is_empty(), "and goes with the last of them");
}

#[test]
fn groups_count_if_prefix_hits_depend_on_them() {
    let mut case = Case::new(100);
    let of = |group, attention, hash| Event::Stored(Stored { group, attention, ..store(None, &[hash]) });
    let gone = |group, hash| Event::Removed(Removed { hashes: vec![hash], tier: Tier::Device, group });
    assert_eq!(case.moves(of(1, Some(Attention::Full), 1)).len(), 1);
    assert_eq!(case.moves(of(2, Some(Attention::Partial), 1)).len(), 0);
    assert_eq!(case.moves(of(3, None, 1)).len(), 0, "a group that nothing is known of");
    assert_eq!(case.moves(of(1, None, 2)).len(), 1, "it said so before");
    assert_eq!(case.moves(of(64, Some(Attention::Full), 1)).len(), 0, "more groups than any model has");
    assert_eq!((case.moves(gone(2, 1)).len(), case.moves(gone(3, 1)).len(), case.moves(gone(0, 1)).len()), (0, 0, 0));
    assert_eq!(case.moves(gone(1, 1)).len(), 1);
    assert_eq!((case.rank().tally().unindexed, case.rank().tally().unknown), (3, 1));
}

#[test]
fn keys_are_equal_for_equal_prompts_of_equal_requests_only() {
    let key = |stored: Stored| {
        let mut case = Case::new(100);
        case.events(vec![Event::Stored(stored)]).pop().map(|change| change.key)
    };
    let other_hashes = Stored { hashes: vec![70, 80], ..store(None, &[1, 2]) };
    let plain = key(store(None, &[1, 2]));
    assert_eq!(plain, key(other_hashes));
    let named = |name: &str| Adapter::Name(name.into());
    let salted = |salt: &str, adapter| Stored { salt: Some(salt.into()), adapter, ..store(None, &[1, 2]) };
    let others = [
        plain,
        key(store(None, &[2, 1])),
        key(Stored { adapter: named("a"), ..store(None, &[1, 2]) }),
        key(Stored { adapter: Adapter::Number(1), ..store(None, &[1, 2]) }),
        key(salted("a", Adapter::None)),
        key(salted("b", Adapter::None)),
        key(salted("a", named("a"))),
        key(salted("b", named("a"))),
    ];
    let different: std::collections::BTreeSet<_> = others.iter().collect();
    assert_eq!(different.len(), others.len());
}

#[test]
fn pictures_end_a_chain_and_unclear_salts_begin_none() {
    use crate::kv::event::Extra;
    let mut case = Case::new(100);
    let text = |text: &str| Extra::Text(text.into());
    let picture = Stored { extras: vec![[].into(), [Extra::Media("p".into(), 0)].into()], ..store(None, &[1, 2]) };
    assert_eq!(case.moves(Event::Stored(picture)), ["+0Device"]);
    let unclear = Stored { extras: vec![[text("a"), text("b")].into()], ..store(None, &[3]) };
    assert_eq!(case.moves(Event::Stored(unclear)), [""; 0]);
    assert_eq!(case.rank().tally().unindexed, 2);
}

#[test]
fn a_name_that_the_engine_gives_to_other_tokens_is_not_believed() {
    let mut case = Case::new(100);
    case.moves(stored(None, &[1]));
    let other = Stored { tokens: vec![5, 5, 6, 6], ..store(None, &[1, 2]) };
    assert_eq!(case.moves(Event::Stored(other)), [""; 0]);
    assert_eq!((case.rank().len(), case.rank().tally().conflicts), (1, 1));
}

#[test]
fn the_oldest_leaf_goes_first() {
    let mut case = Case::new(4);
    case.moves(stored(None, &[1, 2]));
    case.moves(stored(Some(1), &[3]));
    case.moves(stored(None, &[4]));
    assert_eq!(case.moves(stored(None, &[5])), ["+0Device", "-1Device"], "2: 1 is older, but 3 follows it");
    assert_eq!(case.moves(stored(Some(5), &[6])), ["+1Device", "-1Device"], "3");
    assert_eq!(case.moves(stored(Some(6), &[7])), ["+2Device", "-0Device"], "1, which none follows any longer");
    assert_eq!((case.rank().len(), case.rank().tally().evicted), (4, 3));
}

#[test]
fn a_rank_that_was_dismissed_is_not_heard() {
    let mut case = Case::new(10);
    case.moves(stored(None, &[1]));
    let mut changes = Vec::new();
    case.0.dismiss(RANK, &mut changes);
    assert_eq!((changes.len(), changes[0].held), (1, false));
    assert_eq!(case.moves(stored(None, &[1])), [""; 0]);
    assert_eq!(case.0.bytes(), 0);
}
