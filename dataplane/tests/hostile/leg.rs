//! One leg: a proxy on one driver, all cases, and a look at what is left afterwards.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dataplane::config::LogFormat;
use dataplane::rt::{self, DriverChoice};

use crate::case::Case;
use crate::lane::{Lane, World};
use crate::{after, body, bounds, chunks, events, fields, framing, lane, line, response};

/// Cases that there are at least.
const ENOUGH: usize = 300;
/// A leg takes no longer than this, or something is stuck.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn run(leg: &str, filter: &str) -> ExitCode {
    let (driver, format) = match leg {
        "uring" => (DriverChoice::Uring, LogFormat::Json),
        "epoll" => (DriverChoice::Epoll, LogFormat::Text),
        _ => (DriverChoice::Auto, LogFormat::Json),
    };
    if leg == "uring"
        && let Err(refused) = rt::probe(driver)
    {
        println!("hostile [uring]: SKIPPED, not passed: {refused}");
        return ExitCode::SUCCESS;
    }
    if leg == "denied"
        && let Err(error) = dataplane::sys::deny_io_uring()
    {
        println!("hostile [denied]: SKIPPED, not passed: no seccomp filter can be set: {error}");
        return ExitCode::SUCCESS;
    }
    let (running, world, lanes) = match lane::start(driver, format) {
        Ok(started) => started,
        Err(error) => {
            println!("hostile [{leg}]: the proxy does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let name = running.shared().driver.as_str();
    if (leg == "uring") != running.shared().driver.is_uring() {
        println!("hostile [{leg}]: runs on {name}");
        return ExitCode::FAILURE;
    }
    watchdog();
    let begin = Instant::now();
    let base = after::Base::new();
    let cases = cases(filter);
    let mut failures = check_all(&cases, &lanes, &world);
    failures.extend(after::check(&running, &world, &lanes, &base));
    report(leg, name, &cases, &failures, begin.elapsed());
    drop(std::fs::remove_dir_all(&world.folder));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn watchdog() {
    std::thread::spawn(|| {
        std::thread::sleep(LIMIT);
        println!("hostile: stuck after {LIMIT:?}");
        std::process::exit(3);
    });
}

/// The slow ones first, so that the others run beside them.
fn cases(filter: &str) -> Vec<Case> {
    let all = [
        bounds::cases(),
        events::cases(),
        framing::cases(),
        chunks::cases(),
        fields::cases(),
        line::cases(),
        body::cases(),
        response::cases(),
    ];
    let cases: Vec<_> = all.into_iter().flatten().filter(|c| c.name.contains(filter)).collect();
    let mut names: Vec<_> = cases.iter().map(|c| (c.category, &c.name)).collect();
    names.sort_unstable();
    let double = names.windows(2).find(|w| w[0] == w[1]);
    assert!(double.is_none(), "two cases are called {double:?}");
    assert!(!filter.is_empty() || cases.len() >= ENOUGH, "{} cases", cases.len());
    cases
}

fn check_all(cases: &[Case], lanes: &[Lane], world: &World) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for lane in lanes {
            let (next, failures) = (&next, &failures);
            scope.spawn(move || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begin = Instant::now();
                    let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case.check(lane, world)));
                    let checked = checked.unwrap_or_else(|_| Err("the case panicked".into()));
                    if std::env::var_os("KTHENA_HOSTILE_SLOW").is_some() && begin.elapsed().as_millis() > 500 {
                        println!("slow: {}/{} took {:?}", case.category, case.name, begin.elapsed());
                    }
                    if let Err(why) = checked {
                        failures.lock().unwrap().push(format!("{}/{}: {why}", case.category, case.name));
                    }
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

fn report(leg: &str, driver: &str, cases: &[Case], failures: &[String], took: Duration) {
    let mut counts = BTreeMap::new();
    for case in cases {
        *counts.entry(case.category).or_insert(0) += 1;
    }
    for failure in failures {
        println!("hostile [{leg}] FAILED {failure}");
    }
    let list: Vec<_> = counts.iter().map(|(category, n)| format!("{category} {n}")).collect();
    println!(
        "hostile [{leg}] on {driver}: {} cases, {} failed, {:.1} s: {}",
        cases.len(),
        failures.len(),
        took.as_secs_f64(),
        list.join(", ")
    );
}
