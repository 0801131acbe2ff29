//! What the data planes of all other replicas have, as far as is known, and whether that is all.
//!
//! "Every connected data plane" is every one that a replica knows of which is heard. One that is listed and has not been heard yet
//! may have some: for a moment nothing is taken to be everywhere that was not so before. After that moment it counts for nothing,
//! for the list may have a dead pod for minutes, and an edit must not wait for that. So it is with one that was heard and is not any
//! more: its data planes look for another replica. What was everywhere stays so, see `status::desired::stays`: a rolling restart
//! of the control plane writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::reach::Part;
use super::{Member, Members};

/// One that is listed and was never heard. It begins to dial us when it finds us in the list, and again after 2 s at most.
const NEVER_HEARD: Duration = Duration::from_secs(5);
/// One whose stream has ended. Data planes are back elsewhere, or it is back itself, within that.
const LOST: Duration = Duration::from_secs(2);

/// What other replicas' data planes have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Others {
    /// Of each that is heard and says it. One of an older release does not.
    pub parts: Vec<Arc<Part>>,
    /// There may be another one.
    pub unsure: bool,
}

/// By the epochs of the replicas that are heard.
pub(super) type Parts = BTreeMap<u64, Heard>;

/// A replica that is heard.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) member: Arc<str>,
    /// Which of the streams; a later one has a higher number.
    pub(super) stream: u64,
    /// None where it does not say.
    pub(super) part: Option<Arc<Part>>,
}

/// Puts it together until there is nobody to tell any more.
pub(super) async fn watch(
    mut members: watch::Receiver<Members>,
    mut parts: watch::Receiver<Parts>,
    others: watch::Sender<Arc<Others>>,
) {
    let mut missing = Missing::default();
    loop {
        let heard = parts.borrow_and_update().clone();
        let unsure_until = missing.look(&members.borrow_and_update(), &heard, Instant::now());
        let now = Others { parts: newest(&heard), unsure: unsure_until.is_some() };
        others.send_if_modified(|known| {
            let news = **known != now;
            if news {
                *known = Arc::new(now);
            }
            news
        });
        let over = async {
            match unsure_until {
                Some(over) => sleep_until(over).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Ok(()) = members.changed() => {}
            Ok(()) = parts.changed() => {}
            () = over => {}
            () = others.closed() => return,
        }
    }
}

/// Of a process that was started anew in the same pod, the older one's stream may not have ended yet.
fn newest(heard: &Parts) -> Vec<Arc<Part>> {
    let mut of = BTreeMap::<&Arc<str>, &Heard>::new();
    for heard in heard.values() {
        let known = of.entry(&heard.member).or_insert(heard);
        if heard.stream > known.stream {
            *known = heard;
        }
    }
    of.into_values().filter_map(|heard| heard.part.clone()).collect()
}

/// Replicas that may be there and are not heard.
#[derive(Debug, Default)]
struct Missing {
    heard: BTreeSet<Arc<str>>,
    /// Until when each is waited for.
    until: BTreeMap<Arc<str>, Instant>,
}

impl Missing {
    /// Until when there is one that may have data planes; none where there is none.
    fn look(&mut self, Members { me, all }: &Members, parts: &Parts, now: Instant) -> Option<Instant> {
        let heard: BTreeSet<Arc<str>> = parts.values().map(|heard| heard.member.clone()).collect();
        let lost: Vec<_> = self.heard.difference(&heard).cloned().collect();
        self.until.extend(lost.into_iter().map(|name| (name, now + LOST)));
        self.heard = heard;
        let names = all.iter().map(|Member { name, .. }| name);
        // Before we are in the list ourselves, it has not been read.
        let listed: BTreeSet<&Arc<str>> = names.chain([me]).collect();
        for name in &listed {
            self.until.entry(Arc::clone(name)).or_insert(now + NEVER_HEARD);
        }
        let here = all.iter().any(|member| member.name == *me);
        // One that was waited for in vain is remembered for as long as it is listed.
        self.until.retain(|name, until| {
            let there = self.heard.contains(name) || (here && name == me);
            !there && (listed.contains(name) || *until > now)
        });
        self.until.values().filter(|until| **until > now).max().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of `seconds: listed / heard → until when it is unsure, in seconds`; `me` is this one.
    fn check(steps: &[(u64, &str, &str, Option<u64>)]) {
        let (mut missing, begin) = (Missing::default(), Instant::now());
        for (at, listed, heard, expected) in steps {
            let member = |name: &str| Member { name: name.into(), address: "127.0.0.1:1".parse().unwrap() };
            let members = Members { me: "me".into(), all: listed.split_whitespace().map(member).collect() };
            let entry = |(n, name): (u64, &str)| (n, Heard { member: name.into(), stream: n, part: None });
            let heard: Parts = (1..).zip(heard.split_whitespace()).map(entry).collect();
            let until = missing.look(&members, &heard, begin + Duration::from_secs(*at));
            let until = until.map(|until| until.duration_since(begin).as_secs());
            assert_eq!(until, *expected, "{at}: {listed} / {heard:?}");
        }
    }

    #[test]
    fn who_is_listed_is_waited_for_for_a_moment_and_not_for_ever() {
        check(&[(0, "me", "", None), (1, "me a", "", Some(6)), (3, "me a", "a", None)]);
        check(&[(0, "me a", "", Some(5)), (5, "me a", "", None), (90, "me a", "", None), (99, "me a", "a", None)]);
    }

    #[test]
    fn before_the_list_is_there_nobody_knows_who_there_is() {
        check(&[(0, "", "", Some(5)), (1, "me", "", None)]);
        check(&[
            (0, "", "", Some(5)),
            (1, "me a", "", Some(6)),
            (2, "me a b", "a", Some(7)),
            (3, "me a b", "a b", None),
        ]);
        check(&[(0, "", "", Some(5)), (5, "", "", None)]);
    }

    #[test]
    fn who_is_lost_is_waited_for_whether_it_is_listed_or_not() {
        check(&[(0, "me a", "a", None), (10, "me a", "", Some(12)), (12, "me a", "", None), (20, "me a", "a", None)]);
        check(&[(0, "me a", "a", None), (10, "me", "", Some(12)), (12, "me", "", None), (20, "me a", "", Some(25))]);
        check(&[(0, "me a", "a", None), (10, "me a", "", Some(12)), (11, "me a", "a", None), (12, "me a", "a", None)]);
    }

    #[test]
    fn a_process_that_was_started_anew_counts_once() {
        let part = |connected| Some(Arc::new(Part { connected, ..Part::default() }));
        let heard = |member: &str, stream, part| Heard { member: member.into(), stream, part };
        let parts = [(9, heard("a", 1, part(2))), (3, heard("a", 5, part(1))), (4, heard("b", 2, part(7)))];
        let parts: Parts = parts.into();
        assert_eq!(newest(&parts).iter().map(|part| part.connected).collect::<Vec<_>>(), [1, 7]);
        let silent: Parts = [(1, heard("a", 1, None)), (2, heard("b", 2, part(7)))].into();
        assert_eq!(newest(&silent).len(), 1, "one of an older release holds nothing back");
    }
}
