use api::proto::ToDataPlane;
use api::proto::to_data_plane::Message;
use prost::Message as _;

use super::*;
use crate::kv::store::News;
use crate::publish::serve::{Shelf, Standing};

/// Endpoints hold nothing as a whole.
#[derive(Debug)]
struct Nothing;

impl Shelf for Nothing {
    fn page(&self, _: &str, _: u32, _: u32, _: &mut Vec<TextBlock>, _: usize) -> Option<u32> {
        None
    }
}

/// A lane on which each of these models has one endpoint, by its place.
fn lane(models: &[&str]) -> (Arc<Lane>, Arc<dyn Shelf>) {
    let (lane, shelf) = (Arc::new(Lane::new(7)), Arc::new(Nothing) as Arc<dyn Shelf>);
    lane.read_from(&shelf);
    for (handle, model) in (1..).zip(models) {
        let digest = Digest::default();
        lane.stand(model, handle, Standing { trust: KvTrust::Trusted, capacity_tokens: 0, digest });
    }
    lane.flush();
    (lane, shelf)
}

fn teller(lane: &Arc<Lane>, holds: bool, now: Instant) -> Teller {
    let held = holds.then(api::proto::Version::default);
    let mut teller = Teller::new(lane.clone(), &Subscribe { held, ..Subscribe::default() }, 1);
    let endpoint = |n: u32| format!(r#"{{"handle": {n}, "name": "e{n}", "address": "10.0.0.{n}:80"}}"#);
    let endpoints: Vec<String> = (1..9).map(endpoint).collect();
    let text = format!(r#"{{"version": 1, "backends": [{{"name": "d/b", "endpoints": [{}]}}]}}"#, endpoints.join(","));
    teller.runs(1, &api::json::snapshot_from_json(text.as_bytes()).unwrap(), now);
    teller
}

fn update(frame: &Frame) -> KvUpdate {
    let Frame::Two(head, entries) = frame else { panic!("another frame") };
    let told = ToDataPlane::decode(&*[&head[..], &entries[..]].concat()).unwrap();
    let Some(Message::Kv(update)) = told.message else { panic!("another message") };
    update
}

fn store(lane: &Lane, model: &str, handle: u32, hash: u64) {
    let blocks = vec![TextBlock { hash, position: 0, held: true }];
    lane.tell(model, handle, &News { forgotten: false, blocks }, Digest::default());
    lane.flush();
}

#[test]
fn a_busy_model_leaves_room_for_the_others() {
    let now = Instant::now();
    let (lane, _shelf) = lane(&["a", "b", "c"]);
    let mut teller = teller(&lane, false, now);
    let mut told = Vec::new();
    for n in 0..6 {
        // There is always something to tell of the first one.
        store(&lane, "a", 1, n);
        told.extend(teller.next(now).map(|frame| update(&frame).model));
    }
    assert_eq!(told[..3], ["a", "b", "c"]);
}

#[test]
fn what_came_piece_by_piece_goes_in_one_message() {
    let now = Instant::now();
    let (lane, _shelf) = lane(&["a"]);
    let mut teller = teller(&lane, false, now);
    assert!(update(&teller.next(now).unwrap()).reset);
    (0..50).for_each(|n| store(&lane, "a", 1, n));
    let all = update(&teller.next(now).unwrap());
    assert_eq!((all.entries.len(), all.sequence), (50 * ENTRY, 1));
    assert!(teller.next(now).is_none());
}

#[test]
fn a_busy_endpoint_leaves_room_for_those_that_are_not_told_of_yet() {
    let now = Instant::now();
    let (lane, _shelf) = lane(&["a"]);
    let mut teller = teller(&lane, false, now);
    teller.next(now).unwrap();
    let digest = Digest::default();
    lane.stand("a", 2, Standing { trust: KvTrust::Cold, capacity_tokens: 0, digest });
    let mut ranks = Vec::new();
    for n in 0..3 {
        store(&lane, "a", 1, n);
        ranks.extend(update(&teller.next(now).unwrap()).ranks);
    }
    assert_eq!(ranks.iter().map(|rank| rank.handle).collect::<Vec<_>>(), [2]);
}

/// Each page has a few blocks, and there are some pages.
#[derive(Debug)]
struct Pages;

const PAGES: u32 = 4;

impl Shelf for Pages {
    fn page(&self, _: &str, _: u32, from: u32, blocks: &mut Vec<TextBlock>, _: usize) -> Option<u32> {
        blocks.push(TextBlock { hash: 1_000 + u64::from(from), position: 0, held: true });
        (from + 1 < PAGES).then_some(from + 1)
    }
}

#[test]
fn a_busy_endpoint_leaves_room_for_the_later_pages_of_another() {
    let (now, shelf) = (Instant::now(), Arc::new(Pages) as Arc<dyn Shelf>);
    let lane = Arc::new(Lane::new(7));
    lane.read_from(&shelf);
    let digest = Digest::default();
    lane.stand("a", 1, Standing { trust: KvTrust::Trusted, capacity_tokens: 0, digest });
    lane.flush();
    let mut teller = teller(&lane, false, now);
    let mut paged = 0;
    for n in 0..2 * PAGES {
        // The one that is not told of wholly yet is the one that there is always something to tell of.
        store(&lane, "a", 1, n.into());
        let update = update(&teller.next(now).unwrap());
        let hashes = update.entries.chunks_exact(ENTRY).map(|entry| u64::from_le_bytes(entry[..8].try_into().unwrap()));
        paged += hashes.filter(|hash| *hash >= 1_000).count() as u32;
    }
    assert_eq!(paged, PAGES);
}

#[test]
fn a_model_that_nobody_has_heard_of_is_dropped_when_it_was_to_be_heard() {
    let now = Instant::now();
    let (lane, _shelf) = lane(&[]);
    let mut teller = teller(&lane, true, now);
    let digests = |model: &str| KvDigests { epoch: 7, model: model.into(), generation: 5, endpoints: Vec::new() };
    teller.hear(digests("gone"));
    teller.hear(digests("late"));
    assert!(teller.next(now + Duration::from_secs(1)).is_none(), "a replica that has just begun may hear of it soon");
    // What nobody vouches for is believed no longer than that.
    let late = now + Duration::from_secs(5);
    assert_eq!(teller.wakes(now + Duration::from_secs(1)), Some(now + DIGESTS + UNHEARD));
    assert!(now + DIGESTS + UNHEARD < late);
    let digest = Digest::default();
    lane.stand("late", 1, Standing { trust: KvTrust::Trusted, capacity_tokens: 0, digest });
    let told: Vec<KvUpdate> = std::iter::from_fn(|| teller.next(late)).map(|frame| update(&frame)).collect();
    let resets: Vec<(&str, bool)> = told.iter().map(|update| (&*update.model, update.reset)).collect();
    assert_eq!(resets, [("gone", true), ("late", false)]);
    assert_eq!(teller.wakes(late), None);
}

#[test]
fn the_digests_of_a_subscriber_that_never_begins_are_bounded() {
    let (lane, _shelf) = lane(&[]);
    let mut teller = Teller::new(lane, &Subscribe::default(), 1);
    let digests = |model: usize, endpoints: usize| KvDigests {
        epoch: 7,
        model: model.to_string(),
        generation: 1,
        endpoints: vec![KvDigest::default(); endpoints],
    };
    (0..10).for_each(|_| teller.hear(digests(0, 9)));
    assert_eq!(teller.digests.len(), 1, "the newest of a model");
    (1..100).for_each(|model| teller.hear(digests(model, MAX_KV_DIGESTS / 10)));
    assert_eq!(teller.digests.len(), 10);
}

#[test]
fn how_many_endpoints_stand_goes_in_messages_of_a_bounded_size() {
    let (now, many) = (Instant::now(), 3 * MOST_RANKS as u32);
    let (lane, _shelf) = lane(&["a"]);
    let mut teller = Teller::new(lane.clone(), &Subscribe::default(), 1);
    teller.knows(Arc::new((1..=many).collect()), now);
    let stand = |trust| {
        (1..=many).for_each(|handle| {
            lane.stand("a", handle, Standing { trust, capacity_tokens: 0, digest: Digest::default() });
        });
        lane.flush();
    };
    for trust in [KvTrust::Cold, KvTrust::Replaying] {
        stand(trust);
        let told: Vec<usize> =
            std::iter::from_fn(|| teller.next(now)).map(|frame| update(&frame).ranks.len()).collect();
        assert!(
            told.iter().all(|ranks| *ranks <= MOST_RANKS) && told.iter().sum::<usize>() >= many as usize,
            "{told:?}"
        );
    }
}

#[test]
fn an_endpoint_that_is_gone_is_told_of_to_who_knows_it() {
    let now = Instant::now();
    for models in [&["a"][..], &["a", "a"]] {
        let (lane, _shelf) = lane(models);
        let mut teller = teller(&lane, false, now);
        while teller.next(now).is_some() {}
        lane.leave("a", 1);
        lane.flush();
        let told: Vec<KvRank> =
            std::iter::from_fn(|| teller.next(now)).flat_map(|frame| update(&frame).ranks).collect();
        assert_eq!(told, [nothing(1)], "{models:?}");
    }
}
