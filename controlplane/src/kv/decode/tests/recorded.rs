//! What vLLM 0.32.0 published, byte by byte, and what it answered when asked to say it again.

use serde_json::Value;

use super::pack::pack;
use crate::kv::decode::{Answer, answer, batch, live};
use crate::kv::event::{Adapter, Attention, Batch, Event, Salting, Stored, Tier};

const FRAMES: &[u8] = include_bytes!("../../../../tests/recorded/vllm-0.32.0-kv-events.frames.bin");
const EVENTS: &str = include_str!("../../../../tests/recorded/vllm-0.32.0-kv-events.jsonl");
const REPLAY: &str = include_str!("../../../../tests/recorded/vllm-0.32.0-kv-replay.jsonl");

/// Each message's frames: their number, and each one's length before it, in little-endian.
pub(super) fn messages() -> Vec<Vec<&'static [u8]>> {
    let mut rest = FRAMES;
    let number = |rest: &mut &'static [u8]| {
        let (number, after) = rest.split_first_chunk::<4>().unwrap();
        *rest = after;
        u32::from_le_bytes(*number) as usize
    };
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let frames = (0..number(&mut rest)).map(|_| {
            let length = number(&mut rest);
            let (frame, after) = rest.split_at(length);
            rest = after;
            frame
        });
        messages.push(frames.collect());
    }
    messages
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the recorder understood, in our terms.
fn expected(payload: &Value) -> Batch {
    let events = payload[1].as_array().unwrap().iter().map(|event| match event["type"].as_str().unwrap() {
        "AllBlocksCleared" => Event::Cleared,
        _ => Event::Stored(expected_store(event)),
    });
    Batch {
        time_s: payload[0].as_f64().unwrap(),
        rank: payload[2].as_u64().map(|rank| rank as u32),
        events: events.collect(),
        passed_over: 0,
    }
}

fn expected_store(event: &Value) -> Stored {
    let numbers = |key: &str| event[key].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>();
    let extra = |text: &Value| crate::kv::event::Extra::Text(text.as_str().unwrap().into());
    let extras: Vec<Box<[_]>> = event["extra_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block.as_array().into_iter().flatten().map(extra).collect())
        .collect();
    let plain = extras.iter().all(|extras| extras.is_empty());
    Stored {
        hashes: numbers("block_hashes"),
        parent: event["parent_block_hash"].as_u64(),
        tokens: numbers("token_ids").into_iter().map(|token| token as u32).collect(),
        block_size: event["block_size"].as_u64().unwrap() as u32,
        tier: Tier::Device,
        group: 0,
        attention: Some(Attention::Full),
        adapter: event["lora_name"].as_str().map_or(Adapter::None, |name| Adapter::Name(name.into())),
        salt: None,
        extras: if plain { Vec::new() } else { extras },
    }
}

#[test]
fn live_messages_mean_what_the_recorder_understood() {
    let (messages, lines) = (messages(), lines(EVENTS));
    assert_eq!((messages.len(), lines.len()), (5, 5));
    for (frames, line) in messages.iter().zip(&lines) {
        let (sequence, payload) = live(frames).unwrap();
        assert_eq!(Some(sequence), line["seq"].as_u64());
        assert_eq!(batch(payload), Ok(expected(&line["payload"])), "message {sequence}");
    }
}

#[test]
fn an_adapters_and_a_salted_requests_blocks_are_told_apart() {
    let stores: Vec<Stored> = messages()
        .iter()
        .flat_map(|frames| batch(live(frames).unwrap().1).unwrap().events)
        .filter_map(|event| if let Event::Stored(stored) = event { Some(stored) } else { None })
        .collect();
    let spaces: Vec<_> = stores.iter().map(|stored| (stored.adapter.clone(), stored.salting())).collect();
    let plain = (Adapter::None, Salting::None);
    let lora = (Adapter::Name("sql-lora".into()), Salting::None);
    let salted = (Adapter::None, Salting::Salt("tenant-a"));
    assert_eq!(spaces, [plain.clone(), plain.clone(), lora, salted, plain]);
}

/// The recorder kept the lengths of a replay's frames and what was in them, so the bytes are made again, to the length.
#[test]
fn a_replays_answers_are_read_in_both_framings() {
    let lines = lines(REPLAY);
    assert_eq!(lines.len(), 12);
    for line in &lines {
        let payload = if line["payload"].is_null() { Vec::new() } else { pack(&line["payload"]) };
        let sequence = line["seq"].as_i64().unwrap().to_be_bytes();
        let topic = vec![b'k'; line["frame_lens"][1].as_u64().unwrap() as usize];
        assert_eq!(line["frame_lens"][3].as_u64(), Some(payload.len() as u64), "as long as on the wire");
        let newer: [&[u8]; 4] = [b"", &topic, &sequence, &payload];
        let older: [&[u8]; 3] = [b"", &sequence, &payload];
        let asked: [&[u8]; 2] = [&sequence, &payload];
        let read = answer(&newer).unwrap();
        assert_eq!((answer(&older), answer(&asked)), (Ok(read), Ok(read)));
        match read {
            Answer::End => assert_eq!(line["seq"].as_i64(), Some(-1)),
            Answer::Message { sequence, payload } => {
                assert_eq!(line["seq"].as_u64(), Some(sequence));
                assert_eq!(batch(payload), Ok(expected(&line["payload"])));
            }
        }
    }
}
