//! Whether an entry is what the parent snapshot says it is.

use orlop_core::Timestamp;
use orlop_repository::StatRecord;

use crate::scan::FileStat;

/// Times of a change may be as much older than the clock: file systems stamp with the last tick.
const GRANULARITY_NANOS: i64 = 20_000_000;
/// File systems without nanoseconds (FAT, old NFS) stamp to two seconds.
const COARSE_NANOS: i64 = 2_000_000_000;

/// When the walk began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Timestamp,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started: super::now(),
        }
    }

    /// The beginning in milliseconds since 1970.
    pub(super) fn unix_ms(self) -> i64 {
        self.started.secs * 1000 + i64::from(self.started.nanos / 1_000_000)
    }

    /// Whether the entry may change after it is read without its times showing it (the racy rule of
    /// git's index): it was last changed so shortly before the walk, or during it, that a further
    /// change could get the same time.
    pub(super) fn is_racy(self, stat: &FileStat) -> bool {
        let coarse = stat.ctime.nanos == 0 && stat.mtime.nanos == 0;
        let granularity = if coarse {
            COARSE_NANOS
        } else {
            GRANULARITY_NANOS
        };
        nanos(stat.ctime) >= nanos(self.started) - i128::from(granularity)
    }

    /// What the next backup compares.
    pub(super) fn record(self, stat: &FileStat) -> StatRecord {
        StatRecord {
            kind: stat.kind,
            racy: self.is_racy(stat),
            ino: stat.ino,
            size: stat.size,
            mtime: stat.mtime,
            ctime: stat.ctime,
        }
    }
}

fn nanos(time: Timestamp) -> i128 {
    i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos)
}

/// The `strict` rule: type, size, times and inode are those of the parent, and the parent's were not
/// racy. The device number is not compared: it changes when a volume is mounted again.
pub(super) fn is_unchanged(record: &StatRecord, stat: &FileStat) -> bool {
    !record.racy
        && record.kind == stat.kind
        && record.size == stat.size
        && record.ino == stat.ino
        && record.mtime == stat.mtime
        && record.ctime == stat.ctime
}

/// Whether two stats of one open file show that nothing was written between them.
pub(super) fn is_stable(before: &FileStat, after: &FileStat) -> bool {
    before.size == after.size && before.mtime == after.mtime && before.ctime == after.ctime
}

#[cfg(test)]
mod tests {
    use orlop_repository::EntryKind;

    use super::*;

    fn stat(ctime: Timestamp) -> FileStat {
        FileStat {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 10,
            ino: 5,
            dev: (8, 1),
            nlink: 1,
            mtime: Timestamp::new(100, 1),
            ctime,
            rdev: 0,
            blocks: 8,
        }
    }

    #[test]
    fn an_entry_changed_just_before_the_walk_is_read_again() {
        let clock = Clock {
            started: Timestamp::new(1000, 10_000_000),
        };
        let old = stat(Timestamp::new(999, 980_000_000));
        assert!(is_unchanged(&clock.record(&old), &old));
        for ctime in [
            Timestamp::new(999, 995_000_000),
            Timestamp::new(1000, 11_000_000),
            Timestamp::new(2000, 0),
        ] {
            let racy = stat(ctime);
            assert!(!is_unchanged(&clock.record(&racy), &racy), "{ctime:?}");
        }
        let coarse = FileStat {
            mtime: Timestamp::new(100, 0),
            ..stat(Timestamp::new(999, 0))
        };
        assert!(clock.is_racy(&coarse));
    }

    #[test]
    fn any_difference_counts_but_the_device() {
        let clock = Clock {
            started: Timestamp::new(1000, 0),
        };
        let base = stat(Timestamp::new(500, 0));
        let record = clock.record(&base);
        assert!(is_unchanged(
            &record,
            &FileStat {
                dev: (8, 2),
                ..base
            }
        ));
        assert!(!is_unchanged(&record, &FileStat { size: 11, ..base }));
        assert!(!is_unchanged(&record, &FileStat { ino: 6, ..base }));
        assert!(!is_unchanged(
            &record,
            &FileStat {
                mtime: Timestamp::new(100, 2),
                ..base
            }
        ));
        assert!(!is_unchanged(
            &record,
            &FileStat {
                ctime: Timestamp::new(500, 1),
                ..base
            }
        ));
        assert!(!is_unchanged(
            &record,
            &FileStat {
                kind: EntryKind::Fifo,
                ..base
            }
        ));
    }
}
