//! Valid snapshots for property tests.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::id::{EndpointKey, ModelName, ProfileName};
use crate::seen::Seen;
use crate::snapshot::*;
use crate::template::{Apart, Change, ChatTemplate, ContentForm, ContentKey, GapKey, Piece, Segments};

/// Any valid snapshot of a few routes, backends and profiles.
pub fn snapshot() -> impl Strategy<Value = Snapshot> {
    let profiles = btree_map("[a-z]{1,3}", (vec(filter(), 0..3), scorers()), 0..4);
    let profiles = profiles.prop_map(|map| {
        let named = map.into_iter().map(|(name, (filters, scorers))| Profile { name: name.into(), filters, scorers });
        named.collect::<Vec<_>>()
    });
    let version = (any::<u64>(), any::<u64>()).prop_map(|(epoch, version)| Version { epoch, version });
    let parts = (version, any::<u64>(), routes(), backends(), profiles, (any::<u64>(), seen()));
    parts.prop_map(|(version, fleet_seed, routes, mut backends, profiles, (pick, seen))| {
        name_profiles(&mut backends, &profiles, pick);
        Snapshot { version, fleet_seed, routes, backends, profiles, seen }
    })
}

/// Of lists that come and go, as a control plane is started anew for other namespaces.
fn seen() -> impl Strategy<Value = Seen> {
    btree_map("Pod|ModelRoute/[a-c]", (0u64..3).prop_map(|at| at.to_string()), 0..4)
        .prop_map(|lists| lists.into_iter().collect())
}

/// Two snapshots that have much in common, as before and after an edit.
pub fn edit() -> impl Strategy<Value = (Snapshot, Snapshot)> {
    (snapshot(), snapshot(), any::<u64>()).prop_map(|(old, mut new, mix)| {
        // Routes refer to backends loosely, so any mix of two lists of routes is valid.
        let held = old.routes.iter().enumerate().filter(|(i, _)| mix >> (i % 64) & 1 == 1).map(|(_, r)| r.clone());
        new.routes.retain(|route| old.routes.iter().all(|other| other.name != route.name));
        let at = new.routes.len().min(mix as usize % 3);
        new.routes.splice(at..at, held);
        if mix & 2 == 0 {
            new.backends.clone_from(&old.backends);
            new.profiles.clone_from(&old.profiles);
            edit_backends(&mut new.backends, mix >> 2);
        }
        (old, new)
    })
}

/// What happens to endpoints that may be shared: the backends change places, one of them leaves, the pod moves, one backend
/// sees it in another way.
fn edit_backends(backends: &mut Vec<Backend>, mix: u64) {
    if mix & 1 == 0 {
        backends.reverse();
    }
    let Some(key) = backends.iter().flat_map(|b| &b.endpoints).map(|e| e.key.clone()).next() else { return };
    let members = backends.iter_mut().flat_map(|b| &mut b.endpoints).filter(|e| e.key == key);
    match mix >> 1 & 3 {
        0 => drop(backends.remove(mix as usize % backends.len())),
        1 => members.for_each(|member| Arc::make_mut(member).node = Some("elsewhere".into())),
        2 => members.take(1).for_each(|member| Arc::make_mut(member).role = Role::Decode),
        _ => {}
    }
}

fn name_profiles(backends: &mut [Backend], profiles: &[Profile], pick: u64) {
    for (i, backend) in backends.iter_mut().enumerate() {
        let choice = (pick >> (i % 16)) as usize % (profiles.len() + 1);
        backend.profile = profiles.get(choice).map(|p| ProfileName::new(p.name.as_str()));
    }
}

fn model() -> impl Strategy<Value = ModelName> {
    "[a-zA-Z0-9./:_é-]{1,12}".prop_map(|name| name.as_str().into())
}

fn label() -> impl Strategy<Value = Option<Arc<str>>> {
    option::of("[a-z0-9-]{1,6}".prop_map(Arc::from))
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let body = (option::of(model()), vec(model(), 0..3), vec(rule(), 0..3), model(), option::of(rate_limit()));
    btree_map("[ab]/[a-f]{1,2}", body, 0..6).prop_map(|map| {
        let named = map.into_iter().map(|(name, (model, adapters, rules, other, rate_limit))| {
            let model = if adapters.is_empty() { model.or(Some(other)) } else { model };
            Route { name: name.into(), model, adapters, rules: rules.into(), rate_limit }
        });
        named.collect()
    })
}

fn rate_limit() -> impl Strategy<Value = RateLimit> {
    use RateUnit::{Day, Hour, Minute, Month, Second};
    let count = || any::<NonZeroU32>();
    let tokens = prop_oneof![
        count().prop_map(TokenLimit::Input),
        count().prop_map(TokenLimit::Output),
        (count(), count()).prop_map(|(input, output)| TokenLimit::Both { input, output }),
    ];
    let unit = prop::sample::select(vec![Second, Minute, Hour, Day, Month]);
    let redis = ("[a-z]{1,6}(\\.[a-z]{1,3})?|\\[fd00::1\\]", 1u16..).prop_map(|(host, port)| format!("{host}:{port}"));
    let store = prop_oneof![Just(RateStore::Local), redis.prop_map(|address| RateStore::Redis(address.into()))];
    (tokens, unit, store).prop_map(|(tokens, unit, store)| RateLimit { tokens, unit, store })
}

fn rule() -> impl Strategy<Value = Rule> {
    let headers = btree_map("x-[a-z]{1,4}", string_match(), 0..3);
    let targets = vec(("[ab]/[a-f]{1,2}", 0u32..=100), 1..4);
    ("[a-z]{0,4}", headers, option::of(string_match()), option::of(model()), targets).prop_map(
        |(name, headers, uri, body_model, targets)| {
            let mut targets: Vec<Target> =
                targets.into_iter().map(|(b, weight)| Target { backend: b.into(), weight }).collect();
            targets[0].weight = targets[0].weight.max(1);
            Rule { name, headers, uri, body_model, targets }
        },
    )
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        ".{0,8}".prop_map(StringMatch::Exact),
        ".{0,8}".prop_map(StringMatch::Prefix),
        "\\^[a-z]{0,3}\\.\\*(\\[0-9\\]\\+)?".prop_map(StringMatch::Regex),
    ]
}

/// Some endpoints are members of two backends or more, which see them differently.
fn backends() -> impl Strategy<Value = Vec<Backend>> {
    let shares = vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), endpoint()), 0..4);
    (unshared_backends(), shares).prop_map(|(mut backends, shares)| {
        for (to, which, seen) in shares {
            let all: Vec<_> = backends.iter().flat_map(|b| &b.endpoints).collect();
            if all.is_empty() {
                break;
            }
            let Endpoint { labels, role, group, revision, .. } = seen;
            let member = Endpoint { labels, role, group, revision, ..Endpoint::clone(all[which.index(all.len())]) };
            let to = to.index(backends.len());
            if backends[to].endpoints.iter().all(|e| e.key != member.key) {
                backends[to].endpoints.insert(0, Arc::new(member));
            }
        }
        backends
    })
}

fn unshared_backends() -> impl Strategy<Value = Vec<Backend>> {
    btree_map("[ab]/[a-f]{1,2}", (backend(), vec(endpoint(), 0..4)), 0..5).prop_map(|map| {
        let mut handle = 0;
        let named = map.into_iter().map(|(name, (backend, endpoints))| {
            let mut unique = |mut endpoint: Endpoint| {
                handle += 1;
                endpoint.handle = handle;
                endpoint.key.uid = format!("{}-{handle}", endpoint.key.uid).into();
                Arc::new(endpoint)
            };
            let endpoints = endpoints.into_iter().map(&mut unique).collect();
            Backend { name: name.into(), endpoints, ..backend }
        });
        named.collect()
    })
}

fn backend() -> impl Strategy<Value = Backend> {
    use Engine::{Sglang, Torchserve, Triton, Vllm};
    use UsageInjection::{Always, Never, Policy};
    let kinds = (
        prop::sample::select(vec![Vllm, Sglang, Triton, Torchserve]),
        prop::sample::select(vec![Always, Policy, Never]),
        prop::sample::select(vec![Credentials::Pass, Credentials::Strip]),
    );
    let retry = (0u8..=5, wait(60), 0u8..=100);
    let retry = retry.prop_map(|(attempts, interval, budget_percent)| Retry { attempts, interval, budget_percent });
    let models = (option::of(model()), option::of(chat_template().prop_map(Arc::new)));
    (kinds, models, timeouts(), retry, ejection(), 1u32..=1_000_000).prop_map(
        |((engine, usage, credentials), (model, chat_template), timeouts, retry, ejection, max_in_flight)| Backend {
            name: "filled/in".into(),
            engine,
            model,
            endpoints: Vec::new(),
            profile: None,
            timeouts,
            retry,
            ejection,
            max_in_flight,
            usage,
            credentials,
            chat_template,
        },
    )
}

fn chat_template() -> impl Strategy<Value = ChatTemplate> {
    let tokens = btree_map("[a-z]{1,4}_token", "[<>a-z|]{0,6}", 0..3);
    let content = prop::sample::select(vec![ContentForm::Text, ContentForm::Parts]);
    ("[a-z{}% \n]{1,30}", tokens, "[<>a-z]{0,4}", content, option::of(segments())).prop_map(
        |(source, tokens, bos, content, segments)| ChatTemplate {
            source: source.into(),
            tokens,
            bos: bos.into(),
            content,
            segments,
        },
    )
}

fn segments() -> impl Strategy<Value = Segments> {
    let piece = prop_oneof![
        "[a-z<|>\n]{1,8}".prop_map(|text| Piece::Text(text.into())),
        "%[dYb]".prop_map(|format| Piece::Date(format.into())),
    ];
    let texts = vec(vec(piece, 0..3), 1..4);
    let picks = vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..12);
    (texts, picks, 0u8..64).prop_map(|(texts, picks, apart)| {
        let (gaps, contents): (Vec<_>, Vec<_>) = (GapKey::all().collect(), ContentKey::all().collect());
        let changes: Vec<_> = Change::all().collect();
        let gap = |(key, text): &(prop::sample::Index, prop::sample::Index)| {
            (gaps[key.index(gaps.len())], Box::from(texts[text.index(texts.len())].clone()))
        };
        let content = |(key, change): &(prop::sample::Index, prop::sample::Index)| {
            (contents[key.index(contents.len())], changes[change.index(changes.len())])
        };
        let apart = Apart::from_bits(apart).unwrap_or_default();
        Segments::new(&picks.iter().map(gap).collect(), &picks.iter().map(content).collect(), apart)
    })
}

fn wait(most_secs: u64) -> impl Strategy<Value = Duration> {
    (0..most_secs, 1u32..1_000_000_000).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    (wait(86_400), wait(86_400), wait(86_400), wait(86_400)).prop_map(|(connect, first_byte, idle, total)| Timeouts {
        connect,
        first_byte,
        idle,
        total,
    })
}

fn ejection() -> impl Strategy<Value = Ejection> {
    (1u32.., wait(100), wait(1_000), 0u8..=100, wait(86_400)).prop_map(
        |(failures, base, more, max_percent, slow_start)| Ejection {
            failures,
            base,
            max: base + more,
            max_percent,
            slow_start,
        },
    )
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from(bits & 0x7fff_ffff | 1)));
    let v6 = any::<u64>().prop_map(|bits| IpAddr::from(Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(bits))));
    let address = (prop_oneof![v4, v6], 1u16..).prop_map(SocketAddr::from);
    let role = prop::sample::select(vec![Role::Both, Role::Prefill, Role::Decode]);
    let labels = btree_map("[a-z./]{1,5}", "[a-z]{0,4}", 0..3);
    let more = (option::of(vec(model(), 0..3)), option::of(1u64..));
    let place = (label(), label(), label(), label());
    ("[a-z]{1,4}", address, any::<u16>(), role, labels, place, more).prop_map(
        |(name, address, rank, role, labels, (group, revision, node, zone), (adapters, cache_tokens))| {
            let name: Arc<str> = name.into();
            let key = EndpointKey { uid: name.clone(), port: address.port(), rank };
            let labels: BTreeMap<String, String> = labels;
            Endpoint {
                handle: 0,
                key,
                name,
                address,
                labels,
                role,
                group,
                revision,
                node,
                zone,
                adapters,
                cache_tokens,
            }
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![(1u32..).prop_map(|max_waiting| Filter::LeastRequest { max_waiting }), Just(Filter::LoraAffinity)]
}

fn scorers() -> impl Strategy<Value = Scorers> {
    let list = (0.0..=1.0, 1u32..=65_536, 1u32..=1_000).prop_map(|(ttft_weight, max_blocks, top_k)| {
        vec![
            Scorer::LeastRequest,
            Scorer::LeastLatency { ttft_weight },
            Scorer::GpuUsage,
            Scorer::PrefixCache { max_blocks, top_k },
            Scorer::Random,
            Scorer::KvCacheAware { max_blocks: top_k },
            Scorer::SessionAffinity { header: "x-session-id".into() },
        ]
    });
    let weights = prop::array::uniform7(0u32..=1_000_000);
    let weighted = (list, weights, 1usize..=7).prop_map(|(list, mut weights, count)| {
        weights[0] = weights[0].max(1);
        Scorers::Weighted(list.into_iter().zip(weights).take(count).collect())
    });
    prop_oneof![Just(Scorers::LocalityCost), weighted]
}
