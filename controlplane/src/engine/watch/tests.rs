use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{IpAddr, TcpStream};
use std::sync::Mutex;

use api::id::EndpointKey;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch::channel;
use tokio::time::timeout;

use super::*;
use crate::engine::targets::Member;
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
    let (begun, loads) = (watch.due, Loads::new(1));
    let unready = Facts { unready: Unready::All, ..Facts::default() };
    watch.hear(Answer { facts: Some(unready.clone()), ..Answer::default() }, &place, &loads, begun);
    watch.fail(&AskError::Late, &place, begun + PERIOD);
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
        Watch { facts: Some((Arc::new(facts), Instant::now())), ..Watch::new(Target { members, ..Target::default() }) }
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

#[test]
fn who_answers_is_asked_first_and_of_the_silent_those_that_have_waited_longest() {
    let now = Instant::now();
    let watch = |failures, due| Watch { failures, due, ..Watch::new(Target::default()) };
    // The higher their number, the longer they have waited; every hundredth answers.
    let all = (0..1_000_u16).map(|n| {
        let failures = u32::from(n % 100 > 0);
        (place(n), watch(failures, now - Duration::from_millis(n.into())))
    });
    let mut watched: Watched = all.collect();
    watched.insert(place(5_000), watch(1, now + PERIOD));
    let asked: Vec<u16> = due(&watched, now).iter().map(|(place, _)| place.address.port()).collect();
    let (answer, silent) = asked.split_at(10);
    assert!(answer.iter().all(|n| n % 100 == 0), "{answer:?}");
    let longest: BTreeSet<u16> = (0..1_000).rev().filter(|n| n % 100 > 0).take(AT_ONCE).collect();
    assert_eq!(silent.iter().copied().collect::<BTreeSet<u16>>(), longest);
}

/// Engines that take connections and say nothing.
#[derive(Debug, Default)]
struct Silent {
    held: Vec<TcpStream>,
    asked: usize,
    /// Most that were open at one time: who gives up has closed before the next one is asked.
    most: usize,
}

impl Silent {
    fn take(&mut self, stream: TcpStream) {
        self.held.retain_mut(|held| {
            loop {
                match held.read(&mut [0; 1_024]) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        });
        self.held.push(stream);
        self.asked += 1;
        self.most = self.most.max(self.held.len());
    }
}

/// Listeners at all of these addresses, on one port.
async fn listen(ips: &[IpAddr]) -> Vec<TcpListener> {
    loop {
        let first = TcpListener::bind((ips[0], 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let mut all = vec![first];
        for ip in &ips[1..] {
            all.extend(TcpListener::bind((*ip, port)).await);
        }
        // Somebody may have that port at one of them.
        if all.len() == ips.len() {
            return all;
        }
    }
}

async fn be_silent(listener: TcpListener, silent: Arc<Mutex<Silent>>) {
    loop {
        let stream = listener.accept().await.unwrap().0.into_std().unwrap();
        silent.lock().unwrap().take(stream);
    }
}

/// Tells of each time that it was asked for its metrics.
async fn answer(listener: TcpListener, asked: mpsc::UnboundedSender<Instant>) {
    let text = include_str!("../../../tests/recorded/vllm-0.32.0.prom");
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1_024];
        let n = stream.read(&mut head).await.unwrap();
        if head[..n].starts_with(b"GET /metrics ") {
            asked.send(Instant::now()).unwrap();
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
        // It may have given up.
        let _ = stream.write_all((head + text).as_bytes()).await;
    }
}

/// Each engine is asked in two places.
const SILENT: u8 = 160;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_many_engines_hang_64_are_asked_at_once_and_one_that_answers_does_not_wait_for_them() {
    let ips: Vec<IpAddr> = (1..=SILENT + 1).map(|n| [127, 9, 1, n].into()).collect();
    let mut listeners = listen(&ips).await;
    let port = listeners[0].local_addr().unwrap().port();
    let (tell, mut asked) = mpsc::unbounded_channel();
    // The last one by its address, and so in the first sweep.
    tokio::spawn(answer(listeners.pop().unwrap(), tell));
    let silent = Arc::<Mutex<Silent>>::default();
    listeners.into_iter().for_each(|listener| drop(tokio::spawn(be_silent(listener, silent.clone()))));
    let spec = json!({
        "inferenceEngine": "vLLM", "workloadSelector": {"matchLabels": {"app": "x"}}, "workloadPort": {"port": port},
    });
    let round = Arc::new(round(&[("s".to_owned(), spec)], &ips));
    let ((rounds, built), (_shard, shard), engines) =
        (channel(Some(round)), channel(Shard::alone()), channel(Engines::default()).0);
    let told =
        Told { loads: Arc::new(Loads::new(1)), engines, first: oneshot::channel().0, asked: channel(Vec::new()).0 };
    let watching = tokio::spawn(watch(built, shard, told, PERIOD));
    let mut next = async || timeout(Duration::from_secs(30), asked.recv()).await.expect("it is asked").unwrap();
    let first = next().await;
    let mut last = first;
    for _ in 0..3 {
        last = next().await;
    }
    // A sweep of all that hang would take five seconds.
    assert!(last - first < Duration::from_secs(9), "three times more in {:?}", last - first);
    drop(rounds);
    timeout(Duration::from_secs(30), watching).await.expect("it ends with the builds").unwrap();
    let silent = silent.lock().unwrap();
    println!(
        "{} questions to those that hang, {} at once at most, asked again after {:?}",
        silent.asked,
        silent.most,
        last - first
    );
    assert!(silent.asked > 2 * usize::from(SILENT), "{}", silent.asked);
    assert!((AT_ONCE / 2..=AT_ONCE).contains(&silent.most), "{} at once", silent.most);
}

/// It is asked for what it has each time, and for the rest ever less often.
#[test]
fn a_torchserve_whose_management_is_silent_is_asked_for_its_metrics_alone_for_a_while() {
    let place = Place { engine: Engine::Torchserve, topic: Topic::Models, ..place(1) };
    let (loads, now) = (Loads::new(1), Instant::now());
    let mut watched = Watched::from([(place.clone(), Watch::new(Target::default()))]);
    let spares = |watched: &Watched, at| due(watched, at).iter().map(|(_, ask)| ask.spare).collect::<Vec<_>>();
    assert_eq!(spares(&watched, now + PERIOD), [false]);
    let silent = Answer { fault: Some(AskError::Late), ..Answer::default() };
    watched.get_mut(&place).unwrap().hear(silent, &place, &loads, now);
    assert_eq!((spares(&watched, now), spares(&watched, now + PERIOD)), (vec![true], vec![false]));
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
