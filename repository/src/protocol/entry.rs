//! Entries of the log as they are stored.

use prost::{Enumeration, Message, Oneof};

/// One entry.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogEntry {
    #[prost(uint64, tag = "1")]
    pub(crate) seq: u64,
    /// BLAKE3 of the entry before; empty in the first.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) previous: Vec<u8>,
    /// For people, and for choosing whom to fence; no rule of safety reads it.
    #[prost(int64, tag = "3")]
    pub(crate) time_ms: i64,
    #[prost(oneof = "Body", tags = "4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15")]
    pub(crate) body: Option<Body>,
    // 16: signature: reserved
}

#[derive(Clone, PartialEq, Eq, Hash, Oneof)]
pub(crate) enum Body {
    /// A session begins; the entry's number is its number.
    #[prost(message, tag = "4")]
    Begin(BeginBody),
    /// A session's snapshot and segments become part of the repository.
    #[prost(message, tag = "5")]
    Commit(CommitBody),
    /// A session ends.
    #[prost(uint64, tag = "6")]
    End(u64),
    /// A collector takes over; the entry's number is its term, and its session for packs that it writes.
    #[prost(message, tag = "7")]
    Leader(LeaderBody),
    /// Sessions are shut out: they cannot commit any more.
    #[prost(message, tag = "8")]
    Fence(FenceBody),
    /// Snapshots are no longer part of the repository.
    #[prost(message, tag = "9")]
    Forget(ForgetBody),
    /// Index segments are replaced.
    #[prost(message, tag = "10")]
    Index(IndexBody),
    /// Packs that will be deleted unless somebody turns out to need them.
    #[prost(message, tag = "11")]
    Condemn(CondemnBody),
    /// Objects that are deleted from now on; the other condemned packs live on.
    #[prost(message, tag = "12")]
    Deleting(DeletingBody),
    /// The objects of a list are gone.
    #[prost(message, tag = "13")]
    Done(DoneBody),
    /// A new epoch of keys begins: what is new is made with them from now on.
    #[prost(message, tag = "14")]
    Keys(KeysBody),
    /// Snapshot objects take the place of others: the same snapshots, sealed anew.
    #[prost(message, tag = "15")]
    Reseal(ResealBody),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub(crate) enum SessionKind {
    /// Stores packs and commits one snapshot.
    Write = 0,
    /// Reads the snapshots that it pins.
    Read = 1,
    /// Reads everything: it pins all snapshots, and collection waits for it as for a writer.
    ReadAll = 2,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct BeginBody {
    /// Pseudonyms of domain and lineage, joined by a slash; empty for readers.
    #[prost(string, tag = "1")]
    pub(crate) volume: String,
    /// 16 random bytes: without them two who begin in the same millisecond would write the same entry,
    /// and each take it for its own.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) nonce: Vec<u8>,
    #[prost(enumeration = "SessionKind", tag = "3")]
    pub(crate) kind: i32,
    /// Snapshot objects that the session builds upon or reads.
    #[prost(string, repeated, tag = "4")]
    pub(crate) pins: Vec<String>,
    /// Earlier sessions of the volume whose packs this one may use.
    #[prost(uint64, repeated, tag = "5")]
    pub(crate) adopts: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct CommitBody {
    #[prost(uint64, tag = "1")]
    pub(crate) session: u64,
    /// Object names, each once.
    #[prost(string, tag = "2")]
    pub(crate) snapshot: String,
    #[prost(string, tag = "3")]
    pub(crate) refset: String,
    #[prost(string, repeated, tag = "4")]
    pub(crate) segments: Vec<String>,
    /// A checkpoint: the session goes on, and its next commit takes this one's place.
    #[prost(bool, tag = "5")]
    pub(crate) partial: bool,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct LeaderBody {
    /// 16 random bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) nonce: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct FenceBody {
    #[prost(uint64, repeated, tag = "1")]
    pub(crate) sessions: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct ForgetBody {
    /// Snapshot objects.
    #[prost(string, repeated, tag = "1")]
    pub(crate) snapshots: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct IndexBody {
    /// The collector's term.
    #[prost(uint64, tag = "1")]
    pub(crate) leader: u64,
    #[prost(string, repeated, tag = "2")]
    pub(crate) added: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(crate) removed: Vec<String>,
    /// Deleted packs that no segment names any more.
    #[prost(string, repeated, tag = "4")]
    pub(crate) gone: Vec<String>,
    /// Snapshot objects that lack chunks: nothing is built upon them any more.
    #[prost(string, repeated, tag = "5")]
    pub(crate) lost: Vec<String>,
    /// Snapshot objects that lacked chunks and have them again.
    #[prost(string, repeated, tag = "6")]
    pub(crate) whole: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct CondemnBody {
    /// The collector's term.
    #[prost(uint64, tag = "1")]
    pub(crate) leader: u64,
    #[prost(string, repeated, tag = "2")]
    pub(crate) packs: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct DeletingBody {
    /// The collector's term.
    #[prost(uint64, tag = "1")]
    pub(crate) leader: u64,
    /// Number of the condemn entry that this one ends.
    #[prost(uint64, tag = "2")]
    pub(crate) epoch: u64,
    /// Condemned packs, and objects that belong to nothing.
    #[prost(string, repeated, tag = "3")]
    pub(crate) objects: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct DoneBody {
    /// The collector's term.
    #[prost(uint64, tag = "1")]
    pub(crate) leader: u64,
    /// Number of the deleting entry.
    #[prost(uint64, tag = "2")]
    pub(crate) list: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct KeysBody {
    /// Number of the epoch, one more than the last one's; the first of all is 0 and has no entry.
    #[prost(uint32, tag = "1")]
    pub(crate) epoch: u32,
    /// X25519 public key to which snapshot roots are sealed, 32 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) read_public_key: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct ResealBody {
    /// A session that reads everything, and stored the new objects.
    #[prost(uint64, tag = "1")]
    pub(crate) session: u64,
    #[prost(message, repeated, tag = "2")]
    pub(crate) objects: Vec<Replaced>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub(crate) struct Replaced {
    /// Snapshot object that is there.
    #[prost(string, tag = "1")]
    pub(crate) from: String,
    /// Snapshot object that takes its place.
    #[prost(string, tag = "2")]
    pub(crate) to: String,
}

impl Replaced {
    /// `from` and the name that `session` gives to what takes its place.
    pub(crate) fn by(session: u64, from: &str) -> Self {
        let (volume, leaf) = from.rsplit_once('/').unwrap_or_default();
        let id = leaf.split('-').next().unwrap_or_default();
        Self {
            from: from.to_owned(),
            to: format!("{volume}/{id}-{session}"),
        }
    }
}
