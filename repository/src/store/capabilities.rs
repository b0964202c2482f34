//! What a store can do that not all stores can.

/// How a store proves that it received what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumMode {
    /// By the SHA-256 that is part of the request's signature: all stores take it.
    Signature,
    /// By a CRC-32C that the store verifies.
    Crc32c,
    /// By a CRC-64/NVME that the store verifies.
    Crc64Nvme,
}

/// What a store was seen to do when a repository was made in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Of racing creates of one name exactly one wins, and nothing is ever overwritten.
    pub conditional_create: bool,
    /// How content is proven.
    pub checksum: ChecksumMode,
}

impl Default for Capabilities {
    /// What is assumed of a store of which nothing is known.
    fn default() -> Self {
        Self {
            conditional_create: true,
            checksum: ChecksumMode::Signature,
        }
    }
}
