//! How the tasks of one node share its memory.

use crate::backup::Budget;

/// A backup's worker holds about this much: chunks that are read, compressed and sealed.
const WORKER_BYTES: u64 = 24 << 20;
/// A pack on its way to the store, and the one that is being filled.
const UPLOAD_BYTES: u64 = 96 << 20;
/// The processors of this machine.
fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64)
}

/// Each of the tasks that a coordinator gives by default (half as many as there are processors) gets its
/// share of the memory.
pub(super) fn share(memory_bytes: u64) -> u64 {
    memory_bytes / (cores() / 2).max(1)
}

/// What a backup does with its share of the memory.
pub(super) fn budget(share: u64) -> Budget {
    let cores = cores();
    Budget {
        workers: (share / WORKER_BYTES).clamp(1, cores) as usize,
        uploads: (share / UPLOAD_BYTES).clamp(1, 2) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_never_empty() {
        let budget = budget(0);
        assert_eq!((budget.workers, budget.uploads), (1, 1));
    }
}
