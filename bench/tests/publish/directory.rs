//! From a file in a directory to an answered request: the control plane as `kthena-controlplane serve` runs it.

use std::io::Write;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bench::engine::{self, Engine};
use bench::show::client::End;
use controlplane::run::{Listen, Options, Plane as Control, Source};
use dataplane::config::ControlPlane;

use crate::http::Connection;
use crate::stage::{Plane, Stage, until};

/// The manifests of one route and one server, whose pod has this address.
struct Manifests {
    folder: PathBuf,
    port: u16,
}

impl Manifests {
    fn put(&self, file: &str, text: &str) {
        std::fs::write(self.folder.join(file), text).unwrap();
    }

    fn pod(&self, ip: &str) {
        let metadata = "{name: engine-0, labels: {app: sim}}";
        self.put(
            "pod.yaml",
            &format!("{{apiVersion: v1, kind: Pod, metadata: {metadata}, status: {{podIP: \"{ip}\"}}}}\n"),
        );
    }

    fn server(&self) {
        let head = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {name: sim}\n";
        let rest = format!("workloadSelector: {{matchLabels: {{app: sim}}}}, workloadPort: {{port: {}}}", self.port);
        self.put("server.yaml", &format!("{head}spec: {{model: sim, inferenceEngine: vLLM, {rest}}}\n"));
    }

    fn route(&self, model: &str) {
        let head = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {name: sim}\n";
        let rules = "[{targetModels: [{modelServerName: sim}]}]";
        self.put("route.yaml", &format!("{head}spec: {{modelName: {model}, rules: {rules}}}\n"));
    }
}

/// Serves the folder on a thread of its own until the sender goes.
fn serve(folder: &Path) -> (SocketAddr, tokio::sync::oneshot::Sender<()>, std::thread::JoinHandle<()>) {
    let options = Options {
        source: Source::Directory(folder.into()),
        listen: Listen::Plain(([127, 0, 0, 1], 0).into()),
        fleet_seed: 7,
    };
    let (told, address) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let control = Control::start(options).await.unwrap();
            told.send(control.address()).unwrap();
            control.serve(async { drop(stopped.await) }).await.unwrap();
        });
    });
    (address.recv().unwrap(), stop, thread)
}

#[test]
fn an_edited_file_changes_where_requests_go_while_a_stream_runs_on() {
    let stage = Stage::start(0);
    let port = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap().port();
    let engine = |ip: [u8; 4]| engine::Config { listen: (ip, port).into(), ..engine::Config::default() };
    let start = |ip| stage.runtime.block_on(Engine::start(engine(ip))).unwrap();
    let _engines = [start([127, 0, 0, 2]), start([127, 0, 0, 3])];
    let manifests = Manifests { folder: stage.folder("manifests"), port };
    manifests.route("m");
    manifests.server();
    manifests.pod("127.0.0.2");
    let (control, stop, thread) = serve(&manifests.folder);
    let plane = Plane::at(control, None);
    until("it is ready", || plane.ready());
    let mut connection = Connection::open(plane.listen());
    assert_eq!(connection.chat("m"), 200);
    let at = |ip: &str| plane.endpoint()["address"] == format!("{ip}:{port}");
    assert!(at("127.0.0.2"));
    let stream = stage.stream(&plane, "m", 400);

    manifests.pod("127.0.0.3");
    until("requests go to the pod's new address", || at("127.0.0.3"));
    assert_eq!(connection.chat("m"), 200);

    manifests.put("route.yaml", "kind: ModelRoute\nspec: [what is this\n");
    manifests.put("another.yaml", "{apiVersion: v1, kind: Pod, metadata: {name: no-address}}\n");
    manifests.pod("127.0.0.2");
    until("a broken file holds up no other", || at("127.0.0.2"));
    assert_eq!(connection.chat("m"), 200, "its last good state counts");

    manifests.route("n");
    until("a repaired file counts", || connection.chat("n") == 200);
    assert_eq!(connection.chat("m"), 404);
    assert!(!stream.is_finished(), "the stream outlasts the edits");
    assert_eq!(stage.runtime.block_on(stream).unwrap(), End::Whole);
    assert_eq!(connection.opened, 1, "no connection was cut");

    drop(stop);
    thread.join().unwrap();
    assert_eq!(connection.chat("n"), 200, "the data plane serves on");
    plane.stop();
}

#[test]
fn a_pod_that_has_an_address_of_ipv6_alone_is_looked_at_and_asked() {
    let Ok(free) = TcpListener::bind("[::1]:0") else {
        let _ = writeln!(std::io::stderr(), "SKIPPED, not passed: this machine has no ::1");
        return;
    };
    let port = free.local_addr().unwrap().port();
    drop(free);
    let stage = Stage::start(0);
    let listen = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let engine = engine::Config { listen, ..engine::Config::default() };
    let engine = stage.runtime.block_on(Engine::start(engine)).unwrap();
    let manifests = Manifests { folder: stage.folder("manifests"), port };
    manifests.route("m");
    manifests.server();
    manifests.pod("::1");
    let (control, stop, thread) = serve(&manifests.folder);
    // Nobody else knows of it yet.
    until("the control plane looks at it", || engine.stats().connections > 0);
    let plane = Plane::at(control, None);
    until("it is ready", || plane.ready());
    let mut connection = Connection::open(plane.listen());
    assert_eq!(connection.chat("m"), 200);
    assert_eq!(plane.endpoint()["address"], format!("[::1]:{port}"));
    plane.stop();
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_data_plane_that_knows_its_node_alone_is_told_its_zone_and_prefers_what_is_there() {
    let stage = Stage::start(0);
    let manifests = Manifests { folder: stage.folder("manifests"), port: 8_000 };
    manifests.server();
    let node = |name: &str, zone: &str| {
        let labels = format!("{{topology.kubernetes.io/zone: {zone}}}");
        format!("---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {labels}}}}}\n")
    };
    manifests.put("nodes.yaml", &(node("n1", "west") + &node("n2", "west") + &node("n3", "east")));
    let pod = |ip: &str, node: &str| {
        let metadata = format!("{{name: on-{node}, labels: {{app: sim}}}}");
        let (spec, status) = (format!("{{nodeName: {node}}}"), format!("{{podIP: {ip}}}"));
        format!("---\n{{apiVersion: v1, kind: Pod, metadata: {metadata}, spec: {spec}, status: {status}}}\n")
    };
    let pods = ["n1", "n2", "n3"].map(|node| pod(&format!("127.0.0.{}", &node[1..]), node));
    manifests.put("pods.yaml", &pods.concat());
    let (control, stop, thread) = serve(&manifests.folder);
    let plane = Plane::of(ControlPlane { node: "n1".into(), ..ControlPlane::at(control) });
    until("it is ready", || plane.ready());
    until("it knows how far each is", || {
        let mut far: Vec<_> = plane.endpoints().iter().map(|e| format!("{} {}", e["name"], e["distance"])).collect();
        far.sort();
        far == [r#""default/on-n1" "node""#, r#""default/on-n2" "zone""#, r#""default/on-n3" "far""#]
    });
    assert_eq!(plane.readyz()["control_plane"]["zone"], "west");
    plane.stop();
    drop(stop);
    thread.join().unwrap();
}
