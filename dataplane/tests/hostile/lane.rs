//! The proxy under test, and the lanes to it: each has an engine and model names of its own, so that cases run beside
//! each other and every byte that reaches an engine belongs to the case on its lane.

use std::path::PathBuf;
use std::time::Duration;

use dataplane::config::{AccessLog, Config, LogFormat, LogOutput};
use dataplane::process::{self, Running};
use dataplane::rt::DriverChoice;
use serde_json::json;

use crate::engine::Engine;

/// Cases that run at once.
pub(crate) const LANES: usize = 6;

/// The proxy as cases see it.
pub(crate) struct World {
    pub(crate) proxy: std::net::SocketAddr,
    pub(crate) metrics: std::net::SocketAddr,
    pub(crate) log: PathBuf,
    pub(crate) log_format: LogFormat,
    pub(crate) folder: PathBuf,
}

/// One engine with its names.
pub(crate) struct Lane {
    pub(crate) engine: Engine,
    digit: u8,
}

impl Lane {
    /// A table's bytes with this lane's model names.
    pub(crate) fn own(&self, bytes: &[u8]) -> Vec<u8> {
        let mut own = bytes.to_vec();
        for name in [&b"mdl0"[..], b"usg0", b"ren0", b"tri0"] {
            let places: Vec<_> = memchr::memmem::find_iter(bytes, name).collect();
            places.iter().for_each(|at| own[at + 3] = self.digit);
        }
        own
    }
}

/// Starts the proxy with its lanes.
pub(crate) fn start(driver: DriverChoice, log_format: LogFormat) -> Result<(Running, World, Vec<Lane>), String> {
    let folder = std::env::temp_dir().join(format!("kthena-hostile-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let lanes: Vec<_> =
        (0..LANES).map(|n| Lane { engine: Engine::start().expect("a port is free"), digit: b'1' + n as u8 }).collect();
    let file = folder.join("snapshot.json");
    std::fs::write(&file, snapshot(&lanes).to_string()).map_err(|e| e.to_string())?;
    let mut config = Config::loopback(file);
    config.driver = driver;
    config.limits.header_time = Duration::from_secs(1);
    config.limits.body_idle = Duration::from_secs(1);
    config.limits.write_idle = Duration::from_secs(3);
    config.limits.pool_idle = Duration::from_secs(2);
    let log = folder.join("access.log");
    config.access_log = AccessLog { enabled: true, format: log_format, output: LogOutput::File(log.clone()) };
    let running = process::start(config).map_err(|e| e.to_string())?;
    let world = World { proxy: running.listen(), metrics: running.metrics(), log, log_format, folder };
    Ok((running, world, lanes))
}

fn snapshot(lanes: &[Lane]) -> serde_json::Value {
    let (mut routes, mut backends) = (Vec::new(), Vec::new());
    for lane in lanes {
        for (name, usage, model, engine) in [
            ("mdl", "NEVER", None, "VLLM"),
            ("usg", "ALWAYS", None, "VLLM"),
            ("ren", "NEVER", Some("renamed"), "VLLM"),
            ("tri", "NEVER", None, "TRITON"),
        ] {
            let name = format!("{name}{}", lane.digit as char);
            let id = format!("default/{name}");
            routes.push(json!({"name": id, "model": name, "rules": [{"name": "all", "targets": [{"backend": id, "weight": 1}]}]}));
            let mut backend = json!({
                "name": id, "engine": engine, "usage": usage,
                "endpoints": [{"name": format!("{id}-0"), "address": lane.engine.address.to_string()}],
                "timeouts": {"connect": "2s", "firstByte": "3s", "idle": "2s", "total": "30s"},
                "retry": {"attempts": 0, "interval": "0s", "budgetPercent": 0},
                "ejection": {"failures": 1_000_000, "base": "1s", "max": "1s", "maxPercent": 0, "slowStart": "0s"},
            });
            if let Some(model) = model {
                backend["model"] = model.into();
            }
            backends.push(backend);
        }
    }
    json!({"fleetSeed": "7", "routes": routes, "backends": backends})
}
