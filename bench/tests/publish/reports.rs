//! What a data plane says of itself and of what it has under way, where an operator looks for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use controlplane::admin::{self, Admin};
use controlplane::run::{Listen, Options, Plane as Control, Source};
use serde_json::Value;

use crate::http::Connection;
use crate::stage::{Plane, Stage, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// An engine that is asked by the control plane and answers that; its requests wait until the test answers them.
fn engine(listener: TcpListener) -> mpsc::Receiver<TcpStream> {
    let (asked, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, asked) = (stream.unwrap(), asked.clone());
            std::thread::spawn(move || {
                let mut head = [0; 4_096];
                let read = stream.read(&mut head).unwrap_or(0);
                if head[..read].starts_with(b"POST") {
                    let _ = asked.send(stream);
                } else {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                }
            });
        }
    });
    requests
}

fn manifests(stage: &Stage, engine: SocketAddr) -> std::path::PathBuf {
    let folder = stage.folder("manifests");
    let group = "apiVersion: networking.serving.volcano.sh/v1alpha1";
    let server = format!(
        "{{workloadSelector: {{matchLabels: {{app: s}}}}, workloadPort: {{port: {}}}, inferenceEngine: vLLM}}",
        engine.port()
    );
    let text = format!(
        "{group}\nkind: ModelRoute\nmetadata: {{name: r}}\nspec: {{modelName: m, rules: [{{targetModels: [{{modelServerName: s}}]}}]}}\n\
         ---\n{group}\nkind: ModelServer\nmetadata: {{name: s}}\nspec: {server}\n\
         ---\n{{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{app: s}}}}, status: {{podIP: {}}}}}\n",
        engine.ip()
    );
    std::fs::write(folder.join("all.yaml"), text).unwrap();
    folder
}

#[test]
fn versions_and_what_waits_show_where_people_look() {
    let stage = Stage::start(0);
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let folder = manifests(&stage, listener.local_addr().unwrap());
    let requests = engine(listener);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (control, admin) = stage.runtime.block_on(async {
        let options = Options { source: Source::Directory(folder), listen: Listen::Plain(any), fleet_seed: 7 };
        let control = Control::start(options).await.unwrap();
        let pages = admin::Options { metrics: any, debug: Some(any) };
        let admin = Admin::bind(&pages, control.view()).await.unwrap();
        (control, admin)
    });
    let (address, metrics, debug) = (control.address(), admin.metrics(), admin.debug().unwrap());
    stage.runtime.spawn(admin.serve());
    stage.runtime.spawn(control.serve(std::future::pending()));
    let plane = Plane::at(address, None);
    until("it is ready", || plane.ready());
    let row = || {
        let (_, text) = Connection::open(debug).get("/debug/dataplanes");
        serde_json::from_str::<Value>(&text).unwrap()["data_planes"][0].take()
    };
    let sample = |name: &str| {
        let (_, text) = Connection::open(metrics).get("/metrics");
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned))
    };
    until("it is connected", || row()["version"] == dataplane::VERSION);
    let versions = format!("kthena_controlplane_subscribers{{version=\"{}\"}}", dataplane::VERSION);
    assert_eq!(sample(&versions).as_deref(), Some("1"));

    let body = r#"{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Say yes."}]}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    let mut clients = [(); 2].map(|()| TcpStream::connect(plane.listen()).unwrap());
    for client in &mut clients {
        write!(client, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    }
    let mut answers = [(); 2].map(|()| requests.recv_timeout(PATIENCE).unwrap());
    let load = |running: u64, queue_depth: u64| {
        let load = row()["load"].take();
        (&load["running"], &load["queue_depth"]) == (&running.into(), &queue_depth.into())
    };
    until("both wait", || load(2, 2));
    assert_eq!(row()["load"]["endpoints"], 1);
    assert_eq!(sample("kthena_controlplane_load_queue_depth").as_deref(), Some("2"));
    assert_eq!(plane.endpoint()["queueDepth"], 2);
    // One has its first event; it runs on and waits no more.
    let event = "data: {\"choices\": [{\"index\": 0, \"delta\": {\"content\": \"yes\"}}]}\n\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    answers[0].write_all(format!("{begin}{}", chunk(event)).as_bytes()).unwrap();
    until("one waits", || load(2, 1));
    assert_eq!(sample("kthena_controlplane_load_running").as_deref(), Some("2"));
    answers[1].write_all(format!("{begin}{}", chunk(event)).as_bytes()).unwrap();
    until("none waits", || load(2, 0));
    drop((clients, answers));
    until("nothing is under way", || load(0, 0));
    plane.stop();
}
