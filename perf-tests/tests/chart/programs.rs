//! The programs take what the chart starts them with.

use clap::Parser;
use dataplane::config::{Args, Environment, Typed, resolve};
use serde_json::Value;

use crate::object::{Object, find, items};
use crate::values;

fn arguments(container: &Value) -> Vec<String> {
    items(&container["args"]).map(|argument| argument.as_str().unwrap().to_owned()).collect()
}

fn check_dataplane(case: &str, object: &Object, container: &Value) {
    let typed = std::iter::once("kthena-dataplane".to_owned()).chain(arguments(container));
    if let Err(error) = dataplane::cli::Cli::try_parse_from(typed) {
        panic!("{case}: {object}, {}: {error}", container["name"]);
    }
}

fn check_controlplane(case: &str, object: &Object, container: &Value) {
    let typed = std::iter::once("kthena-controlplane".to_owned()).chain(arguments(container));
    if let Err(error) = controlplane::cli::Cli::try_parse_from(typed) {
        panic!("{case}: {object}, {}: {error}", container["name"]);
    }
}

#[test]
fn every_argument_is_one_that_the_program_takes() {
    let mut checked = 0;
    for case in values::all() {
        for object in case.objects() {
            for container in object.containers() {
                match container["name"].as_str().unwrap() {
                    "dataplane" | "doctor" | "install-seccomp" | "remove-seccomp" | "pause" => {
                        check_dataplane(case.name, &object, container)
                    }
                    "controlplane" | "apply" | "wait" => check_controlplane(case.name, &object, container),
                    "engine" | "client" => continue,
                    other => panic!("no test knows what a {other} takes"),
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} containers were looked at");
}

#[test]
fn the_data_planes_settings_are_what_they_take_and_leave_time_to_drain() {
    for case in values::all() {
        let objects = case.objects();
        for object in objects.iter().filter(|object| object.name().ends_with("-settings")) {
            let text = object.at("/data/config.yaml").as_str().unwrap();
            let typed = Typed::from_yaml(text).unwrap_or_else(|problem| panic!("{}: {problem}\n{text}", case.name));
            let args = Args { snapshot: Some("any".into()), ..Args::default() };
            let config = resolve(args, Environment::default(), typed);
            let config = config.unwrap_or_else(|problems| panic!("{}: {problems:?}\n{text}", case.name));
            let workload = object.name().trim_end_matches("-settings");
            let kind = if objects.iter().any(|o| o.kind() == "DaemonSet" && o.name() == workload) {
                "DaemonSet"
            } else {
                "Deployment"
            };
            let grace = find(&objects, kind, workload)
                .at("/spec/template/spec/terminationGracePeriodSeconds")
                .as_u64()
                .unwrap();
            let drain = config.drain.lead + config.drain.deadline;
            assert!(
                drain.as_secs() < grace,
                "{}: {workload} drains for {drain:?} and is killed after {grace} s",
                case.name
            );
            assert_eq!(config.drain.readiness, dataplane::config::DrainReadiness::Keep);
        }
    }
}

/// Asks by a subcommand of the container's own program, at the socket that this one listens on, in a folder of the pod's own.
fn check_exec(case: &str, object: &Object, container: &Value, probe: &Value) {
    let command: Vec<_> = items(&probe["exec"]["command"]).map(|word| word.as_str().unwrap()).collect();
    let cli = dataplane::cli::Cli::try_parse_from(&command);
    assert!(matches!(cli.unwrap().command, Some(dataplane::cli::Command::Probe(_))), "{case}: {object} {command:?}");
    let socket = command.iter().find(|word| word.starts_with("--admin-socket=")).unwrap();
    assert!(arguments(container).iter().any(|argument| argument == socket), "{case}: {object} {socket}");
    let mount = items(&container["volumeMounts"])
        .find(|mount| socket.contains(&format!("={}/", mount["mountPath"].as_str().unwrap())))
        .unwrap_or_else(|| panic!("{case}: {object}: {socket} is in no volume"));
    let (_, spec) = object.pod().unwrap();
    let volume = items(&spec["volumes"]).find(|volume| volume["name"] == mount["name"]).unwrap();
    assert!(volume["emptyDir"].is_object(), "{case}: {object}: {volume}");
}

#[test]
fn probes_ask_where_the_program_answers() {
    for case in values::all() {
        for object in case.objects() {
            // The doctor is told where the data plane listens, and listens nowhere.
            for container in object.containers().into_iter().filter(|container| container["name"] != "doctor") {
                let arguments = arguments(container);
                let port = arguments.iter().find_map(|argument| {
                    let address = argument.strip_prefix("--metrics-address=");
                    let port = address.and_then(|address| address.rsplit_once(':')).map(|(_, port)| port);
                    port.or_else(|| argument.strip_prefix("--metrics-port="))
                });
                let Some(port) = port else { continue };
                for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                    if !container[probe]["exec"].is_null() {
                        check_exec(case.name, &object, container, &container[probe]);
                        continue;
                    }
                    assert!(case.name != "node by hostNetwork" || object.kind() != "DaemonSet", "a port of the node");
                    let named = &container[probe]["httpGet"]["port"];
                    let declared = items(&container["ports"]).find(|declared| declared["name"] == *named);
                    let number = declared.map_or(named, |declared| &declared["containerPort"]);
                    assert_eq!(number.to_string(), port, "{}: {object} {probe}", case.name);
                }
            }
        }
    }
}
