use api::snapshot::Engine;

use super::*;
use crate::engine::families::families;

const VLLM: &str = include_str!("../../../tests/recorded/vllm-0.32.0.prom");
const TRITON: &str = include_str!("../../../tests/recorded/triton-2.51.0.prom");

fn read(engine: Engine, text: &str) -> Reading {
    Reading::of(families(engine), text).unwrap()
}

/// vLLM's text with these series instead of its own.
fn vllm(series: &[(&str, &str)]) -> Reading {
    let mut text = VLLM.to_owned();
    for (name, value) in series {
        let line = text.lines().find(|line| line.starts_with(&format!("vllm:{name}{{"))).unwrap().to_owned();
        let (key, _) = line.rsplit_once(' ').unwrap();
        text = text.replace(&line, &format!("{key} {value}"));
    }
    read(Engine::Vllm, &text)
}

/// A reading of a second ago.
fn before(reading: Reading, said: Said) -> Before {
    Before { reading, said, ago: Duration::from_secs(1) }
}

#[test]
fn vllm_tells_all() {
    let total = |sum, count| Some(Total { sum, count });
    let expected = Reading {
        running: Some(0.0),
        waiting: Some(0.0),
        cache_usage: Some(0.0),
        ttft: total(0.19011306762695312, 4.0),
        tpot: total(0.5156411550001394, 29.0),
        waited_us: None,
        cache_tokens: Some(2_560),
    };
    assert_eq!(read(Engine::Vllm, VLLM), expected);
    let busy = [("num_requests_running", "3.0"), ("num_requests_waiting", "2.0"), ("kv_cache_usage_perc", "0.25")];
    let said = vllm(&busy).said(None);
    let expected = Said { running: Some(3), waiting: 2, cache_usage: 0.25, ttft: Some(0.0), tpot: 0.0 };
    assert_eq!(said, expected);
}

#[test]
fn a_cache_takes_what_all_ranks_say_in_tokens_or_in_blocks() {
    let of = |labels: &[&str]| {
        let lines: String = labels.iter().map(|labels| format!("vllm:cache_config_info{{{labels}}} 1.0\n")).collect();
        let reading = read(Engine::Vllm, &lines);
        assert!(reading.is_empty(), "it says nothing of its load");
        reading.cache_tokens()
    };
    let blocks = "block_size=\"16\",cache_dtype=\"auto\",num_gpu_blocks=\"27000\"";
    assert_eq!(of(&[blocks]), Some(432_000));
    assert_eq!(
        of(&["engine=\"0\",kv_cache_size_tokens=\"100\"", "engine=\"1\",kv_cache_size_tokens=\"90\""]),
        Some(190)
    );
    // Tokens count, where blocks are of several sizes; what was not found out yet is no number.
    assert_eq!(of(&[&format!("kv_cache_size_tokens=\"2560\",{blocks}")]), Some(2_560));
    for unknown in
        ["block_size=\"16\",num_gpu_blocks=\"None\"", "block_size=\"16\",num_gpu_blocks=\"0\"", "num_gpu_blocks=\"9\""]
    {
        assert_eq!(of(&[unknown]), None, "{unknown}");
    }
    assert_eq!(read(Engine::Sglang, VLLM).cache_tokens(), None);
}

#[test]
fn times_are_those_of_the_requests_between_two_readings() {
    let first = vllm(&[("time_to_first_token_seconds_sum", "10"), ("time_to_first_token_seconds_count", "4")]);
    let then = vllm(&[("time_to_first_token_seconds_sum", "13"), ("time_to_first_token_seconds_count", "6")]);
    let said = first.said(None);
    assert_eq!(said.ttft, Some(0.0), "what was before anyone looked may be long ago");
    let said = then.said(Some(&before(first, said)));
    assert_eq!(said.ttft, Some(1.5));
    assert_eq!(then.said(Some(&before(then, said))).ttft, Some(1.5), "the last ones count while there are no others");
}

#[test]
fn an_engine_that_started_anew_counts_from_nothing() {
    let before = Total { sum: 10.0, count: 4.0 };
    assert_eq!(Total { sum: 1.0, count: 2.0 }.mean_since(before), Some(0.5));
    assert_eq!(Total { sum: 2.0, count: 8.0 }.mean_since(before), Some(0.25), "it has had more since than before");
    assert_eq!(Total::default().mean_since(before), None);
}

#[test]
fn triton_tells_what_waits_for_all_its_models() {
    let reading = read(Engine::Triton, TRITON);
    assert_eq!(reading, Reading { waiting: Some(3.0), ..Reading::default() });
    assert!(read(Engine::Triton, "nv_cpu_utilization 0.5").is_empty());
}

#[test]
fn ranks_add_up_and_their_caches_are_one() {
    let text = "sglang:num_running_reqs{dp=\"0\"} 3\nsglang:num_running_reqs{dp=\"1\"} 4\n\
                sglang:num_queue_reqs 1\nsglang:token_usage{dp=\"0\"} 0.5\nsglang:token_usage{dp=\"1\"} 0.25\n\
                sglang:num_running_reqs_total 9\nsglang:num_queue_reqs NaN\nsglang:num_queue_reqs -1\n";
    let said = read(Engine::Sglang, text).said(None);
    assert_eq!(said, Said { running: Some(7), waiting: 1, cache_usage: 0.375, ..Said::default() });
}

#[test]
fn torchserves_metrics_tell_how_many_waited_on_average() {
    let recorded = include_str!("../../../tests/recorded/torchserve-0.12.0.prom");
    let first = read(Engine::Torchserve, recorded);
    assert_eq!(first, Reading { waited_us: Some(3497.96 + 67103.963), ..Reading::default() });
    let then = Reading { waited_us: first.waited_us.map(|us| us + 2_600_000.0), ..first };
    let waiting = |reading: Reading, last| reading.said(Some(&before(last, Said::default()))).waiting;
    assert_eq!(waiting(then, first), 3, "2.6 s were waited in 1 s");
    assert_eq!(waiting(first, first), 0);
    assert_eq!(waiting(first, then), 0, "it has started anew");
    assert_eq!(first.said(None).waiting, 0);
    let told = Reading { waiting: Some(5.0), ..then };
    assert_eq!(waiting(told, first), 5, "the management API knows it");
}

#[test]
fn what_waits_at_a_torchserve_is_not_forgotten_when_its_management_falls_silent_or_speaks_again() {
    let metrics = |waited_us| Reading { waited_us: Some(waited_us), ..Reading::default() };
    let readings = [
        (Reading::of_queue(40.0), 40),
        // Here it falls silent: from one reading of the metrics nothing can be told.
        (metrics(9_000_000.0), 40),
        (metrics(11_600_000.0), 3),
        (Reading::of_queue(7.0), 7),
        (metrics(12_000_000.0), 7),
        (metrics(12_000_000.0), 0),
    ];
    let mut last = None::<Before>;
    for (n, (reading, expected)) in readings.into_iter().enumerate() {
        let said = reading.said(last.as_ref());
        assert_eq!(said.waiting, expected, "reading {n}");
        last = Some(before(reading, said));
    }
}
