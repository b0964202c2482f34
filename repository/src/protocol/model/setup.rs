//! What a model's world is given: how much may happen in it, and what its processes do wrong.

/// What a process does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// A collector does not wait for the sessions that began before its condemn entry.
    NoWait,
    /// It does not look at what was committed after it marked.
    NoRemark,
    /// It looks, but only after the list to delete is in the log.
    LateRescue,
    /// It deletes before the list is in the log.
    EarlyDelete,
    /// It goes on when another one has taken over.
    Zombie,
    /// Writers refer to chunks in condemned packs.
    UsesCondemned,
    /// A collector deletes packs of unfinished sessions although somebody has adopted them.
    IgnoresAdoption,
    /// Readers pin nothing.
    NoPins,
    /// Snapshots are sealed anew under a session that collections do not wait for.
    ResealsAlone,
    /// A repairer marks snapshots before it condemns, and not again.
    MarksOnce,
}

/// What a world has, and how much may happen in it.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct Setup {
    pub(super) bug: Option<Bug>,
    /// Writers upload each chunk in a pack of its own, and may commit a checkpoint between two.
    pub(super) checkpoints: bool,
    /// Collectors may move chunks to new packs.
    pub(super) repack: bool,
    /// Readers may read everything, as a check does.
    pub(super) read_all: bool,
    /// Sessions may be shut out though nobody waits for them.
    pub(super) fences: bool,
}
