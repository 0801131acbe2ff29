//! What is said of one of the lists, as the state hears it.

use std::fmt;

use kube::core::params::ListParams;
use serde_json::Value;
use tokio::sync::mpsc::Sender;

use super::entry::{Entry, entry, identity};
use super::state::{Change, Step};
use super::watched::Watched;
use crate::api_server::{List, News, Over, number};
use crate::source::reached::Reach;

/// One of the lists. The state knows it by its place.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) place: usize,
    pub(super) watched: Watched,
    pub(super) tell: Sender<Step>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.watched.fmt(f)
    }
}

impl List for Told {
    type Entry = Entry;

    fn kind(&self) -> &'static str {
        self.watched.kind()
    }

    fn path(&self) -> String {
        self.watched.path()
    }

    fn params(&self) -> ListParams {
        self.watched.params()
    }

    fn metadata_only(&self) -> bool {
        self.watched.metadata_only()
    }

    fn is_optional(&self) -> bool {
        self.watched.is_optional()
    }

    fn remedy(&self, code: u16) -> &'static str {
        self.watched.remedy(code)
    }

    fn entry(&self, value: Value) -> Option<Entry> {
        entry(&self.watched, value)
    }

    async fn tell(&mut self, news: News<Entry>) -> Result<(), Over> {
        let place = self.place;
        let (change, reach) = match news {
            News::Listed(entries, to) => (Some(Change::Listed(place, entries)), Reach::Whole(number(&to))),
            News::Put(entry, to) => (entry.map(|entry| Change::Put(place, entry)), Reach::Up(number(&to))),
            News::Gone(last, to) => {
                let gone = identity(&self.watched, &last).map(|identity| Change::Gone(place, identity));
                (gone, Reach::Up(number(&to)))
            }
            News::Nothing(to) => (None, Reach::Up(number(&to))),
            News::Failed(why) => (Some(Change::Failed(place, why)), Reach::Nowhere),
            News::Denied => (Some(Change::Denied(place)), Reach::Denied),
        };
        self.tell.send(Step { place, change, reach }).await.map_err(|_| Over)
    }
}
