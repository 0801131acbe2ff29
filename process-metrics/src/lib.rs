//! What a process costs its machine, under the names that Prometheus's client libraries have. The `prometheus` crate's own collector
//! counts CPU time in whole seconds, which says nothing of a short while.
#![deny(missing_docs)]

use std::fs;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Of this process, read from `/proc` now. What cannot be read is left out.
pub fn families() -> Vec<MetricFamily> {
    let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text));
    let booted_s = fs::read_to_string("/proc/stat").ok().and_then(|text| booted_s(&text));
    let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
    let cpu_s = stat.map(|stat| seconds(stat.cpu_ticks));
    let resident_bytes = stat.map(|stat| stat.resident_pages as f64 * page_size() as f64);
    let virtual_bytes = stat.map(|stat| stat.virtual_bytes as f64);
    let started_s = stat.zip(booted_s).map(|(stat, booted_s)| booted_s as f64 + seconds(stat.started_ticks));
    let open_fds = open_fds().map(|count| count as f64);
    let max_fds = getrlimit(Resource::Nofile).current.map(|limit| limit as f64);
    let gauges = [
        ("process_resident_memory_bytes", "Resident memory size in bytes.", resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual_bytes),
        ("process_open_fds", "Number of open file descriptors.", open_fds),
        ("process_max_fds", "Maximum number of open file descriptors.", max_fds),
        ("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", started_s),
    ];
    let gauges = gauges.into_iter().filter_map(|(name, help, value)| Some(gauge(name, help, value?)));
    cpu_s.map(cpu).into_iter().chain(gauges).flatten().collect()
}

fn cpu(seconds: f64) -> Vec<MetricFamily> {
    let help = "Total user and system CPU time spent in seconds.";
    let counter = Counter::new("process_cpu_seconds_total", help).expect("the name is valid");
    counter.inc_by(seconds);
    counter.collect()
}

fn gauge(name: &str, help: &str, value: f64) -> Vec<MetricFamily> {
    let gauge = Gauge::new(name, help).expect("the name is valid");
    gauge.set(value);
    gauge.collect()
}

/// Kernels from 6.2 on say at once how many there are; of 100,000 a list takes long.
fn open_fds() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match fs::metadata(FOLDER).ok()?.len() {
        // The one that reads the folder is none of ours.
        0 => Some((fs::read_dir(FOLDER).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// What is looked at in `/proc/PID/stat`, see proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    /// In user mode and in the kernel, of all threads.
    cpu_ticks: u64,
    /// After the machine's start.
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field, the program's name, may hold blanks and brackets; what follows it does not.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The first of them is the third of all.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            started_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine started, in seconds since 1970, by `/proc/stat`.
fn booted_s(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime};

    use super::*;

    fn value(name: &str) -> f64 {
        let families = families();
        let family = families.iter().find(|family| family.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    #[test]
    fn a_programs_name_may_hold_anything() {
        let text = "7 (a) b 1 2) S 1 7 7 0 -1 4194304 9 0 0 0 250 50 0 0 20 0 3 0 123 4096 5 18446744073709551615 1";
        let expected = Stat { cpu_ticks: 300, started_ticks: 123, virtual_bytes: 4096, resident_pages: 5 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a"), None);
        assert_eq!(Stat::parse("7 (a) S 1"), None);
        assert_eq!(booted_s("cpu 1 2\nbtime 1764280000\nprocesses 5\n"), Some(1_764_280_000));
    }

    #[test]
    fn time_that_is_spent_is_counted_in_parts_of_a_second() {
        let (before, begin) = (value("process_cpu_seconds_total"), Instant::now());
        while value("process_cpu_seconds_total") < before + 0.05 {
            assert!(begin.elapsed() < Duration::from_secs(30), "{} s", value("process_cpu_seconds_total") - before);
        }
    }

    #[test]
    fn an_open_file_is_counted() {
        let before = value("process_open_fds");
        let files: Vec<_> = (0..100).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let more = value("process_open_fds") - before;
        // Other tests open some at the same time.
        assert!((90.0..110.0).contains(&more), "{more}");
        drop(files);
        assert!(value("process_max_fds") >= before);
    }

    #[test]
    fn the_process_has_started_a_moment_ago_and_holds_memory() {
        let now_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        let age_s = now_s - value("process_start_time_seconds");
        assert!((-5.0..600.0).contains(&age_s), "{age_s} s");
        let (resident, all) = (value("process_resident_memory_bytes"), value("process_virtual_memory_bytes"));
        assert!(resident > 100_000.0 && resident <= all, "{resident} of {all} bytes");
    }
}
