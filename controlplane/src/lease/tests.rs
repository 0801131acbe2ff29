//! Elections on a paused clock, over one lease that knows resourceVersions as an API server does.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use k8s_openapi::api::coordination::v1::Lease;
use tokio::sync::oneshot;
use tokio::time::advance;

use super::*;

/// The API server's side.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    lease: Option<Lease>,
    version: u64,
    /// Of whom the API server is out of reach.
    cut: Vec<String>,
    /// Who wrote, in order.
    writes: Vec<String>,
}

#[derive(Debug)]
struct Seen {
    shared: Shared,
    by: String,
}

impl Seen {
    fn world(&self) -> Result<std::sync::MutexGuard<'_, World>, StoreError> {
        let world = self.shared.0.lock().unwrap();
        let cut = world.cut.contains(&self.by);
        if cut { Err(StoreError::Other("out of reach".into())) } else { Ok(world) }
    }
}

impl Store for Seen {
    async fn read(&self) -> Result<Option<Lease>, StoreError> {
        Ok(self.world()?.lease.clone())
    }

    async fn write(&self, mut lease: Lease) -> Result<(), StoreError> {
        let mut world = self.world()?;
        let now = world.lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        if lease.metadata.resource_version != now {
            return Err(StoreError::Conflict);
        }
        world.version += 1;
        lease.metadata.resource_version = Some(world.version.to_string());
        world.lease = Some(lease);
        world.writes.push(self.by.clone());
        Ok(())
    }
}

/// A process: it runs only while it is polled, and so can be stopped.
struct Process {
    leadership: watch::Receiver<Leadership>,
    running: Pin<Box<dyn Future<Output = ()> + Send>>,
    stop: Option<oneshot::Sender<()>>,
    gauge: IntGauge,
}

impl Process {
    fn new(shared: &Shared, name: &str) -> Self {
        let store = Seen { shared: shared.clone(), by: name.to_owned() };
        let (stop, stopped) = oneshot::channel();
        let gauge = IntGauge::new("leader", "1").unwrap();
        let options = Options::new("ns", "lease", name);
        let stopped = async { drop(stopped.await) };
        let (leadership, running) = stand(store, options, gauge.clone(), stopped);
        Self { leadership, running: Box::pin(running), stop: Some(stop), gauge }
    }

    fn leads(&self) -> bool {
        self.leadership.borrow().term(Instant::now()).is_some()
    }

    fn poll(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        matches!(self.running.as_mut().poll(&mut context), Poll::Ready(()))
    }
}

/// Lets all of them run for a time, in steps of 100 ms; never two of them may lead.
async fn run(seconds: u64, processes: &mut [&mut Process]) {
    for _ in 0..seconds * 10 {
        for process in &mut *processes {
            process.poll();
        }
        assert!(processes.iter().filter(|process| process.leads()).count() < 2, "two leaders");
        advance(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_candidates_one_leads_for_as_long_as_it_renews() {
    let shared = Shared::default();
    let (mut a, mut b) = (Process::new(&shared, "a"), Process::new(&shared, "b"));
    run(1, &mut [&mut a, &mut b]).await;
    assert!(a.leads() && !b.leads());
    assert_eq!(*b.leadership.borrow(), Leadership::Follows { leader: Some("a".into()) });
    run(300, &mut [&mut a, &mut b]).await;
    assert_eq!(a.leadership.borrow().term(Instant::now()), Some(1));
    let writes = shared.0.lock().unwrap().writes.len();
    assert!((120..=195).contains(&writes) && a.gauge.get() == 1 && b.gauge.get() == 0, "{writes} writes");
}

#[tokio::test(start_paused = true)]
async fn c07_a_dead_leader_is_followed_by_another_within_twenty_seconds_and_not_within_fifteen() {
    let shared = Shared::default();
    let (mut a, mut b) = (Process::new(&shared, "a"), Process::new(&shared, "b"));
    run(30, &mut [&mut a, &mut b]).await;
    let renewed = Instant::now();
    drop(a);
    while !b.leads() {
        run(1, &mut [&mut b]).await;
    }
    let took = renewed.elapsed();
    assert!((Duration::from_secs(12)..=Duration::from_secs(20)).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn c07_a_leader_that_was_stopped_finds_its_time_over_before_it_is_told_anything() {
    let shared = Shared::default();
    let (mut a, mut b) = (Process::new(&shared, "a"), Process::new(&shared, "b"));
    run(5, &mut [&mut a, &mut b]).await;
    run(60, &mut [&mut b]).await;
    assert!(matches!(*a.leadership.borrow(), Leadership::Leads { .. }), "it has not run, so nothing was told");
    assert!(!a.leads() && b.leads());
    let before = shared.0.lock().unwrap().writes.len();
    a.poll();
    assert_eq!(shared.0.lock().unwrap().writes[before..], [] as [&str; 0]);
    run(30, &mut [&mut a, &mut b]).await;
    assert!(!a.leads() && b.leads());
}

#[tokio::test(start_paused = true)]
async fn c07_a_leader_that_is_cut_off_gives_up_before_another_can_take_over() {
    let shared = Shared::default();
    let (mut a, mut b) = (Process::new(&shared, "a"), Process::new(&shared, "b"));
    run(5, &mut [&mut a, &mut b]).await;
    shared.0.lock().unwrap().cut.push("a".into());
    let (mut given_up, mut taken) = (None, None);
    let start = Instant::now();
    while taken.is_none() {
        run(1, &mut [&mut a, &mut b]).await;
        given_up = given_up.or((!a.leads()).then(|| start.elapsed()));
        taken = taken.or(b.leads().then(|| start.elapsed()));
    }
    let between = taken.unwrap() - given_up.unwrap();
    // A write that was on its way when it gave up has ended.
    assert!(between >= Duration::from_secs(4), "{given_up:?} {taken:?}");
    shared.0.lock().unwrap().cut.clear();
    run(30, &mut [&mut a, &mut b]).await;
    assert!(!a.leads() && b.leads() && a.gauge.get() == 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_asked_to_stop_lets_go_and_the_next_look_of_another_takes_it() {
    let shared = Shared::default();
    let (mut a, mut b) = (Process::new(&shared, "a"), Process::new(&shared, "b"));
    run(5, &mut [&mut a, &mut b]).await;
    drop(a.stop.take());
    assert!(a.poll() && !a.leads(), "it has ended");
    let start = Instant::now();
    while !b.leads() {
        run(1, &mut [&mut b]).await;
    }
    assert!(start.elapsed() <= Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_stops_leaves_the_lease_alone() {
    let shared = Shared::default();
    let (mut a, mut b) = (Process::new(&shared, "a"), Process::new(&shared, "b"));
    run(5, &mut [&mut a, &mut b]).await;
    drop(b.stop.take());
    assert!(b.poll());
    assert!(!shared.0.lock().unwrap().writes.contains(&"b".to_owned()));
    run(5, &mut [&mut a]).await;
    assert!(a.leads());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deletes_is_made_again_and_begins_another_term() {
    let shared = Shared::default();
    let mut a = Process::new(&shared, "a");
    run(5, &mut [&mut a]).await;
    shared.0.lock().unwrap().lease = None;
    run(5, &mut [&mut a]).await;
    assert_eq!(a.leadership.borrow().term(Instant::now()), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_late_ends_and_the_next_look_comes() {
    struct Deaf;
    impl Store for Deaf {
        async fn read(&self) -> Result<Option<Lease>, StoreError> {
            std::future::pending().await
        }
        async fn write(&self, _: Lease) -> Result<(), StoreError> {
            std::future::pending().await
        }
    }
    let gauge = IntGauge::new("leader", "1").unwrap();
    let (leadership, running) = stand(Deaf, Options::new("ns", "lease", "a"), gauge, sleep(Duration::from_secs(60)));
    let start = Instant::now();
    pin!(running).await;
    assert_eq!(start.elapsed(), Duration::from_secs(60));
    assert_eq!(*leadership.borrow(), Leadership::Follows { leader: None });
}
