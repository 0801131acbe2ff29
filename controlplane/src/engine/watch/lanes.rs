//! When each place is asked: once a period, whatever the others do. A place that hangs takes the whole time of an answer, and who
//! is to be asked next must not wait for that.
//!
//! So there are two lanes, of 64 questions at once each, and in each lane the place that has waited longest is next. In the quick lane
//! are places that answered soon, and those that nobody has asked before. One that has not answered there soon goes on in the slow
//! lane, where there is room for it; where there is none it is given up, and asked there with the time that an answer has.
//! In this way 640 places that begin to hang hold up the others for a second, once.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep_until, timeout};

use crate::engine::question::{Answer, AskError};
use crate::engine::targets::{Ask, Place};

/// Places that are asked at once in each lane.
pub(super) const AT_ONCE: usize = 64;
/// Who answers within this time answers soon.
pub(super) const SOON: Duration = Duration::from_millis(100);

/// What a place said.
pub(super) type Said = Result<Answer, AskError>;
pub(super) type Asking = BoxFuture<'static, Said>;
/// Asks a place, for no longer than an answer may take.
pub(super) type Asks = Arc<dyn Fn(Place, Ask) -> Asking + Send + Sync>;

/// The time, by the runtime's clock.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Both lanes, and who is being asked.
pub(super) struct Lanes {
    quick: Lane,
    slow: Lane,
    asking: FuturesUnordered<BoxFuture<'static, Heard>>,
    asks: Asks,
    asked: u64,
}

struct Lane {
    due: BTreeSet<(Instant, Place)>,
    room: Arc<Semaphore>,
}

/// What is next.
pub(super) enum Next {
    /// This place is to be asked, and there is room for it.
    Due(Place, Room),
    Heard(Box<Heard>),
}

/// Room for one question.
pub(super) enum Room {
    Quick(OwnedSemaphorePermit),
    Slow(OwnedSemaphorePermit),
}

/// What came of a question.
pub(super) struct Heard {
    pub(super) place: Place,
    /// Which question it was.
    pub(super) number: u64,
    pub(super) began: Instant,
    /// None where it was given up.
    pub(super) said: Option<Said>,
}

impl Lane {
    fn new() -> Self {
        Self { due: BTreeSet::new(), room: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Until the first place is due, and there is room for it.
    async fn ready(&self) -> OwnedSemaphorePermit {
        let Some((due, _)) = self.due.first() else { return std::future::pending().await };
        sleep_until((*due).into()).await;
        self.room.clone().acquire_owned().await.expect("nobody closes it")
    }
}

impl Lanes {
    pub(super) fn new(asks: Asks) -> Self {
        Self { quick: Lane::new(), slow: Lane::new(), asking: FuturesUnordered::new(), asks, asked: 0 }
    }

    /// It is to be asked then.
    pub(super) fn put(&mut self, place: Place, is_slow: bool, due: Instant) {
        let lane = if is_slow { &mut self.slow } else { &mut self.quick };
        lane.due.insert((due, place));
    }

    /// The others are not to be asked any more. What those say that are being asked is heard all the same.
    pub(super) fn keep(&mut self, keeps: impl Fn(&Place) -> bool) {
        for lane in [&mut self.quick, &mut self.slow] {
            lane.due.retain(|(_, place)| keeps(place));
        }
    }

    /// Nothing is lost where this is dropped.
    pub(super) async fn next(&mut self) -> Next {
        let Self { quick, slow, asking, .. } = self;
        let (lane, room) = tokio::select! {
            Some(heard) = asking.next() => return Next::Heard(Box::new(heard)),
            room = quick.ready() => (quick, Room::Quick(room)),
            room = slow.ready() => (slow, Room::Slow(room)),
        };
        let (_, place) = lane.due.pop_first().expect("the first one was due");
        Next::Due(place, room)
    }

    /// Asks it; the number of the question.
    pub(super) fn ask(&mut self, place: Place, question: Ask, room: Room) -> u64 {
        self.asked += 1;
        let (number, began, slow) = (self.asked, now(), self.slow.room.clone());
        let asking = (self.asks)(place.clone(), question);
        self.asking.push(Box::pin(async move {
            let said = match room {
                Room::Slow(_room) => Some(asking.await),
                Room::Quick(room) => soon_or_slowly(asking, room, &slow).await,
            };
            Heard { place, number, began, said }
        }));
        number
    }
}

async fn soon_or_slowly(
    asking: impl Future<Output = Said>,
    room: OwnedSemaphorePermit,
    slow: &Arc<Semaphore>,
) -> Option<Said> {
    let mut asking = pin!(asking);
    if let Ok(said) = timeout(SOON, &mut asking).await {
        return Some(said);
    }
    let _slow = slow.clone().try_acquire_owned().ok()?;
    drop(room);
    Some(asking.await)
}
