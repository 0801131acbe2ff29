use std::collections::BTreeMap;
use std::time::Duration;

use dataplane_core::scheduler::{Rng, Stage};

use super::keyed::KEPT_MS;
use super::*;
use crate::metrics::{Active, ActiveLabels, CoreMetrics, Gauges, Labels, Metrics, Series, encode};

fn labels(model: &str) -> Labels<'_> {
    Labels {
        model,
        path: "/v1/chat/completions",
        status: 200,
        error_type: "successful_request",
        route: "r",
        backend: "b",
        upstream_model: "none",
    }
}

fn with(models: &[&'static str]) -> InForce<'static> {
    InForce::named(models, &["r"], &["b"])
}

fn models(all: &All<Series>) -> Vec<(String, u64)> {
    let mut told: Vec<_> = all.told().cells.iter().map(|s| (s.labels().model.to_owned(), s.requests.value())).collect();
    told.sort();
    told
}

#[test]
fn the_same_labels_are_the_same_cells() {
    let core = OfCore::<Series>::new(Arc::default());
    core.of(&labels("a")).requests.add(1);
    core.of(&labels("a")).requests.add(1);
    core.of(&labels("b")).requests.add(1);
    assert_eq!(models(&core.all), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
}

#[test]
fn past_the_bound_requests_are_counted_as_other_until_there_is_room() {
    let core = OfCore::<Series>::new(Arc::default());
    let count = |n: usize| core.of(&labels(&format!("m{n}"))).requests.add(1);
    (0..MAX_SERIES + 50).for_each(count);
    let all = core.all.told().cells;
    assert!(all.len() <= MAX_SERIES + 1, "{} series", all.len());
    let other: u64 = all.iter().filter(|s| s.labels().model == "other").map(|s| s.requests.value()).sum();
    assert_eq!(other, 50);
    drop(all);
    for now_ms in [1, KEPT_MS + 1] {
        core.all.forget(&with(&["m7"]), now_ms);
        core.sweep();
    }
    count(MAX_SERIES);
    let expected = [("m5000", 1), ("m7", 1), ("other", 50)];
    assert_eq!(models(&core.all), expected.map(|(model, count)| (model.to_owned(), count)));
}

#[test]
fn what_left_is_told_for_five_minutes() {
    let core = OfCore::<Series>::new(Arc::default());
    core.of(&labels("gone")).requests.add(3);
    core.of(&labels("stays")).requests.add(1);
    core.all.forget(&with(&["stays"]), 1_000);
    core.sweep();
    core.all.forget(&with(&["stays"]), 999 + KEPT_MS);
    assert_eq!(models(&core.all), [("gone".to_owned(), 3), ("stays".to_owned(), 1)]);
    core.all.forget(&with(&["stays"]), 1_000 + KEPT_MS);
    assert_eq!(models(&core.all), [("stays".to_owned(), 1)]);
    core.of(&labels("gone")).requests.add(1);
    assert_eq!(models(&core.all), [("gone".to_owned(), 1), ("stays".to_owned(), 1)], "it begins anew");
}

#[test]
fn what_a_request_holds_stays_until_five_minutes_after_it() {
    let core = OfCore::<Active>::new(Arc::default());
    let labels = ActiveLabels { model: "gone", route: "r", backend: "b", upstream_model: "none" };
    let held = core.of(&labels);
    let mut now_ms = 1;
    let mut later = |by_ms: u64| {
        now_ms += by_ms;
        core.all.forget(&with(&[]), now_ms);
        core.sweep();
        core.all.told().cells.len()
    };
    for _ in 0..100 {
        assert_eq!(later(KEPT_MS), 1);
    }
    drop(held);
    assert_eq!((later(KEPT_MS - 1), later(1)), (1, 0));
}

#[test]
fn labels_that_come_back_in_time_go_on_where_they_were() {
    let all = Arc::new(All::<Series>::default());
    let cores = [OfCore::new(all.clone()), OfCore::new(all.clone())];
    cores.iter().for_each(|core| core.of(&labels("a")).requests.add(5));
    all.forget(&with(&[]), 1_000);
    cores.iter().for_each(OfCore::sweep);
    for round in 1..50 {
        all.forget(&with(&["a"]), 1_000 + round);
        cores.iter().for_each(|core| core.of(&labels("a")).requests.add(1));
        assert_eq!(models(&all), [("a".to_owned(), 5 + round), ("a".to_owned(), 5 + round)]);
        all.forget(&with(&[]), 1_000 + round);
        cores.iter().for_each(OfCore::sweep);
    }
}

/// Some of the names that there may be.
const MODELS: [&str; 3] = ["m0", "m1", "m2"];
const ROUTES: [&str; 4] = ["r0", "r1", "r2", "r3"];
const BACKENDS: [&str; 3] = ["b0", "b1", "b2"];

/// Two cores, the table's names, and what a scraper has seen.
struct World {
    rng: Rng,
    metrics: Metrics,
    cores: [CoreMetrics; 2],
    names: InForce<'static>,
    now_ms: u64,
    /// Of requests that run.
    held: Vec<Arc<Active>>,
    /// Requests by series, since it was last not there.
    counted: BTreeMap<String, u64>,
    page: BTreeMap<String, f64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let metrics = Metrics::new(2);
        let cores = [metrics.of_core(0), metrics.of_core(1)];
        Self {
            rng: Rng::new(seed),
            metrics,
            cores,
            names: InForce::named(&MODELS, &ROUTES, &BACKENDS),
            now_ms: 1,
            held: Vec::new(),
            counted: BTreeMap::new(),
            page: BTreeMap::new(),
        }
    }

    fn one_of(&mut self, names: &[&'static str]) -> &'static str {
        names[self.rng.below(names.len() as u32) as usize]
    }

    fn some_of(&mut self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|_| self.rng.below(3) > 0).collect()
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0..5 => self.request(),
            5..7 => self.cores[self.rng.below(2) as usize].sweep(),
            7 => {
                let (models, routes, backends) =
                    (self.some_of(&MODELS), self.some_of(&ROUTES), self.some_of(&BACKENDS));
                self.names = InForce::named(&models, &routes, &backends);
            }
            8..10 => {
                self.now_ms += u64::from(self.rng.below(200_000));
                self.metrics.forget(&self.names, self.now_ms);
            }
            _ => {
                if let Some(held) = self.held.pop() {
                    held.gap.observe(Duration::from_millis(3));
                    held.cached_tokens.add(7);
                }
            }
        }
        self.scrape();
    }

    /// Mostly of what is there; now and then one that began with another table.
    fn request(&mut self) {
        let (model, route, backend) = (self.one_of(&MODELS), self.one_of(&ROUTES), self.one_of(&BACKENDS));
        let there = self.names.model(model) && self.names.route(route) && self.names.backend(backend, "none");
        if !there && self.rng.below(10) > 0 {
            return;
        }
        let core = &self.cores[self.rng.below(2) as usize];
        let active = core.active.of(&ActiveLabels { model, route, backend, upstream_model: "none" });
        let took = Duration::from_millis(2);
        [&active.schedule, &active.match_ratio, &active.gap].into_iter().for_each(|histogram| histogram.observe(took));
        active.observe_stage(Stage::ALL[0].0, took);
        active.predicted_tokens.add(5);
        if self.rng.below(3) == 0 {
            self.held.push(active);
        }
        let status = if self.rng.below(3) == 0 { 502 } else { 200 };
        let series = core.series.of(&Labels { model, status, route, backend, ..labels("") });
        [&series.duration, &series.ttft, &series.added].into_iter().for_each(|histogram| histogram.observe(took));
        series.requests.add(1);
        series.output_tokens.add(9);
        let name = format!(
            "kthena_router_requests_total{{model=\"{model}\",path=\"/v1/chat/completions\",status_code=\"{status}\",\
             error_type=\"successful_request\",model_route=\"{route}\",backend_type=\"model_server\",\
             backend_name=\"{backend}\",upstream_model=\"none\"}}"
        );
        *self.counted.entry(name).or_default() += 1;
    }

    fn scrape(&mut self) {
        let text = String::from_utf8(encode(&self.metrics, &Gauges::default())).unwrap();
        let counts = ["_total", "_bucket", "_count", "_sum"];
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
            let family = series.split('{').next()?;
            counts.iter().any(|end| family.ends_with(end)).then(|| (series.to_owned(), value.parse().unwrap()))
        };
        let page: BTreeMap<String, f64> = text.lines().filter_map(line).collect();
        for (series, value) in &page {
            let before = self.page.get(series).copied().unwrap_or(0.0);
            assert!(*value >= before, "{series} went from {before} back to {value}");
        }
        let names = &self.names;
        self.counted.retain(|series, count| {
            let value = page.get(series).copied();
            let label = |name: &str| series.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
            let in_force = names.model(label("{model"))
                && names.route(label("model_route"))
                && names.backend(label("backend_name"), "none");
            assert!(value.is_some() || !in_force, "{series} is in force, and is not told");
            assert!(value.is_none_or(|value| value == *count as f64), "{series}: {value:?} of {count}");
            value.is_some()
        });
        self.page = page;
    }
}

#[test]
fn no_counter_goes_backwards_and_none_is_lost_whatever_comes_and_goes() {
    for seed in 1..=4 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        let mut forgotten = 0;
        for _ in 0..700 {
            let before = world.counted.len();
            world.step();
            forgotten += before.saturating_sub(world.counted.len());
        }
        assert!(forgotten > 10, "only {forgotten} series were forgotten");
    }
}

#[test]
fn weeks_of_new_names_leave_nothing_behind() {
    let metrics = Metrics::new(2);
    let cores = [metrics.of_core(0), metrics.of_core(1)];
    let mut most = 0;
    for round in 0..20_000_u64 {
        let (model, route, backend) =
            (format!("m-{}", round / 100), format!("r-{}", round / 10), format!("b-{}", round / 4));
        for core in &cores {
            let active = ActiveLabels { model: &model, route: &route, backend: &backend, upstream_model: "none" };
            core.active.of(&active).gap.observe(Duration::from_millis(1));
            let series = core.series.of(&Labels { model: &model, route: &route, backend: &backend, ..labels("") });
            assert_eq!(series.labels().model, model, "there is always room");
            series.ttft.observe(Duration::from_millis(1));
        }
        // Every 100 s.
        metrics
            .forget(&InForce::named(&[model.as_str()], &[route.as_str()], &[backend.as_str()]), 100_000 * (round + 1));
        cores.iter().for_each(CoreMetrics::sweep);
        let (series, active) = (metrics.series.told(), metrics.active.told());
        most = most.max(series.cells.len() + series.rests.len() + active.cells.len() + active.rests.len());
    }
    assert!(most <= 60, "{most} at a time");
    assert!(
        cores.iter().all(|core| core.series.known.borrow().len() <= 2 && core.series.known.borrow().capacity() < 50)
    );
}
