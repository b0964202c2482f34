//! Kinds that are not kept but answered: reviews of tokens and of access, and requests for tokens.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    access::{AUDIENCE, Access, Deed, KubeUser, Token},
    failure::{Cause, Failure},
    kind::Kind,
    meta::{at, items, now, random_suffix, text, time},
    store::{Key, Store},
    update::find,
};

/// How long tokens last that say nothing of it.
const HOUR: Duration = Duration::from_hours(1);

/// The review with its answer in the status.
pub(super) fn review(
    store: &Store,
    access: &Access,
    kind: &Kind,
    asking: &KubeUser,
    mut review: Value,
) -> Value {
    let status = match kind.kind.as_str() {
        "TokenReview" => token_status(store, access, &review),
        "SelfSubjectReview" => json!({"userInfo": asking.json()}),
        "SelfSubjectAccessReview" => access_status(store, access, asking, &review),
        _ => access_status(store, access, &subject(&review), &review),
    };
    review["apiVersion"] = kind.api_version().into();
    review["kind"] = kind.kind.as_str().into();
    if !review["metadata"].is_object() {
        review["metadata"] = json!({"creationTimestamp": null});
    }
    review["status"] = status;
    review
}

fn strings(object: &Value, path: &str) -> Vec<String> {
    let all = items(object, path).iter().filter_map(Value::as_str);
    all.map(str::to_owned).collect()
}

fn token_status(store: &Store, access: &Access, review: &Value) -> Value {
    let Some(token) = access.token(store, text(review, "spec.token")) else {
        return json!({"user": {}, "error": "[invalid bearer token, token lookup failed]"});
    };
    match token.audiences(&strings(review, "spec.audiences")) {
        Err(error) => json!({"user": {}, "error": error}),
        Ok(audiences) => {
            json!({"authenticated": true, "user": token.user.json(), "audiences": audiences})
        }
    }
}

fn subject(review: &Value) -> KubeUser {
    KubeUser {
        name: text(review, "spec.user").to_owned(),
        uid: text(review, "spec.uid").to_owned(),
        groups: strings(review, "spec.groups"),
        ..KubeUser::default()
    }
}

fn access_status(store: &Store, access: &Access, user: &KubeUser, review: &Value) -> Value {
    let asked = |key: &str| text(&review["spec"]["resourceAttributes"], key).to_owned();
    let resource = match asked("subresource") {
        sub if sub.is_empty() => asked("resource"),
        sub => format!("{}/{sub}", asked("resource")),
    };
    let deed = Deed {
        verb: asked("verb"),
        group: asked("group"),
        resource,
        namespace: asked("namespace"),
        name: asked("name"),
    };
    let nothing_kept = at(review, "spec.nonResourceAttributes").is_object();
    let allowed = nothing_kept || access.allows(store, user, &deed);
    json!({"allowed": allowed})
}

/// Gives out a token of a service account, bound to what the request names.
pub(super) fn request_token(
    store: &Store,
    access: &mut Access,
    kind: &Kind,
    key: &Key,
    mut request: Value,
) -> Result<Value, Failure> {
    let account = find(store, kind, key)?;
    let mut user = KubeUser::service_account(&key.namespace, &key.name);
    text(&account, "metadata.uid").clone_into(&mut user.uid);
    let mut bound = vec![(key.clone(), user.uid.clone())];
    if text(&request, "spec.boundObjectRef.kind") == "Pod" {
        let name = text(&request, "spec.boundObjectRef.name");
        let pods = store.kinds.named("pods").expect("pods are built in");
        let pod_key = Key::new(pods, &key.namespace, name);
        let pod = find(store, pods, &pod_key)?;
        let uid = text(&pod, "metadata.uid");
        let given = text(&request, "spec.boundObjectRef.uid");
        if !given.is_empty() && given != uid {
            let why = format!(
                "the UID in the bound object reference ({given}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Failure::conflict(pods, name, &why));
        }
        user = user.in_pod(name, uid, text(&pod, "spec.nodeName"));
        bound.push((pod_key, uid.to_owned()));
    }
    let seconds = at(&request, "spec.expirationSeconds").as_u64();
    if seconds.is_some_and(|seconds| seconds < 600) {
        let why = "may not specify a duration less than 10 minutes";
        let given = at(&request, "spec.expirationSeconds");
        let cause = Cause::invalid("spec.expirationSeconds", given, why);
        return Err(Failure::invalid(kind, &key.name, &[cause]));
    }
    let asked = seconds.unwrap_or(HOUR.as_secs());
    let seconds = access.lifetime.map_or(asked, |time| time.as_secs());
    let expires = Timestamp::now() + SignedDuration::from_secs(seconds as i64);
    let mut audiences = strings(&request, "spec.audiences");
    if audiences.is_empty() {
        audiences.push(AUDIENCE.to_owned());
    }
    let text = format!("token-{}", random_suffix(40));
    request["apiVersion"] = "authentication.k8s.io/v1".into();
    request["kind"] = "TokenRequest".into();
    request["metadata"] = json!({
        "name": key.name, "namespace": key.namespace, "creationTimestamp": now(),
    });
    request["spec"]["audiences"] = audiences.as_slice().into();
    request["spec"]["expirationSeconds"] = seconds.into();
    request["status"] = json!({"token": text, "expirationTimestamp": time(expires)});
    let token = Token {
        user,
        audiences,
        bound,
        expires: Some(expires),
    };
    access.add_token(&text, token);
    Ok(request)
}
