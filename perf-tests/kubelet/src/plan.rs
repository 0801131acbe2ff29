//! Who has which address and which name, and what `ip` is told so that it is so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Of the bed itself, where the API server listens, on the bridge to which every node is connected.
pub const BED: Ipv4Addr = Ipv4Addr::new(10, 240, 0, 1);
/// Of the Service by which pods reach the API server.
pub const API_SERVER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Of all pods, as kube-proxy is told.
pub const PODS: &str = "10.244.0.0/16,fd00:244::/32";
/// Of all Services, as the API server is told.
pub const SERVICES: &str = "10.96.0.0/16";

/// Of Services of IPv6, which are reached where the bed was laid for it.
pub const SERVICES_6: &str = "fd00:10:96::/112";

const BRIDGE: &str = "bed0";
/// Of a node's pods: 2 to 254, for the node itself has 1.
const PODS_OF_A_NODE: u32 = 253;
/// Nodes that there can be: their pods' ranges are 10.244.1.0/24 to 10.244.200.0/24.
pub const NODES: usize = 200;

/// The lines of one run of `ip -batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The namespace in which they act; the bed's own where there is none.
    pub within: Option<String>,
    pub lines: Vec<String>,
}

impl Batch {
    fn bed(lines: impl Into<Vec<String>>) -> Self {
        Self { within: None, lines: lines.into() }
    }

    fn of(namespace: &str, lines: impl Into<Vec<String>>) -> Self {
        Self { within: Some(namespace.to_owned()), lines: lines.into() }
    }
}

/// The address of a node, counted from 0.
pub fn node(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 240, 0, part(index).saturating_add(10))
}

/// The address of the `n`th pod of a node. Each is given again after 253 pods.
pub fn pod(index: usize, n: u32) -> Ipv4Addr {
    let host = u8::try_from(n % PODS_OF_A_NODE + 2).unwrap_or(2);
    Ipv4Addr::new(10, 244, part(index), host)
}

/// The network namespace of the pod that has this address.
pub fn pod_namespace(address: IpAddr) -> String {
    let (node, host) = place(address);
    format!("pod-{node}-{host}")
}

/// By which a pod's addresses differ from those of all others.
fn place(address: IpAddr) -> (u16, u16) {
    match address {
        IpAddr::V4(address) => (address.octets()[2].into(), address.octets()[3].into()),
        IpAddr::V6(address) => (address.segments()[2], address.segments()[7]),
    }
}

/// The third octet of its pods' addresses.
fn part(index: usize) -> u8 {
    u8::try_from(index.min(NODES - 1) + 1).unwrap_or(1)
}

/// As its pods see their node.
fn gateway(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, part(index), 1)
}

/// The bridge, then each node: a namespace of the node's name, connected to the bridge, with routes to the pods of all others.
pub fn ground(names: &[String]) -> Vec<Batch> {
    let mut batches = vec![Batch::bed([
        "link set lo up".to_owned(),
        format!("link add {BRIDGE} type bridge"),
        format!("link set {BRIDGE} up"),
        format!("addr add {BED}/24 dev {BRIDGE}"),
    ])];
    for (index, name) in names.iter().enumerate() {
        let (address, part, device) = (node(index), part(index), format!("node{index}"));
        batches.push(Batch::bed([
            format!("netns add {name}"),
            format!("link add {device} type veth peer name eth0 netns {name}"),
            format!("link set {device} master {BRIDGE} up"),
            format!("route add 10.244.{part}.0/24 via {address}"),
            format!("netns exec {name} sh -c \"echo 1 > /proc/sys/net/ipv4/ip_forward\""),
        ]));
        let mut lines = vec![
            "link set lo up".to_owned(),
            format!("addr add {address}/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("addr add {}/32 dev lo", gateway(index)),
            // What leaves the node itself for a Service has an address of the pods' range, else kube-proxy takes it for a stranger.
            format!("route add {SERVICES} dev lo src {}", gateway(index)),
        ];
        let others = (0..names.len()).filter(|&other| other != index);
        lines.extend(others.map(|other| format!("route add 10.244.{}.0/24 via {}", self::part(other), node(other))));
        batches.push(Batch::of(name, lines));
    }
    batches
}

/// A pod's namespace with its address, connected to its node and by it to everything else.
pub fn join(node: &str, address: Ipv4Addr) -> Vec<Batch> {
    let (namespace, device) = (pod_namespace(address.into()), device(address));
    let [a, b, c, _] = address.octets();
    let gateway = Ipv4Addr::new(a, b, c, 1);
    vec![
        Batch::bed([format!("netns add {namespace}")]),
        Batch::of(
            node,
            [
                format!("link add {device} type veth peer name eth0 netns {namespace}"),
                format!("link set {device} up"),
                format!("route add {address}/32 dev {device}"),
            ],
        ),
        Batch::of(
            &namespace,
            [
                "link set lo up".to_owned(),
                format!("addr add {address}/32 dev eth0"),
                "link set eth0 up".to_owned(),
                format!("route add {gateway} dev eth0 scope link"),
                format!("route add default via {gateway}"),
            ],
        ),
    ]
}

/// A pod's address of IPv6, made of its other one.
pub fn second(address: Ipv4Addr) -> Ipv6Addr {
    let [_, _, node, host] = address.octets();
    Ipv6Addr::new(0xfd00, 0x244, node.into(), 0, 0, 0, 0, host.into())
}

/// The address of IPv6 of a node, counted from 0.
pub fn node_second(index: usize) -> Ipv6Addr {
    on_bridge(part(index))
}

/// Of the bed (0) or a node, on the bridge.
fn on_bridge(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x240, 0, 0, 0, 0, 0, u16::from(n) + 1)
}

/// IPv6 on the bridge and the nodes, with routes to the pods of all. Addresses are usable at once: nobody else has them.
pub fn ground_second(names: &[String]) -> Vec<Batch> {
    let route = |other: usize| format!("route add fd00:244:{:x}::/64 via {}", part(other), on_bridge(part(other)));
    let mut bed = vec![format!("addr add {}/64 dev {BRIDGE} nodad", on_bridge(0))];
    bed.extend((0..names.len()).map(route));
    bed.extend(
        names.iter().map(|name| format!("netns exec {name} sh -c \"echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\"")),
    );
    let mut batches = vec![Batch::bed(bed)];
    for (index, name) in names.iter().enumerate() {
        let mut lines = vec![format!("addr add {}/64 dev eth0 nodad", on_bridge(part(index)))];
        lines.extend((0..names.len()).filter(|&other| other != index).map(route));
        batches.push(Batch::of(name, lines));
    }
    batches
}

/// A pod's second address, after [`join`]. Its neighbour on the node has one of the cable alone.
pub fn join_second(node: &str, address: Ipv4Addr) -> Vec<Batch> {
    let (device, second) = (device(address), second(address));
    vec![
        Batch::of(
            node,
            [format!("addr add fe80::1/64 dev {device} nodad"), format!("route add {second}/128 dev {device}")],
        ),
        Batch::of(
            &pod_namespace(address.into()),
            [format!("addr add {second}/128 dev eth0 nodad"), "route add default via fe80::1 dev eth0".to_owned()],
        ),
    ]
}

/// Takes it away again, with its address.
pub fn leave(node: &str, address: Ipv4Addr) -> Vec<Batch> {
    let device = Batch::of(node, [format!("link del {}", device(address))]);
    vec![device, Batch::bed([format!("netns del {}", pod_namespace(address.into()))])]
}

/// What nft is told so that ports of a node are ports of a pod with these addresses, as `(of the node, of the pod)`, as a container runtime does it.
pub fn lend(addresses: &[IpAddr], ports: &[(u16, u16)]) -> String {
    addresses.iter().map(|&address| lend_one(address, ports)).collect()
}

fn lend_one(address: IpAddr, ports: &[(u16, u16)]) -> String {
    let rules = |hook: &str| {
        // Before kube-proxy's.
        let mut lines = vec![format!("chain {hook} {{ type nat hook {hook} priority -110;")];
        lines.extend(ports.iter().map(|(of_node, of_pod)| {
            format!("fib daddr type local tcp dport {of_node} dnat to {}", SocketAddr::new(address, *of_pod))
        }));
        lines.join("\n") + "\n}\n"
    };
    format!("table {} {{\n{}{}}}\n", lent(address), rules("prerouting"), rules("output"))
}

/// And so that they no longer are.
pub fn give_back(addresses: &[IpAddr]) -> String {
    addresses.iter().map(|&address| format!("delete table {}\n", lent(address))).collect()
}

/// Family and name of the table.
fn lent(address: IpAddr) -> String {
    let (node, host) = place(address);
    format!("{} lent_{node}_{host}", if address.is_ipv4() { "ip" } else { "ip6" })
}

/// The node's end of a pod's cable: a name of at most 15 bytes.
fn device(address: Ipv4Addr) -> String {
    let [_, _, node, host] = address.octets();
    format!("pod{node}-{host}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_have_the_same_address_and_every_pod_is_in_its_nodes_range() {
        let mut seen: BTreeSet<Ipv4Addr> = [BED, API_SERVER].into();
        for index in [0, 1, 2, NODES - 1] {
            assert!(seen.insert(node(index)), "node {index}");
            assert!(seen.insert(gateway(index)), "gateway {index}");
            for n in 0..PODS_OF_A_NODE {
                let address = pod(index, n);
                assert!(seen.insert(address), "pod {n} of node {index}: {address}");
                assert_eq!(address.octets()[..3], gateway(index).octets()[..3]);
            }
            assert_eq!(pod(index, PODS_OF_A_NODE), pod(index, 0), "then they are given again");
        }
    }

    #[test]
    fn every_node_has_a_route_to_the_pods_of_each_other_one() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let batches = ground(&names);
        let lines_of = |name: &str| {
            let mine = batches.iter().filter(|batch| batch.within.as_deref() == Some(name));
            mine.flat_map(|batch| batch.lines.clone()).collect::<Vec<_>>()
        };
        let to_pods = |name: &str| {
            let lines = lines_of(name).into_iter();
            lines.filter(|line| line.starts_with("route add 10.244.")).collect::<Vec<_>>()
        };
        assert_eq!(
            to_pods("a"),
            ["route add 10.244.2.0/24 via 10.240.0.12", "route add 10.244.3.0/24 via 10.240.0.13"]
        );
        assert_eq!(
            to_pods("c"),
            ["route add 10.244.1.0/24 via 10.240.0.11", "route add 10.244.2.0/24 via 10.240.0.12"]
        );
    }

    #[test]
    fn a_pods_second_address_is_of_its_nodes_range() {
        assert_eq!(second(pod(1, 3)).to_string(), "fd00:244:2::5");
        let lines: Vec<_> = join_second("b", pod(1, 3)).into_iter().flat_map(|batch| batch.lines).collect();
        assert!(lines.contains(&"route add fd00:244:2::5/128 dev pod2-5".to_owned()), "{lines:?}");
        let ground: Vec<_> = ground_second(&["a", "b"].map(str::to_owned)).into_iter().flat_map(|b| b.lines).collect();
        let to_second = ground.iter().filter(|line| *line == "route add fd00:244:2::/64 via fd00:240::3");
        assert_eq!(to_second.count(), 2, "of the bed and of the other node: {ground:?}");
    }

    #[test]
    fn a_port_of_the_node_is_the_pods_until_it_is_given_back() {
        let addresses = [pod(0, 3).into(), second(pod(0, 3)).into()];
        let script = lend(&addresses, &[(80, 8080)]);
        for to in ["10.244.1.5:8080", "[fd00:244:1::5]:8080"] {
            let line = format!("fib daddr type local tcp dport 80 dnat to {to}\n");
            assert_eq!(script.matches(&line).count(), 2, "{script}");
        }
        assert_eq!(give_back(&addresses), "delete table ip lent_1_5\ndelete table ip6 lent_1_5\n");
        assert!(script.starts_with("table ip lent_1_5 {") && script.contains("\ntable ip6 lent_1_5 {"), "{script}");
    }

    #[test]
    fn what_joins_leaves_and_names_are_short_enough_for_devices() {
        let address = pod(NODES - 1, 252);
        assert_eq!(pod_namespace(address.into()), "pod-200-254");
        assert_eq!(pod_namespace(second(address).into()), "pod-200-254");
        assert!(device(address).len() <= 15);
        let made: Vec<_> = join("a", address).into_iter().flat_map(|batch| batch.lines).collect();
        assert!(made.contains(&"netns add pod-200-254".to_owned()), "{made:?}");
        assert!(made.contains(&"route add default via 10.244.200.1".to_owned()), "{made:?}");
        let gone: Vec<_> = leave("a", address).into_iter().flat_map(|batch| batch.lines).collect();
        assert_eq!(gone, ["link del pod200-254", "netns del pod-200-254"]);
    }
}
