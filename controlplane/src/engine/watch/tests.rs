use std::net::IpAddr;
use std::sync::Mutex;

use api::id::EndpointKey;
use api::snapshot::Engine;
use serde_json::json;
use tokio::sync::watch::channel;
use tokio::time::{sleep, timeout};

use super::*;
use crate::engine::question::{Answer, AskError};
use crate::engine::targets::{Member, Topic};
use crate::engine::tests::round;
use crate::world::Unready;

#[test]
fn a_silent_place_is_asked_less_and_less_often() {
    let pauses: Vec<u64> = (0..6).map(|failures| pause(failures).as_secs()).collect();
    assert_eq!((pauses, pause(u32::MAX)), (vec![0, 1, 3, 7, 8, 8], LONGEST_PAUSE));
}

#[test]
fn facts_outlive_failures_for_a_while_and_no_longer() {
    let place =
        Place { address: ([127, 0, 0, 1], 8000).into(), topic: Topic::Models, engine: Engine::Triton, path: "".into() };
    let key = EndpointKey { uid: "u".into(), port: 8000, rank: 0 };
    let members = vec![Member { key: key.clone(), handle: None }];
    let mut watch = Watch::new(Target { members, ..Target::default() });
    let (begun, loads) = (Instant::now(), Loads::new(1));
    let unready = Facts { unready: Unready::All, ..Facts::default() };
    watch.hear(Answer { facts: Some(unready.clone()), ..Answer::default() }, &place, &loads, begun);
    watch.fail(&AskError::Late, &place);
    let watched = Watched::from([(place, watch)]);
    let said = |after: Duration| facts(&watched, begun + after).of(&key).map(|facts| Facts::clone(facts));
    assert_eq!(said(FACTS_KEPT - PERIOD), Some(unready));
    assert_eq!(said(FACTS_KEPT), None);
}

#[test]
fn what_an_engine_says_at_several_places_is_put_together() {
    let key = |n: u16| EndpointKey { uid: "u".into(), port: n, rank: 0 };
    let watch = |n, facts| {
        let members = vec![Member { key: key(n), handle: None }];
        let mut watch = Watch::new(Target { members, ..Target::default() });
        watch.facts = Some((Arc::new(facts), Instant::now()));
        watch
    };
    let sized = Facts { cache_tokens: Some(2_560), ..Facts::default() };
    let loaded = Facts { adapters: Some(vec!["sql".into()]), unready: Unready::All, cache_tokens: None };
    let mut watched = Watched::new();
    watched.insert(place(1), watch(1, sized.clone()));
    watched.insert(Place { topic: Topic::Models, ..place(1) }, watch(1, loaded.clone()));
    watched.insert(place(2), watch(2, sized.clone()));
    let all = facts(&watched, Instant::now());
    assert_eq!(**all.of(&key(1)).unwrap(), Facts { cache_tokens: Some(2_560), ..loaded });
    assert_eq!(**all.of(&key(2)).unwrap(), sized);
}

fn place(n: u16) -> Place {
    Place { address: ([127, 0, 0, 1], n).into(), topic: Topic::Metrics, engine: Engine::Vllm, path: "/metrics".into() }
}

/// Engines of one port, at these addresses.
fn engines(ips: &[IpAddr]) -> Arc<Round> {
    let spec = json!({
        "inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "x"}}, "workloadPort": {"port": 8000},
    });
    Arc::new(round(&[("s".to_owned(), spec)], ips))
}

/// When each engine was asked for its metrics, and how many places were asked at one time.
#[derive(Debug, Default)]
struct Log {
    asked: BTreeMap<IpAddr, Vec<Duration>>,
    now: usize,
    most: usize,
}

/// Asks for this long engines that answer after a time, or never where there is none, on the test's clock.
async fn ask_all(engines_of: &[(IpAddr, Option<Duration>)], time: Duration) -> Log {
    let (log, begin) = (Arc::<Mutex<Log>>::default(), tokio::time::Instant::now());
    let takes: BTreeMap<IpAddr, Option<Duration>> = engines_of.iter().copied().collect();
    let ips: Vec<IpAddr> = takes.keys().copied().collect();
    let noted = log.clone();
    let asks = move |place: Place, _| -> lanes::Asking {
        let (takes, log) = (takes[&place.address.ip()], noted.clone());
        let mut noted = log.lock().unwrap();
        if place.topic == Topic::Metrics {
            noted.asked.entry(place.address.ip()).or_default().push(begin.elapsed());
        }
        noted.now += 1;
        noted.most = noted.most.max(noted.now);
        drop(noted);
        let asking = Underway(log);
        Box::pin(async move {
            let _asking = asking;
            sleep(takes.unwrap_or(TIME).min(TIME)).await;
            takes.map(|_| Answer::default()).ok_or(AskError::Late)
        })
    };
    let ((rounds, built), (_shard, shard)) = (channel(Some(engines(&ips))), channel(Shard::alone()));
    let told = Told {
        loads: Arc::new(Loads::new(1)),
        engines: channel(Engines::default()).0,
        first: oneshot::channel().0,
        asked: channel(Vec::new()).0,
    };
    let watching = tokio::spawn(watch_by(Arc::new(asks), built, shard, told, PERIOD));
    sleep(time).await;
    drop(rounds);
    timeout(PERIOD * 2, watching).await.expect("it ends with the builds").unwrap();
    std::mem::take(&mut *log.lock().unwrap())
}

struct Underway(Arc<Mutex<Log>>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.lock().unwrap().now -= 1;
    }
}

/// So many addresses, none of which is of another group.
fn addresses(group: u8, many: u16) -> impl Iterator<Item = IpAddr> {
    (0..many).map(move |n| [10, group, (n / 250) as u8, (n % 250) as u8].into())
}

/// The longest time without a question, from the start to the end, of those that answer at once beside so many others; what these do;
/// and in the order of addresses the others are first.
async fn longest_gap(others: u16, takes: Option<Duration>) -> (Duration, Log) {
    let (time, well) = (Duration::from_secs(40), Duration::from_millis(2));
    let others = addresses(1, others).map(|ip| (ip, takes));
    let all: Vec<_> = others.chain(addresses(2, 100).map(|ip| (ip, Some(well)))).collect();
    let log = ask_all(&all, time).await;
    let gaps = addresses(2, 100).map(|ip| {
        let at = &log.asked[&ip];
        let mut ends = vec![Duration::ZERO];
        ends.extend(at);
        ends.push(time);
        ends.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap()
    });
    (gaps.max().unwrap(), log)
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_is_asked_each_second_from_the_start_however_many_others_hang_or_are_slow() {
    let ms = Duration::from_millis;
    // Each engine is asked in two places.
    for (others, takes, expected) in
        [(320, None, 2_200), (960, None, 4_300), (320, Some(ms(900)), 2_200), (960, Some(ms(900)), 4_300)]
    {
        let (gap, log) = longest_gap(others, takes).await;
        println!("{others} that take {takes:?}: {gap:?} at most, {} at once at most", log.most);
        assert!(gap <= ms(expected), "{others} that take {takes:?}: {gap:?}");
        assert!((lanes::AT_ONCE..=2 * lanes::AT_ONCE).contains(&log.most), "{} at once", log.most);
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_are_slow_or_silent_have_their_turn_one_after_another() {
    for takes in [None, Some(Duration::from_millis(900))] {
        let (_, log) = longest_gap(320, takes).await;
        let asked: Vec<usize> = addresses(1, 320).map(|ip| log.asked.get(&ip).map_or(0, Vec::len)).collect();
        let (least, most) = (asked.iter().min().unwrap(), asked.iter().max().unwrap());
        println!("those that take {takes:?} were asked {least} to {most} times");
        assert!(*least >= 3 && *most <= least + 2, "{takes:?}: {least} to {most} times");
    }
}

/// One whose address another pod has now.
#[test]
fn what_one_pod_said_is_not_told_of_the_next_one_at_its_address() {
    let key = |uid: &str| EndpointKey { uid: uid.into(), port: 8000, rank: 0 };
    let targets = |uid: &str| {
        let members = vec![Member { key: key(uid), handle: None }];
        BTreeMap::from([(place(1), Target { members, ..Target::default() })])
    };
    let (engines, known) = channel(Engines::default());
    let told =
        Told { loads: Arc::new(Loads::new(1)), engines, first: oneshot::channel().0, asked: channel(Vec::new()).0 };
    let never: Asks = Arc::new(|_, _| Box::pin(std::future::pending()));
    let (mut watching, (out, _pushes)) = (Watching::new(Lanes::new(never), told), mpsc::channel(1));
    watching.follow(targets("a"), &out);
    let unready = || Facts { unready: Unready::All, ..Facts::default() };
    let hear = |watching: &mut Watching, number| {
        let answer = Answer { facts: Some(unready()), ..Answer::default() };
        watching.land(Heard { place: place(1), number, began: now(), said: Some(Ok(answer)) }, PERIOD);
        watching.tell();
    };
    let ask = |watching: &mut Watching, number| watching.watched.get_mut(&place(1)).unwrap().asked(number);
    ask(&mut watching, 1);
    hear(&mut watching, 1);
    assert_eq!(known.borrow().of(&key("a")).map(|facts| Facts::clone(facts)), Some(unready()));
    // Another build, of the same pod.
    watching.follow(targets("a"), &out);
    watching.tell();
    assert!(known.borrow().of(&key("a")).is_some());
    ask(&mut watching, 2);
    watching.follow(targets("b"), &out);
    watching.tell();
    assert_eq!(known.borrow().of(&key("b")), None, "nobody asked it");
    hear(&mut watching, 2);
    assert_eq!(known.borrow().of(&key("b")), None, "it was another one that was asked this");
    ask(&mut watching, 3);
    hear(&mut watching, 3);
    assert!(known.borrow().of(&key("b")).is_some());
}

/// It is asked for what it has each time, and for the rest ever less often.
#[test]
fn a_torchserve_whose_management_is_silent_is_asked_for_its_metrics_alone_for_a_while() {
    let place = Place { engine: Engine::Torchserve, topic: Topic::Models, ..place(1) };
    let (loads, now) = (Loads::new(1), Instant::now());
    let mut watched = Watched::from([(place.clone(), Watch::new(Target::default()))]);
    let is_spared = |watched: &Watched, at| watched[&place].question(at).spare;
    assert!(!is_spared(&watched, now + PERIOD));
    let silent = Answer { fault: Some(AskError::Late), ..Answer::default() };
    watched.get_mut(&place).unwrap().hear(silent, &place, &loads, now);
    assert_eq!((is_spared(&watched, now), is_spared(&watched, now + PERIOD)), (true, false));
}

#[test]
fn what_is_wrong_with_an_engine_is_shown_until_it_is_well() {
    let place = Place { engine: Engine::Torchserve, topic: Topic::Models, ..place(1) };
    let (loads, now) = (Loads::new(1), Instant::now());
    let mut watched = Watched::from([(place.clone(), Watch::new(Target::default()))]);
    let mut shown = |fault| {
        watched.get_mut(&place).unwrap().hear(Answer { fault, ..Answer::default() }, &place, &loads, now);
        board::asked(&watched).remove(0).fault.map(|fault| fault.to_string())
    };
    let wants = shown(Some(AskError::Token(hyper::StatusCode::BAD_REQUEST))).unwrap();
    assert!(wants.contains("disable_token_authorization=true"), "{wants}");
    let late = Some(AskError::Late.to_string());
    assert_eq!((shown(Some(AskError::Late)), shown(Some(AskError::Spared)), shown(None)), (late.clone(), late, None));
}
