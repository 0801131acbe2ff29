//! The thread as others see it.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Release;

use dataplane_core::table::Table;

use super::*;
use crate::config::{Config, Source};
use crate::offload::Offload;
use crate::rt::Driver;
use crate::shared::Parts;

const PATIENCE: Duration = Duration::from_secs(20);

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Of a process without cores.
fn shared(registry: &mut LiveRegistry) -> Arc<Shared> {
    let parts = Parts {
        config: Config::loopback(Source::File(PathBuf::new())),
        driver: Driver::Epoll,
        table: Table::compile(&Snapshot::default(), registry),
        agent: None,
        cores: Box::default(),
        offload: Offload::start(1).unwrap().0,
    };
    Arc::new(Shared::new(parts))
}

/// The thread, while a test uses it.
fn with(test: impl FnOnce(&Tables)) {
    let mut registry = LiveRegistry::new();
    let shared = shared(&mut registry);
    let stop = Arc::new(AtomicBool::new(false));
    let (tables, _, thread) = Tables::start(shared, registry, stop.clone()).unwrap();
    test(&tables);
    stop.store(true, Release);
    tables.wake();
    thread.join().unwrap();
}

#[test]
fn who_waits_for_a_table_while_the_thread_ends_is_let_go() {
    let (tables, ends) = Tables::new(shared(&mut LiveRegistry::new()));
    let tables = Arc::new(tables);
    let installing = tables.clone();
    let installing = std::thread::spawn(move || installing.install(Arc::default()));
    until("it is asked for", || !ends.queue.is_empty());
    drop(ends);
    until("who asked goes on", || installing.is_finished());
}

type End = fn(&Tables);

#[test]
fn what_was_expected_is_not_held_beyond_the_stream_nor_the_update_that_was_to_bring_it() {
    let text =
        r#"{"backends": [{"name": "d/m", "endpoints": [{"handle": 1, "name": "e", "address": "127.0.0.1:1"}]}]}"#;
    let snapshot = api::json::snapshot_from_json(text.as_bytes()).unwrap();
    let endpoint = &snapshot.backends[0].endpoints[0];
    let ends: [(_, End); 3] = [
        ("the stream is gone", Tables::lost),
        ("another stream has taken over", |tables| tables.opened(1)),
        ("the update is broken off", Tables::expect_nothing),
    ];
    with(|tables| {
        for (what, end) in ends {
            // A hint may find no room.
            until("it is expected", || {
                tables.expect(vec![Expected { backend: "d/m".into(), endpoints: vec![endpoint.clone()] }]);
                Arc::strong_count(endpoint) > 1
            });
            end(tables);
            until(what, || Arc::strong_count(endpoint) == 1);
        }
    });
}
