//! Memory that was freed and that the allocator keeps for itself. The one room of this crate with unsafe code.

/// Gives freed memory back to the system, from all threads.
///
/// The allocator of glibc keeps most of what large pieces of work have freed, in one heap for each few threads: a process
/// that has done ten of them holds several times what one of them needs. Who works now and then calls this when a piece of
/// work is done. It takes some milliseconds for each 100 MiB, during which other threads may wait for memory; with another
/// allocator nothing happens.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `malloc_trim` takes no pointer, and may be called by any thread at any time (malloc_trim(3): MT-Safe).
        #[allow(
            unsafe_code,
            reason = "there is no safe way to ask the allocator for this"
        )]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anonymous memory of this process, in KiB.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let number = line.and_then(|line| line.trim().split(' ').next());
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    #[test]
    fn what_was_freed_goes_back_though_something_above_it_stays() {
        let mut blocks: Vec<Vec<u8>> = (0..1000).map(|_| vec![1; 100_000]).collect();
        let full = resident();
        // The last one keeps the heap from shrinking by itself.
        blocks.drain(..999);
        give_back();
        let left = resident();
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            assert!(left + 80_000 < full, "{full} → {left} KiB");
        }
        assert_eq!(blocks[0][99_999], 1);
    }
}
