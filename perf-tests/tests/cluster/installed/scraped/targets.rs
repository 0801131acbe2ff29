//! What Prometheus' Kubernetes service discovery finds in a namespace: targets with the labels `__meta_kubernetes_*` of its roles pod and endpointslice
//! (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/#kubernetes_sd_config>).

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::site::Site;

/// As a name of Prometheus' labels has it.
pub(super) fn sanitized(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The objects of the namespace.
pub(super) struct Found {
    namespace: String,
    pods: Vec<Value>,
    services: Vec<Value>,
    slices: Vec<Value>,
}

fn values(items: Vec<impl Serialize>) -> Vec<Value> {
    items.into_iter().map(|item| serde_json::to_value(item).unwrap()).collect()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// An address of either family with its port.
fn at(ip: &Value, port: &Value) -> String {
    let ip = ip.as_str().unwrap();
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

impl Found {
    pub(super) async fn of(site: &Site) -> Self {
        fn api<K>(client: &Client, namespace: &str) -> Api<K>
        where
            K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        {
            Api::namespaced(client.clone(), namespace)
        }
        let all = ListParams::default();
        let (client, namespace) = (&site.client, &site.namespace);
        Self {
            namespace: namespace.clone(),
            pods: values(api::<Pod>(client, namespace).list(&all).await.unwrap().items),
            services: values(api::<Service>(client, namespace).list(&all).await.unwrap().items),
            slices: values(api::<EndpointSlice>(client, namespace).list(&all).await.unwrap().items),
        }
    }

    fn of_pod(&self, pod: &Value) -> Map<String, Value> {
        let mut labels = Map::new();
        let mut add = |name: &str, value: &Value| {
            labels.insert(format!("__meta_kubernetes_{name}"), value.clone());
        };
        add("namespace", &json!(self.namespace));
        add("pod_name", &pod["metadata"]["name"]);
        add("pod_ip", &pod["status"]["podIP"]);
        add("pod_node_name", &pod["spec"]["nodeName"]);
        add("pod_phase", &pod["status"]["phase"]);
        for (name, value) in pod["metadata"]["labels"].as_object().into_iter().flatten() {
            add(&format!("pod_label_{}", sanitized(name)), value);
        }
        labels
    }

    /// A target for each port of each container, and for each container that has none.
    pub(super) fn pods(&self) -> Vec<Value> {
        let mut targets = Vec::new();
        for pod in &self.pods {
            let ip = &pod["status"]["podIP"];
            for container in items(&pod["spec"]["containers"]).chain(items(&pod["spec"]["initContainers"])) {
                let mut labels = self.of_pod(pod);
                labels.insert("__meta_kubernetes_pod_container_name".to_owned(), container["name"].clone());
                if items(&container["ports"]).next().is_none() {
                    targets.push(json!({"targets": [ip], "labels": labels}));
                }
                for port in items(&container["ports"]) {
                    labels.insert("__meta_kubernetes_pod_container_port_name".to_owned(), port["name"].clone());
                    targets.push(json!({"targets": [at(ip, &port["containerPort"])], "labels": labels}));
                }
            }
        }
        targets
    }

    /// A target for each port of each endpoint of each Service.
    pub(super) fn services(&self) -> Vec<Value> {
        let mut targets = Vec::new();
        for slice in &self.slices {
            let of = &slice["metadata"]["labels"]["kubernetes.io/service-name"];
            let Some(service) = self.services.iter().find(|service| service["metadata"]["name"] == *of) else {
                continue;
            };
            for endpoint in items(&slice["endpoints"]) {
                let pod = self.pods.iter().find(|pod| pod["metadata"]["name"] == endpoint["targetRef"]["name"]);
                let mut labels = pod.map(|pod| self.of_pod(pod)).unwrap_or_default();
                for (name, value) in service["metadata"]["labels"].as_object().into_iter().flatten() {
                    labels.insert(format!("__meta_kubernetes_service_label_{}", sanitized(name)), value.clone());
                }
                for port in items(&slice["ports"]) {
                    labels.insert("__meta_kubernetes_endpointslice_port_name".to_owned(), port["name"].clone());
                    let address = at(&endpoint["addresses"][0], &port["port"]);
                    targets.push(json!({"targets": [address], "labels": labels}));
                }
            }
        }
        targets
    }
}
