//! `:8002/metrics`.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::repository::Loaded;

pub(super) fn render(models: &[Loaded]) -> String {
    let models: Vec<&Loaded> = models.iter().filter(|model| model.is_ready()).collect();
    let mut page = Page { text: String::with_capacity(8192), models: &models };
    let of = |counter: &AtomicU64| counter.load(Relaxed);
    page.family("request_success", "counter", "Number of successful inference requests, all batch sizes", |m| {
        of(&m.counters.success)
    });
    page.failures();
    let count = "Number of inferences performed (does not include cached requests)";
    page.family("count", "counter", count, |m| of(&m.counters.success));
    let executions = "Number of model executions performed (does not include cached requests)";
    page.family("exec_count", "counter", executions, |m| of(&m.counters.executed));
    page.family(
        "request_duration_us",
        "counter",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        |m| of(&m.counters.queue_us) + of(&m.counters.infer_us),
    );
    let queue = "Cumulative inference queuing duration in microseconds (includes cached requests)";
    page.family("queue_duration_us", "counter", queue, |m| of(&m.counters.queue_us));
    let input = "Cumulative compute input duration in microseconds (does not include cached requests)";
    page.family("compute_input_duration_us", "counter", input, |_| 0);
    let infer = "Cumulative compute inference duration in microseconds (does not include cached requests)";
    page.family("compute_infer_duration_us", "counter", infer, |m| of(&m.counters.infer_us));
    let output = "Cumulative inference compute output duration in microseconds (does not include cached requests)";
    page.family("compute_output_duration_us", "counter", output, |_| 0);
    let pending = "Instantaneous number of pending requests awaiting execution per-model.";
    page.family("pending_request_count", "gauge", pending, |m| m.seats.state().waiting as u64);
    page.host("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", "0.25");
    page.host("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", "25276514304");
    page.host("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", "961294336");
    page.text
}

struct Page<'m> {
    text: String,
    models: &'m [&'m Loaded],
}

impl Page<'_> {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, value: impl Fn(&Loaded) -> u64) {
        let name = format!("nv_inference_{name}");
        self.begin(&name, kind, help);
        for model in self.models {
            let _ = writeln!(self.text, "{name}{{model=\"{}\",version=\"1\"}} {}", model.config.name, value(model));
        }
    }

    fn failures(&mut self) {
        let name = "nv_inference_request_failure";
        self.begin(name, "counter", "Number of failed inference requests, all batch sizes");
        for model in self.models {
            let counters = &model.counters;
            let reasons = [
                ("REJECTED", counters.rejected.load(Relaxed)),
                ("CANCELED", 0),
                ("BACKEND", counters.backend.load(Relaxed)),
                ("OTHER", 0),
            ];
            for (reason, count) in reasons {
                let model = &model.config.name;
                let _ = writeln!(self.text, "{name}{{model=\"{model}\",reason=\"{reason}\",version=\"1\"}} {count}");
            }
        }
    }

    fn host(&mut self, name: &str, help: &str, value: &str) {
        self.begin(name, "gauge", help);
        let _ = writeln!(self.text, "{name} {value}");
    }
}
