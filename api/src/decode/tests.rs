use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::json::snapshot_from_json;
use crate::{encode, limits, sample};

/// The problems of a snapshot file, one a line.
fn check(json: &str, expected: &str) {
    let found = match snapshot_from_json(json.as_bytes()) {
        Ok(_) => String::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    };
    assert_eq!(found, expected, "in {json}");
}

fn route_with(rest: &str) -> String {
    format!(r#"{{"routes": [{{"name": "d/r", "model": "m", {rest}}}]}}"#)
}

fn rule_with(rest: &str) -> String {
    route_with(&format!(r#""rules": [{{"targets": [{{"backend": "d/b"}}], {rest}}}]"#))
}

fn backend_with(rest: &str) -> String {
    format!(r#"{{"backends": [{{"name": "d/b", {rest}}}]}}"#)
}

fn endpoint_with(rest: &str) -> String {
    backend_with(&format!(r#""endpoints": [{{"name": "e", "address": "10.0.0.1:80", {rest}}}]"#))
}

fn address(text: &str) -> String {
    backend_with(&format!(r#""endpoints": [{{"name": "e", "address": {text:?}}}]"#))
}

fn scorers(list: &str) -> String {
    format!(r#"{{"profiles": [{{"name": "p", "weighted": {{"scorers": [{list}]}}}}]}}"#)
}

const HOST: &str = "endpoints are IP:port, write the address that the name stands for (IPv6 in brackets)";
const ADDRESS: &str =
    "endpoints are IP:port with a port of 1 to 65535, IPv6 in brackets: 10.0.0.1:8000, [fd00::1]:8000";
const AT: &str = "backends[0].endpoints[0].address";

#[test]
fn addresses() {
    for good in ["10.0.0.1:80", "[fd00::1]:8000", "127.0.0.2:65535"] {
        check(&address(good), "");
    }
    for name in ["localhost:8000", "llama-0.llama.default.svc:8000", "llama"] {
        check(&address(name), &format!("{AT}: {name:?} has a host name: {HOST}"));
    }
    for bad in ["fd00::1:8000", "10.0.0.1", "10.0.0.1:0", "0.0.0.0:80", "[fd00::1]", "10.0.0.1:65536", "224.0.0.1:1"] {
        check(&address(bad), &format!("{AT}: {bad:?} is not usable: {ADDRESS}"));
    }
    check(&address(""), &format!("{AT}: is missing: endpoints are IP:port, IPv6 in brackets"));
}

#[test]
fn routes() {
    check(r#"{"routes": [{"model": "m"}]}"#, "routes[0].name: is missing: give it a name, as `namespace/name`");
    let form = "is not usable: names here are `namespace/name`, as in default/llama";
    for bad in ["plain", "/r", "d/", "a/b/c"] {
        check(
            &format!(r#"{{"routes": [{{"name": {bad:?}, "model": "m"}}]}}"#),
            &format!("routes[0].name: {bad:?} {form}"),
        );
    }
    let neither = "routes[0].model: is missing: a route answers for a model, for adapters, or for both";
    check(r#"{"routes": [{"name": "d/r"}]}"#, neither);
    check(&route_with(r#""adapters": [""]"#), "routes[0].adapters[0]: is missing: give the model's name");
    let eleven = ["\"a\""; 11].join(",");
    let adapters = "routes[0].adapters: 11 adapters, at most 10 are allowed";
    check(&route_with(&format!(r#""adapters": [{eleven}]"#)), adapters);
    let rules = [r#"{"targets": [{"backend": "d/b"}]}"#; 17].join(",");
    check(&route_with(&format!(r#""rules": [{rules}]"#)), "routes[0].rules: 17 rules, at most 16 are allowed");
    let long = "m".repeat(257);
    let model = format!(r#"{{"routes": [{{"name": "d/r", "model": {long:?}}}]}}"#);
    check(&model, "routes[0].model: 257 bytes long, at most 256 are allowed");
    let twice = r#"{"routes": [{"name": "d/r", "model": "a"}, {"name": "d/r", "model": "b"}]}"#;
    check(twice, "routes[1].name: the name \"d/r\" is used twice, first by routes[0]: each must be unique");
}

#[test]
fn what_an_object_needs_and_nobody_here_knows_is_refused() {
    let sentence =
        "\"auth\" is not known to this version, and without it the rest would mean something else: bring it up to date";
    check(&route_with(r#""needs": ["auth"]"#), &format!("routes[0].needs[0]: {sentence}"));
    check(r#"{"backends": [{"name": "d/b", "needs": ["auth"]}]}"#, &format!("backends[0].needs[0]: {sentence}"));
    check(r#"{"profiles": [{"name": "p", "needs": ["auth"]}]}"#, &format!("profiles[0].needs[0]: {sentence}"));
}

#[test]
fn targets() {
    let rule = "routes[0].rules[0]";
    let targets = |list: &str| route_with(&format!(r#""rules": [{{"targets": [{list}]}}]"#));
    check(&targets(r#"{"backend": "d/b"}, {"backend": "d/c", "weight": 0}"#), "");
    check(&targets(""), &format!("{rule}.targets: is missing: name at least one backend"));
    let zero = format!("{rule}.targets: all weights are 0: give at least one a positive weight");
    check(&targets(r#"{"backend": "d/b", "weight": 0}"#), &zero);
    let heavy = format!("{rule}.targets[0].weight: 101 is out of range, use 0 to 100");
    check(&targets(r#"{"backend": "d/b", "weight": 101}"#), &heavy);
    let unnamed = format!("{rule}.targets[0].backend: is missing: give it a name, as `namespace/name`");
    check(&targets("{}"), &unnamed);
    let many = [r#"{"backend": "d/b"}"#; 17].join(",");
    check(&targets(&many), &format!("{rule}.targets: 17 targets, at most 16 are allowed"));
}

#[test]
fn matches() {
    let rule = "routes[0].rules[0]";
    check(&rule_with(r#""uri": {"regex": "^/v1/(chat|x)"}, "headers": {"X-User": {"exact": ""}}"#), "");
    check(&rule_with(r#""uri": {}"#), &format!("{rule}.uri: is missing: say `exact`, `prefix` or `regex`"));
    let huge = rule_with(r#""uri": {"regex": "\\w{1000}"}"#);
    check(
        &huge,
        &format!("{rule}.uri.regex: the regex is refused: Compiled regex exceeds size limit of 1048576 bytes."),
    );
    let long = "a".repeat(4_097);
    let pattern = format!(r#""headers": {{"h": {{"prefix": {long:?}}}}}"#);
    check(&rule_with(&pattern), &format!("{rule}.headers[\"h\"]: 4097 bytes long, at most 4096 are allowed"));
    let token = "a header name has letters, digits and !#$%&'*+-.^_`|~ only";
    let name = rule_with(r#""headers": {"a b": {"exact": "x"}}"#);
    check(&name, &format!("{rule}.headers[\"a b\"]: \"a b\" is not usable: {token}"));
    let cases = rule_with(r#""headers": {"X-A": {"exact": "x"}, "x-a": {"exact": "y"}}"#);
    let first = "first by the same name in other case, \"x-a\": each must be unique";
    check(&cases, &format!("{rule}.headers[\"x-a\"]: header x-a is used twice, {first}"));
    let many: Vec<_> = (0..17).map(|i| format!(r#""h{i}": {{"exact": "x"}}"#)).collect();
    let many = rule_with(&format!(r#""headers": {{{}}}"#, many.join(",")));
    check(&many, &format!("{rule}.headers: 17 header conditions, at most 16 are allowed"));
}

#[test]
fn rate_limits() {
    let limit = |rest: &str| route_with(&format!(r#""rateLimit": {{{rest}}}"#));
    let at = "routes[0].rateLimit";
    check(&limit(r#""inputTokens": 1"#), "");
    check(&limit(r#""outputTokens": 4294967295, "unit": "MONTH", "redis": {"address": "[fd00::1]:6379"}"#), "");
    let neither = format!("{at}: is missing: limit `inputTokens`, `outputTokens` or both, or leave the rate limit out");
    check(&limit(r#""unit": "DAY""#), &neither);
    let range = "0 is out of range, use 1 to 4294967295";
    check(
        &limit(r#""inputTokens": 0, "outputTokens": 0"#),
        &format!("{at}.inputTokens: {range}\n{at}.outputTokens: {range}"),
    );
    let redis = |address: &str| limit(&format!(r#""inputTokens": 1, "redis": {{"address": {address:?}}}"#));
    for good in ["redis-server.kthena-system.svc.cluster.local:6379", "10.0.0.1:1", "r:65535"] {
        check(&redis(good), "");
    }
    let form = "it is host:port with a port of 1 to 65535, IPv6 in brackets: redis.default.svc:6379, [fd00::1]:6379";
    for bad in ["redis", "redis:0", "redis:+1", "redis:65536", ":6379", "fd00::1:6379", "[redis]:1", "a b:1", "u@r:1"] {
        check(&redis(bad), &format!("{at}.redis.address: {bad:?} is not usable: {form}"));
    }
    check(&redis(""), &format!("{at}.redis.address: is missing: say where Redis listens, as host:port"));
    let long = format!("{}:1", "r".repeat(511));
    check(&redis(&long), &format!("{at}.redis.address: 513 bytes long, at most 512 are allowed"));
    let rate_limit = Some(proto::RateLimit { input_tokens: Some(1), unit: 9, ..Default::default() });
    let wire = proto::Route { name: "d/r".into(), model: "m".into(), rate_limit, ..Default::default() };
    let problems = snapshot(proto::Snapshot { routes: vec![wire], ..Default::default() }).unwrap_err();
    let text = "9 is not a value that this version knows: use one of SECOND, MINUTE, HOUR, DAY, MONTH";
    assert_eq!(problems[0].to_string(), format!("{at}.unit: {text}"));
}

#[test]
fn a_bad_regex_is_shown() {
    let problems = snapshot_from_json(rule_with(r#""uri": {"regex": "(a"}"#).as_bytes()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].path, "routes[0].rules[0].uri.regex");
    assert!(problems[0].reason.to_string().contains("unclosed group"), "{}", problems[0]);
}

#[test]
fn policies() {
    let range =
        |path: &str, found: &str, range: &str| format!("backends[0].{path}: {found} is out of range, use {range}");
    let check = |json: &str, path: &str, (found, to): (&str, &str)| check(&backend_with(json), &range(path, found, to));
    let waits = "1ns to 86400s";
    check(r#""timeouts": {"connect": "0s"}"#, "timeouts.connect", ("0ns", waits));
    check(r#""timeouts": {"firstByte": "86401s"}"#, "timeouts.firstByte", ("86401s", waits));
    check(r#""timeouts": {"idle": "-1.5s"}"#, "timeouts.idle", ("-1s and -500000000ns", waits));
    check(r#""timeouts": {"total": "0s"}"#, "timeouts.total", ("0ns", waits));
    check(r#""retry": {"attempts": 6}"#, "retry.attempts", ("6", "0 to 5"));
    check(r#""retry": {"attempts": 257}"#, "retry.attempts", ("257", "0 to 5"));
    check(r#""retry": {"interval": "61s"}"#, "retry.interval", ("61s", "0ns to 60s"));
    check(r#""retry": {"budgetPercent": 101}"#, "retry.budgetPercent", ("101", "0 to 100"));
    check(r#""ejection": {"failures": 0}"#, "ejection.failures", ("0", "1 to 4294967295"));
    check(r#""ejection": {"base": "0s"}"#, "ejection.base", ("0ns", waits));
    check(r#""ejection": {"base": "9s", "max": "8s"}"#, "ejection.max", ("8s", "9s to 86400s"));
    check(r#""ejection": {"maxPercent": 101}"#, "ejection.maxPercent", ("101", "0 to 100"));
    check(r#""ejection": {"slowStart": "86401s"}"#, "ejection.slowStart", ("86401s", "0ns to 86400s"));
    check(r#""maxInFlight": 0"#, "maxInFlight", ("0", "1 to 1000000"));
}

#[test]
fn endpoints() {
    let at = "backends[0].endpoints[0]";
    check(&endpoint_with(r#""rank": 65536"#), &format!("{at}.rank: 65536 is out of range, use 0 to 65535"));
    let cache = format!("{at}.cacheTokens: 0 is out of range, use 1 to 18446744073709551615");
    check(&endpoint_with(r#""cacheTokens": "0""#), &cache);
    let adapter = format!("{at}.adapters.names[0]: is missing: give the model's name");
    check(&endpoint_with(r#""adapters": {"names": [""]}"#), &adapter);
    let many = vec!["\"a\""; 1_025].join(",");
    let many = endpoint_with(&format!(r#""adapters": {{"names": [{many}]}}"#));
    check(&many, &format!("{at}.adapters.names: 1025 adapters, at most 1024 are allowed"));
    let labels: Vec<_> = (0..65).map(|i| format!(r#""l{i}": """#)).collect();
    let labels = endpoint_with(&format!(r#""labels": {{{}}}"#, labels.join(",")));
    check(&labels, &format!("{at}.labels: 65 labels, at most 64 are allowed"));
    let control = format!("{at}.zone: \"a\\nb\" is not usable: leave out control characters");
    check(&endpoint_with(r#""zone": "a\nb""#), &control);
    let unnamed = backend_with(r#""endpoints": [{"address": "10.0.0.1:80"}]"#);
    check(&unnamed, &format!("{at}.name: is missing: give it a name"));
}

#[test]
fn profiles() {
    check(&scorers(""), "profiles[0].weighted.scorers: is missing: list at least one scorer, or use localityCost");
    let zero = "profiles[0].weighted.scorers: all weights are 0: give at least one a positive weight";
    check(&scorers(r#"{"random": {}, "weight": 0}"#), zero);
    let at = "profiles[0].weighted.scorers[0]";
    let known =
        "say `leastRequest`, `leastLatency`, `gpuUsage`, `prefixCache`, `random`, `kvCacheAware` or `sessionAffinity`";
    check(&scorers("{}"), &format!("{at}: is missing: {known}"));
    let alpha = format!("{at}.leastLatency.ttftWeight: 1.5 is out of range, use 0 to 1");
    check(&scorers(r#"{"leastLatency": {"ttftWeight": 1.5}}"#), &alpha);
    let nan = format!("{at}.leastLatency.ttftWeight: NaN is out of range, use 0 to 1");
    check(&scorers(r#"{"leastLatency": {"ttftWeight": "NaN"}}"#), &nan);
    let blocks = format!("{at}.prefixCache.maxBlocks: 0 is out of range, use 1 to 65536");
    check(&scorers(r#"{"prefixCache": {"maxBlocks": 0}}"#), &blocks);
    let top = format!("{at}.prefixCache.topK: 1001 is out of range, use 1 to 1000");
    check(&scorers(r#"{"prefixCache": {"topK": 1001}}"#), &top);
    let weight = format!("{at}.weight: 1000001 is out of range, use 0 to 1000000");
    check(&scorers(r#"{"random": {}, "weight": 1000001}"#), &weight);
    let kv = format!("{at}.kvCacheAware.maxBlocks: 0 is out of range, use 1 to 65536");
    check(&scorers(r#"{"kvCacheAware": {"maxBlocks": 0}}"#), &kv);
    let header = format!("{at}.sessionAffinity.header: \"a b\" is not usable: write a header's name, as X-Session-ID");
    check(&scorers(r#"{"sessionAffinity": {"header": "a b"}}"#), &header);
    let twice = "profiles[0].weighted.scorers[1]: the scorer at index 1 is used twice, first by \
                 profiles[0].weighted.scorers[0]: each must be unique";
    check(&scorers(r#"{"random": {}}, {"random": {}}"#), twice);
    let many = "profiles[0].weighted.scorers: 17 scorers, at most 16 are allowed";
    let problems = snapshot_from_json(scorers(&[r#"{"random": {}}"#; 17].join(",")).as_bytes()).unwrap_err();
    assert_eq!(problems[0].to_string(), many);
    let filter = |f: &str| format!(r#"{{"profiles": [{{"name": "p", "filters": [{f}]}}]}}"#);
    check(&filter("{}"), "profiles[0].filters[0]: is missing: say `leastRequest` or `loraAffinity`");
    let waiting = "profiles[0].filters[0].leastRequest.maxWaiting: 0 is out of range, use 1 to 4294967295";
    check(&filter(r#"{"leastRequest": {"maxWaiting": 0}}"#), waiting);
    let filters = [r#"{"loraAffinity": {}}"#; 17].join(",");
    check(&filter(&filters), "profiles[0].filters: 17 filters, at most 16 are allowed");
    let named = r#"no profile "p" in this snapshot: name one under `profiles`, or leave it out for locality-cost"#;
    check(&backend_with(r#""profile": "p""#), &format!("backends[0].profile: {named}"));
}

#[test]
fn all_problems_are_reported_and_attributed() {
    let json = r#"{"routes": [{"name": "d/r"}],
                   "backends": [{"name": "d/b", "maxInFlight": 0, "endpoints": [{"name": "e", "address": "host:1"}]}],
                   "profiles": [{"name": "p", "filters": [{}]}]}"#;
    let problems = snapshot_from_json(json.as_bytes()).unwrap_err();
    let found: Vec<_> = problems.iter().map(|p| (p.object.clone().unwrap(), p.path.as_str())).collect();
    let (route, backend) = (Object::Route("d/r".into()), Object::Backend("d/b".into()));
    let expected = [
        (route, "routes[0].model"),
        (backend.clone(), "backends[0].endpoints[0].address"),
        (backend, "backends[0].maxInFlight"),
        (Object::Profile("p".into()), "profiles[0].filters[0]"),
    ];
    assert_eq!(found, expected);
    let refusals = encode::refusals(&problems, &Default::default());
    assert_eq!((refusals[0].kind(), refusals[0].name.as_str()), (proto::refusal::Kind::Route, "d/r"));
}

#[test]
fn the_list_of_problems_is_bounded() {
    let wire = proto::Snapshot { routes: vec![proto::Route::default(); 700], ..Default::default() };
    let problems = snapshot(wire).unwrap_err();
    assert_eq!(problems.len(), 1_001);
    assert_eq!(problems.last().unwrap().to_string(), "and 400 more problems");
}

#[test]
fn counts_of_the_whole_are_bounded() {
    let count = |wire: proto::Snapshot| snapshot(wire).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>();
    let endpoint =
        |i: u32| proto::Endpoint { name: i.to_string(), address: "10.0.0.1:80".into(), ..Default::default() };
    let backend =
        proto::Backend { name: "d/b".into(), endpoints: (0..100_001).map(endpoint).collect(), ..Default::default() };
    let wire = proto::Snapshot { backends: vec![backend], ..Default::default() };
    assert_eq!(count(wire), ["backends: 100001 endpoints, at most 100000 are allowed"]);
    let backend = |i: u32| proto::Backend { name: format!("d/{i}"), ..Default::default() };
    let wire = proto::Snapshot { backends: (0..20_001).map(backend).collect(), ..Default::default() };
    assert_eq!(count(wire), ["backends: 20001 backends, at most 20000 are allowed"]);
    let route = |i: u32| proto::Route { name: format!("d/{i}"), model: "m".into(), ..Default::default() };
    let wire = proto::Snapshot { routes: (0..20_001).map(route).collect(), ..Default::default() };
    assert_eq!(count(wire), ["routes: 20001 routes, at most 20000 are allowed"]);
    let profile = |i: u32| proto::Profile { name: i.to_string(), ..Default::default() };
    let wire = proto::Snapshot { profiles: (0..1_001).map(profile).collect(), ..Default::default() };
    assert_eq!(count(wire), ["profiles: 1001 profiles, at most 1000 are allowed"]);
}

#[test]
fn enum_values_of_a_later_version_are_refused() {
    let endpoint = proto::Endpoint { name: "e".into(), address: "10.0.0.1:80".into(), role: 9, ..Default::default() };
    let backend = proto::Backend {
        name: "d/b".into(),
        engine: 9,
        usage: 9,
        credentials: 9,
        endpoints: vec![endpoint],
        ..Default::default()
    };
    let problems = snapshot(proto::Snapshot { backends: vec![backend], ..Default::default() }).unwrap_err();
    let found: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let text = "9 is not a value that this version knows: use one of";
    let expected = [
        format!("backends[0].engine: {text} VLLM, SGLANG, TRITON, TORCHSERVE"),
        format!("backends[0].endpoints[0].role: {text} BOTH, PREFILL, DECODE"),
        format!("backends[0].usage: {text} ALWAYS, POLICY, NEVER"),
        format!("backends[0].credentials: {text} PASS, STRIP"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    let problems = snapshot_from_bytes(&[0x0a]).unwrap_err();
    assert!(matches!(problems[..], [Problem { reason: Reason::Wire(_), .. }]), "{problems:?}");
}

#[test]
fn unknown_fields_of_the_disk_form_are_ignored() {
    // Field 100, a varint.
    assert_eq!(snapshot_from_bytes(&[0x08, 5, 0xa0, 0x06, 1]).unwrap().version.epoch, 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn decoding_undoes_encoding(original in sample::snapshot()) {
        prop_assert_eq!(snapshot(encode::snapshot(&original)).unwrap(), original.clone());
        prop_assert_eq!(snapshot_from_bytes(&encode::snapshot(&original).encode_to_vec()).unwrap(), original);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = snapshot_from_bytes(&bytes);
        let _ = snapshot_from_json(&bytes);
    }

    #[test]
    fn damaged_bytes_never_panic_and_what_is_accepted_survives_a_round_trip(
        original in sample::snapshot(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = encode::snapshot(&original).encode_to_vec();
        bytes.push(0);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(decoded) = snapshot_from_bytes(&bytes) {
            prop_assert_eq!(snapshot(encode::snapshot(&decoded)).unwrap(), decoded);
        }
    }
}

fn template_with(rest: &str) -> String {
    backend_with(&format!(r#""chatTemplate": {{"source": "x", {rest}}}"#))
}

fn segments_with(rest: &str) -> String {
    template_with(&format!(r#""segments": {{"texts": [{{"pieces": [{{"text": "a"}}]}}], {rest}}}"#))
}

#[test]
fn chat_templates() {
    const AT: &str = "backends[0].chatTemplate";
    check(&template_with(r#""bos": "\u0000<s>", "tokens": {"bos_token": "<s>"}, "content": "PARTS""#), "");
    check(
        &backend_with(r#""chatTemplate": {"bos": "x"}"#),
        &format!("{AT}.source: is missing: give the Jinja program"),
    );
    let long = "x".repeat(limits::MAX_TEMPLATE_BYTES + 1);
    check(
        &backend_with(&format!(r#""chatTemplate": {{"source": "{long}"}}"#)),
        &format!("{AT}.source: 131073 bytes long, at most 131072 are allowed"),
    );
    let tokens: Vec<String> = (0..65).map(|n| format!(r#""t{n}": "x""#)).collect();
    check(
        &template_with(&format!(r#""tokens": {{{}}}"#, tokens.join(","))),
        &format!("{AT}.tokens: 65 tokens, at most 64 are allowed"),
    );
    check(&segments_with(r#""gaps": [{"before": "USER", "index": 2, "left": 1, "users": 1}], "apart": 63"#), "");
    check(
        &segments_with(r#""gaps": [{"text": 1}]"#),
        &format!("{AT}.segments.gaps[0].text: 1 is out of range, use 0 to 0"),
    );
    check(
        &segments_with(r#""gaps": [{"index": 3}]"#),
        &format!("{AT}.segments.gaps[0].index: 3 is out of range, use 0 to 2"),
    );
    check(
        &segments_with(r#""contents": [{"strip": "BOTH"}]"#),
        &format!("{AT}.segments.contents[0].speaker: is missing: say whose content it is"),
    );
    check(
        &segments_with(r#""apart": 64"#),
        &format!(
            "{AT}.segments.apart: 64 is not a value that this version knows: use one of 1, 2, 4, 8, 16, 32 and their sums"
        ),
    );
    check(
        &template_with(r#""segments": {"texts": [{"pieces": [{}]}]}"#),
        &format!("{AT}.segments.texts[0].pieces[0]: is missing: a piece is a text or a date"),
    );
}
