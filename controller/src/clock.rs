//! Time as Kubernetes writes it: whole seconds of UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orlop_kubernetes::api::Time;
pub(crate) use orlop_kubernetes::record::time;

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Milliseconds since 1970.
pub(crate) fn ms(time: &Time) -> i64 {
    time.0.as_millisecond()
}

/// The same for a time that may not have come; 0 then.
pub(crate) fn ms_or_zero(time: Option<&Time>) -> i64 {
    time.map_or(0, ms)
}

/// From `now_ms` until `then_ms`; nothing if that is past.
pub(crate) fn until(then_ms: i64, now_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(then_ms.saturating_sub(now_ms)).unwrap_or(0))
}

/// RFC 3339 in whole seconds, for annotations.
pub(crate) fn text(unix_ms: i64) -> String {
    time(unix_ms).map_or_else(String::new, |time| time.0.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_what_is_less_than_a_second() {
        let one = time(1_767_323_045_999).unwrap();
        assert_eq!(serde_json::json!(one), "2026-01-02T03:04:05Z");
        assert_eq!(ms(&one), 1_767_323_045_000);
        assert_eq!(text(1_767_323_045_999), "2026-01-02T03:04:05Z");
        assert_eq!((time(0), text(0)), (None, String::new()));
    }

    #[test]
    fn what_is_past_is_not_waited_for() {
        assert_eq!(until(5_000, 3_000), Duration::from_secs(2));
        assert_eq!(until(3_000, 5_000), Duration::ZERO);
    }
}
