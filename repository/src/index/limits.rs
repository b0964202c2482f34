//! How much memory the index may take, and how its tables are laid out.

/// Sizes that the index keeps to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Records that are kept in memory before they go to a table.
    pub(crate) memory_records: usize,
    /// Bytes of a block of records in a table.
    pub(crate) block_bytes: usize,
    /// Ids under one filter, about.
    pub(crate) part_keys: usize,
    /// Tables of one level that are merged to one of the next.
    pub(crate) fan: usize,
    /// Packs, more than a quarter of all, that are gone before tables are made anew for that.
    pub(crate) slack: u64,
    /// Bytes of blocks that are kept in memory.
    pub(crate) block_cache: usize,
    /// Bytes of filters that are kept in memory. Parts beyond that are asked without one.
    pub(crate) filters: usize,
}

impl Limits {
    /// What a program uses.
    const USUAL: Self = Self {
        memory_records: 1 << 20,
        block_bytes: 4096,
        part_keys: 1 << 20,
        fan: 8,
        slack: 64,
        block_cache: 32 << 20,
        filters: 128 << 20,
    };

    /// Limits that make tables of a handful of records.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn tiny(memory_records: usize) -> Self {
        Self {
            memory_records,
            block_bytes: 3 * super::record::RECORD + super::layout::CODE,
            part_keys: 16,
            fan: 3,
            slack: 0,
            block_cache: 1 << 10,
            filters: 1 << 10,
        }
    }

    /// The usual limits, or in tests tiny ones if `ORLOP_TEST_INDEX_RECORDS` says how many records may stay in
    /// memory.
    pub(crate) fn chosen() -> Self {
        #[cfg(any(test, feature = "testing"))]
        if let Some(records) = std::env::var("ORLOP_TEST_INDEX_RECORDS")
            .ok()
            .and_then(|text| text.parse().ok())
        {
            return Self::tiny(records);
        }
        Self::USUAL
    }
}
