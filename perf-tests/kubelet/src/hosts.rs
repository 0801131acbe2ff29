//! The names of Services, in a file that all pods of a bed have at /etc/hosts: it stands in for a DNS server. Services without an
//! address of their own are not in it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::pin;

use anyhow::Result;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::runtime::reflector::store;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

const ALWAYS: &str = "127.0.0.1 localhost\n";
/// The file never becomes shorter, so that whoever reads it while it is written finds nothing cut off.
const LEAST: usize = 4096;

fn line(service: &Service) -> Option<String> {
    let address = service.spec.as_ref()?.cluster_ip.as_deref().filter(|address| !matches!(*address, "" | "None"))?;
    let (name, namespace) = (service.name_any(), service.namespace()?);
    let full = format!("{name}.{namespace}.svc");
    Some(format!("{address} {full} {full}.cluster.local {name}.{namespace}\n"))
}

/// The file, at least as long as it was.
fn text<'a>(services: impl Iterator<Item = &'a Service>, least: usize) -> String {
    let mut lines: Vec<_> = services.filter_map(line).collect();
    lines.sort();
    let mut text = ALWAYS.to_owned() + &lines.concat();
    text.extend(std::iter::repeat_n('\n', least.saturating_sub(text.len())));
    text
}

/// Makes it without a Service.
pub(super) fn make(path: &Path) -> Result<()> {
    Ok(std::fs::write(path, text(std::iter::empty(), LEAST))?)
}

/// Keeps it current, in place, for it is mounted. For ever.
pub(super) async fn keep(client: Client, path: &Path) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    let (reader, writer) = store::<Service>();
    let events = watcher(Api::all(client), watcher::Config::default()).default_backoff().reflect(writer);
    let (mut events, mut least) = (pin!(events), LEAST);
    loop {
        // The watcher tries again by itself.
        let Ok(event) = events.try_next().await else { continue };
        if event.is_none() {
            return Ok(());
        }
        let state = reader.state();
        let text = text(state.iter().map(AsRef::as_ref), least);
        least = text.len();
        file.write_all_at(text.as_bytes(), 0)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_three_names_and_one_without_an_address_is_not() {
        let service = |name: &str, address: &str| {
            let yaml = format!("{{metadata: {{name: {name}, namespace: n}}, spec: {{clusterIP: {address}}}}}");
            serde_norway::from_str::<Service>(&yaml).unwrap()
        };
        let services = [service("b", "10.96.0.2"), service("headless", "None"), service("a", "10.96.0.1")];
        let found = text(services.iter(), 0);
        let names = |name: &str| format!("{name}.n.svc {name}.n.svc.cluster.local {name}.n");
        assert_eq!(found, format!("{ALWAYS}10.96.0.1 {}\n10.96.0.2 {}\n", names("a"), names("b")));
    }

    #[test]
    fn it_never_becomes_shorter() {
        assert_eq!(text(std::iter::empty(), 100).len(), 100);
    }
}
