//! One list, of a server whose storage is restored, and of connections that are cut, on a paused clock.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::{fmt, io};

use prometheus::Registry;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::api_server::testing::{Server, Weather, Write};
use crate::chance::testing::{Rng, fix};

const SECOND: Duration = Duration::from_secs(1);
/// An older list is believed after a minute, and in between it is asked for every 10 s at most.
const BELIEVED: Duration = Duration::from_secs(75);
/// After a watch that was quiet was given up.
const AFTER_SILENCE: Duration = Duration::from_secs(91);

/// Names, and the versions in which they were written.
type Held = BTreeMap<String, String>;

/// The pods as they are known.
struct Known {
    held: watch::Sender<Held>,
    is_optional: bool,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pods")
    }
}

impl List for Known {
    type Entry = (String, String);

    fn kind(&self) -> &'static str {
        "Pod"
    }

    fn path(&self) -> String {
        "/api/v1/pods".to_owned()
    }

    fn params(&self) -> ListParams {
        ListParams::default()
    }

    fn is_optional(&self) -> bool {
        self.is_optional
    }

    fn remedy(&self, _: u16) -> &'static str {
        ""
    }

    fn entry(&self, value: Value) -> Option<Self::Entry> {
        Some((text(&value["metadata"]["name"]), text(&value["spec"]["written"])))
    }

    async fn tell(&mut self, news: News<Self::Entry>) -> Result<(), Over> {
        match news {
            News::Listed(all, _) => drop(self.held.send_replace(all.into_iter().collect())),
            News::Put(Some((name, written)), _) => self.held.send_modify(|held| drop(held.insert(name, written))),
            News::Gone(last, _) => self.held.send_modify(|held| drop(held.remove(&text(&last["metadata"]["name"])))),
            News::Put(None, _) | News::Nothing(_) | News::Failed(_) | News::Denied => {}
        }
        if self.held.is_closed() { Err(Over) } else { Ok(()) }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A follower in front of such a server, which holds some pods.
struct Site {
    server: Server,
    held: watch::Receiver<Held>,
    following: JoinHandle<()>,
}

impl Site {
    async fn start() -> Self {
        Self::of(false).await
    }

    async fn of(is_optional: bool) -> Self {
        fix(7);
        let server = Server::new(Rng::new(7));
        let (known, held) = watch::channel(Held::new());
        let known = Known { held: known, is_optional };
        let counts = Arc::new(Watches::new(&Registry::new()));
        let following = tokio::spawn(Follower::new(server.client(), known, counts).run());
        let site = Self { server, held, following };
        (0..20).for_each(|n| site.pod(n % 5));
        site.knows_all(SECOND).await;
        site
    }

    fn pod(&self, n: u64) {
        let (name, written) = (format!("p{n}"), (self.server.revision() + 1).to_string());
        let object = json!({"metadata": {"name": name}, "spec": {"written": written}});
        self.server.write(Write { plural: "pods", name, object: Some(object.into()) });
    }

    /// How long it took until what is held is what the server has.
    #[track_caller]
    fn knows_all(&self, within: Duration) -> impl Future<Output = Duration> {
        let (caller, begin, mut held) = (std::panic::Location::caller(), Instant::now(), self.held.clone());
        let all = self.server.objects("pods", self.server.revision());
        let all: Held = all.iter().map(|(name, pod)| (name.clone(), text(&pod["spec"]["written"]))).collect();
        async move {
            let known = timeout(within, held.wait_for(|held| *held == all)).await;
            assert!(known.is_ok(), "{caller}: within {within:?} it does not hold {all:?}");
            begin.elapsed()
        }
    }

    fn asked(&self) -> Vec<Instant> {
        self.server.asked("pods")
    }
}

#[tokio::test(start_paused = true)]
async fn c03_a_storage_that_was_restored_is_taken_once_it_is_clear_that_it_was() {
    let site = Site::start().await;
    site.server.set(Weather::Away);
    sleep(SECOND * 30).await;
    site.server.restore(12);
    site.pod(7);
    site.server.set(Weather::Fair);
    let took = site.knows_all(BELIEVED).await;
    assert!(took > SECOND * 45, "a glance into the past is not believed: {took:?}");
    // Now it is followed from there.
    site.pod(8);
    site.knows_all(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn c03_a_storage_that_has_come_as_far_as_it_was_is_told_by_nothing_and_is_followed_from_there() {
    let site = Site::start().await;
    site.server.set(Weather::Away);
    sleep(SECOND).await;
    site.server.restore(12);
    (0..8).for_each(|_| site.pod(6));
    assert_eq!(site.server.revision(), 20);
    site.server.set(Weather::Fair);
    sleep(SECOND * 20).await;
    site.pod(9);
    let mut held = site.held.clone();
    timeout(SECOND, held.wait_for(|held| held.contains_key("p9"))).await.expect("it goes on").unwrap();
    assert!(!held.borrow().contains_key("p6"), "controlplane/README.md says so");
}

#[tokio::test(start_paused = true)]
async fn c03_a_storage_that_is_restored_without_a_connection_that_breaks_is_noticed_by_the_silence() {
    let site = Site::start().await;
    site.server.restore(12);
    site.pod(7);
    let took = site.knows_all(DOUBT + AFTER_SILENCE + BELIEVED).await;
    assert!(took > DOUBT, "until then nothing is odd: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn c03_a_bookmark_that_goes_back_is_a_storage_that_was_restored() {
    let site = Site::start().await;
    site.server.send_past_bookmarks();
    site.server.restore(12);
    site.pod(7);
    let took = site.knows_all(SECOND * 60 + BELIEVED).await;
    assert!(took > SECOND * 45, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn c02_a_connection_that_is_cut_without_a_word_is_given_up() {
    let site = Site::start().await;
    site.server.cut();
    site.pod(7);
    let took = site.knows_all(AFTER_SILENCE).await;
    assert!(took > SECOND * 30, "it was cut: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn c16_a_quiet_list_is_asked_for_seldom() {
    let site = Site::start().await;
    let before = site.asked().len();
    sleep(SECOND * 3_600).await;
    let asked = site.asked().len() - before;
    println!("{asked} requests in an hour");
    assert!((1..=80).contains(&asked), "{asked} requests in an hour");
    assert!(!site.following.is_finished());
}

#[tokio::test(start_paused = true)]
async fn c16_watches_of_a_busy_list_last_for_five_to_ten_minutes_and_differ() {
    let site = Site::start().await;
    // The last of these is a watch.
    let begun = site.asked().len() - 1;
    for n in 0..1_000 {
        site.pod(n % 5);
        sleep(SECOND * 10).await;
    }
    let lasted: Vec<Duration> = site.asked()[begun..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (least, most) = (*lasted.iter().min().unwrap(), *lasted.iter().max().unwrap());
    println!("{} watches of {least:?} to {most:?}", lasted.len());
    assert!(least >= SECOND * 300 && most <= SECOND * 610 && most - least > SECOND * 60, "{least:?} to {most:?}");
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn count(&self) -> usize {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap().lines().count()
    }
}

#[tokio::test(start_paused = true)]
async fn why_a_list_cannot_be_read_is_logged_once_and_again_where_it_is_another_reason() {
    for is_optional in [false, true] {
        let (lines, site) = (Lines::default(), Site::of(is_optional).await);
        let out = lines.clone();
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(move || out.clone());
        let _log = tracing::subscriber::set_default(log.finish());
        for (weather, expected) in
            [(Weather::Refuses(403, None), 1), (Weather::Refuses(500, None), 2), (Weather::Fair, 2)]
        {
            site.server.set(weather);
            sleep(SECOND * 3_600).await;
            assert_eq!(lines.count(), expected, "{weather:?}");
        }
        site.server.set(Weather::Refuses(500, None));
        sleep(SECOND * 3_600).await;
        assert_eq!(lines.count(), 3, "it was well in between");
    }
}
