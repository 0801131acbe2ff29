//! One stream, from the subscription to its end.

use std::time::{Duration, Instant};

use api::kv::Update;
use api::proto::data_plane_client::DataPlaneClient;
use api::proto::from_data_plane::Message as Said;
use api::proto::to_data_plane::Message as Told;
use api::proto::{ConfigAck, ConfigUpdate, FromDataPlane, KvUpdate, Subscribe, ToDataPlane, Welcome};
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use super::Context;
use super::apply::{Decided, Held, Updates};
use super::credentials::Credentials;
use super::load::Reporter;
use super::marks::Seats;
use crate::config::{ControlPlane, Tls, Transport};
use crate::tables::{Heard, News};

/// To connect, subscribe and be welcomed.
const OPEN: Duration = Duration::from_secs(5);
/// A control plane that takes no answer for so long is as good as gone.
const ANSWER: Duration = Duration::from_secs(10);
/// Pings, so that a peer that vanished is noticed.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_ANSWER: Duration = Duration::from_secs(5);
/// Messages stay under 1 MiB, but for a single object that is larger.
const MESSAGE_BYTES: usize = 4 << 20;
/// Between two looks whether the tables thread has room.
const ROOM: Duration = Duration::from_millis(1);
/// Looking at all endpoints takes at most this part of the time.
const LOOKING: u32 = 50;
/// Messages that wait to be sent.
const OUTBOX: usize = 4;
/// Messages of one report.
const REPORT: usize = 2;
/// How often the source is said to hold the table still.
const CONFIRM: Duration = Duration::from_secs(1);
/// How often the others are told what is asked for here.
const TELL_NEWS: Duration = Duration::from_millis(100);
/// Before the stream's end the next one is opened, at most by so much.
const RENEW_BEFORE: Duration = Duration::from_secs(20);

/// Why a stream ended, as a sentence.
#[derive(Debug)]
pub(super) struct End(pub(super) String);

/// An open stream.
#[derive(Debug)]
pub(super) struct Session {
    inbound: Streaming<ToDataPlane>,
    outbound: mpsc::Sender<FromDataPlane>,
    welcome: Welcome,
    opened: Instant,
    updates: Updates,
    reporter: Reporter,
    /// The first sum of a stream replaces all that a stream before said.
    summed: bool,
    news_told: Instant,
    seats: Seats,
    confirmed: Instant,
    /// The control plane and this process agree on what is in force.
    in_sync: bool,
}

impl Session {
    /// Connects and subscribes; the error is a sentence.
    pub(super) async fn open(agent: &Context) -> Result<Self, String> {
        match timeout(OPEN, Self::subscribe(agent)).await {
            Ok(opened) => opened,
            Err(_) => Err(format!("no answer within {OPEN:?}")),
        }
    }

    async fn subscribe(agent: &Context) -> Result<Self, String> {
        let (channel, authorization) = connect(&agent.parts.config).await?;
        let (outbound, queue) = mpsc::channel(OUTBOX);
        let first = say(Said::Subscribe(subscription(agent)));
        outbound.try_send(first).expect("the queue is empty and its other end is in the next line");
        let messages = stream::unfold(queue, |mut queue| async { Some((queue.recv().await?, queue)) });
        let mut client = DataPlaneClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let mut request = Request::new(messages);
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", authorization);
        }
        let answer = client.stream(request).await.map_err(|status| sentence(&status))?;
        let mut inbound = answer.into_inner();
        let welcome = match inbound.message().await.map_err(|status| sentence(&status))? {
            Some(ToDataPlane { message: Some(Told::Welcome(welcome)) }) => welcome,
            _ => return Err("the first message was no welcome: is this the control plane?".into()),
        };
        let now = Instant::now();
        let reporter = Reporter::new(welcome.epoch);
        let updates = Updates::default();
        Ok(Self {
            inbound,
            outbound,
            welcome,
            opened: now,
            updates,
            reporter,
            summed: false,
            news_told: now,
            seats: Seats::default(),
            confirmed: now,
            in_sync: false,
        })
    }

    pub(super) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// When the next stream is to be opened: somewhat before this one is ended.
    pub(super) fn renew_at(&self, chance: f32) -> Instant {
        let life = match self.welcome.life_s {
            // As good as never; a stream without a known end is opened anew when it breaks.
            0 => Duration::from_secs(365 * 86_400),
            seconds => Duration::from_secs(seconds.into()),
        };
        self.opened + (life - (life / 5).min(RENEW_BEFORE).mul_f32(0.5 + chance / 2.0))
    }

    /// Applies what comes and reports the load, until the stream breaks.
    pub(super) async fn serve(&mut self, agent: &Context) -> End {
        let every = Duration::from_millis(u64::from(self.welcome.load_interval_ms).clamp(5, 10_000));
        agent.parts.tables.opened(self.welcome.epoch);
        let mut due = Instant::now();
        loop {
            let step = tokio::select! {
                message = self.inbound.message() => match message {
                    Ok(Some(message)) => self.take(agent, message).await,
                    Ok(None) => Err(End("the control plane ended the stream".into())),
                    Err(status) => Err(End(sentence(&status))),
                },
                () = sleep_until(due.into()) => {
                    let begun = Instant::now();
                    self.tick(agent);
                    due = begun + every.max(begun.elapsed() * LOOKING);
                    Ok(())
                }
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn take(&mut self, agent: &Context, message: ToDataPlane) -> Result<(), End> {
        match message.message {
            Some(Told::Config(update)) => self.configure(agent, update).await,
            Some(Told::Load(sum)) => {
                let (shared, mut peers) = (&agent.parts.shared, agent.peers.borrow_mut());
                let (table, now_ms) = (shared.table.load_full(), shared.now_ms());
                if !std::mem::replace(&mut self.summed, true) {
                    peers.forget(&table, now_ms);
                }
                peers.apply(&table, &sum, now_ms);
                for counts in sum.uses.iter().filter_map(|uses| api::uses::unpack(&uses.entries).ok()) {
                    agent.parts.tables.hear(Heard::Uses(counts.collect()));
                }
                Ok(())
            }
            Some(Told::Welcome(_)) => Err(End("a second welcome".into())),
            Some(Told::Predictions(said)) => {
                let marks = self.seats.take(&agent.parts.shared.table.load_full(), &said);
                if !marks.is_empty() {
                    agent.parts.tables.hear(Heard::Predicted(marks));
                }
                Ok(())
            }
            Some(Told::Kv(update)) => blocks(agent, update).await,
            // What a later version sends besides is not for this one.
            None => Ok(()),
        }
    }

    async fn configure(&mut self, agent: &Context, update: ConfigUpdate) -> Result<(), End> {
        let (begin, held) = (Instant::now(), agent.parts.held.borrow().clone());
        let parts = &agent.parts;
        if self.updates.breaks_off(&update) {
            parts.tables.expect_nothing();
        }
        let Some((nonce, decided)) = self.updates.take(update, &held) else {
            parts.tables.expect(self.updates.newest());
            return Ok(());
        };
        let answer = match decided {
            Decided::Install(new) => {
                parts.tables.install_new(new.clone());
                parts.status.applied(new.version, begin.elapsed());
                if let Some(keep) = &parts.keep {
                    keep.keep(new.clone());
                }
                let new = Held::new(new);
                let answer = new.applied();
                parts.held.replace(new);
                parts.status.in_sync();
                self.in_sync = true;
                answer
            }
            Decided::Refuse(problems) => {
                let why: Vec<_> = problems.iter().map(ToString::to_string).collect();
                parts.tables.expect_nothing();
                parts.tables.refuse(why.join("\n"));
                self.in_sync = false;
                Decided::refusal(&problems, &held.snapshot)
            }
            Decided::Resync(held) => {
                parts.tables.expect_nothing();
                self.in_sync = false;
                Decided::resync(held)
            }
        };
        self.answer(say(Said::Config(ConfigAck { nonce, result: Some(answer) }))).await
    }

    async fn answer(&self, message: FromDataPlane) -> Result<(), End> {
        match timeout(ANSWER, self.outbound.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End("the stream broke".into())),
            Err(_) => Err(End(format!("the control plane took no message for {ANSWER:?}"))),
        }
    }

    fn tick(&mut self, agent: &Context) {
        // While there is no room for both messages nothing is reported: the next ones say it all.
        if self.outbound.capacity() >= REPORT {
            self.report(agent);
        }
        self.ask(agent);
        if self.in_sync && self.confirmed.elapsed() >= CONFIRM {
            self.confirmed = Instant::now();
            agent.parts.tables.confirm();
            if let Some(keep) = &agent.parts.keep {
                keep.confirm();
            }
        }
    }
}

impl Session {
    fn report(&mut self, agent: &Context) {
        let shared = &agent.parts.shared;
        let table = shared.table.load_full();
        let report = self.reporter.next(&table, shared.now_ms());
        let News { uses, predicted } = self.news(agent);
        if let Some(report) = self.reporter.with_uses(report, uses) {
            self.offer(Said::Load(report));
        }
        if let Some(told) = self.seats.out(&table, self.welcome.epoch, &predicted) {
            self.offer(Said::Predictions(told));
        }
    }

    /// What others are to know of this process's decisions, every 100 ms. The handles have to mean something over there,
    /// which the first report says they do.
    fn news(&mut self, agent: &Context) -> News {
        if !self.reporter.begun() || self.news_told.elapsed() < TELL_NEWS {
            return News::default();
        }
        self.news_told = Instant::now();
        agent.parts.tables.take_news()
    }

    /// What finds no room is forgotten: hints that the others then do without.
    fn offer(&self, message: Said) {
        let _ = self.outbound.try_send(say(message));
    }

    fn ask(&self, agent: &Context) {
        while let Ok(room) = self.outbound.try_reserve()
            && let Some(digests) = agent.parts.tables.question()
        {
            // Of an earlier stream, whose handles this one does not know.
            if digests.epoch == self.welcome.epoch {
                room.send(say(Said::Kv(digests.into())));
            }
        }
    }
}

/// Hands what is told of blocks to the tables thread. While that has no room nothing more is read from the stream, which
/// the control plane then sees as a slow one.
async fn blocks(agent: &Context, update: KvUpdate) -> Result<(), End> {
    let mut update = match Update::try_from(update) {
        Ok(update) => Box::new(update),
        Err(why) => {
            // What it said is missing now: the next message shows that, and what differs is sent again.
            agent.parts.status.kv_refused();
            tracing::warn!(%why, "a message of the KV lane is refused");
            return Ok(());
        }
    };
    let begun = Instant::now();
    while let Err(back) = agent.parts.tables.kv(update) {
        if begun.elapsed() > ANSWER {
            return Err(End(format!("the tables took no message of the KV lane for {ANSWER:?}")));
        }
        update = back;
        tokio::time::sleep(ROOM).await;
    }
    Ok(())
}

/// A connection, and what proves who we are where that is asked for.
async fn connect(config: &ControlPlane) -> Result<(Channel, Option<MetadataValue<Ascii>>), String> {
    let address = &config.address;
    let endpoint = |scheme: &str| Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|e| causes(&e));
    let (endpoint, authorization) = match &config.transport {
        Transport::Plain => (endpoint("http")?, None),
        Transport::Tls(tls) => {
            let Credentials { tls, authorization } = Credentials::read(tls)?;
            (endpoint("https")?.tls_config(tls).map_err(|e| causes(&e))?, Some(authorization))
        }
    };
    let endpoint = endpoint
        .connect_timeout(OPEN)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true);
    let channel = endpoint.connect().await.map_err(|error| advised(causes(&error), &config.transport))?;
    Ok((channel, authorization))
}

/// Where the control plane's certificate is not believed, what to look at.
fn advised(why: String, transport: &Transport) -> String {
    match transport {
        Transport::Tls(Tls { ca_file, server_name, .. }) if why.contains("invalid peer certificate") => {
            let bundle = ca_file.display();
            format!("{why}: look whether it is for {server_name}, and whether {bundle} is the bundle of its CA")
        }
        _ => why,
    }
}

fn subscription(agent: &Context) -> Subscribe {
    let (config, held) = (&agent.parts.config, agent.parts.held.borrow());
    let version = held.version();
    Subscribe {
        node: config.node.clone(),
        zone: agent.zone(),
        namespace: config.namespace.clone(),
        content_hash: if version.is_some() { held.content_hash } else { 0 },
        held: version,
        resource_versions: held.snapshot.seen.wire(),
        load: true,
        kv: true,
        kv_models: Vec::new(),
        instance: agent.parts.instance,
        version: crate::VERSION.to_owned(),
    }
}

fn say(message: Said) -> FromDataPlane {
    FromDataPlane { message: Some(message) }
}

fn sentence(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message())
}

/// An error with what is behind it: "transport error" alone helps nobody.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
