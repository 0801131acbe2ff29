//! Two engines, a control plane that knows them from a directory, and a data plane.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc;

use controlplane::run::{Listen, Options, Plane as Control, Source};
use serde_json::Value;

use crate::http::Connection;
use crate::stage::{Plane, Stage, until};

/// A directory of manifests, and where it all runs.
pub(crate) struct Fleet {
    pub(crate) stage: Stage,
    pub(crate) folder: PathBuf,
}

/// A control plane on a thread of its own, until this is dropped.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        // A panic there has been printed, and the test fails of what it lacks.
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

impl Fleet {
    /// A server `s` of an engine, with a pod at each address.
    pub(crate) fn new(name: &str, engine: &str, model: &str, spec: &str, ips: &[IpAddr]) -> Self {
        let stage = Stage::start(0);
        let folder = stage.folder(name);
        let fleet = Self { stage, folder };
        let head = "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {name: s}\n";
        let spec = format!(
            "{{model: {model}, inferenceEngine: {engine}, workloadSelector: {{matchLabels: {{app: s}}}}, {spec}}}"
        );
        fleet.put("server.yaml", &format!("{head}spec: {spec}\n"));
        for (n, ip) in ips.iter().enumerate() {
            let metadata = format!("{{name: engine-{n}, labels: {{app: s}}}}");
            let pod = format!("{{apiVersion: v1, kind: Pod, metadata: {metadata}, status: {{podIP: {ip}}}}}\n");
            fleet.put(&format!("pod-{n}.yaml"), &pod);
        }
        fleet
    }

    pub(crate) fn put(&self, file: &str, text: &str) {
        std::fs::create_dir_all(self.folder.join("manifests")).unwrap();
        std::fs::write(self.folder.join("manifests").join(file), text).unwrap();
    }

    /// Both planes.
    pub(crate) fn serve(&self) -> (Serving, Plane) {
        let control = self.control(([127, 0, 0, 1], 0).into());
        let plane = Plane::at(control.address, None);
        until("it is ready", || plane.ready());
        (control, plane)
    }

    /// A control plane that listens there, and reads tokens by the vocabularies of the folder, if it has any.
    pub(crate) fn control(&self, listen: SocketAddr) -> Serving {
        let (manifests, vocabularies) = (self.folder.join("manifests"), self.folder.join("vocabularies"));
        let options = Options { source: Source::Directory(manifests), listen: Listen::Plain(listen), fleet_seed: 7 };
        let (told, address) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut control = Control::start(options).await.unwrap();
                if vocabularies.exists() {
                    control = control.with_vocabularies(vocabularies);
                }
                told.send(control.address()).unwrap();
                control.serve(async { drop(stopped.await) }).await.unwrap();
            });
        });
        Serving { address: address.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }
}

/// What is done to two engines, and how they are spoken to.
pub(crate) struct Play {
    pub(crate) engine: &'static str,
    pub(crate) model: &'static str,
    pub(crate) infer: &'static str,
    pub(crate) quick: &'static str,
    /// Takes 4 s.
    pub(crate) slow: &'static str,
    /// Of inference, management and metrics.
    pub(crate) ports: [u16; 3],
    /// What makes an engine not ready, asked of its management.
    pub(crate) out: (&'static str, &'static str, &'static str),
    pub(crate) back: (&'static str, &'static str, &'static str),
}

impl Play {
    pub(crate) fn fleet(&self, name: &str, ips: &[IpAddr]) -> Fleet {
        let [port, management, metrics] = self.ports;
        let management = if management == port { String::new() } else { format!(", managementPort: {management}") };
        let spec = format!("workloadPort: {{port: {port}}}, metrics: {{port: {metrics}}}{management}");
        let fleet = Fleet::new(name, self.engine, self.model, &spec, ips);
        fleet.put(
            "route.yaml",
            &format!(
                "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: r}}\n\
                 spec: {{modelName: {}, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n",
                self.model
            ),
        );
        fleet
    }

    /// A control plane that starts tells nobody of an engine that is not ready before it has asked it.
    fn start_again(&self, fleet: &Fleet, ips: &[IpAddr; 2]) {
        let (_again, plane) = fleet.serve();
        let (_, text) = Connection::open(plane.debug()).get("/debug/table");
        let table: Value = serde_json::from_str(&text).unwrap();
        let endpoints: Vec<_> = table["endpoints"].as_array().unwrap().iter().map(|e| e["address"].as_str()).collect();
        let first = SocketAddr::new(ips[0], self.ports[0]).to_string();
        assert_eq!(endpoints, [Some(&*first)], "the very first table");
    }

    pub(crate) fn perform(&self, fleet: &Fleet, ips: &[IpAddr; 2]) {
        let (control, plane) = fleet.serve();
        let mut connection = Connection::open(plane.listen());
        let endpoints = || -> Vec<(String, u64)> {
            let (_, text) = Connection::open(plane.debug()).get("/debug/table");
            let table: Value = serde_json::from_str(&text).unwrap();
            let endpoints = table["endpoints"].as_array().unwrap().iter();
            let of = |e: &Value| (e["address"].as_str().unwrap().to_owned(), e["running"].as_u64().unwrap());
            endpoints.map(of).collect()
        };
        let address = |n: usize| SocketAddr::new(ips[n], self.ports[0]).to_string();
        let are =
            |wanted: &[String]| endpoints().into_iter().map(|(address, _)| address).collect::<Vec<_>>() == *wanted;
        let mut infer = || connection.ask(&request("POST", self.infer, self.quick)).0;
        let manage = |(method, path, body): (&str, &str, &str)| {
            let mut management = Connection::open(SocketAddr::new(ips[1], self.ports[1]));
            assert_eq!(management.ask(&request(method, path, body)).0, 200, "{path}");
        };
        assert!(are(&[address(0), address(1)]), "{:?}", endpoints());
        assert_eq!(infer(), 200);

        manage(self.out);
        until("the engine that is not ready is left alone", || are(&[address(0)]));
        for _ in 0..10 {
            assert_eq!(infer(), 200);
        }
        self.start_again(fleet, ips);

        // Not by way of the proxy: only the engine can tell.
        let slow: Vec<TcpStream> = (0..3)
            .map(|_| send(SocketAddr::new(ips[0], self.ports[0]), &request("POST", self.infer, self.slow)))
            .collect();
        until("what waits there is known", || endpoints()[0].1 >= 2);
        drop(slow);
        until("and that it waits no more", || endpoints()[0].1 == 0);

        manage(self.back);
        until("it says that it is ready again", || are(&[address(0), address(1)]));
        assert_eq!(infer(), 200);
        plane.stop();
        drop(control);
    }
}

/// How many requests run at each endpoint, as a data plane counts.
pub(crate) fn running(plane: &Plane) -> Vec<u64> {
    let (_, text) = Connection::open(plane.debug()).get("/debug/table");
    let table: Value = serde_json::from_str(&text).unwrap();
    table["endpoints"].as_array().unwrap().iter().map(|endpoint| endpoint["running"].as_u64().unwrap()).collect()
}

/// A request whose answer nobody waits for; it ends when this is dropped.
pub(crate) fn send(engine: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(engine).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

pub(crate) fn request(method: &str, path: &str, body: &str) -> String {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json");
    format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
