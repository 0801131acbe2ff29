use std::io::Write as _;
use std::rc::Rc;

use super::*;
use crate::rt::DriverChoice;

const BOUNDS: &[f64] = &[0.05, 0.25];
const STALL: Duration = Duration::from_millis(400);

fn histogram() -> Histogram {
    Histogram::new(BOUNDS)
}

#[test]
fn what_was_due_meanwhile_counts_too() {
    let check = |late_ms: u64, expected: [u64; 3]| {
        let lag = histogram();
        observe(&lag, Duration::from_millis(late_ms));
        assert_eq!(lag.read().counts, expected, "{late_ms} ms");
    };
    check(0, [1, 0, 0]);
    check(30, [1, 0, 0]);
    check(120, [1, 1, 0]);
    check(300, [0, 2, 1]);
    check(86_400_000, [0, 2, 598]);
}

/// One observation of more than 0.25 s is a whole stall that was seen.
fn each_stall_is_seen(choice: DriverChoice) {
    let Ok(driver) = rt::probe(choice) else {
        let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: {choice:?} is refused here");
        return;
    };
    let core = || async {
        let (lag, stop) = (Rc::new(histogram()), StopToken::new());
        let (seen, stopped) = (lag.clone(), stop.clone());
        rt::spawn(async move { run(&seen, stopped).await });
        let deadline = Instant::now() + Duration::from_secs(15);
        while lag.read().count() == 0 {
            rt::yield_now().await;
        }
        for stall in 0..5 {
            let before = lag.read().counts[2];
            // The core is held, as by work that is too long.
            std::thread::sleep(STALL);
            while lag.read().counts[2] == before {
                assert!(Instant::now() < deadline, "stall {stall} was not seen: {:?}", lag.read());
                rt::yield_now().await;
            }
        }
        stop.stop();
    };
    std::thread::spawn(move || rt::run(driver, core).unwrap()).join().unwrap();
}

#[test]
fn each_stall_is_seen_on_io_uring() {
    each_stall_is_seen(DriverChoice::Uring);
}

#[test]
fn each_stall_is_seen_on_epoll() {
    each_stall_is_seen(DriverChoice::Epoll);
}
