//! What engines say of themselves, in what is published.

use std::sync::Arc;

use api::id::EndpointKey;

use super::{Built, Memory, SETTINGS, assert_decodes, build, name, pod, server};
use crate::publish::LeftOut;
use crate::source::directory::reading_of;
use crate::world::{Engines, Facts, Unready};

/// A server of the model `m` with pods a, b and c, whose engines say this.
fn built(said: &[(&str, Facts)], memory: &mut Memory) -> Built {
    let pods = ["a", "b", "c"].map(|pod_name| pod(&format!("d/{pod_name}"), "app: s", "10.0.0.1"));
    let server = server("d/s").replace("inferenceEngine", "model: m, inferenceEngine");
    let mut world = reading_of(&[("all.yaml", &(server + &pods.concat()))]).world;
    let key = |pod: &str| EndpointKey { uid: format!("d/{pod}@10.0.0.1").into(), port: 8000, rank: 0 };
    let said = said.iter().map(|(pod, facts)| (key(pod), Arc::new(facts.clone())));
    world.engines = said.collect::<Engines>();
    build(&world, &SETTINGS, memory)
}

fn endpoints(built: &Built) -> Vec<&str> {
    built.snapshot.backends[0].endpoints.iter().map(|endpoint| &*endpoint.name).collect()
}

fn unready(unready: Unready) -> Facts {
    Facts { unready, ..Facts::default() }
}

#[test]
fn adapters_are_published_as_they_are_loaded_and_unknown_where_nobody_says() {
    let mut memory = Memory::default();
    let adapters =
        |names: &[&str]| Facts { adapters: Some(names.iter().map(|n| (*n).into()).collect()), ..Facts::default() };
    let published = |built: &Built| -> Vec<Option<usize>> {
        let endpoints = built.snapshot.backends[0].endpoints.iter();
        endpoints.map(|endpoint| endpoint.adapters.as_ref().map(Vec::len)).collect()
    };
    let before = built(&[("a", adapters(&["sql"])), ("b", adapters(&[]))], &mut memory);
    assert_eq!(published(&before), [Some(1), Some(0), None]);
    assert_decodes(&before.snapshot);
    let after = built(&[("a", adapters(&["sql", "law"]))], &mut memory);
    assert_eq!(published(&after), [Some(2), None, None]);
    let handles = |built: &Built| built.snapshot.backends[0].endpoints.iter().map(|e| e.handle).collect::<Vec<_>>();
    assert_eq!(handles(&before), handles(&after));
}

#[test]
fn an_endpoints_cache_is_as_large_as_its_engine_says() {
    let sized = Facts { cache_tokens: Some(2_560), ..Facts::default() };
    let built = built(&[("b", sized)], &mut Memory::default());
    let endpoints = built.snapshot.backends[0].endpoints.iter();
    assert_eq!(endpoints.map(|endpoint| endpoint.cache_tokens).collect::<Vec<_>>(), [None, Some(2_560), None]);
    assert_decodes(&built.snapshot);
}

#[test]
fn an_engine_that_says_it_is_not_ready_gets_no_requests_until_it_says_otherwise() {
    let mut memory = Memory::default();
    let all = built(&[], &mut memory);
    let out = built(&[("b", unready(Unready::All))], &mut memory);
    assert_eq!(endpoints(&out), ["d/a", "d/c"]);
    let verdict = &out.verdicts.servers[&name("d/s")];
    assert_eq!(verdict.left_out, [(name("d/b"), LeftOut::Unready)]);
    assert_eq!(verdict.ready.message, "2 of 3 pods are endpoints");
    assert_eq!(built(&[("b", Facts::default())], &mut memory).snapshot, all.snapshot, "with the handle it had");
}

#[test]
fn only_the_servers_own_model_counts() {
    let of = |model: &str| unready(Unready::Models([model.into()].into()));
    assert_eq!(endpoints(&built(&[("a", of("m"))], &mut Memory::default())), ["d/b", "d/c"]);
    assert_eq!(endpoints(&built(&[("a", of("other"))], &mut Memory::default())), ["d/a", "d/b", "d/c"]);
}

#[test]
fn half_of_a_backend_stays_whatever_its_engines_say() {
    let all = ["a", "b", "c"].map(|pod| (pod, unready(Unready::All)));
    assert_eq!(endpoints(&built(&all, &mut Memory::default())), ["d/b", "d/c"]);
}
