//! How far each list of a cluster has been read, and of which change of it a world was made. Pure. Replicas that read the same lists
//! compare by it what one of them told a data plane with what another one knows. A directory has nothing of the kind: all of it
//! is read before anybody is told anything, and of two readings nothing says which one is the later. What more lists there are than a state
//! has room for, nobody is told of, and so nobody waits for.

use std::sync::Arc;

use api::limits::MAX_LISTS;
use api::seen::Seen;

use crate::api_server::number;

/// What was said of how far a list reaches. Versions are as in [`number`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Nothing.
    Nowhere,
    /// This far, by an event or a bookmark.
    Up(u128),
    /// All of it was read, as it was then. What was deleted before cannot be told from what never was, so all of it counts.
    Whole(u128),
    /// It may not be read, and until it may no more of it will come.
    Denied,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Extent {
    list: Arc<str>,
    /// The last change that counts.
    counts: u128,
    /// The last one that was heard of, whether it counts or not.
    heard: u128,
    denied: bool,
}

/// All lists, as far as there is room.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reached(Vec<Extent>);

impl Reached {
    pub(super) fn of(lists: impl Iterator<Item = Arc<str>>) -> Self {
        Self(lists.take(MAX_LISTS).map(|list| Extent { list, counts: 0, heard: 0, denied: false }).collect())
    }

    /// Of the list at this place; and whether that was news for the world.
    pub(super) fn hear(&mut self, place: usize, reach: Reach, news: bool) {
        let Some(Extent { list: _, counts, heard, denied }) = self.0.get_mut(place) else { return };
        *denied = reach == Reach::Denied || (*denied && reach == Reach::Nowhere);
        let version = match reach {
            Reach::Nowhere | Reach::Denied => return,
            Reach::Up(version) => version.max(*heard),
            Reach::Whole(version) => {
                // Where time went back, it counts from there.
                *counts = version.min(*counts);
                version
            }
        };
        *heard = version;
        if news {
            *counts = version;
        }
    }

    /// What a world of now is made of, as data planes are told.
    pub(super) fn seen(&self) -> Seen {
        let heard = self.0.iter().filter(|extent| extent.counts > 0);
        heard.map(|Extent { list, counts, .. }| (list.to_string(), counts.to_string())).collect()
    }

    /// Whether what was made of `published` has all that was `wanted`. What was heard since then counts where none of it was news; of
    /// lists that are not read here, or may not be, nothing can be said.
    pub(crate) fn covers(&self, published: &Seen, wanted: &Seen) -> bool {
        let of = |seen: &Seen, extent: &Extent| seen.of(&extent.list).map_or(0, number);
        let newest = self.0.iter().all(|extent| of(published, extent) == extent.counts);
        self.0.iter().filter(|extent| !extent.denied).all(|extent| {
            let wanted = of(wanted, extent);
            wanted <= of(published, extent) || (newest && wanted <= extent.heard)
        })
    }
}

/// Whether what this was made of has all that was wanted, as far as both speak of the same lists.
pub(crate) fn is_as_late(seen: &Seen, wanted: &Seen) -> bool {
    wanted.lists().all(|(list, wanted)| seen.of(list).is_none_or(|seen| number(seen) >= number(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two lists, of which one is told this; and whether it was news.
    fn reached(said: &[(Reach, bool)]) -> Reached {
        let mut reached = Reached::of(["Pod", "Node"].map(Arc::from).into_iter());
        said.iter().for_each(|(reach, news)| reached.hear(0, *reach, *news));
        reached
    }

    fn pods(version: u64) -> Seen {
        [("Pod".to_owned(), version.to_string())].into_iter().collect()
    }

    #[test]
    fn a_world_is_made_of_the_last_change_that_counts() {
        let check = |said: &[(Reach, bool)], expected| assert_eq!(reached(said).seen(), expected, "{said:?}");
        check(&[], Seen::default());
        let list = (Reach::Whole(90), true);
        check(&[list], pods(90));
        check(&[list, (Reach::Up(95), false), (Reach::Nowhere, true)], pods(90));
        check(&[list, (Reach::Up(95), true)], pods(95));
        check(&[list, (Reach::Whole(120), false)], pods(90));
        check(&[list, (Reach::Whole(120), true)], pods(120));
        check(&[list, (Reach::Whole(30), false)], pods(30));
    }

    #[test]
    fn who_has_heard_as_far_is_not_behind_once_the_news_of_it_are_published() {
        let reached = reached(&[(Reach::Whole(90), true), (Reach::Up(95), true), (Reach::Up(99), false)]);
        let check = |published: u64, wanted: u64, expected| {
            assert_eq!(reached.covers(&pods(published), &pods(wanted)), expected, "{published} {wanted}");
        };
        check(95, 95, true);
        check(95, 99, true);
        check(95, 100, false);
        check(90, 90, true);
        check(90, 95, false);
        check(90, 99, false);
    }

    #[test]
    fn a_list_that_may_not_be_read_is_not_waited_for_until_it_may() {
        let check = |said: &[(Reach, bool)], expected| {
            let reached = reached(said);
            assert_eq!(reached.covers(&reached.seen(), &pods(95)), expected, "{said:?}");
        };
        let list = (Reach::Whole(90), true);
        check(&[(Reach::Denied, true)], true);
        check(&[(Reach::Denied, true), (Reach::Nowhere, false)], true);
        check(&[(Reach::Denied, true), list], false);
        check(&[list, (Reach::Denied, false)], true);
        check(&[list, (Reach::Denied, false), (Reach::Up(91), false)], false);
    }

    /// A control plane of so many namespaces has five lists for each, and two more.
    #[test]
    fn of_more_lists_than_a_state_has_room_for_the_rest_is_neither_told_nor_waited_for() {
        for namespaces in [818, 819, 2_000] {
            let lists = 5 * namespaces + 2;
            let mut reached = Reached::of((0..lists).map(|n| n.to_string().into()));
            (0..lists).for_each(|place| reached.hear(place, Reach::Whole(90), true));
            let seen = reached.seen();
            assert_eq!(seen.lists().len(), lists.min(MAX_LISTS), "{namespaces}");
            assert!(reached.covers(&seen, &(0..lists).map(|n| (n.to_string(), "90".to_owned())).collect()));
            (0..lists).for_each(|place| reached.hear(place, Reach::Up(95), false));
            assert!(reached.covers(&seen, &[("7".to_owned(), "95".to_owned())].into_iter().collect()));
        }
    }

    #[test]
    fn lists_that_are_not_read_here_are_not_waited_for() {
        let elsewhere: Seen = [("Pod/other".to_owned(), "7".to_owned())].into_iter().collect();
        assert!(reached(&[]).covers(&Seen::default(), &elsewhere));
        assert!(Reached::default().covers(&Seen::default(), &pods(7)), "a directory");
        assert!(!reached(&[]).covers(&Seen::default(), &pods(7)));
    }
}
