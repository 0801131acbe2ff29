//! C4: the control plane dies right after a write, once for each object that it writes and way to write it, and the next one goes on
//! where it was.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ListParams};
use perf_tests::cluster::Cluster;
use perf_tests::proxy::{Asked, Fault, Often, Verb, When};

use crate::c08_webhook::{flags, install, wrong};
use crate::program::{Home, Program, route, server};
use crate::wait::until;

/// Clusters of programs at once.
const AT_ONCE: usize = 4;

async fn home() -> Home {
    let home = Home::new(Cluster::shared(), "crash").await;
    home.apply(&server("s", 8000)).await;
    home.apply(&route("good", "s")).await;
    home.apply(&wrong("bad")).await;
    install(&home).await;
    home
}

fn start(home: &Home) -> Program {
    let flags = flags(home);
    let mut flags: Vec<_> = flags.iter().map(String::as_str).collect();
    flags.push("--always-tls");
    home.control(&flags)
}

async fn reason(home: &Home, kind: &str, plural: &str, name: &str) -> String {
    let accepted = home.condition(kind, plural, name, "Accepted").await;
    accepted["reason"].as_str().unwrap_or_default().to_owned()
}

/// All that it ever writes is there: as it is to be, and once.
async fn until_whole(home: &Home) {
    let secrets = Api::<Secret>::namespaced(home.admin.clone(), &home.namespace);
    let secret = async |name: &str| secrets.get(name).await.unwrap().data.unwrap_or_default();
    until("a fleet seed", async || secret("kthena-fleet-seed").await.contains_key("seed")).await;
    until("certificates", async || secret("kthena-controlplane-certificates").await.contains_key("tls.key")).await;
    let bundle = secret("kthena-controlplane-certificates").await["ca.crt"].0.clone();
    let maps = Api::<ConfigMap>::namespaced(home.admin.clone(), &home.namespace);
    until("the bundle for data planes", async || {
        let data = maps.get("kthena-controlplane-ca").await.unwrap().data.unwrap_or_default();
        data.get("ca.crt").is_some_and(|held| held.as_bytes() == bundle)
    })
    .await;
    let hooks = Api::<ValidatingWebhookConfiguration>::all(home.admin.clone());
    until("the bundle for the API server", async || {
        let hook = hooks.get(&home.namespace).await.unwrap().webhooks.unwrap().remove(0);
        hook.client_config.ca_bundle.is_some_and(|held| held.0 == bundle)
    })
    .await;
    home.until_ready().await;
    let verdicts = [
        ("ModelRoute", "modelroutes", "good", "Accepted"),
        ("ModelRoute", "modelroutes", "bad", "Invalid"),
        ("ModelServer", "modelservers", "s", "Accepted"),
    ];
    for (kind, plural, name, verdict) in verdicts {
        until("the verdict", async || reason(home, kind, plural, name).await == verdict).await;
    }
    let events = Api::<Event>::namespaced(home.admin.clone(), &home.namespace);
    // One that was not written before the end is not made up for: the condition says the same.
    let said = of(&events, "bad").await;
    assert!(said.is_empty() || said == ["Invalid"], "the same one is counted, not added: {said:?}");
}

/// The reasons of the events about an object.
async fn of(events: &Api<Event>, name: &str) -> Vec<String> {
    let all = events.list(&ListParams::default()).await.unwrap().items.into_iter();
    let about = all.filter(|event| event.regarding.as_ref().is_some_and(|it| it.name.as_deref() == Some(name)));
    about.filter_map(|event| event.reason).collect()
}

/// A write as another home's program does it.
fn moved(write: &Asked, from: &Home, to: &Home) -> When {
    let there = |text: &Option<String>| text.as_ref().map(|text| text.replace(&from.namespace, &to.namespace));
    When::like(&Asked { namespace: there(&write.namespace), name: there(&write.name), ..write.clone() })
}

/// Each object that a program writes at all, until all is there and all is said, and by which verb.
async fn writes() -> (Home, Vec<Asked>) {
    let home = home().await;
    let control = start(&home);
    until_whole(&home).await;
    let events = Api::<Event>::namespaced(home.admin.clone(), &home.namespace);
    until("the warning", async || !of(&events, "bad").await.is_empty()).await;
    let renewed = When::of(Verb::Update, "leases");
    until("a lease that was renewed", async || home.proxy.count(&renewed) > 0).await;
    control.kill();
    let writes = home.proxy.writes();
    for (write, times) in &writes {
        println!("{times} times {:?} {} {}", write.verb, write.resource, write.name.as_deref().unwrap_or_default());
    }
    (home, writes.into_keys().collect())
}

#[tokio::test]
async fn c04_killed_after_any_of_its_writes_the_next_one_goes_on_where_it_was() {
    let (undisturbed, writes) = writes().await;
    let kinds: BTreeSet<_> = writes.iter().map(|write| write.resource.as_str()).collect();
    let known = [
        "configmaps",
        "events",
        "leases",
        "modelroutes",
        "modelroutes/status",
        "modelservers/status",
        "secrets",
        "validatingwebhookconfigurations",
    ];
    assert_eq!(kinds, known.into(), "what it writes");
    let (undisturbed, writes) = (&undisturbed, &writes);
    let crashes = stream::iter(writes).map(|write| async move {
        let home = home().await;
        home.proxy.inject(moved(write, undisturbed, &home), Fault::LastAnswer, Often::First(1));
        let control = start(&home);
        // The write is done by then.
        until(&format!("the write after which it dies, {write:?}"), async || home.proxy.is_away()).await;
        control.kill();
        home.proxy.set_away(false);
        let _next = start(&home);
        until_whole(&home).await;
    });
    crashes.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
