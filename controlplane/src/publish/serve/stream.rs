//! The task of one stream: it carries out what the subscriber's state machine decides, passes reports on, and sends sums.

mod begin;
mod lanes;

use begin::begin;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::proto::config_ack::Result as Answer;
use api::proto::from_data_plane::Message as Said;
use api::proto::to_data_plane::Message as Told;
use api::proto::{ConfigAck, FromDataPlane, LoadSum, Subscribe, ToDataPlane};
use api::seen::Seen;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::abreast::CatchingUp;
use super::archive::{Published, Update};
use super::budget::Budget;
use super::hold::{EXPIRED, Hold};
use super::kv::Teller;
use super::load::Owner;
use super::predictions::{Feed, Listener};
use super::progress::Seat;
use super::service::Frame;
use super::subscriber::{Heard, Subscriber};
use super::transport::Link;
use super::{Hub, random};

/// To take the last message.
const FAREWELL: Duration = Duration::from_secs(1);

/// A call as it comes in.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) metadata: MetadataMap,
    pub(super) inbound: Streaming<FromDataPlane>,
    pub(super) outbound: mpsc::Sender<Result<Frame, Status>>,
    pub(super) link: Link,
}

/// Runs a stream to its end.
pub(super) async fn run(hub: Arc<Hub>, mut call: Call) {
    let status = match begin(&hub, &mut call).await {
        Ok((mut stream, hold)) => stream.run(&mut call, hold).await.err().unwrap_or_else(|| Status::ok("")),
        Err(status) => status,
    };
    tracing::debug!(%status, "a stream ended");
    let told = async {
        // An error means that the other side has left.
        let _ = call.outbound.send(Err(status)).await;
        call.outbound.closed().await;
    };
    // Who does not read what there is cannot be told that it ends.
    if timeout(FAREWELL, told).await.is_err() {
        call.link.cut.cut();
    }
}

/// By the clock that tests may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn own(message: Told) -> Frame {
    Frame::Own(Box::new(ToDataPlane { message: Some(message) }))
}

/// A change whose messages are not all sent.
struct Sending {
    update: Arc<Update>,
    next: usize,
}

/// What is to be had by all.
type Newest = watch::Receiver<Option<Arc<Published>>>;

/// What a stream looks at all the time.
struct Watched {
    current: Newest,
    /// Counts changes of the load, of what engines hold, and of what is predicted.
    loads: watch::Receiver<u64>,
    kv: watch::Receiver<u64>,
    predicted: watch::Receiver<u64>,
    closing: watch::Receiver<bool>,
    /// Nothing of the config lane is sent before this has ended.
    catching_up: CatchingUp,
    hold: Hold,
}

impl Watched {
    fn new(hub: &Hub, wanted: Seen, hold: Hold) -> Self {
        Self {
            hold,
            catching_up: CatchingUp::new(hub.options.patience, wanted, hub.seen.subscribe(), hub.reached.clone()),
            current: hub.current.subscribe(),
            loads: hub.loads.watch(),
            kv: hub.kv.watch(),
            predicted: hub.predictions.watch(),
            closing: hub.closing.subscribe(),
        }
    }
}

struct Stream {
    hub: Arc<Hub>,
    subscriber: Subscriber,
    seat: Seat,
    owner: Owner,
    wants_load: bool,
    sending: Option<Sending>,
    /// Until when the change on its way is to be answered.
    answer_by: Option<Instant>,
    ends: Instant,
    budget: Budget,
    load_begun: bool,
    load_seen: u64,
    load_due: Option<Instant>,
    load_sent: Instant,
    kv: Option<Teller>,
    kv_due: Option<Instant>,
    feed: Feed,
    /// The feed has begun: handles mean something over there.
    feeding: bool,
}

/// What the loop waits for.
enum Event {
    Said(Option<FromDataPlane>),
    /// It need not be waited for any more; whether all that the data plane has seen is known here.
    Abreast(bool),
    Published,
    Room,
    LoadChanged,
    LoadDue,
    KvChanged,
    KvDue,
    Predicted,
    Late,
    Ends,
    Expired,
    Closing,
    Gone,
}

impl Stream {
    fn new(hub: Arc<Hub>, subscribe: &Subscribe, seat: Seat, ends: Instant) -> Self {
        let now = now();
        // Processes name themselves by a random number of 64 bits; a stream without a name has its own small one.
        let owner = Owner::Proxy(if subscribe.instance == 0 { seat.stream() } else { subscribe.instance });
        Self {
            subscriber: Subscriber::new(subscribe, &hub.archive),
            owner,
            wants_load: subscribe.load,
            sending: None,
            answer_by: None,
            ends,
            budget: Budget::new(hub.options.bytes_per_second, now),
            load_begun: false,
            load_seen: 0,
            load_due: None,
            load_sent: now,
            kv: subscribe.kv.then(|| Teller::new(hub.kv.clone(), subscribe, random())),
            kv_due: None,
            feed: Feed::new(Listener::Proxy(owner), hub.options.bytes_per_second, now),
            feeding: false,
            hub,
            seat,
        }
    }

    async fn run(&mut self, call: &mut Call, hold: Hold) -> Result<(), Status> {
        let mut watched = Watched::new(&self.hub, self.subscriber.seen().clone(), hold);
        loop {
            if !watched.catching_up.lasts() {
                self.decide(&mut watched.current);
            }
            self.feeding |= self.kv.is_some() && self.may_load();
            match self.wait(call, &mut watched).await? {
                Event::Said(Some(message)) => self.hear(message)?,
                Event::Said(None) | Event::Gone | Event::Ends => return Ok(()),
                Event::Published | Event::Abreast(true) => {}
                Event::Abreast(false) => {
                    self.hub.counts.behind.fetch_add(1, Relaxed);
                    tracing::warn!(stream = self.seat.stream(), "a data plane has seen more than is known here");
                }
                Event::Room => self.send_next(call).await?,
                Event::LoadChanged => self.plan_load(),
                Event::LoadDue => self.send_load(call)?,
                Event::KvChanged => self.plan_kv(),
                Event::KvDue => self.send_kv(call),
                Event::Predicted => self.send_predictions(call),
                Event::Late => {
                    self.hub.counts.cut_off.fetch_add(1, Relaxed);
                    return Err(Status::deadline_exceeded("a change was not answered in time"));
                }
                Event::Expired => return Err(Status::unauthenticated(EXPIRED)),
                Event::Closing => return Err(Status::unavailable("this control plane is shutting down")),
            }
        }
    }

    /// Begins the next change where there is one, and the sums once their handles mean something over there.
    fn decide(&mut self, current: &mut Newest) {
        if self.sending.is_some() {
            return;
        }
        if !self.load_begun && self.load_due.is_none() && self.may_load() {
            self.load_due = Some(now());
        }
        let newest = current.borrow_and_update().clone();
        if let Some(newest) = newest
            && let Some(update) = self.subscriber.next(&newest, &self.hub.archive)
        {
            self.hub.counts.sent.fetch_add(1, Relaxed);
            self.answer_by = Some(now() + self.hub.options.answer_time);
            self.sending = Some(Sending { update, next: 0 });
        }
    }

    async fn wait(&self, call: &mut Call, watched: &mut Watched) -> Result<Event, Status> {
        let Watched { current, loads, kv, predicted, closing, catching_up, hold } = watched;
        let catches_up = catching_up.lasts();
        let at = |time: Option<Instant>| sleep_until(time.unwrap_or(self.ends).into());
        let event = tokio::select! {
            message = call.inbound.message() => Event::Said(message?),
            // The hub has the sending ends, so none of these fails while there is a stream.
            abreast = catching_up.end(), if catches_up => Event::Abreast(abreast),
            _ = current.changed(), if self.sending.is_none() => Event::Published,
            room = call.outbound.reserve(), if self.sending.is_some() => if room.is_ok() { Event::Room } else { Event::Gone },
            _ = loads.changed(), if self.load_begun && self.load_due.is_none() => Event::LoadChanged,
            () = at(self.load_due), if self.load_due.is_some() && self.sending.is_none() => Event::LoadDue,
            _ = kv.changed(), if self.kv.is_some() && self.kv_due.is_none() => Event::KvChanged,
            () = at(self.kv_due), if self.kv_due.is_some() && self.sending.is_none() => Event::KvDue,
            () = self.predicted(predicted), if self.feeding && self.sending.is_none() => Event::Predicted,
            () = at(self.answer_by), if self.answer_by.is_some() => Event::Late,
            () = at(None) => Event::Ends,
            () = hold.over(&self.hub.counts.excused) => Event::Expired,
            _ = closing.wait_for(|closing| *closing) => Event::Closing,
            () = call.outbound.closed() => Event::Gone,
        };
        Ok(event)
    }

    async fn send(&mut self, call: &Call, frame: Frame) -> Result<(), Status> {
        self.budget.spend(frame.len(), now());
        // Room was waited for, or is waited for until the answer is late.
        let sent = timeout(self.hub.options.answer_time, call.outbound.send(Ok(frame))).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Status::cancelled("the data plane left")),
            Err(_) => Err(Status::deadline_exceeded("nothing is read")),
        }
    }

    async fn send_next(&mut self, call: &Call) -> Result<(), Status> {
        let Some(mut sending) = self.sending.take() else { return Ok(()) };
        let frame = sending.update.frames[sending.next].clone();
        sending.next += 1;
        if sending.next < sending.update.frames.len() {
            self.sending = Some(sending);
        }
        self.send(call, Frame::Shared(frame)).await
    }

    fn hear(&mut self, message: FromDataPlane) -> Result<(), Status> {
        match message.message {
            Some(Said::Config(ack)) => self.answered(ack),
            Some(Said::Load(report)) => {
                self.hub.loads.report(self.owner, self.seat.stream(), &report);
                Ok(())
            }
            Some(Said::Predictions(said)) => {
                if let (true, Ok(marks)) = (said.epoch == self.hub.epoch, api::predictions::unpack(&said.entries)) {
                    self.hub.predictions.take(self.owner, marks);
                }
                Ok(())
            }
            Some(Said::Subscribe(_)) => Err(Status::invalid_argument("a stream is subscribed once")),
            Some(Said::Kv(digests)) => {
                if let Some(kv) = &mut self.kv {
                    kv.hear(digests);
                    self.plan_kv();
                }
                Ok(())
            }
            // What a later data plane says besides is not for this control plane.
            None => Ok(()),
        }
    }

    fn answered(&mut self, ack: ConfigAck) -> Result<(), Status> {
        let said = match &ack.result {
            Some(Answer::Refused(refused)) => refused.refusals.first().map(|r| format!("{}: {}", r.path, r.reason)),
            _ => None,
        };
        if self.sending.is_some() {
            return Err(Status::invalid_argument("an answer before all of the change was sent"));
        }
        match self.subscriber.hear(ack, &self.hub.archive) {
            Heard::Applied => {
                self.hub.counts.applied.fetch_add(1, Relaxed);
                self.begin_kv();
            }
            Heard::Refused => {
                self.hub.counts.refused.fetch_add(1, Relaxed);
                // It goes on with what it has, and caches change all the same.
                self.begin_kv();
                tracing::warn!(reason = said.as_deref(), stream = self.seat.stream(), "a data plane refused a change");
            }
            Heard::Resync => {}
            Heard::Nonsense(why) => return Err(Status::invalid_argument(why)),
        }
        self.answer_by = None;
        self.tell_registry(said);
        Ok(())
    }

    fn tell_registry(&self, said: Option<String>) {
        let (held, stuck) = (self.subscriber.held(), self.subscriber.stuck());
        let refused =
            self.subscriber.poison().reasons().map(|(object, why)| (object.clone(), why.to_owned())).collect();
        self.seat.update(|row| {
            row.applied = held.map(|held| held.version);
            row.refused = refused;
            row.stuck = if stuck { said.or(row.stuck.take()) } else { None };
        });
    }

    fn may_load(&self) -> bool {
        self.wants_load && self.subscriber.held().is_some_and(|held| held.version.epoch == self.hub.epoch)
    }

    fn plan_load(&mut self) {
        let now = now();
        let paced = self.load_sent + self.hub.load_interval();
        self.load_due = Some(paced.max(now + self.budget.wait(now)));
    }

    /// Where the data plane does not read, the sum waits: the next one says it all.
    fn send_load(&mut self, call: &Call) -> Result<(), Status> {
        let now = now();
        self.load_due = None;
        let Ok(room) = call.outbound.try_reserve() else {
            self.load_due = Some(now + self.hub.load_interval());
            return Ok(());
        };
        let (sum, up_to) = self.hub.loads.sum(self.owner, self.load_seen, now);
        self.load_seen = up_to;
        let first = !std::mem::replace(&mut self.load_begun, true);
        let LoadSum { epoch: _, sequence_seen: _, endpoints, shares, uses, engines } = &sum;
        if !endpoints.is_empty() || !shares.is_empty() || !uses.is_empty() || !engines.is_empty() || first {
            let frame = own(Told::Load(sum));
            self.budget.spend(frame.len(), now);
            self.load_sent = now;
            room.send(Ok(frame));
            // A sum in several messages goes on, as the budget allows.
            self.plan_load_again(up_to);
        }
        Ok(())
    }

    fn plan_load_again(&mut self, up_to: u64) {
        if *self.hub.loads.watch().borrow() > up_to {
            self.plan_load();
        }
    }
}

impl Drop for Stream {
    /// What it reported counts on for a moment: the data plane may be back, here or elsewhere.
    fn drop(&mut self) {
        let (loads, owner, stream) = (self.hub.loads.clone(), self.owner, self.seat.stream());
        let kept = self.hub.options.load_kept;
        // Without a runtime the process ends.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(kept).await;
                loads.forget(owner, stream);
            });
        }
    }
}
