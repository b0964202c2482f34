//! Who may do what: agents and clients nothing, the coordinator no more than it needs.

use serde_json::{Value, json};

use super::{all, base, list, named, one, texts};

const AUDIENCE: &str = "orlop.io/agent";

#[test]
fn no_role_is_bound_to_agents_and_clients() {
    let bindings: Vec<_> = all()
        .into_iter()
        .filter(|object| object.kind().ends_with("RoleBinding"))
        .collect();
    assert!(bindings.len() >= 3, "only {} bindings", bindings.len());
    for binding in &bindings {
        for subject in list(&binding.value["subjects"]) {
            // A group would hold the agents' account too.
            assert_eq!(subject["kind"], "ServiceAccount", "{}", binding.title());
            assert_eq!(subject["name"], "velero", "{}", binding.title());
        }
    }
}

#[test]
fn agents_have_a_token_for_the_coordinator_only() {
    let account = one("ServiceAccount", "node-agent").value;
    assert_eq!(account["automountServiceAccountToken"], false);
    let daemon_set = one("DaemonSet", "node-agent").value;
    let spec = &daemon_set["spec"]["template"]["spec"];
    assert_eq!(spec["serviceAccountName"], "node-agent");
    assert_eq!(spec["automountServiceAccountToken"], false);
    let sources = &named(&spec["volumes"], "orlop-identity")["projected"]["sources"];
    let tokens: Vec<&Value> = list(sources)
        .map(|source| &source["serviceAccountToken"])
        .filter(|token| !token.is_null())
        .collect();
    assert_eq!(
        tokens,
        [&json!({"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"})]
    );
    // It starts before the coordinator has published its authority.
    let authority = list(sources)
        .map(|source| &source["configMap"])
        .find(|map| !map.is_null())
        .unwrap();
    assert_eq!(authority["name"], "orlop-ca");
    assert_eq!(authority["optional"], true);
    let secrets = list(&spec["volumes"]).filter(|volume| volume["secret"].is_object());
    assert_eq!(secrets.count(), 0, "agents hold no keys to a store");
}

#[test]
fn the_account_for_clients_is_known_by_its_name_and_no_pod_runs_as_it() {
    let account = one("ServiceAccount", orlop_kubernetes::reach::CLIENT_ACCOUNT).value;
    assert_eq!(account["automountServiceAccountToken"], false);
    for object in base() {
        if let Some(template) = object.template() {
            let account = &template["spec"]["serviceAccountName"];
            assert_ne!(*account, "orlop-client", "{}", object.title());
        }
    }
}

#[test]
fn agents_drop_all_capabilities_but_those_of_files() {
    let daemon_set = one("DaemonSet", "node-agent").value;
    let context = &daemon_set["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    let mut added = texts(&context["capabilities"]["add"]);
    added.sort_unstable();
    assert_eq!(
        added,
        [
            "CHOWN",
            "DAC_OVERRIDE",
            "DAC_READ_SEARCH",
            "FOWNER",
            "FSETID",
            "MKNOD",
            "SETFCAP"
        ]
    );
    assert_eq!(context["privileged"], Value::Null);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["seLinuxOptions"], json!({"type": "spc_t"}));
}

#[test]
fn the_coordinator_would_pass_the_restricted_level() {
    let deployment = one("Deployment", "velero");
    let spec = &deployment.template().unwrap()["spec"];
    let pod = &spec["securityContext"];
    assert_eq!(pod["runAsNonRoot"], true);
    assert_eq!(pod["runAsUser"], 65532);
    assert_eq!(pod["seccompProfile"], json!({"type": "RuntimeDefault"}));
    for container in deployment.containers() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(context["runAsUser"], Value::Null);
    }
    for volume in list(&spec["volumes"]) {
        assert_eq!(volume["hostPath"], Value::Null, "{volume}");
    }
}

#[test]
fn nobody_is_administrator_of_the_cluster() {
    for object in base() {
        let reference = &object.value["roleRef"]["name"];
        assert_ne!(*reference, "cluster-admin", "{}", object.title());
        for rule in list(&object.value["rules"]) {
            let own = object.kind() == "Role" && texts(&rule["apiGroups"]) == ["velero.io"];
            assert!(
                own || !texts(&rule["verbs"]).contains(&"*"),
                "{} allows every verb",
                object.title()
            );
        }
    }
}

#[test]
fn writes_to_everything_are_apart_from_what_backups_need() {
    for object in base() {
        if object.kind() != "ClusterRole" || object.name() == "velero-restore" {
            continue;
        }
        for rule in list(&object.value["rules"]) {
            if texts(&rule["resources"]).contains(&"*") {
                let verbs = texts(&rule["verbs"]);
                assert_eq!(verbs, ["get", "list", "watch"], "{}", object.title());
            }
        }
    }
    let restore = one("ClusterRole", "velero-restore").value;
    assert_eq!(
        restore["rules"][0],
        json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["create", "update", "patch", "delete"]})
    );
    let binding = one("ClusterRoleBinding", "velero-restore").value;
    assert_eq!(binding["roleRef"]["name"], "velero-restore");
}

#[test]
fn every_binding_names_a_role_and_an_account_that_are_there() {
    let objects = base();
    for binding in objects
        .iter()
        .filter(|object| object.kind().ends_with("RoleBinding"))
    {
        let reference = &binding.value["roleRef"];
        let there = objects
            .iter()
            .any(|one| one.kind() == reference["kind"] && one.name() == reference["name"]);
        assert!(there, "{}: no {reference}", binding.title());
        for subject in list(&binding.value["subjects"]) {
            assert_eq!(subject["namespace"], "velero", "{}", binding.title());
            one("ServiceAccount", subject["name"].as_str().unwrap());
        }
    }
}
