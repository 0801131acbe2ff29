use super::*;

const ENGINE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

/// Each rank's places.
fn places(told: Result<Told, DiscoverError>) -> Result<Vec<String>, String> {
    let text = |publisher: &Publisher| {
        let Publisher { rank, events, replay, load, topic } = publisher;
        let replay = replay.as_ref().map_or("-".to_owned(), |place| place.port.to_string());
        let load = load.as_ref().map_or("-".to_owned(), |(place, topic)| format!("{}/{topic}", place.port));
        format!("{rank} {events} {replay} {load} {topic}")
    };
    told.map(|told| told.publishers.iter().map(text).collect()).map_err(|error| error.to_string())
}

#[test]
fn vllm_tells_in_a_list_or_by_rank() {
    let list = r#"[{"data_parallel_rank":1,"endpoint":"tcp://*:5558","replay_endpoint":null,"topic":""},
        {"data_parallel_rank":0,"endpoint":"tcp://10.0.0.7:5557","replay_endpoint":"tcp://*:5600","topic":"kv"}]"#;
    let expected = ["0 tcp://10.0.0.7:5557 5600 - kv", "1 tcp://10.0.0.1:5558 - - "];
    assert_eq!(places(told::vllm(list, ENGINE)).unwrap(), expected);
    let by_rank = r#"{"0":{"endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5600","topic":"kv","hwm":100000,"buffer_steps":10,
        "publisher":"zmq","encoding":"msgpack","schema_version":1,"enable_kv_cache_events":true},
        "1":{"endpoint":"tcp://*:5558","enable_kv_cache_events":false}}"#;
    assert_eq!(places(told::vllm(by_rank, ENGINE)).unwrap(), ["0 tcp://10.0.0.1:5557 5600 - kv"]);
    assert_eq!(places(told::vllm("[]", ENGINE)).unwrap(), [""; 0]);
}

#[test]
fn sglang_tells_the_first_ranks_ports() {
    let info = r#"{"model_path":"m","kv_events":{"publisher":"zmq","endpoint_host":"*","endpoint_port_base":5557,"topic":"t",
        "block_size":64,"dp_size":2,"load_endpoint_port_base":5700,"load_topic":"l","replay_endpoint_port_base":5600}}"#;
    let expected = ["0 tcp://10.0.0.1:5557 5600 5700/l t", "1 tcp://10.0.0.1:5558 5601 5701/l t"];
    assert_eq!(places(told::sglang(info, ENGINE)).unwrap(), expected);
    assert_eq!(told::sglang(info, ENGINE).unwrap().block_size, Some(64));
    let first = r#"{"kv_events":{"endpoint_host":"*","endpoint_port_base":5557,"load_endpoint_port_base":5700}}"#;
    assert_eq!(places(told::sglang(first, ENGINE)).unwrap(), ["0 tcp://10.0.0.1:5557 - 5700/load "]);
    assert_eq!(told::sglang(r#"{"kv_events":null}"#, ENGINE).unwrap(), Told::default());
    assert_eq!(told::sglang("{}", ENGINE).unwrap(), Told::default());
}

#[test]
fn an_engine_that_tells_nothing_is_followed_by_convention() {
    assert_eq!(places(by_convention(ENGINE, 1)).unwrap(), ["0 tcp://10.0.0.1:5557 5558 - "]);
    let two = ["0 tcp://10.0.0.1:5557 - - ", "1 tcp://10.0.0.1:5558 - - "];
    assert_eq!(places(by_convention(ENGINE, 2)).unwrap(), two);
    assert!(by_convention(ENGINE, 0).is_err() && by_convention(ENGINE, 1_025).is_err());
}

#[test]
fn what_makes_no_sense_says_why() {
    let check = |told, why: &str| {
        let error = places(told).unwrap_err();
        assert!(error.contains(why), "{error}");
    };
    check(told::vllm("5", ENGINE), "did not match");
    check(told::vllm(r#"[{"endpoint":"ipc://x"}]"#, ENGINE), "nobody gets");
    check(told::vllm(r#"[{"endpoint":"tcp://127.0.0.1:5557"}]"#, ENGINE), "from outside");
    check(told::vllm(r#"{"one":{"endpoint":"tcp://*:5557"}}"#, ENGINE), "invalid digit");
    let twice = r#"[{"data_parallel_rank":1,"endpoint":"tcp://*:1"},{"data_parallel_rank":1,"endpoint":"tcp://*:2"}]"#;
    check(told::vllm(twice, ENGINE), "twice");
    check(told::sglang("5", ENGINE), "answer");
    let info = |port: u32, size: u32| {
        format!(r#"{{"kv_events":{{"endpoint_host":"*","endpoint_port_base":{port},"dp_size":{size}}}}}"#)
    };
    check(told::sglang(&info(65_535, 2), ENGINE), "no port");
    check(told::sglang(&info(5_557, 4_000_000), ENGINE), "4000000 ranks");
}
