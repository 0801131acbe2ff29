use super::super::earliest;
use super::*;

const A: Owner = Owner::Proxy(1);
const B: Owner = Owner::Proxy(2);
const PEER: u64 = 9;

/// Counts, and the changes that a shell would number.
struct Book {
    uses: Uses,
    change: u64,
    begun: Instant,
}

impl Book {
    fn new() -> Self {
        Self { uses: Uses::default(), change: 0, begun: Instant::now() }
    }

    fn at(&self, second: u64) -> Instant {
        self.begun + Duration::from_secs(second)
    }

    fn add(&mut self, owner: Owner, hash: u64, uses: f32, second: u64) -> bool {
        let now = self.at(second);
        let news = self.uses.add(owner, (hash, uses), self.change + 1, now);
        self.change += u64::from(news);
        news
    }

    fn hear(&mut self, hash: u64, uses: f32, second: u64) -> bool {
        self.hear_of(PEER, hash, uses, second)
    }

    fn hear_of(&mut self, peer: u64, hash: u64, uses: f32, second: u64) -> bool {
        let now = self.at(second);
        let news = self.uses.hear(peer, (hash, uses), self.change + 1, now);
        self.change += u64::from(news);
        news
    }

    fn told(&self, owner: Owner, seen: u64, second: u64) -> Vec<UseCount> {
        self.uses.since(owner, seen, self.at(second)).into_iter().map(|(_, count)| count).collect()
    }

    fn own(&self, seen: u64, second: u64) -> Vec<UseCount> {
        self.uses.own_since(seen, self.at(second)).map(|(_, count)| count).collect()
    }
}

#[test]
fn the_newest_replica_counts_however_many_there_have_been_before_it() {
    let mut book = Book::new();
    for life in 0..100 {
        // Each lives for ten minutes.
        assert!(book.hear_of(life, 7, 8.0, 600 * life), "life {life}");
    }
    let [(7, uses)] = book.told(A, 0, 600 * 99)[..] else { panic!() };
    assert!((8.0..8.1).contains(&uses), "{uses}");
    assert!(book.uses.of[&7].there.len() <= MOST_PEERS);
}

#[test]
fn the_fleets_count_is_the_sum_and_halves_every_30_s() {
    let mut book = Book::new();
    book.add(A, 7, 4.0, 0);
    book.add(B, 7, 4.0, 0);
    book.hear(7, 8.0, 0);
    assert_eq!(book.told(A, 0, 0), [(7, 16.0)]);
    assert_eq!(book.told(A, 0, 30), [(7, 8.0)]);
    book.add(A, 7, 8.0, 30);
    assert_eq!(book.told(B, 0, 30), [(7, 16.0)]);
    assert_eq!(book.own(0, 30), [(7, 12.0)], "a peer is not told what it said");
}

#[test]
fn one_use_is_no_news_and_growth_is_from_a_quarter_on() {
    let mut book = Book::new();
    assert!(!book.add(A, 7, 1.0, 0));
    assert!(book.add(B, 7, 1.0, 0));
    assert!(!book.add(B, 7, 0.5, 0));
    assert!(book.add(B, 7, 0.25, 0), "3.75 over 3");
    assert!(!book.add(B, 7, 0.1, 0));
    // Whoever was told has let it halve, too.
    assert!(!book.add(B, 7, 0.1, 30));
    assert!(book.add(B, 7, 0.5, 30));
}

#[test]
fn what_only_the_proxy_itself_asks_for_is_not_told_to_it() {
    let mut book = Book::new();
    book.add(A, 7, 4.0, 0);
    book.add(A, 8, 4.0, 0);
    assert_eq!((book.told(A, 0, 0), book.told(B, 0, 0).len()), (vec![], 2));
    let seen = book.change;
    book.add(B, 8, 2.0, 0);
    assert_eq!((book.told(A, seen, 0), book.told(B, seen, 0)), (vec![(8, 6.0)], vec![(8, 6.0)]));
}

#[test]
fn a_peers_count_replaces_the_one_before() {
    let mut book = Book::new();
    assert!(book.hear(7, 4.0, 0));
    assert!(!book.hear(7, 4.0, 0));
    assert!(book.hear(7, 6.0, 0));
    assert_eq!(book.told(A, 0, 0), [(7, 6.0)]);
    assert_eq!(book.own(0, 0), []);
}

#[test]
fn more_than_one_message_holds_comes_in_the_next() {
    let mut book = Book::new();
    for hash in 0..10 {
        assert!(book.add(A, hash, 2.0, 0));
    }
    let (first, cut) = earliest(book.uses.since(B, 0, book.at(0)), 6);
    assert_eq!((first.len(), cut), (6, Some(6)));
    let (rest, cut) = earliest(book.uses.since(B, 6, book.at(0)), 6);
    assert_eq!((rest.len(), cut), (4, None));
}

#[test]
fn what_is_kept_is_bounded_and_what_is_faint_makes_room() {
    let mut book = Book::new();
    for hash in 0..MOST as u64 {
        assert!(book.add(A, hash, 2.0, 0));
    }
    assert!(!book.add(A, u64::MAX, 2.0, 1), "all are as good");
    assert_eq!(book.uses.of.len(), MOST);
    // After four half-lives all of them are faint.
    assert!(book.add(A, u64::MAX, 2.0, 121));
    assert_eq!((book.uses.of.len(), book.uses.order.len(), book.uses.order_here.len()), (1, 1, 1));
}
