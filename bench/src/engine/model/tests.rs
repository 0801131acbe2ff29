use super::*;

fn config() -> ModelConfig {
    ModelConfig {
        cache_blocks: 10,
        prefill_tokens_per_s: 1_000_000,
        max_num_seqs: 2,
        max_queue: 4,
        pace: Pace::Batch(100),
    }
}

fn job(blocks: &[u64], output_tokens: u32) -> Job {
    Job { blocks: blocks.into(), prompt_tokens: blocks.len() as u32 * 16 + 1, output_tokens }
}

fn play(model: &mut Model, until: Micros) -> Vec<(Micros, JobId, EventKind)> {
    let mut out = Vec::new();
    model.advance(until, &mut out);
    out.into_iter().map(|event| (event.at, event.job, event.kind)).collect()
}

use EventKind::{Finished, Started, Token};

#[test]
fn a_job_is_prefilled_then_emits_on_the_grid() {
    let mut model = Model::new(config());
    model.submit(5, job(&[1, 2], 3)).unwrap();
    let expected =
        vec![(5, 0, Started { hit_tokens: 0 }), (38, 0, Token), (100, 0, Token), (200, 0, Token), (200, 0, Finished)];
    assert_eq!(play(&mut model, 1_000), expected);
    assert_eq!(model.next_event(), None);
}

#[test]
fn own_gaps_run_from_the_first_token() {
    let mut model = Model::new(ModelConfig { pace: Pace::Stream(100), ..config() });
    model.submit(5, job(&[1, 2], 2)).unwrap();
    let last = play(&mut model, 1_000).pop();
    assert_eq!(last, Some((138, 0, Finished)));
}

#[test]
fn hits_shorten_the_prefill() {
    let mut model = Model::new(config());
    model.submit(0, job(&[1, 2, 3], 1)).unwrap();
    model.submit(0, job(&[1, 2, 4], 1)).unwrap();
    let started = |events: &[(Micros, JobId, EventKind)], id| {
        events.iter().find(|(_, job, kind)| *job == id && matches!(kind, Started { .. })).copied()
    };
    let events = play(&mut model, 1_000);
    assert_eq!(started(&events, 1), Some((49, 1, Started { hit_tokens: 32 })));
    assert!(events.contains(&(49 + 17, 1, Token)), "{events:?}");
}

#[test]
fn the_last_token_is_computed_even_if_all_is_cached() {
    let mut model = Model::new(config());
    let whole = Job { blocks: [1, 2].into(), prompt_tokens: 32, output_tokens: 1 };
    model.submit(0, whole.clone()).unwrap();
    model.submit(0, whole).unwrap();
    assert!(play(&mut model, 1_000).iter().any(|(_, id, kind)| *id == 1 && *kind == Started { hit_tokens: 16 }));
}

#[test]
fn slots_and_queue_are_bounded() {
    let mut model = Model::new(config());
    (0..4).for_each(|n| assert_eq!(model.submit(0, job(&[n], 1_000)), Ok(n)));
    assert_eq!(model.submit(0, job(&[9], 1)), Err(Refused::QueueFull));
    assert_eq!(model.submit(0, job(&[0; 11], 1)), Err(Refused::TooLong));
    play(&mut model, 500);
    let totals = model.totals();
    assert_eq!((totals.running, totals.waiting), (2, 2));
}

#[test]
fn pinned_blocks_stay_and_the_least_recent_go() {
    let mut model = Model::new(ModelConfig { cache_blocks: 4, ..config() });
    model.submit(0, job(&[1, 2], 1)).unwrap();
    model.submit(0, job(&[3, 4], 1_000)).unwrap();
    play(&mut model, 100);
    model.submit(100, job(&[5, 6], 1)).unwrap();
    play(&mut model, 200);
    model.submit(200, job(&[3, 4], 1)).unwrap();
    model.submit(200, job(&[1, 2], 1)).unwrap();
    let hits: Vec<u32> = play(&mut model, 400)
        .iter()
        .filter_map(|(_, _, kind)| if let Started { hit_tokens } = kind { Some(*hit_tokens) } else { None })
        .collect();
    assert_eq!(hits, [32, 0]);
}

#[test]
fn a_prompt_waits_until_pins_are_released() {
    let mut model = Model::new(ModelConfig { cache_blocks: 4, ..config() });
    model.submit(0, job(&[1, 2, 3], 3)).unwrap();
    model.submit(0, job(&[4, 5, 6], 1)).unwrap();
    let events = play(&mut model, 1_000);
    assert!(
        events.contains(&(200, 0, Finished)) && events.contains(&(200, 1, Started { hit_tokens: 0 })),
        "{events:?}"
    );
}

#[test]
fn cancel_frees_in_every_phase() {
    let mut model = Model::new(config());
    for n in 0..3 {
        model.submit(0, job(&[n * 2, n * 2 + 1], 1_000)).unwrap();
    }
    play(&mut model, 40);
    assert_eq!((model.totals().running, model.totals().waiting), (2, 1));
    assert!((0..3).all(|id| model.cancel(41, id)), "decode, prefill and queue");
    let totals = model.totals();
    assert_eq!((totals.running, totals.waiting, totals.pinned_blocks), (0, 0, 0));
    assert_eq!(model.next_event(), None);
    assert!(!model.cancel(42, 0));
    model.submit(50, job(&[2, 3], 1)).unwrap();
    assert!(play(&mut model, 60).contains(&(50, 3, Started { hit_tokens: 0 })), "an aborted prefill caches nothing");
}
