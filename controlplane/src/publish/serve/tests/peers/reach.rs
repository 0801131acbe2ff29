//! What replicas know of each other's data planes.

use super::*;
use crate::peer::Part;
use crate::status::Standing;

fn server() -> Object {
    Object::Backend("default/s".into())
}

impl Replica {
    /// Another round, in which the server has this generation.
    fn edit(&self, version: u64, generation: i64) {
        let before = self.rounds.borrow().clone().unwrap();
        let (mut world, mut verdicts) = (before.world.clone(), before.verdicts.clone());
        world.servers.values_mut().for_each(|held| held.generation = generation);
        verdicts.servers.values_mut().for_each(|verdict| verdict.generation = generation);
        let mut snapshot = Snapshot::clone(&before.snapshot);
        (snapshot.version.version, snapshot.fleet_seed) = (version, version);
        let snapshot = Arc::new(snapshot);
        self.site.send(Snapshot::clone(&snapshot));
        self.rounds.send_replace(Some(Arc::new(Round { world, verdicts, snapshot })));
    }

    /// What it knows of the one other replica.
    fn other(&self) -> Option<Arc<Part>> {
        let others = self.others.borrow();
        assert!(others.parts.len() <= 1, "{others:?}");
        others.parts.first().cloned()
    }

    /// Waits until it knows so many data planes of the other one, which all have this round.
    #[track_caller]
    fn hears(&self, connected: usize, reached: Option<u64>) -> impl Future<Output = ()> {
        let (mut others, caller) = (self.others.clone(), std::panic::Location::caller());
        async move {
            let it_is = |others: &Arc<Others>| {
                others.parts.first().is_some_and(|part| (part.connected, part.reached) == (connected, reached))
            };
            let waited = timeout(Duration::from_secs(10), others.wait_for(it_is)).await.is_ok();
            assert!(waited, "{caller}: not {connected} with {reached:?} but {:?}", others.borrow());
        }
    }
}

async fn pair() -> (Replica, Replica) {
    let fleet = Fleet::of(1).await;
    let (a, b) = (Replica::start("a", &fleet.round, 0).await, Replica::start("b", &fleet.round, 100).await);
    a.knows(&[&b]);
    b.knows(&[&a]);
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hears_what_the_others_data_planes_have_in_force() {
    let (a, b) = pair().await;
    a.hears(0, None).await;
    b.hears(0, None).await;
    assert!(!a.others.borrow().unsure);
    let mut of_b = b.site.join().await;
    // There is one, which has nothing.
    a.hears(1, None).await;
    of_b.apply().await;
    a.hears(1, Some(0)).await;
    let standing = |since, generation| Standing { uid: "u".into(), generation, since };
    assert_eq!(a.other().unwrap().standings.get(&server()), Some(&standing(0, 1)));
    b.edit(7, 2);
    let known = || a.other().unwrap().standings.get(&server()) == Some(&standing(7, 2));
    until("a hears of the edit", || known() && a.other().unwrap().newest == 7).await;
    assert_eq!(a.other().unwrap().reached, Some(0), "it is not in force yet");
    of_b.apply().await;
    a.hears(1, Some(7)).await;
    // A second one, which gets a full state that is a little older first; then a refusal, and its end.
    let mut second = b.site.join().await;
    while second.held.version != of_b.held.version {
        second.apply().await;
    }
    a.hears(2, Some(7)).await;
    b.edit(8, 3);
    for plane in [&mut of_b, &mut second] {
        plane.refuse(&[(Kind::Backend, "default/s")]).await;
        plane.apply().await;
    }
    let by = || a.other().unwrap().refused.get(&server()).map_or(0, |refused| refused.by);
    until("a hears that both refuse it", || by() == 2).await;
    drop(second);
    a.hears(1, Some(8)).await;
    until("a hears that one of them is gone", || by() == 1).await;
    assert_eq!(b.other().unwrap().connected, 0, "nothing of it is told back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_said_that_dies_is_gone_and_it_is_waited_for_for_two_seconds() {
    let (a, b) = pair().await;
    let of_b = joined(&b).await;
    a.hears(1, Some(0)).await;
    until("a is sure", || !a.others.borrow().unsure).await;
    let begin = Instant::now();
    drop((of_b, b));
    until("a does not hear it", || a.other().is_none() && a.others.borrow().unsure).await;
    until("a does not wait for it", || !a.others.borrow().unsure).await;
    let took = begin.elapsed();
    println!("waited for {took:?}");
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_millis(4_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_listed_and_never_heard_is_waited_for_for_five_seconds() {
    let fleet = Fleet::of(1).await;
    let a = Replica::start("a", &fleet.round, 0).await;
    let begin = Instant::now();
    let silent = Member { name: "silent".into(), address: "127.0.0.1:1".parse().unwrap() };
    a.members.send_replace(Members { me: a.me.name.clone(), all: vec![a.me.clone(), silent] });
    until("a is not sure", || a.others.borrow().unsure).await;
    until("a does not wait for it", || !a.others.borrow().unsure).await;
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(4_900) && took < Duration::from_millis(7_500), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_an_older_release_that_says_nothing_of_it_holds_nothing_back() {
    let fleet = Fleet::of(1).await;
    let a = Replica::start("a", &fleet.round, 0).await;
    let older = Member { name: "older".into(), address: "127.0.0.1:1".parse().unwrap() };
    a.members.send_replace(Members { me: a.me.name.clone(), all: vec![a.me.clone(), older] });
    let channel = Channel::from_shared(format!("http://{}", a.me.address)).unwrap().connect().await.unwrap();
    let report = || PeerReport { epoch: 5, member: "older".into(), ..PeerReport::default() };
    let signs = futures_util::stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((report(), ()))
    });
    let _telling = tokio::spawn(async move { PeersClient::new(channel).tell(signs).await.map(|_| ()) });
    until("a hears it", || a.shard.borrow().members.len() == 2).await;
    until("a is sure", || !a.others.borrow().unsure).await;
    assert_eq!(a.other(), None);
}
