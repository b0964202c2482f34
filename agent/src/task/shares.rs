//! How the tasks of one node share its memory.
//!
//! Measured as anonymous memory of a process that backs up one volume of pages, of small files, or of bytes that cannot
//! be compressed: 71 MiB with one worker and one upload, 84 with two workers, 104 with two uploads as well, 135 with four
//! workers and one upload, 180 with six workers and two uploads.

use orlop_core::run::tasks_at_once;

use crate::backup::Budget;

/// What a backup holds with one worker and one pack on its way, besides that worker: the walk, the manifest, and packs.
const BASE_BYTES: u64 = 64 << 20;
/// A backup's worker holds about this much: chunks that are read, compressed and sealed.
const WORKER_BYTES: u64 = 24 << 20;
/// With less than this there is one pack on its way to the store at a time, not two.
const TWO_UPLOADS_BYTES: u64 = 192 << 20;

/// The processors of this machine.
fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// Each of the tasks that a coordinator gives by default gets its share of the memory.
pub(super) fn share(memory_bytes: u64) -> u64 {
    memory_bytes / tasks_at_once(cores())
}

/// What a backup does with its share of the memory.
pub(super) fn budget(share: u64) -> Budget {
    with_cores(share, cores())
}

fn with_cores(share: u64, cores: u64) -> Budget {
    let workers = share.saturating_sub(BASE_BYTES) / WORKER_BYTES;
    Budget {
        workers: workers.clamp(1, cores) as usize,
        uploads: if share < TWO_UPLOADS_BYTES { 1 } else { 2 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_fit_into_the_memory_of_their_agent_however_many_processors_there_are() {
        let of = |mebibytes: u64, cores: u64| {
            let share = (mebibytes << 20) / tasks_at_once(cores);
            let budget = with_cores(share, cores);
            (tasks_at_once(cores), budget.workers, budget.uploads)
        };
        assert_eq!(of(256, 1), (1, 1, 2));
        assert_eq!(of(256, 2), (1, 2, 2));
        assert_eq!(of(256, 4), (2, 2, 1));
        assert_eq!(of(256, 128), (2, 2, 1));
        assert_eq!(of(2048, 16), (2, 16, 2));
        assert_eq!(of(0, 4), (2, 1, 1));
    }
}
