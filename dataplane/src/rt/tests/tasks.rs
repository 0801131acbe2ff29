//! Tasks, tokens and mailboxes.

use std::cell::Cell;
use std::rc::Rc;

use super::*;

#[test]
fn a_panic_ends_its_task_only() {
    on_each_driver(|| async {
        let before = panics();
        let done = Rc::new(Cell::new(false));
        let seen = done.clone();
        spawn(async { panic!("of the test") });
        spawn(async move {
            yield_now().await;
            seen.set(true);
        });
        assert_eq!(drained(SOON).await, 0);
        assert!(done.get() && panics() > before);
    });
}

#[test]
fn drained_tells_how_many_tasks_are_left() {
    on_each_driver(|| async {
        let stop = StopToken::new();
        for _ in 0..3 {
            spawn(stop.stopped());
        }
        assert_eq!(drained(Duration::from_millis(3)).await, 3);
        stop.stop();
        assert_eq!(drained(SOON).await, 0);
    });
}

#[test]
fn yielding_lets_timers_fire() {
    on_each_driver(|| async {
        let fired = Rc::new(Cell::new(false));
        let seen = fired.clone();
        spawn(async move {
            sleep(Duration::from_millis(1)).await;
            seen.set(true);
        });
        let deadline = Instant::now() + SOON;
        while !fired.get() && before(deadline) {
            yield_now().await;
        }
        assert!(fired.get());
    });
}

#[test]
fn a_mailbox_wakes_a_core_that_waits() {
    on_each_driver(|| async {
        let (post, mut inbox) = mailbox(1);
        for round in 0..50 {
            let post = post.clone();
            let thread = std::thread::spawn(move || post.post(round));
            assert_eq!(timeout(SOON, inbox.recv()).await.unwrap(), round);
            thread.join().unwrap().unwrap();
        }
        assert_eq!((post.post(1), post.post(2)), (Ok(()), Err(2)));
        assert_eq!((inbox.try_recv(), inbox.try_recv()), (Some(1), None));
    });
}

#[test]
fn a_mailbox_loses_nothing_under_load() {
    on_each_driver(|| async {
        let (post, mut inbox) = mailbox(16);
        let writers: Vec<_> = (0..2_u64)
            .map(|writer| {
                let post = post.clone();
                std::thread::spawn(move || {
                    for value in 0..5000 {
                        while post.post(writer * 5000 + value).is_err() {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut sum = 0;
        for _ in 0..10_000 {
            sum += timeout(SOON, inbox.recv()).await.expect("no wake-up is lost");
        }
        assert_eq!(sum, (0..10_000).sum::<u64>());
        for writer in writers {
            writer.join().unwrap();
        }
    });
}
