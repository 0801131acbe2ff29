//! The stream by TLS, while certificates, CA, keys and tokens are replaced one after the other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bench::show::client::End;
use controlplane::certificates::server_config;
use controlplane::certificates::testing::Rotation;
use controlplane::identity::testing::{Signer, claims, known, options};
use controlplane::identity::{Asked, Clock, Look, Proofs};
use controlplane::publish::serve::{Listener, Options};
use dataplane::config::{ControlPlane, Tls, Transport};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::http::Connection;
use crate::stage::{Control, Plane, Stage, until};

/// What the cluster does for both planes: it keeps certificates, keys, and the files of the data plane's pod.
struct Cluster {
    rotation: Rotation,
    asked: watch::Sender<Asked>,
    ca_file: PathBuf,
    token_file: PathBuf,
}

impl Cluster {
    fn new(folder: &Path, signer: &Signer) -> Self {
        let rotation = Rotation::begin(BTreeSet::from(["control.test".to_owned()]));
        let cluster = Self {
            rotation,
            asked: watch::Sender::new(Asked::default()),
            ca_file: folder.join("ca.crt"),
            token_file: folder.join("token"),
        };
        cluster.list(&[signer]);
        cluster.mount_bundle();
        cluster.mount_token(signer);
        cluster
    }

    fn list(&self, signers: &[&Signer]) {
        self.asked.send_modify(|asked| asked.learn(Look::Told(known(signers)), Clock::default().now()));
    }

    fn mount_bundle(&self) {
        replace(&self.ca_file, self.rotation.bundle());
    }

    fn mount_token(&self, signer: &Signer) {
        replace(&self.token_file, &signer.token(&claims(Timestamp::now())));
    }

    fn control(&self) -> Control {
        let config = server_config(self.rotation.newest(), &["h2"]);
        let proofs = Arc::new(Proofs::new(options(), self.asked.subscribe(), Arc::default()));
        let listen = async || Listener::tls(([127, 0, 0, 1], 0).into(), &config, proofs).await.unwrap();
        Control::behind(listen, Options { stream_life: Duration::from_secs(2), ..Options::default() })
    }

    fn plane(&self, control: &Control) -> Plane {
        let (ca_file, token_file) = (self.ca_file.clone(), self.token_file.clone());
        let transport = Transport::Tls(Tls { ca_file, token_file, server_name: "control.test".into() });
        Plane::of(ControlPlane { transport, ..ControlPlane::at(control.address) })
    }
}

/// As the kubelet does it: whoever reads sees the old or the new.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// Waits for a stream that was opened after this, with no gap since the one before.
fn renewed(plane: &Plane) {
    let streams = |plane: &Plane| {
        let at = plane.readyz()["control_plane"].clone();
        assert_eq!((&at["connected"], plane.ready()), (&true.into(), true), "{at}");
        at["streams"].as_u64().unwrap()
    };
    let before = streams(plane);
    // The next one may have been on its way already.
    until("a later stream has taken over", || streams(plane) >= before + 2);
}

#[test]
fn certificates_keys_and_tokens_are_replaced_while_the_stream_goes_on() {
    let (stage, old, new) = (Stage::start(1), Signer::es256("old"), Signer::rs256("new"));
    let mut cluster = Cluster::new(&stage.folder("pod"), &old);
    let control = cluster.control();
    control.publish(stage.snapshot(&["m"]));
    let plane = cluster.plane(&control);
    until("it is ready", || plane.ready());
    let mut connection = Connection::open(plane.listen());
    let stream = stage.stream(&plane, "m", 1_500);
    // The CA, in its three steps.
    cluster.rotation.add_ca();
    cluster.mount_bundle();
    renewed(&plane);
    cluster.rotation.make_leaf();
    renewed(&plane);
    cluster.rotation.drop_old_ca();
    cluster.mount_bundle();
    renewed(&plane);
    // The API server's key, and by it the token.
    cluster.list(&[&old, &new]);
    cluster.mount_token(&new);
    renewed(&plane);
    cluster.list(&[&new]);
    renewed(&plane);
    assert_eq!(connection.chat("m"), 200);
    assert_eq!(plane.metric("kthena_router_config_rejected_total"), 0.0);
    let encoded = control.counts.encoded.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(encoded, 2, "the state, and once for all later streams that it is still the newest");
    control.publish(stage.snapshot(&["m", "n"]));
    control.complete(1);
    assert_eq!((connection.chat("n"), connection.opened), (200, 1), "no connection was cut");
    assert_eq!(stage.runtime.block_on(stream).unwrap(), End::Whole);
}

#[test]
fn what_is_wrong_with_the_files_is_said_and_mended_without_a_restart() {
    let (stage, signer, foreign) = (Stage::start(1), Signer::es256("a"), Signer::es256("a"));
    let cluster = Cluster::new(&stage.folder("pod"), &signer);
    let control = cluster.control();
    control.publish(stage.snapshot(&["m"]));
    let foreign_ca = Rotation::begin(BTreeSet::from(["control.test".to_owned()]));
    // From the start, before there is anything.
    std::fs::remove_file(&cluster.token_file).unwrap();
    let plane = cluster.plane(&control);
    let says = |what: &str| {
        until(what, || plane.readyz()["control_plane"]["error"].as_str().is_some_and(|error| error.contains(what)));
    };
    says("token cannot be read");
    cluster.mount_token(&signer);
    until("it is ready", || plane.ready());
    // Later, while it serves on.
    let mut connection = Connection::open(plane.listen());
    cluster.mount_token(&foreign);
    says("the token's signature is wrong");
    assert_eq!(connection.chat("m"), 200);
    replace(&cluster.ca_file, foreign_ca.bundle());
    says("invalid peer certificate");
    says("whether it is for control.test, and whether");
    assert_eq!(connection.chat("m"), 200);
    cluster.mount_bundle();
    cluster.mount_token(&signer);
    until("it is back", || plane.readyz()["control_plane"]["connected"] == true);
    control.publish(stage.snapshot(&["m", "n"]));
    control.complete(1);
    assert_eq!((connection.chat("n"), connection.opened), (200, 1));
}
