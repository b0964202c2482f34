//! What the container that waits may use, so that the pod needs no more room than without it: a pod's request is the
//! larger one of its init containers' and the sum of its containers', and keeps it while the pod lives.

use serde_json::{Map, Value};

use super::json::items;
use crate::quantity;

/// A resource, what is requested of it at most, and below which limit the program does not get along.
struct Resource {
    name: &'static str,
    most: f64,
    floor: f64,
}

/// What one container has of a resource.
#[derive(Clone, Copy)]
struct Share {
    request: f64,
    limit: Option<f64>,
}

const RESOURCES: [Resource; 2] = [
    Resource {
        name: "cpu",
        most: 0.1,
        floor: 0.0,
    },
    Resource {
        name: "memory",
        most: 128.0 * MEBIBYTE,
        floor: 32.0 * MEBIBYTE,
    },
];

const MEBIBYTE: f64 = 1_048_576.0;

/// By how much a sum of decimal fractions may be too large.
const ROUNDING: f64 = 1e-6;

/// Requests and limits for a pod. What is `given` for a part and a resource counts as it is, and zero stands for none.
/// The rest is no more than the largest of the pod's own containers has, which was admitted once, and leaves its class of
/// service as it is: a pod that requests nothing goes on to, and one whose limits are its requests has such a container.
pub(super) fn resources(
    pod: &Value,
    given: impl Fn(&str, &str) -> Option<String>,
) -> Map<String, Value> {
    let mut resources = Map::new();
    for resource in &RESOURCES {
        let bounds = |part: &str| given(part, resource.name);
        for (part, amount) in resource.bounds(pod, bounds) {
            let part = resources.entry(part).or_insert_with(|| Map::new().into());
            part[resource.name] = amount.into();
        }
    }
    resources
}

impl Resource {
    /// Its request and limit as far as there are any. What fits gives way to what is given, for no request may be above
    /// the limit.
    fn bounds(
        &self,
        pod: &Value,
        given: impl Fn(&str) -> Option<String>,
    ) -> impl Iterator<Item = (&'static str, String)> {
        let (request, limit) = self.fitting(pod);
        let (given_request, given_limit) = (given("requests"), given("limits"));
        let amount = |given: &Option<String>| given.as_deref().and_then(quantity::parse);
        let least = amount(&given_request).unwrap_or(0.0);
        let most = amount(&given_limit).filter(|most| *most > 0.0);
        let request = request.map(|fits| fits.min(most.unwrap_or(fits)));
        let limit = limit.map(|fits| fits.max(least));
        let parts = [
            ("requests", given_request, request),
            ("limits", given_limit, limit),
        ];
        parts.into_iter().filter_map(|(part, given, fits)| {
            let amount = given.or_else(|| fits.map(|it| self.text(it)))?;
            (quantity::parse(&amount) != Some(0.0)).then_some((part, amount))
        })
    }

    /// The request and the limit that go with a pod's.
    fn fitting(&self, pod: &Value) -> (Option<f64>, Option<f64>) {
        let shares: Vec<Share> = items(pod, "/spec/containers")
            .map(|one| self.share(one))
            .collect();
        let limits: Option<Vec<f64>> = shares.iter().map(|one| one.limit).collect();
        let Some(limits) = limits.filter(|limits| !limits.is_empty()) else {
            let largest = shares.iter().map(|one| one.request).fold(0.0, f64::max);
            return ((largest > 0.0).then(|| largest.min(self.most)), None);
        };
        let largest = limits.iter().copied().fold(0.0, f64::max);
        let limit = largest.min(self.most).max(self.floor);
        if shares.iter().all(|one| one.limit == Some(one.request)) {
            return (Some(limit), Some(limit));
        }
        let of_largest = shares.iter().filter(|one| one.limit == Some(largest));
        let request = of_largest.map(|one| one.request).fold(0.0, f64::max);
        (Some(request.min(limit)), Some(limit))
    }

    /// Without a request the limit is the request.
    fn share(&self, container: &Value) -> Share {
        let amount =
            |part: &str| quantity::parse(container["resources"][part][self.name].as_str()?);
        let limit = amount("limits");
        Share {
            request: amount("requests").or(limit).unwrap_or(0.0),
            limit,
        }
    }

    /// As Kubernetes writes it: whole thousandths or bytes.
    fn text(&self, amount: f64) -> String {
        if self.name == "cpu" {
            format!("{}m", (amount * 1000.0 - ROUNDING).ceil())
        } else if amount % MEBIBYTE == 0.0 {
            format!("{}Mi", amount / MEBIBYTE)
        } else {
            format!("{}", (amount - ROUNDING).ceil())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(containers: &Value) -> Value {
        let pod = json!({"spec": {"containers": containers}});
        resources(&pod, |_, _| None).into()
    }

    #[test]
    fn a_pod_needs_no_more_room_than_before() {
        // Nothing requested, nothing bounded.
        assert_eq!(of(&json!([{"name": "a"}])), json!({}));
        let tight = json!([
            {"resources": {"requests": {"cpu": "20m", "memory": "16Mi"}}},
            {"resources": {"requests": {"cpu": "5m"}}},
        ]);
        let want = json!({"requests": {"cpu": "20m", "memory": "16Mi"}});
        assert_eq!(of(&tight), want);
        for cpu in 1..100 {
            let cpu = format!("{cpu}m");
            let got = of(&json!([{"resources": {"requests": {"cpu": cpu}}}]));
            assert_eq!(got, json!({"requests": {"cpu": cpu}}));
        }
        let wide = json!([{"resources": {"requests": {"cpu": "2", "memory": "1e9"}}}]);
        let want = json!({"requests": {"cpu": "100m", "memory": "128Mi"}});
        assert_eq!(of(&wide), want);
    }

    #[test]
    fn the_class_of_service_stays() {
        let guaranteed = json!([
            {"resources": {"limits": {"cpu": "1", "memory": "100M"}, "requests": {"cpu": "1000m", "memory": "100M"}}},
            {"resources": {"limits": {"cpu": "10m", "memory": "1M"}}},
        ]);
        let want = json!({"cpu": "100m", "memory": "100000000"});
        assert_eq!(of(&guaranteed), json!({"requests": want, "limits": want}));
        // Less than this the program could not do with.
        let tiny = json!([{"resources": {"limits": {"cpu": "1m", "memory": "4Mi"}}}]);
        let want = json!({"cpu": "1m", "memory": "32Mi"});
        assert_eq!(of(&tiny), json!({"requests": want, "limits": want}));
        // A limit on each container, as quotas want it, but a smaller request.
        let burstable = json!([{"resources": {
            "limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "10m", "memory": "10Mi"},
        }}]);
        let want = json!({
            "requests": {"cpu": "10m", "memory": "10Mi"}, "limits": {"cpu": "100m", "memory": "128Mi"},
        });
        assert_eq!(of(&burstable), want);
        let ratio = json!([{"resources": {"limits": {"cpu": "20m"}, "requests": {"cpu": "10m"}}}]);
        let want = json!({"requests": {"cpu": "10m"}, "limits": {"cpu": "20m"}});
        assert_eq!(of(&ratio), want);
        // One container without a limit leaves the pod without.
        let half = json!([{"resources": {"limits": {"cpu": "1"}}}, {"name": "b"}]);
        assert_eq!(of(&half), json!({"requests": {"cpu": "100m"}}));
    }

    #[test]
    fn what_is_given_counts() {
        let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "20m", "memory": "20Mi"}}}]}});
        let given = |part: &str, name: &str| match (part, name) {
            ("requests", "cpu") => Some("200m".to_owned()),
            ("requests", "memory") => Some("0Mi".to_owned()),
            ("limits", "memory") => Some("1Gi".to_owned()),
            _ => None,
        };
        let want = json!({"requests": {"cpu": "200m"}, "limits": {"memory": "1Gi"}});
        assert_eq!(Value::Object(resources(&pod, given)), want);
        // No request is above the limit.
        let pod = json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}});
        let given = |part: &str, name: &str| match (part, name) {
            ("requests", "cpu") => Some("200m".to_owned()),
            ("limits", "memory") => Some("100Mi".to_owned()),
            _ => None,
        };
        let want = json!({"cpu": "200m", "memory": "100Mi"});
        let want = json!({"requests": want, "limits": want});
        assert_eq!(Value::Object(resources(&pod, given)), want);
    }
}
