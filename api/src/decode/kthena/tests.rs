use super::*;

fn read(yaml: &str) -> Result<KthenaProfile, Vec<Problem>> {
    let value: serde_norway::Value = serde_norway::from_str(yaml).unwrap();
    kthena_profile("k".into(), value)
}

fn check(yaml: &str, scorers: &[(Scorer, u32)], warnings: &[&str]) {
    let found = read(yaml).unwrap();
    assert_eq!(found.profile.scorers, Scorers::Weighted(scorers.to_vec()), "{yaml}");
    assert_eq!(found.warnings, warnings, "{yaml}");
}

fn refused(yaml: &str, expected: &str) {
    let problems: Vec<_> = read(yaml).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(problems.join("\n"), expected, "{yaml}");
}

fn scores(list: &str) -> String {
    format!("{{scheduler: {{plugins: {{Score: {{enabled: [{list}]}}}}}}}}")
}

fn args(plugin: &str, args: &str) -> String {
    format!("{{scheduler: {{pluginConfig: [{{name: {plugin}, args: {{{args}}}}}]}}}}")
}

const SHIPPED: &str = "
scheduler:
  pluginConfig:
  - name: least-request
    args: {maxWaitingRequests: 12}
  - name: least-latency
    args: {TTFTTPOTWeightFactor: 0.25}
  - name: prefix-cache
    args: {blockSizeToHash: 64, maxBlocksToMatch: 64, maxHashCacheSize: 50000, topKMatches: 3}
  plugins:
    Filter:
      enabled: [least-request]
      disabled: [lora-affinity]
    Score:
      enabled:
      - {name: least-request, weight: 1}
      - {name: gpu-usage, weight: 2}
      - {name: least-latency, weight: 3}
      - {name: prefix-cache, weight: 4}
auth:
  issuer: x
";

#[test]
fn the_shipped_configuration() {
    let expected = [
        (Scorer::LeastRequest, 1),
        (Scorer::GpuUsage, 2),
        (Scorer::LeastLatency { ttft_weight: 0.25 }, 3),
        (Scorer::PrefixCache { max_blocks: 64, top_k: 3 }, 4),
    ];
    let warnings = [
        "`auth` has no effect: data planes of this release look at no tokens of clients",
        "prefix-cache: `blockSizeToHash` has no effect: every data plane hashes blocks of 64 bytes",
        "prefix-cache: `maxHashCacheSize` has no effect: the table's size is a setting of the data plane",
    ];
    check(SHIPPED, &expected, &warnings);
    assert_eq!(read(SHIPPED).unwrap().profile.filters, [Filter::LeastRequest { max_waiting: 12 }]);
}

#[test]
fn who_asks_for_tokens_of_clients_is_not_served_without_them() {
    let auth = |auth: &str| format!("auth: {auth}\nscheduler: {{}}\n");
    let sentence = "is not usable: data planes of this release look at no tokens of clients and would serve everybody: \
                    authenticate in front of them, and leave `auth` out";
    refused(&auth("{issuer: x, jwksUri: 'https://x'}"), &format!("auth.jwksUri: \"https://x\" {sentence}"));
    refused(&auth("{jwksUri: 7}"), &format!("auth.jwksUri: \"7\" {sentence}"));
    refused(&auth("[]"), "auth: \"a list\" is not usable: write a map");
    for none in ["", "{}", "{issuer: x}", "{jwksUri: ''}", "{jwksUri: null}"] {
        let warnings = read(&auth(none)).unwrap().warnings;
        assert!(warnings[0].starts_with("`auth` has no effect"), "{warnings:?}");
    }
}

#[test]
fn scores_by_kthenas_rules() {
    let only = [(Scorer::LeastRequest, 3)];
    check(
        &scores("{name: least-request, weight: 3}, {name: random, weight: 1}"),
        &only,
        &["score `random` is left out, as it would drown the others"],
    );
    check(&scores("{name: random, weight: 2}"), &[(Scorer::Random, 2)], &[]);
    check(
        &scores("{name: least-request, weight: 3}, {name: other, weight: 1}"),
        &only,
        &["there is no score \"other\": it is left out"],
    );
    check(
        &scores("{name: kvcache-aware, weight: 1}"),
        &[(Scorer::KvCacheAware { max_blocks: 128 }, 1)],
        &[KVCACHE_AWARE],
    );
    check(
        &scores("{name: least-request, weight: 1}, {name: least-request, weight: 3}"),
        &only,
        &["score \"least-request\" is enabled twice: the last weight counts"],
    );
    check(
        &scores("{name: least-request, weight: 3}, {name: gpu-usage, weight: -1}"),
        &[(Scorer::LeastRequest, 3), (Scorer::GpuUsage, 0)],
        &["score \"gpu-usage\": weight -1 is taken as 0"],
    );
    check(
        &scores("{name: gpu-usage}"),
        &[(Scorer::Random, 1)],
        &["all scores have weight 0 (the default): the choice is random"],
    );
}

#[test]
fn no_score_is_locality_cost() {
    let found = read("{scheduler: {plugins: {Filter: {enabled: [lora-affinity, other]}}}}").unwrap();
    assert_eq!(found.profile.scorers, Scorers::LocalityCost);
    assert_eq!(found.profile.filters, [Filter::LoraAffinity]);
    let warnings = ["there is no filter \"other\": it is left out", "no score is enabled: locality-cost is used"];
    assert_eq!(found.warnings, warnings);
}

#[test]
fn arguments_that_mean_the_default() {
    let yaml = "{scheduler: {pluginConfig: [{name: prefix-cache, args: {maxBlocksToMatch: 0, topKMatches: -1, x: 1}}],
                             plugins: {Score: {enabled: [{name: prefix-cache, weight: 1}]}}}}";
    let warning = "pluginConfig: \"prefix-cache\" has no argument \"x\"; it has no effect";
    check(yaml, &[(Scorer::PrefixCache { max_blocks: 128, top_k: 5 }, 1)], &[warning]);
}

#[test]
fn refusals() {
    let at = "scheduler.pluginConfig[0]";
    let factor = |value: &str| args("least-latency", &format!("TTFTTPOTWeightFactor: {value}"));
    let range = |key: &str, found: &str, to: &str| format!("{at}.args[{key:?}]: {found} is out of range, use {to}");
    refused(&factor("2"), &range("TTFTTPOTWeightFactor", "2", "0 to 1"));
    refused(&factor(".nan"), &range("TTFTTPOTWeightFactor", "NaN", "0 to 1"));
    refused(&factor("[]"), &range("TTFTTPOTWeightFactor", "what is no number", "0 to 1"));
    let waiting = args("least-request", "maxWaitingRequests: -1");
    refused(&waiting, &range("maxWaitingRequests", "-1", "0 to 4294967295"));
    let top = args("prefix-cache", "topKMatches: 1001");
    refused(&top, &range("topKMatches", "1001", "1 to 1000"));
    refused("{}", "scheduler: is missing: say which plugins are enabled");
    let typo = "scheduler: \"plugin\" is not usable: its keys are `pluginConfig` and `plugins`";
    refused("{scheduler: {plugin: {}}}", typo);
    refused(
        &args("session-affinity", "header: 'two words'"),
        &format!("{at}.args[\"header\"]: \"two words\" is not usable: write a header's name, as X-Session-ID"),
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let yaml = "
scheduler:
  pluginConfig:
  - args: {maxWaitingRequests: 3}
  - {name: least-latency, args: {TTFTTPOTWeightFactor: 3}, arg: 1}
  plugins:
    Filter: {enabled: [least-request, 7], on: []}
    Score: {enabled: [{weight: 1}, {name: gpu-usage, weight: heavy}, prefix-cache]}
    Sort: {}
";
    let at = "scheduler.pluginConfig";
    let plugins = "scheduler.plugins";
    let expected = [
        format!("{plugins}.Filter: \"on\" is not usable: its keys are `enabled` and `disabled`"),
        format!("{plugins}: \"Sort\" is not usable: its keys are `Filter` and `Score`"),
        format!("{at}[0].name: is missing: name the plugin"),
        format!("{at}[1]: \"arg\" is not usable: its keys are `name` and `args`"),
        format!("{plugins}.Filter.enabled[1]: \"7\" is not usable: write the plugin's name"),
        format!("{plugins}.Score.enabled[0].name: is missing: name the plugin"),
        format!("{plugins}.Score.enabled[1].weight: \"heavy\" is not usable: write a whole number"),
        format!("{plugins}.Score.enabled[2]: \"prefix-cache\" is not usable: write a map"),
        format!("{plugins}.Score.enabled[2].name: is missing: name the plugin"),
        format!("{at}[1].args[\"TTFTTPOTWeightFactor\"]: 3 is out of range, use 0 to 1"),
    ];
    refused(yaml, &expected.join("\n"));
    refused(
        "{scheduler: {plugins: 3, pluginConfig: {}}}",
        "scheduler.plugins: \"3\" is not usable: write a map\n\
         scheduler.pluginConfig: \"a map\" is not usable: write a list",
    );
}

#[test]
fn sections_without_content_are_empty() {
    let found = read("{scheduler: {pluginConfig: , plugins: {Filter: {enabled: }, Score: }}, gateway: 1}").unwrap();
    assert_eq!((found.profile.filters.len(), found.profile.scorers), (0, Scorers::LocalityCost));
    assert_eq!(found.warnings[0], "\"gateway\" is not part of Kthena's configuration and has no effect");
}

#[test]
fn knowledge_of_caches_and_sessions() {
    let yaml = "
scheduler:
  pluginConfig:
  - name: kvcache-aware
    args: {blockSizeToHash: 16, maxBlocksToMatch: 64, vllmTokenizerPort: 8000, sglangTokenizerPort: 30000}
  - {name: session-affinity, args: {header: X-User}}
  plugins: {Score: {enabled: [{name: kvcache-aware, weight: 2}, {name: session-affinity, weight: 3}]}}
";
    let scorers =
        [(Scorer::KvCacheAware { max_blocks: 64 }, 2), (Scorer::SessionAffinity { header: "x-user".into() }, 3)];
    let warnings = [
        "kvcache-aware: `blockSizeToHash` has no effect: every data plane hashes blocks of 64 bytes",
        "kvcache-aware: `vllmTokenizerPort` has no effect: no engine is asked to tokenise",
        "kvcache-aware: `sglangTokenizerPort` has no effect: no engine is asked to tokenise",
        KVCACHE_AWARE,
    ];
    check(yaml, &scorers, &warnings);
}
