//! `:8082/metrics`, with its label sets that end with a comma, its families without samples, and no gauge of what runs,
//! waits or lives.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::predict::{Served, VERSION};

/// What has happened.
#[derive(Debug, Default)]
pub(super) struct Meters(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By model and version; calls without a version are of the version `default`.
    models: BTreeMap<(String, String), OfModel>,
    /// Answers of all ports: 2XX, 4XX, 5XX.
    answers: [u64; 3],
    queue_ms: u64,
    worker_ms: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct OfModel {
    came: u64,
    /// None until one has finished: the series is not there before.
    finished: Option<(f64, f64)>,
}

impl Meters {
    pub(super) fn came(&self, model: &str, version: &str) {
        self.lock().models.entry((model.to_owned(), version.to_owned())).or_default().came += 1;
    }

    pub(super) fn finished(&self, model: &str, version: &str, waited: Duration, whole: Duration) {
        let mut counts = self.lock();
        let of = counts.models.entry((model.to_owned(), version.to_owned())).or_default();
        let (queue_us, latency_us) = of.finished.get_or_insert_default();
        *queue_us += waited.as_secs_f64() * 1e6;
        *latency_us += whole.as_secs_f64() * 1e6;
        counts.queue_ms = waited.as_millis() as u64;
        counts.worker_ms = whole.saturating_sub(waited).as_millis() as u64;
    }

    pub(super) fn answered(&self, status: u16) {
        let class = match status {
            0..400 => 0,
            400..500 => 1,
            _ => 2,
        };
        self.lock().answers[class] += 1;
    }

    pub(super) fn render(&self, models: &[Served]) -> String {
        let counts = self.lock();
        let mut page = Page(String::with_capacity(4096));
        let host = |name: &str, value: f64| (format!("{name}{{Level=\"Host\",Hostname=\"vm\",}}"), value);
        for (name, unit, value) in [
            ("MemoryAvailable", "Megabytes", 22_873.136_718_75),
            ("MemoryUsed", "Megabytes", 1_232.425_781_25),
            ("MemoryUtilization", "Percent", 5.1),
            ("DiskAvailable", "Gigabytes", 70.356_258_392_333_98),
            ("DiskUsage", "Gigabytes", 20.720_844_268_798_828),
            ("DiskUtilization", "Percent", 22.8),
            ("CPUUtilization", "Percent", 25.0),
            ("QueueTime", "Milliseconds", counts.queue_ms as f64),
            ("WorkerThreadTime", "Milliseconds", counts.worker_ms as f64),
        ] {
            page.family(name, "gauge", unit, [host(name, value)]);
        }
        for (name, unit) in [
            ("GPUMemoryUtilization", "Percent"),
            ("GPUMemoryUsed", "Megabytes"),
            ("GPUUtilization", "Percent"),
            ("HandlerTime", "ms"),
        ] {
            page.family(name, "gauge", unit, []);
        }
        for (name, count) in ["Requests2XX", "Requests4XX", "Requests5XX"].into_iter().zip(counts.answers) {
            page.family(name, "counter", "Count", [host(name, count as f64)]);
        }
        let load = |(n, model): (usize, &Served)| {
            let worker = format!("W-{}-{}_{VERSION}", 9_000 + n, model.config.name);
            (format!("WorkerLoadTime{{WorkerName=\"{worker}\",Level=\"Host\",Hostname=\"vm\",}}"), 815.0)
        };
        page.family("WorkerLoadTime", "gauge", "Milliseconds", models.iter().enumerate().map(load));
        page.models("ts_inference_requests_total", "Count", &counts, |of| Some(of.came as f64));
        page.models("ts_inference_latency_microseconds", "Microseconds", &counts, |of| Some(of.finished?.1));
        page.models("ts_queue_latency_microseconds", "Microseconds", &counts, |of| Some(of.finished?.0));
        page.0
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, unit: &str, series: impl IntoIterator<Item = (String, f64)>) {
        let help = format!("Torchserve prometheus {kind} metric with unit: {unit}");
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (series, value) in series {
            let _ = writeln!(self.0, "{series} {value:?}");
        }
    }

    fn models(&mut self, name: &str, unit: &str, counts: &Counts, value: impl Fn(&OfModel) -> Option<f64>) {
        let series = counts.models.iter().filter_map(|((model, version), of)| {
            let labels = format!("model_name=\"{model}\",model_version=\"{version}\",hostname=\"vm\",");
            Some((format!("{name}{{{labels}}}"), value(of)?))
        });
        self.family(name, "counter", unit, series);
    }
}
