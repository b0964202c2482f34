//! Which backups of a schedule its rule lets go.

use orlop_core::retention::{Completeness, Guard, Item, RetentionPolicy, decide};
use orlop_kubernetes::velero::{Backup, BackupPhase};

use crate::{clock, schedule::turn::is_live};

/// The names of those that may go. One that runs or is being deleted is none of them, nor is the newest that is whole.
pub(crate) fn let_go(
    policy: &str,
    backups: &[&Backup],
    zone: jiff::tz::TimeZone,
    now_ms: i64,
) -> Vec<String> {
    let Ok(policy) = policy.parse::<RetentionPolicy>() else {
        // The schedule says what is wrong with it.
        return Vec::new();
    };
    if policy.is_empty() {
        return Vec::new();
    }
    let guard = Guard {
        zone,
        ..Guard::new(now_ms)
    };
    let items: Vec<Item<'_, &str>> = backups.iter().filter_map(|backup| item(backup)).collect();
    let decided = decide(&policy, &items, &guard);
    let gone = decided.into_iter().filter(|one| !one.keep);
    gone.map(|one| one.id.to_owned()).collect()
}

fn item(backup: &Backup) -> Option<Item<'_, &str>> {
    if is_live(backup) || backup.status.phase == BackupPhase::Deleting {
        return None;
    }
    let made = backup.metadata.creation_timestamp.as_ref();
    let began = backup.status.start_timestamp.as_ref().or(made)?;
    Some(Item {
        id: backup.metadata.name.as_deref()?,
        group: "",
        time_ms: clock::ms(began),
        sequence: 0,
        completeness: match backup.status.phase {
            BackupPhase::Completed => Completeness::Complete,
            BackupPhase::PartiallyFailed => Completeness::Flawed,
            _ => Completeness::Partial,
        },
        tags: &[],
        held_by: "",
    })
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;

    /// 2026-01-10T00:00:00Z
    const NOW: i64 = 1_768_003_200_000;

    fn backup(day: u32, phase: &str) -> Backup {
        serde_json::from_value(json!({
            "metadata": {"name": format!("b{day}")},
            "status": {"phase": phase, "startTimestamp": format!("2026-01-{day:02}T01:00:00Z")},
        }))
        .unwrap()
    }

    fn gone(policy: &str, backups: &[Backup]) -> Vec<String> {
        let backups: Vec<&Backup> = backups.iter().collect();
        let_go(policy, &backups, TimeZone::UTC, NOW)
    }

    #[test]
    fn a_rule_lets_the_others_go() {
        let backups: Vec<Backup> = (1..=5).map(|day| backup(day, "Completed")).collect();
        assert_eq!(gone("last=2", &backups), ["b1", "b2", "b3"]);
        assert_eq!(gone("", &backups), [""; 0]);
        assert_eq!(gone("dayly=2", &backups), [""; 0]);
    }

    #[test]
    fn the_last_good_one_stays_whatever_the_rule_says() {
        let backups = [
            backup(1, "Completed"),
            backup(2, "PartiallyFailed"),
            backup(3, "PartiallyFailed"),
            backup(4, "Failed"),
        ];
        assert_eq!(gone("last=1", &backups), ["b2"]);
    }

    #[test]
    fn what_runs_is_nobodys_business() {
        let backups = [
            backup(1, "InProgress"),
            backup(2, "Deleting"),
            backup(3, "Completed"),
            backup(4, "Completed"),
        ];
        assert_eq!(gone("last=1", &backups), ["b3"]);
    }
}
