//! Reference pages: which chunks a part of a snapshot needs, readable without a key to any of them.

use prost::Message;

use crate::secret::{ChunkId, Prefix, Secret};

#[derive(Clone, PartialEq, Message)]
struct RefsMessage {
    #[prost(bytes = "vec", tag = "1")]
    ids: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    children: Vec<u8>,
}

/// A reference page: id prefixes, and the secrets of further pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RefsPage {
    pub(crate) ids: Vec<Prefix>,
    pub(crate) children: Vec<Secret>,
}

impl RefsPage {
    /// The page that a refset names: it holds what no page of the tree does, the ids of the two root pages.
    pub(crate) fn top(manifest: &Secret, sidecar: &Secret, refs: Secret) -> Self {
        let mut top = Self::default();
        top.add_id(&manifest.id());
        top.add_id(&sidecar.id());
        top.children.push(refs);
        top
    }

    pub(crate) fn add_id(&mut self, id: &ChunkId) {
        let prefix = id.prefix();
        if self.ids.last() != Some(&prefix) {
            self.ids.push(prefix);
        }
    }

    /// The page's bytes; ids are sorted and each is there once.
    pub(crate) fn encode(&mut self) -> Vec<u8> {
        self.ids.sort_unstable();
        self.ids.dedup();
        let message = RefsMessage {
            ids: self.ids.concat(),
            children: self.children.iter().flat_map(|s| *s.as_bytes()).collect(),
        };
        message.encode_to_vec()
    }

    /// Reads a page; `None` if it breaks a rule of the format.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let message = RefsMessage::decode(bytes).ok()?;
        let (ids, rest) = message.ids.as_chunks::<16>();
        let (children, rest_of_children) = message.children.as_chunks::<32>();
        if !rest.is_empty() || !rest_of_children.is_empty() || !ids.is_sorted() {
            return None;
        }
        Some(Self {
            ids: ids.to_vec(),
            children: children.iter().map(|c| Secret::from_bytes(*c)).collect(),
        })
    }
}
