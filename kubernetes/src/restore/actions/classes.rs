//! Storage classes that are called otherwise in this cluster.

use serde_json::Value;

use super::{super::json::text, Renames};

/// The old way to name a claim's class.
const BETA: &str = "volume.beta.kubernetes.io/storage-class";

/// Renames the class of a claim, a template of one, or a volume.
pub(super) fn map(object: &mut Value, spec: &str, classes: &Renames) {
    let class = format!("{spec}/storageClassName");
    if let Some(new) = text(object, &class).and_then(|old| classes.get(old)) {
        let new = new.as_str().into();
        if let Some(class) = object.pointer_mut(&class) {
            *class = new;
        }
    }
    let old = object["metadata"]["annotations"][BETA].as_str();
    if let Some(new) = old.and_then(|old| classes.get(old)) {
        object["metadata"]["annotations"][BETA] = new.as_str().into();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_class_is_renamed_wherever_it_is_named() {
        let classes: Renames = [("slow".to_owned(), "fast".to_owned())].into();
        let mut claim = json!({
            "metadata": {"annotations": {BETA: "slow"}}, "spec": {"storageClassName": "slow"},
        });
        map(&mut claim, "/spec", &classes);
        assert_eq!(claim["spec"]["storageClassName"], "fast");
        assert_eq!(claim["metadata"]["annotations"][BETA], "fast");
        let mut other = json!({"metadata": {}, "spec": {"storageClassName": "other"}});
        let before = other.clone();
        map(&mut other, "/spec", &classes);
        assert_eq!(other["spec"], before["spec"]);
    }
}
