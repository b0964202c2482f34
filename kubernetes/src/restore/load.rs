//! The command that loads a dump into a restored pod, by annotations of ours on the pod.
//!
//! It is no hook of Velero's, which would run in pods without data as well, for 30 s at most, and in a container that may
//! not be ready: a dump is there only once the pod's volumes are, takes its time, and needs a server that answers.

use std::time::Duration;

use orlop_core::hook::{HookSource, OnError};

use super::RestoreHook;
use crate::{
    selection::{annotations, hooks::HookReader},
    velero::GoDuration,
};

/// The program and its arguments as a JSON list; without it there is nothing to load.
const COMMAND: &str = "orlop.io/load-command";
/// The container that it runs in; the first one if there is none.
const CONTAINER: &str = "orlop.io/load-container";
/// How long it may take.
const TIMEOUT: &str = "orlop.io/load-timeout";
/// `Continue`: the pod's hooks run though it has failed.
const ON_ERROR: &str = "orlop.io/load-on-error";

/// How long it may take if nobody says.
const DEFAULT: Duration = Duration::from_hours(1);

/// The command's name in logs.
const NAME: &str = "load";

/// The hook that loads the dump of a pod. In one that gets none of its volumes there is no dump, which is said.
pub(super) fn hook(reader: &mut HookReader<'_>, has_data: bool) -> Option<RestoreHook> {
    let pod = reader.pod;
    let value = |key: &str| annotations::get(pod, key).to_owned();
    let command = value(COMMAND);
    if command.is_empty() {
        for key in [CONTAINER, TIMEOUT, ON_ERROR] {
            if !value(key).is_empty() {
                reader.warn(&format!("{key} does nothing without {COMMAND}"));
            }
        }
        return None;
    }
    if !has_data {
        reader.warn(&format!(
            "{COMMAND} is not run: none of the pod's volumes are restored, so there is nothing to load"
        ));
        return None;
    }
    let timeout = timeout(reader, &value(TIMEOUT));
    Some(RestoreHook {
        name: NAME.to_owned(),
        source: HookSource::Annotation,
        container: reader.container(&value(CONTAINER)),
        command: reader.command(COMMAND, &command),
        // Who comes after it counts on the data.
        on_error: reader
            .on_error_text(ON_ERROR, &value(ON_ERROR))
            .unwrap_or(OnError::Fail),
        exec_timeout: timeout,
        wait_timeout: Duration::ZERO,
        wait_for_ready: true,
    })
}

fn timeout(reader: &mut HookReader<'_>, said: &str) -> Duration {
    if said.is_empty() {
        return DEFAULT;
    }
    let read = said.parse::<GoDuration>().ok().and_then(GoDuration::to_std);
    read.filter(|time| !time.is_zero()).unwrap_or_else(|| {
        let default = GoDuration::from(DEFAULT);
        reader.warn(&format!(
            "{TIMEOUT} is {said:?}, which is no time above zero such as 90m; it is {default}"
        ));
        DEFAULT
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "db-0", "namespace": "shop", "annotations": annotations},
            "spec": {"containers": [{"name": "proxy"}, {"name": "db"}]},
        }))
        .unwrap()
    }

    fn found(annotations: &Value, has_data: bool) -> (Option<RestoreHook>, Vec<String>) {
        let pod = pod(annotations);
        let mut reader = HookReader::new(&pod);
        (hook(&mut reader, has_data), reader.warnings)
    }

    #[test]
    fn it_waits_until_its_container_is_ready_and_has_time() {
        let command = json!({COMMAND: r#"["psql", "-f", "/backup/all.sql"]"#});
        let (hook, warnings) = found(&command, true);
        let want = RestoreHook {
            name: "load".to_owned(),
            source: HookSource::Annotation,
            container: "proxy".to_owned(),
            command: ["psql", "-f", "/backup/all.sql"]
                .map(str::to_owned)
                .to_vec(),
            on_error: OnError::Fail,
            exec_timeout: Duration::from_hours(1),
            wait_timeout: Duration::ZERO,
            wait_for_ready: true,
        };
        assert_eq!((hook, warnings), (Some(want), Vec::new()));
    }

    #[test]
    fn container_time_and_what_follows_a_failure_can_be_said() {
        let all = json!({
            COMMAND: "/load.sh", CONTAINER: "db", TIMEOUT: "90m", ON_ERROR: "Continue",
        });
        let (hook, warnings) = found(&all, true);
        let hook = hook.unwrap();
        assert_eq!((hook.container.as_str(), warnings.len()), ("db", 0));
        assert_eq!(hook.exec_timeout, Duration::from_mins(90));
        assert_eq!(hook.on_error, OnError::Continue);
        let odd =
            json!({COMMAND: "/load.sh", CONTAINER: "nobody", TIMEOUT: "soon", ON_ERROR: "Weep"});
        let (hook, warnings) = found(&odd, true);
        let hook = hook.unwrap();
        assert_eq!((hook.on_error, hook.exec_timeout), (OnError::Fail, DEFAULT));
        assert_eq!(warnings.len(), 3, "{warnings:?}");
    }

    #[test]
    fn without_a_command_or_without_data_nothing_is_loaded_and_that_is_said() {
        assert_eq!(found(&json!({}), true), (None, Vec::new()));
        let (hook, warnings) = found(&json!({CONTAINER: "db"}), true);
        assert!(
            hook.is_none() && warnings[0].contains("does nothing without orlop.io/load-command")
        );
        let (hook, warnings) = found(&json!({COMMAND: "/load.sh"}), false);
        assert!(
            hook.is_none() && warnings[0].contains("nothing to load"),
            "{warnings:?}"
        );
    }
}
