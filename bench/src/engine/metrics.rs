//! `/metrics` by vLLM's names and labels.

use std::fmt::Write;
use std::sync::Arc;

use super::driver::Reading;
use super::model::ModelConfig;

/// Bounds in seconds, as vLLM has them.
const TTFT: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];
const GAP: [f64; 19] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];
const REQUEST: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
];

/// A histogram of seconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    counts: [u64; 22],
    count: u64,
    sum: f64,
}

/// What the driver saw.
#[derive(Debug, Clone)]
pub(crate) struct Observed {
    pub(crate) prompt_tokens: u64,
    pub(crate) finished: u64,
    pub(crate) aborted: u64,
    pub(crate) rejected: u64,
    pub(crate) ttft: Histogram,
    pub(crate) gaps: Histogram,
    pub(crate) queue_time: Histogram,
    pub(crate) duration: Histogram,
}

impl Default for Observed {
    fn default() -> Self {
        let new = Histogram::new;
        Self {
            prompt_tokens: 0,
            finished: 0,
            aborted: 0,
            rejected: 0,
            ttft: new(&TTFT),
            gaps: new(&GAP),
            queue_time: new(&REQUEST),
            duration: new(&REQUEST),
        }
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: [0; 22], count: 0, sum: 0.0 }
    }

    pub(crate) fn add(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        for (count, bound) in self.counts.iter_mut().zip(self.bounds) {
            *count += u64::from(seconds <= *bound);
        }
    }
}

/// Who is measured: the labels, and the sizes behind the ratios.
pub(crate) struct Subject<'a> {
    pub(crate) model: &'a str,
    pub(crate) config: &'a ModelConfig,
    pub(crate) max_loras: usize,
    pub(crate) now_s: f64,
}

/// The whole exposition.
pub(crate) fn render(subject: &Subject<'_>, reading: &Reading) -> String {
    let Reading { totals, observed, running_loras, waiting_loras } = reading;
    let mut page = Page { text: String::with_capacity(8192), model: subject.model };
    let capacity = subject.config.cache_blocks.max(1) as f64;
    page.gauge("num_requests_running", totals.running as f64);
    page.gauge("num_requests_waiting", totals.waiting as f64);
    page.labelled(
        "num_requests_waiting_by_reason",
        "gauge",
        "reason",
        &[("capacity", totals.waiting as f64), ("deferred", 0.0)],
    );
    page.gauge("kv_cache_usage_perc", totals.pinned_blocks as f64 / capacity);
    page.counter("prefix_cache_queries", totals.query_tokens);
    page.counter("prefix_cache_hits", totals.hit_tokens);
    page.counter("num_preemptions", 0);
    page.counter("prompt_tokens", observed.prompt_tokens);
    page.counter("prompt_tokens_cached", totals.hit_tokens);
    page.counter("generation_tokens", totals.output_tokens);
    let reasons = [
        ("stop", 0.0),
        ("length", observed.finished as f64),
        ("abort", observed.aborted as f64),
        ("error", 0.0),
        ("repetition", 0.0),
    ];
    page.labelled("request_success_total", "counter", "finished_reason", &reasons);
    page.rejections(observed.rejected);
    page.histogram("time_to_first_token_seconds", &observed.ttft);
    page.histogram("inter_token_latency_seconds", &observed.gaps);
    page.histogram("request_queue_time_seconds", &observed.queue_time);
    page.histogram("e2e_request_latency_seconds", &observed.duration);
    if subject.max_loras > 0 {
        page.loras(subject, running_loras, waiting_loras);
    }
    page.cache_config(subject.config);
    page.text
}

struct Page<'a> {
    text: String,
    model: &'a str,
}

// Writing to a String cannot fail, so the results of `write!` say nothing.
impl Page<'_> {
    fn head(&mut self, name: &str, kind: &str) {
        let _ = writeln!(self.text, "# HELP vllm:{name} Simulated.\n# TYPE vllm:{name} {kind}");
    }

    fn gauge(&mut self, name: &str, value: f64) {
        self.head(name, "gauge");
        let _ = writeln!(self.text, "vllm:{name}{{engine=\"0\",model_name=\"{}\"}} {value:?}", self.model);
    }

    fn counter(&mut self, name: &str, value: u64) {
        let name = format!("{name}_total");
        self.head(&name, "counter");
        let _ = writeln!(self.text, "vllm:{name}{{engine=\"0\",model_name=\"{}\"}} {value}.0", self.model);
    }

    fn labelled(&mut self, name: &str, kind: &str, label: &str, values: &[(&str, f64)]) {
        self.head(name, kind);
        for (label_value, value) in values {
            let own = format!("{label}=\"{label_value}\"");
            let model = format!("model_name=\"{}\"", self.model);
            // vLLM's exposition sorts labels by name.
            let (first, second) = if label < "model_name" { (&own, &model) } else { (&model, &own) };
            let _ = writeln!(self.text, "vllm:{name}{{engine=\"0\",{first},{second}}} {value:?}");
        }
    }

    fn rejections(&mut self, rejected: u64) {
        self.head("admission_rejections_total", "counter");
        for (reason, value) in [("max_num_queued_reqs", rejected), ("max_num_queued_tokens", 0)] {
            let _ = writeln!(
                self.text,
                "vllm:admission_rejections_total{{model_name=\"{}\",reason=\"{reason}\"}} {value}.0",
                self.model
            );
        }
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram) {
        self.head(name, "histogram");
        let model = self.model;
        for (bound, count) in histogram.bounds.iter().zip(histogram.counts) {
            let _ = writeln!(
                self.text,
                "vllm:{name}_bucket{{engine=\"0\",le=\"{bound:?}\",model_name=\"{model}\"}} {count}.0"
            );
        }
        let Histogram { count, sum, .. } = histogram;
        let _ = writeln!(self.text, "vllm:{name}_bucket{{engine=\"0\",le=\"+Inf\",model_name=\"{model}\"}} {count}.0");
        let _ = writeln!(self.text, "vllm:{name}_count{{engine=\"0\",model_name=\"{model}\"}} {count}.0");
        let _ = writeln!(self.text, "vllm:{name}_sum{{engine=\"0\",model_name=\"{model}\"}} {sum:?}");
    }

    fn loras(&mut self, subject: &Subject<'_>, running: &[Arc<str>], waiting: &[Arc<str>]) {
        self.head("lora_requests_info", "gauge");
        let _ = writeln!(
            self.text,
            "vllm:lora_requests_info{{max_lora=\"{}\",running_lora_adapters=\"{}\",waiting_lora_adapters=\"{}\"}} {:?}",
            subject.max_loras,
            running.join(","),
            waiting.join(","),
            subject.now_s
        );
    }

    fn cache_config(&mut self, config: &ModelConfig) {
        self.head("cache_config_info", "gauge");
        let block = super::text::BLOCK_TOKENS;
        let size = config.cache_blocks * block as usize;
        let _ = writeln!(
            self.text,
            "vllm:cache_config_info{{block_size=\"{block}\",enable_prefix_caching=\"True\",engine=\"0\",kv_cache_size_tokens=\"{size}\",num_gpu_blocks=\"{}\"}} 1.0",
            config.cache_blocks
        );
    }
}
