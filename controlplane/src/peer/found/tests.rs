//! What the slices say; and how they are followed, by the API server of the source's tests, on a paused clock.

use prometheus::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;
use crate::api_server::testing::{Server, Weather, Write};
use crate::chance::testing::{Rng, fix};

fn place() -> Place {
    Place { namespace: "n".into(), service: "s".into(), me: "b".into(), port: 15010 }
}

fn slice(family: &str, endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({"metadata": {}, "addressType": family, "endpoints": endpoints})).unwrap()
}

fn pod(uid: &str, ip: &str, ready: bool) -> Value {
    json!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": "x", "uid": uid}})
}

fn found(slices: &[EndpointSlice]) -> String {
    let Members { me, all } = members(slices, &place());
    let all: Vec<_> = all.iter().map(|member| format!("{}={}", member.name, member.address)).collect();
    format!("{me}: {}", all.join(" "))
}

#[test]
fn pods_of_the_service_are_the_replicas_ready_or_not() {
    let v6 = slice("IPv6", json!([pod("a", "fd00::1", true), pod("c", "fd00::3", true)]));
    let v4 = slice("IPv4", json!([pod("b", "10.0.0.2", false), pod("a", "10.0.0.1", true)]));
    assert_eq!(found(&[v6, v4]), "b: a=10.0.0.1:15010 b=10.0.0.2:15010 c=[fd00::3]:15010");
    assert_eq!(found(&[]), "b: ");
}

#[test]
fn what_is_no_pod_is_no_replica() {
    let odd = json!([{"addresses": ["10.0.0.1"]}, pod("a", "not.an.address", true), {"addresses": []},
                     {"addresses": ["10.0.0.9"], "targetRef": {"kind": "Node", "uid": "n"}}]);
    assert_eq!(found(&[slice("IPv4", odd)]), "b: ");
}

#[test]
fn there_are_not_more_than_that() {
    let many: Vec<Value> = (0..100).map(|i| pod(&format!("p{i}"), "10.0.0.1", true)).collect();
    assert_eq!(members(&[slice("IPv4", json!(many))], &place()).all.len(), MOST + 1);
}

const SECOND: Duration = Duration::from_secs(1);
/// After the longest pause of a follower, and the longest that the server asks for here.
const SOON: Duration = Duration::from_secs(30);

/// A replica that follows the list, in front of such a server.
struct Site {
    server: Server,
    registry: Registry,
    known: watch::Receiver<Members>,
    following: JoinHandle<()>,
}

impl Site {
    /// Two replicas are known.
    async fn start() -> Self {
        fix(7);
        let (server, registry) = (Server::new(Rng::new(7)), Registry::new());
        let (told, known) = watch::channel(Members { me: "b".into(), all: Vec::new() });
        let counts = Arc::new(Watches::new(&registry));
        let following = tokio::spawn(follow(server.client(), place(), counts, told));
        let mut site = Self { server, registry, known, following };
        site.write("one", &["a", "b"]);
        site.knows("a b", SECOND).await;
        site
    }

    fn write(&self, name: &str, pods: &[&str]) {
        let endpoints: Vec<Value> = pods.iter().map(|uid| pod(uid, "10.0.0.1", true)).collect();
        let object = json!({"metadata": {"name": name}, "addressType": "IPv4", "endpoints": endpoints});
        self.server.write(Write { plural: "endpointslices", name: name.to_owned(), object: Some(object.into()) });
    }

    /// How long it took until these are known.
    #[track_caller]
    fn knows(&mut self, names: &str, within: Duration) -> impl Future<Output = Duration> {
        let (caller, begin, mut known) = (std::panic::Location::caller(), Instant::now(), self.known.clone());
        let names = names.to_owned();
        async move {
            let same = |members: &Members| {
                let all: Vec<&str> = members.all.iter().map(|member| &*member.name).collect();
                all.join(" ") == names
            };
            let found = timeout(within, known.wait_for(same)).await.map(|found| drop(found.expect("it follows on")));
            assert!(found.is_ok(), "{caller}: {names} are not known within {within:?}");
            begin.elapsed()
        }
    }

    /// In this weather for ten minutes: what was known stays, and what has changed is known soon afterwards. The times between requests.
    async fn weathers(&mut self, weather: Weather) -> Vec<Duration> {
        // Else what is watched would run on as it began.
        self.server.set(Weather::Away);
        sleep(Duration::from_millis(10)).await;
        let begin = Instant::now();
        self.server.set(weather);
        sleep(SECOND * 600).await;
        assert_eq!(self.known.borrow().all.len(), 2, "{weather:?}");
        assert!(!self.following.is_finished(), "{weather:?}");
        let asked: Vec<_> = self.server.asked("endpointslices").into_iter().filter(|at| *at >= begin).collect();
        self.write("one", &["b", "c"]);
        self.server.compact();
        self.server.set(Weather::Fair);
        self.knows("b c", SOON).await;
        asked.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    fn failing(&self) -> bool {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        text.contains("kthena_controlplane_watches_failing{kind=\"EndpointSlice\"} 1")
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_known_at_once_without_another_list_and_a_slice_that_is_gone_is_gone() {
    let mut site = Site::start().await;
    let asked = site.server.asked("endpointslices").len();
    site.write("two", &["c"]);
    let took = site.knows("a b c", SECOND).await;
    assert!(took <= QUIET + Duration::from_millis(10), "{took:?}");
    site.server.write(Write { plural: "endpointslices", name: "one".to_owned(), object: None });
    site.knows("c", SECOND).await;
    assert_eq!(site.server.asked("endpointslices").len(), asked);
}

#[tokio::test(start_paused = true)]
async fn c16_watches_that_end_at_once_are_begun_in_ever_longer_pauses() {
    let pauses = Site::start().await.weathers(Weather::Brief).await;
    assert!((60..=160).contains(&pauses.len()), "{} requests in ten minutes", pauses.len());
    // Every five minutes the server is asked how far it is, and then at once for the watch.
    let at_once = pauses[6..].iter().filter(|pause| **pause < SECOND * 5).count();
    assert!(at_once <= 2, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn c01_an_api_server_that_is_away_is_asked_in_ever_longer_pauses() {
    let mut site = Site::start().await;
    let failing = site.failing();
    let pauses = site.weathers(Weather::Away).await;
    assert!((60..=160).contains(&pauses.len()), "{} requests in ten minutes", pauses.len());
    assert!(!failing && !site.failing());
    site.server.set(Weather::Away);
    sleep(SECOND * 10).await;
    assert!(site.failing());
}

#[tokio::test(start_paused = true)]
async fn c16_who_may_not_read_them_knows_whom_it_knew_and_asks_seldom() {
    for code in [401, 403, 410, 500] {
        let pauses = Site::start().await.weathers(Weather::Refuses(code, None)).await;
        assert!((30..=160).contains(&pauses.len()), "{code}: {} requests in ten minutes", pauses.len());
    }
}

#[tokio::test(start_paused = true)]
async fn c17_a_server_that_asks_to_be_left_alone_is_left_alone() {
    let pauses = Site::start().await.weathers(Weather::Refuses(429, Some(10))).await;
    assert!(pauses.len() >= 20 && pauses[1..].iter().all(|pause| *pause >= SECOND * 10), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn c02_gusts_do_not_make_it_spin() {
    for gusts in [20, 60, 400] {
        let pauses = Site::start().await.weathers(Weather::Gusty(gusts)).await;
        assert!(pauses.len() <= 600, "{gusts}: {} requests in ten minutes", pauses.len());
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_wants_it() {
    let Site { known, following, .. } = Site::start().await;
    drop(known);
    timeout(SECOND, following).await.expect("it ends").unwrap();
}
