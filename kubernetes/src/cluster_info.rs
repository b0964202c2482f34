//! What else one must know of the cluster: its version, how to reach its nodes and Services, and which image we are.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Service, ServicePort},
};

use crate::client::{CALL_LIMIT, ClientError, Connection, Objects};

/// The version of the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerVersion {
    /// Such as `v1.33.4+k3s1`.
    pub git_version: String,
    /// Such as 1; 0 if it cannot be read.
    pub major: u32,
    /// Such as 33; 0 if it cannot be read.
    pub minor: u32,
}

impl ServerVersion {
    /// Whether it is this version or a newer one.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

/// An address of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// The node.
    pub node: String,
    /// The address: an IP address or a name.
    pub address: String,
    /// Whether it can be reached from outside the cluster, as far as the cluster knows.
    pub external: bool,
    /// Whether the node is ready.
    pub ready: bool,
}

/// The version of the API server.
///
/// # Errors
/// The server does not answer.
pub async fn server_version(connection: &Connection) -> Result<ServerVersion, ClientError> {
    let info = connection
        .call(CALL_LIMIT, async |client| client.apiserver_version().await)
        .await?;
    Ok(ServerVersion {
        git_version: info.git_version,
        major: number(&info.major),
        minor: number(&info.minor),
    })
}

/// Some clusters call themselves `33+`.
fn number(text: &str) -> u32 {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..digits].parse().unwrap_or(0)
}

/// The addresses of all nodes: those of ready nodes first, of these the external ones first.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn node_addresses(connection: &Connection) -> Result<Vec<NodeAddress>, ClientError> {
    let nodes = Objects::<Node>::of(connection, None).list("").await?;
    let mut addresses: Vec<NodeAddress> = nodes.into_iter().flat_map(addresses_of).collect();
    addresses.sort_by_key(|one| (!one.ready, !one.external));
    Ok(addresses)
}

fn addresses_of(node: Node) -> Vec<NodeAddress> {
    let name = node.metadata.name.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
    let addresses = status.addresses.unwrap_or_default().into_iter();
    addresses
        .filter_map(|one| {
            let external = match one.type_.as_str() {
                "ExternalIP" | "ExternalDNS" => true,
                "InternalIP" | "InternalDNS" => false,
                // A host's name means nothing to others.
                _ => return None,
            };
            Some(NodeAddress {
                node: name.clone(),
                address: one.address,
                external,
                ready,
            })
        })
        .collect()
}

/// Host and port by which a port of a Service in our own namespace is reached from outside the cluster: its load
/// balancer, or else a node, or else its name, which is good in the cluster only. `None` if there is no such port yet.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn service_address(
    connection: &Connection,
    service: &str,
    port: &str,
) -> Result<Option<String>, ClientError> {
    let services = Objects::<Service>::of(connection, Some(connection.namespace()));
    let Some(found) = services.get(service).await? else {
        return Ok(None);
    };
    let Some(port) = port_of(&found, port) else {
        return Ok(None);
    };
    let nodes = match port.node_port {
        Some(_) => node_addresses(connection).await?,
        None => Vec::new(),
    };
    Ok(address_of(&found, port, &nodes))
}

fn port_of<'a>(service: &'a Service, name: &str) -> Option<&'a ServicePort> {
    let mut ports = service.spec.as_ref()?.ports.as_ref()?.iter();
    ports.find(|one| one.name.as_deref() == Some(name))
}

fn address_of(service: &Service, port: &ServicePort, nodes: &[NodeAddress]) -> Option<String> {
    let balancers = service.status.as_ref().and_then(|status| {
        let balancer = status.load_balancer.as_ref()?;
        balancer.ingress.as_ref()
    });
    let balancer = balancers
        .into_iter()
        .flatten()
        .find_map(|one| one.hostname.as_ref().or(one.ip.as_ref()));
    if let Some(host) = balancer {
        return Some(host_and_port(host, port.port));
    }
    if let (Some(port), Some(node)) = (port.node_port, nodes.first()) {
        return Some(host_and_port(&node.address, port));
    }
    let name = service.metadata.name.as_ref()?;
    let namespace = service.metadata.namespace.as_ref()?;
    Some(host_and_port(&format!("{name}.{namespace}.svc"), port.port))
}

fn host_and_port(host: &str, port: i32) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The image of a Deployment in our own namespace: that of the container called so, or with "" of its first one.
/// `None` if there is no such Deployment or container.
///
/// # Errors
/// The server does not answer or refuses.
pub async fn deployment_image(
    connection: &Connection,
    deployment: &str,
    container: &str,
) -> Result<Option<String>, ClientError> {
    let deployments = Objects::<Deployment>::of(connection, Some(connection.namespace()));
    let found = deployments.get(deployment).await?;
    let spec = found.and_then(|found| found.spec?.template.spec);
    let mut containers = spec.into_iter().flat_map(|spec| spec.containers);
    let image = containers.find(|one| container.is_empty() || one.name == container);
    Ok(image.and_then(|one| one.image))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_minor_version_may_have_a_plus() {
        assert_eq!(
            [number("33"), number("33+"), number(""), number("x")],
            [33, 33, 0, 0]
        );
        let version = ServerVersion {
            git_version: String::new(),
            major: 1,
            minor: 29,
        };
        assert!(version.is_at_least(1, 29) && !version.is_at_least(1, 30));
    }

    #[test]
    fn a_service_is_reached_by_its_balancer_a_node_or_its_name() {
        let service = |node_port: Option<u16>, ingress: serde_json::Value| -> Service {
            serde_json::from_value(json!({
                "metadata": {"name": "s", "namespace": "ns"},
                "spec": {"ports": [{"name": "other", "port": 1}, {"name": "p", "port": 7071, "nodePort": node_port}]},
                "status": {"loadBalancer": {"ingress": ingress}},
            }))
            .unwrap()
        };
        let node = |address: &str| NodeAddress {
            node: "n".to_owned(),
            address: address.to_owned(),
            external: false,
            ready: true,
        };
        let address_of = |service: &Service, port: &str, nodes: &[NodeAddress]| {
            address_of(service, port_of(service, port)?, nodes)
        };
        let (four, six) = ([node("10.0.0.1")], [node("fd00::1")]);
        let balanced = service(Some(30000), json!([{"ip": "192.0.2.1"}]));
        let ported = service(Some(30000), json!([]));
        let named = service(None, json!([]));
        assert_eq!(
            address_of(&balanced, "p", &four).as_deref(),
            Some("192.0.2.1:7071")
        );
        assert_eq!(
            address_of(&ported, "p", &four).as_deref(),
            Some("10.0.0.1:30000")
        );
        assert_eq!(
            address_of(&ported, "p", &six).as_deref(),
            Some("[fd00::1]:30000")
        );
        assert_eq!(
            address_of(&named, "p", &four).as_deref(),
            Some("s.ns.svc:7071")
        );
        assert_eq!(address_of(&named, "q", &four), None);
    }

    #[test]
    fn a_nodes_addresses_are_told_from_its_names() {
        let node = json!({
            "metadata": {"name": "n1"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [
                    {"type": "InternalIP", "address": "10.0.0.1"},
                    {"type": "Hostname", "address": "n1"},
                    {"type": "ExternalIP", "address": "192.0.2.1"},
                ],
            },
        });
        let found = addresses_of(serde_json::from_value(node).unwrap());
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.address.as_str(), one.external))
            .collect();
        assert_eq!(found, [("10.0.0.1", false), ("192.0.2.1", true)]);
    }
}
