//! Where the snapshot comes from, as typed.

use std::path::PathBuf;

use serde::Deserialize;

use super::super::address::{Scheme, is_host};
use super::super::{Address, ControlPlane, Source, Tls, Transport};
use super::{Args, Check, Environment};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TypedControlPlane {
    address: Option<String>,
    ca_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    server_name: Option<String>,
    state_dir: Option<PathBuf>,
    node: Option<String>,
    zone: Option<String>,
    namespace: Option<String>,
}

impl TypedControlPlane {
    pub(super) fn overridden_by(self, args: &Args) -> Self {
        Self {
            address: args.control_plane.clone().or(self.address),
            ca_file: args.control_plane_ca.clone().or(self.ca_file),
            token_file: args.control_plane_token.clone().or(self.token_file),
            server_name: args.control_plane_server_name.clone().or(self.server_name),
            state_dir: args.state_dir.clone().or(self.state_dir),
            ..self
        }
    }

    pub(super) fn names_an_address(&self) -> bool {
        self.address.is_some()
    }

    /// What makes sense only beside an address, by its key.
    fn beside_an_address(&self) -> [(&'static str, bool); 4] {
        [("state_dir", self.state_dir.is_some()), self.ca(), self.token(), self.name()]
    }

    fn ca(&self) -> (&'static str, bool) {
        ("control_plane.ca_file", self.ca_file.is_some())
    }

    fn token(&self) -> (&'static str, bool) {
        ("control_plane.token_file", self.token_file.is_some())
    }

    fn name(&self) -> (&'static str, bool) {
        ("control_plane.server_name", self.server_name.is_some())
    }
}

/// Where nothing usable is said, the file of no name, which is not read because there is a problem.
pub(super) fn resolve(check: &mut Check, file: Option<PathBuf>, typed: TypedControlPlane, env: &Environment) -> Source {
    let Some(address) = &typed.address else {
        for (key, _) in typed.beside_an_address().into_iter().filter(|(_, typed)| *typed) {
            let sentence =
                "is only for a control plane's snapshots; name one with --control-plane ADDRESS, or leave it out";
            check.say(key, sentence.into());
        }
        return Source::File(file.unwrap_or_else(|| {
            let sentence =
                "missing; name the snapshot file with --snapshot FILE, or the control plane with --control-plane ADDRESS";
            check.say("snapshot", sentence.into());
            PathBuf::new()
        }));
    };
    if file.is_some() {
        check.say("control_plane", "a snapshot file is named too; leave out --snapshot or --control-plane".into());
    }
    let (scheme, address) = match Address::parse(address) {
        Ok(parsed) => parsed,
        Err(sentence) => {
            check.say("control_plane", sentence);
            return Source::File(PathBuf::new());
        }
    };
    let transport = match scheme {
        Scheme::Plain => plain(check, &typed),
        Scheme::Tls => tls(check, &typed, &address),
    };
    Source::ControlPlane(ControlPlane {
        address,
        transport,
        state_dir: typed.state_dir,
        node: typed.node.or_else(|| env.node_name.clone()).unwrap_or_else(hostname),
        zone: typed.zone.unwrap_or_default(),
        namespace: typed.namespace.or_else(|| env.pod_namespace.clone()).unwrap_or_default(),
    })
}

fn plain(check: &mut Check, typed: &TypedControlPlane) -> Transport {
    for (key, _) in [typed.ca(), typed.token(), typed.name()].into_iter().filter(|(_, typed)| *typed) {
        check.say(key, "is only for TLS; write the address as https://HOST:PORT, or leave it out".into());
    }
    Transport::Plain
}

fn tls(check: &mut Check, typed: &TypedControlPlane, address: &Address) -> Transport {
    let mut file = |(key, _), file: &Option<PathBuf>, sentence: &str| {
        file.clone().unwrap_or_else(|| {
            check.say(key, sentence.into());
            PathBuf::new()
        })
    };
    let ca = "missing; name the bundle of the control plane's CA with --control-plane-ca FILE (on Kubernetes: `ca.crt` of its \
              ConfigMap, mounted)";
    let token = "missing; name this process's token with --control-plane-token FILE (on Kubernetes: a projected service account \
                 token with the audience kthena-controlplane)";
    let ca_file = file(typed.ca(), &typed.ca_file, ca);
    let token_file = file(typed.token(), &typed.token_file, token);
    let server_name = typed.server_name.clone().unwrap_or_else(|| address.host.clone());
    if !is_host(&server_name) {
        check.say(typed.name().0, format!("`{server_name}` is not a name that a certificate can have"));
    }
    Transport::Tls(Tls { ca_file, token_file, server_name })
}

/// What the machine calls itself stands in for the node's name.
fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;

    fn source(args: Args, yaml: &str) -> Result<Source, Vec<Problem>> {
        super::super::resolve(args, Environment::default(), Typed::from_yaml(yaml).unwrap()).map(|config| config.source)
    }

    fn check(yaml: &str, expected: &[&str]) {
        let said: Vec<String> =
            source(Args::default(), yaml).err().unwrap_or_default().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), expected.len(), "{yaml}: {said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said} should say {expected}");
        }
    }

    #[test]
    fn the_snapshot_comes_from_one_place() {
        check(
            "{snapshot: s, control_plane: {address: '127.0.0.1:15010'}}",
            &["leave out --snapshot or --control-plane"],
        );
        check("{snapshot: s, control_plane: {state_dir: /s}}", &["state_dir: is only for a control plane"]);
        let args = Args { control_plane: Some("[::1]:15010".into()), state_dir: Some("/s".into()), ..Args::default() };
        let Ok(Source::ControlPlane(at)) = source(args, "{control_plane: {node: n, zone: z}}") else { panic!() };
        let said = (at.address.to_string(), at.state_dir, at.node, at.zone);
        assert_eq!(said, ("[::1]:15010".into(), Some("/s".into()), "n".into(), "z".into()));
        assert_eq!(at.transport, Transport::Plain);
        let missing = source(Args::default(), "{}").unwrap_err();
        assert!(missing[0].sentence.contains("--control-plane ADDRESS"), "{missing:?}");
    }

    #[test]
    fn tls_needs_a_bundle_and_a_token_and_plain_text_neither() {
        check(
            "{control_plane: {address: 'https://control:443'}}",
            &[
                "control_plane.ca_file: missing; name the bundle",
                "control_plane.token_file: missing; name this process's",
            ],
        );
        check(
            "{control_plane: {address: '127.0.0.1:15010', ca_file: c, token_file: t, server_name: n}}",
            &["ca_file: is only for TLS", "token_file: is only for TLS", "server_name: is only for TLS"],
        );
        check(
            "{control_plane: {address: 'https://control:443', ca_file: c, token_file: t, server_name: 'a b'}}",
            &["control_plane.server_name: `a b` is not a name"],
        );
        check("{snapshot: s, control_plane: {token_file: t}}", &["token_file: is only for a control plane"]);
    }

    #[test]
    fn flags_beat_the_file() {
        let yaml = "{control_plane: {address: 'https://control:443', ca_file: c, token_file: t, server_name: n}}";
        let tls = |args| {
            let Ok(Source::ControlPlane(ControlPlane { transport: Transport::Tls(tls), .. })) = source(args, yaml)
            else {
                panic!()
            };
            tls
        };
        let of = |ca: &str, token: &str, name: &str| Tls {
            ca_file: ca.into(),
            token_file: token.into(),
            server_name: name.into(),
        };
        assert_eq!(tls(Args::default()), of("c", "t", "n"));
        let args = Args {
            control_plane_ca: Some("c2".into()),
            control_plane_token: Some("t2".into()),
            control_plane_server_name: Some("n2".into()),
            ..Args::default()
        };
        assert_eq!(tls(args), of("c2", "t2", "n2"));
        let nameless = yaml.replace(", server_name: n", "");
        let Ok(Source::ControlPlane(at)) = source(Args::default(), &nameless) else { panic!() };
        assert_eq!(at.transport, Transport::Tls(of("c", "t", "control")));
    }
}
