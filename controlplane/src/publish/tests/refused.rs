//! What data planes of this release do not do is refused in the open, never done by half.

use super::{built, check, name, route, server};
use crate::publish::Reason;

#[test]
fn a_target_at_an_external_provider_keeps_its_weight_and_answers_503() {
    let yaml = route("d/r", "modelName: m", "s").replace(
        "{modelServerName: s}",
        "{modelServerName: s, weight: 60}, {externalModelProviderName: openai, weight: 40}",
    );
    check(
        &yaml,
        "
        route d/r model m
          rule → d/s 60 → d/not-served:external-providers 40
        backend d/not-served:external-providers Vllm
        ",
    );
    let verdict = &built(&yaml).verdicts.routes[&name("d/r")];
    assert!(verdict.accepted.holds);
    assert_eq!(verdict.resolved_refs.reason, Reason::BackendNotFound);
    assert!(verdict.resolved_refs.message.contains("openai"), "{}", verdict.resolved_refs.message);
}

#[test]
fn a_route_with_a_token_limit_is_not_served_without_it() {
    let yaml = route("d/r", "modelName: m, rateLimit: {inputTokensPerUnit: 10, unit: minute}", "s") + &server("d/s");
    check(
        &yaml,
        "
        route d/r model m
          rule → d/not-served:token-rate-limits 100
        backend d/s Vllm
        backend d/not-served:token-rate-limits Vllm
        ",
    );
    let verdict = &built(&yaml).verdicts.routes[&name("d/r")];
    assert_eq!((verdict.accepted.reason, verdict.published), (Reason::NotServed, true));
}

#[test]
fn a_server_that_wants_tls_is_never_spoken_to_in_the_clear() {
    let yaml =
        server("d/s").replace("port: 8000", "port: 8000, protocol: https") + &super::pod("d/a", "app: s", "10.0.0.1");
    check(&yaml, "backend d/s Vllm");
    let verdict = &built(&yaml).verdicts.servers[&name("d/s")];
    assert_eq!((verdict.accepted.reason, verdict.ready.reason), (Reason::NotServed, Reason::NotServed));
}

#[test]
fn a_missing_server_is_said_and_the_rest_resolves() {
    let yaml = route("d/r", "modelName: m", "s") + &route("d/t", "modelName: n", "gone") + &server("d/s");
    let verdicts = built(&yaml).verdicts.routes;
    assert!(verdicts[&name("d/r")].resolved_refs.holds);
    let gone = &verdicts[&name("d/t")].resolved_refs;
    assert_eq!((gone.holds, gone.reason), (false, Reason::BackendNotFound));
    assert!(gone.message.contains("d/gone"), "{}", gone.message);
}

#[test]
fn endpoints_beyond_the_contracts_bound_are_left_out_and_counted() {
    use crate::world::{Life, Pod};
    let mut world = crate::source::directory::reading_of(&[("all.yaml", &server("d/s"))]).world;
    let most = api::limits::MAX_ENDPOINTS;
    for i in 0..=most {
        let pod = Pod {
            name: name(&format!("d/p{i:06}")),
            uid: i.to_string().into(),
            labels: [("app".to_owned(), "s".to_owned())].into(),
            node: None,
            ips: vec![std::net::Ipv4Addr::from(0x0a00_0000 + i as u32).into()],
            life: Life::Ready,
            started: None,
        };
        world.pods.insert(pod.name.clone(), pod.into());
    }
    let built = super::build(&world, &super::SETTINGS, &mut super::Memory::default());
    assert_eq!(built.snapshot.backends[0].endpoints.len(), most);
    let left_out = &built.verdicts.servers[&name("d/s")].left_out;
    assert_eq!(left_out[..], [(name(&format!("d/p{most}")), crate::publish::LeftOut::TooMany)]);
}
