//! Memory that was freed and that the allocator keeps for itself. The one room of this crate with unsafe code.

/// Blocks of this size and larger are taken from the system and go back to it when they are freed, in bytes.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: i32 = 1 << 20;

/// Lets large blocks go back to the system as soon as they are freed. To be called first in a program, before it has other
/// threads.
///
/// The allocator of glibc does that by itself at first, but stops to for blocks as large as one that was freed before: buffers
/// of many sizes up to 16 MiB then lie between each other in heaps that only grow. A restore of 107,000 files held 335 MB so,
/// and 150 MB with this, in the same time. With another allocator nothing happens.
pub fn map_large_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: `mallopt` takes numbers only. It is not to race with another call of it, or with the first use of the
        // allocator (mallopt(3): MT-Unsafe init): nobody else calls it, and what is told here was allocated before.
        #[allow(
            unsafe_code,
            reason = "there is no safe way to tell the allocator this"
        )]
        let done = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
        debug_assert_eq!(done, 1, "it is an option of every glibc");
    }
}

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
    fn what_was_freed_goes_back_though_something_beside_it_stays() {
        // One test of both, for they look at the memory of the whole process; large blocks first, while its heap has no holes.
        map_large_blocks();
        // After this one glibc by itself would take blocks of up to this size from its heap, which the last one keeps.
        drop(std::hint::black_box(vec![1_u8; 16 << 20]));
        let mut large: Vec<Vec<u8>> = (0..40)
            .map(|size| vec![1; (2 << 20) + size * 100_000])
            .collect();
        let full = resident();
        large.drain(..39);
        let left = resident();
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            assert!(left + 80_000 < full, "{full} → {left} KiB");
        }
        assert_eq!(large[0][0], 1);
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
