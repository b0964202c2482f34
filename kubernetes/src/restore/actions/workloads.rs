//! What makes pods: jobs, stateful sets, and the images of all.

use serde_json::Value;

use super::{
    super::json::{items_mut, map_mut, text},
    Renames, classes,
};

/// Labels by which a job knows its pods; they hold its former uid.
const JOB_UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// Whether a job has done its work, or has given it up.
pub(super) fn is_complete(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    let has_failed = conditions.into_iter().flatten().any(|one| {
        matches!(one["type"].as_str(), Some("Complete" | "Failed")) && one["status"] == "True"
    });
    text(job, "/status/completionTime").is_some() || has_failed
}

/// Takes a job's former uid from its selector and its template.
pub(super) fn forget_job(job: &mut Value) {
    for labels in [
        "/spec/selector/matchLabels",
        "/spec/template/metadata/labels",
        "/metadata/labels",
    ] {
        if let Some(labels) = map_mut(job, labels) {
            labels.retain(|key, _| !JOB_UID.contains(&key.as_str()));
        }
    }
}

/// Renames the storage classes of the templates of claims.
pub(super) fn map_templates(set: &mut Value, names: &Renames) {
    for template in items_mut(set, "/spec/volumeClaimTemplates") {
        classes::map(template, "/spec", names);
    }
}

/// Where the spec of a kind's pods is.
pub(super) fn pod_spec(resource: &str) -> Option<&'static str> {
    Some(match resource {
        "pods" => "/spec",
        "deployments.apps"
        | "daemonsets.apps"
        | "replicasets.apps"
        | "statefulsets.apps"
        | "jobs.batch"
        | "replicationcontrollers" => "/spec/template/spec",
        "cronjobs.batch" => "/spec/jobTemplate/spec/template/spec",
        _ => return None,
    })
}

/// Replaces parts of the names of images, such as the registry.
pub(super) fn rename_images(resource: &str, object: &mut Value, images: &Renames) {
    let Some(spec) = pod_spec(resource).filter(|_| !images.is_empty()) else {
        return;
    };
    for list in ["containers", "initContainers"] {
        for container in items_mut(object, &format!("{spec}/{list}")) {
            let Some(image) = text(container, "/image").map(str::to_owned) else {
                continue;
            };
            let rename = images.iter().find(|(old, _)| image.contains(old.as_str()));
            if let Some((old, new)) = rename {
                container["image"] = image.replace(old.as_str(), new).into();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_forgets_its_uid_and_one_that_has_ended_is_complete() {
        let mut job = json!({"spec": {
            "selector": {"matchLabels": {"controller-uid": "u", "batch.kubernetes.io/controller-uid": "u"}},
            "template": {"metadata": {"labels": {"controller-uid": "u", "job-name": "j"}}},
        }});
        forget_job(&mut job);
        assert_eq!(job["spec"]["selector"]["matchLabels"], json!({}));
        assert_eq!(
            job["spec"]["template"]["metadata"]["labels"],
            json!({"job-name": "j"})
        );
        assert!(!is_complete(&job));
        assert!(is_complete(&json!({"status": {"completionTime": "t"}})));
        let failed = json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}});
        assert!(is_complete(&failed));
    }

    #[test]
    fn images_are_renamed_in_every_template() {
        let images: Renames = [("old.example/".to_owned(), "new.example/".to_owned())].into();
        let mut cron = json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {
            "containers": [{"image": "old.example/a:1"}, {"image": "b"}],
        }}}}}});
        rename_images("cronjobs.batch", &mut cron, &images);
        let containers = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"];
        assert_eq!(
            containers,
            &json!([{"image": "new.example/a:1"}, {"image": "b"}])
        );
    }

    #[test]
    fn templates_of_claims_name_the_new_class() {
        let names: Renames = [("slow".to_owned(), "fast".to_owned())].into();
        let mut set =
            json!({"spec": {"volumeClaimTemplates": [{"spec": {"storageClassName": "slow"}}]}});
        map_templates(&mut set, &names);
        let template = &set["spec"]["volumeClaimTemplates"][0];
        assert_eq!(template["spec"]["storageClassName"], "fast");
    }
}
