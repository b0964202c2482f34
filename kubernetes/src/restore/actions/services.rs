//! Services: addresses and node ports are given anew, unless somebody chose them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::json::{annotation, items, items_mut, remove, text};

/// Annotation in which `kubectl apply` keeps what it was given.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub(super) fn prepare(service: &mut Value, keeps_ports: bool) {
    if service["spec"]["clusterIP"] != "None" {
        remove(service, "/spec", "clusterIP");
    }
    if service["spec"]["clusterIPs"] != json!(["None"]) {
        remove(service, "/spec", "clusterIPs");
    }
    if keeps_ports {
        return;
    }
    let applied: Option<Value> =
        annotation(service, LAST_APPLIED).and_then(|text| serde_json::from_str(text).ok());
    let given = given(service);
    let check = &service["spec"]["healthCheckNodePort"];
    let by_apply = applied
        .as_ref()
        .map(|one| &one["spec"]["healthCheckNodePort"]);
    if by_apply != Some(check) && !given.health_check {
        remove(service, "/spec", "healthCheckNodePort");
    }
    for port in items_mut(service, "/spec/ports") {
        let chosen = match &applied {
            Some(applied) => is_chosen(port, applied),
            None => port["port"]
                .as_u64()
                .is_some_and(|number| given.ports.contains(&number)),
        };
        if !chosen {
            remove(port, "", "nodePort");
        }
    }
}

/// What somebody has given a Service's fields for, as the server has noted: of a node port that the cluster chose it notes
/// nothing (the idea of Velero's `pkg/restore/actions/service_action.go`).
#[derive(Default)]
struct Given {
    /// Ports whose node port was given.
    ports: BTreeSet<u64>,
    health_check: bool,
}

fn given(service: &Value) -> Given {
    let mut given = Given::default();
    for entry in items(service, "/metadata/managedFields") {
        let spec = &entry["fieldsV1"]["f:spec"];
        given.health_check |= spec.get("f:healthCheckNodePort").is_some();
        for (key, fields) in spec["f:ports"].as_object().into_iter().flatten() {
            let key = key.strip_prefix("k:").unwrap_or_default();
            let key: Value = serde_json::from_str(key).unwrap_or_default();
            if let (Some(port), true) = (key["port"].as_u64(), fields.get("f:nodePort").is_some()) {
                given.ports.insert(port);
            }
        }
    }
    given
}

/// Whether somebody has asked for a port's node port: by the port's name, or if it has none, by the number.
fn is_chosen(port: &Value, applied: &Value) -> bool {
    let mut asked = items(applied, "/spec/ports").filter(|one| one.get("nodePort").is_some());
    match text(port, "/name") {
        Some(name) => asked.any(|one| text(one, "/name") == Some(name)),
        None => {
            asked.any(|one| text(one, "/name").is_none() && one["nodePort"] == port["nodePort"])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(applied: &Value) -> Value {
        json!({
            "metadata": {"annotations": {LAST_APPLIED: applied.to_string()}},
            "spec": {
                "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "healthCheckNodePort": 31111,
                "ports": [{"name": "a", "nodePort": 31000}, {"name": "b", "nodePort": 31001}, {"nodePort": 31002}],
            },
        })
    }

    fn ports(service: &Value) -> Vec<Option<u64>> {
        items(service, "/spec/ports")
            .map(|port| port["nodePort"].as_u64())
            .collect()
    }

    #[test]
    fn node_ports_that_the_cluster_chose_are_given_anew() {
        let mut bare = service(&json!({"spec": {"ports": [{"name": "a"}]}}));
        prepare(&mut bare, false);
        assert_eq!(ports(&bare), [None, None, None]);
        for key in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            assert_eq!(bare["spec"].get(key), None, "{key}");
        }
    }

    #[test]
    fn node_ports_that_somebody_chose_stay() {
        let mut chosen = service(&json!({"spec": {"healthCheckNodePort": 31111, "ports": [
            {"name": "a", "nodePort": 31000}, {"nodePort": 31002},
        ]}}));
        prepare(&mut chosen, false);
        assert_eq!(ports(&chosen), [Some(31000), None, Some(31002)]);
        assert_eq!(chosen["spec"]["healthCheckNodePort"], 31111);
        let mut all = service(&Value::Null);
        prepare(&mut all, true);
        assert_eq!(ports(&all), [Some(31000), Some(31001), Some(31002)]);
    }

    #[test]
    fn node_ports_that_were_given_without_apply_stay() {
        let mut helm = json!({
            "metadata": {"managedFields": [
                {"manager": "helm", "fieldsV1": {"f:spec": {"f:ports": {
                    ".": {}, r#"k:{"port":80,"protocol":"TCP"}"#: {"f:nodePort": {}, "f:port": {}},
                    r#"k:{"port":443,"protocol":"TCP"}"#: {"f:port": {}}, "k:nonsense": {"f:nodePort": {}},
                }}}},
                {"manager": "other", "fieldsV1": null},
            ]},
            "spec": {"type": "NodePort", "healthCheckNodePort": 31111, "ports": [
                {"port": 80, "nodePort": 30080}, {"port": 443, "nodePort": 31001},
            ]},
        });
        let mut check = helm.clone();
        prepare(&mut helm, false);
        assert_eq!(ports(&helm), [Some(30080), None]);
        assert_eq!(helm["spec"].get("healthCheckNodePort"), None);
        let fields = json!({"f:healthCheckNodePort": {}});
        check["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = fields;
        prepare(&mut check, false);
        assert_eq!(check["spec"]["healthCheckNodePort"], 31111);
    }

    #[test]
    fn a_headless_service_stays_headless() {
        let mut headless = json!({"spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        let before = headless.clone();
        prepare(&mut headless, false);
        assert_eq!(headless["spec"]["clusterIP"], before["spec"]["clusterIP"]);
        assert_eq!(headless["spec"]["clusterIPs"], before["spec"]["clusterIPs"]);
    }
}
