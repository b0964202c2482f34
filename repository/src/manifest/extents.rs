//! Extent lists of files of any size, in bounded memory.

use prost::Message;

use super::{
    decode::decode_extents,
    entry::{Content, Extent, ExtentPage},
    page::encode_extents,
    refs::RefsPage,
    tree::PageSink,
};
use crate::{error::Result, frame::FrameKind, secret::Secret};

/// A list of up to this many extents stays in its entry.
const IN_ENTRY: usize = 256;
/// A page of a longer list holds from `MIN` to `MAX` extents; where between is decided by content.
const MIN: usize = 256;
const MAX: usize = 2048;
const BOUNDARY_MASK: u8 = 0xff;

#[derive(Clone, PartialEq, Message)]
struct PageMessage {
    #[prost(uint64, repeated, tag = "1")]
    extents: Vec<u64>,
    #[prost(bytes = "vec", tag = "2")]
    secrets: Vec<u8>,
}

/// Collects the extents of one file.
#[derive(Default)]
pub struct ExtentList {
    run: Vec<Extent>,
    pages: Vec<ExtentPage>,
    bytes: u64,
}

impl ExtentList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that the list covers.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends an extent; joins it with a hole or zero run before it.
    pub(crate) fn push(&mut self, extent: Extent, sink: &mut dyn PageSink) -> Result<()> {
        self.bytes += extent.len();
        match (self.run.last_mut(), &extent) {
            (Some(Extent::Hole(len)), Extent::Hole(more))
            | (Some(Extent::Zero(len)), Extent::Zero(more)) => {
                *len += more;
                return Ok(());
            }
            _ => self.run.push(extent),
        }
        let full = self.run.len() >= MAX + IN_ENTRY;
        let boundary = self.run.len() >= MIN + IN_ENTRY
            && matches!(self.run.last(), Some(Extent::Data { secret, .. }) if secret.as_bytes()[7] & BOUNDARY_MASK == 0);
        if full || boundary {
            self.store_page(sink)
        } else {
            Ok(())
        }
    }

    fn store_page(&mut self, sink: &mut dyn PageSink) -> Result<()> {
        let mut message = PageMessage::default();
        let mut refs = RefsPage::default();
        let mut secrets = Vec::new();
        encode_extents(&self.run, &mut message.extents, &mut Vec::new(), |secret| {
            secrets.extend_from_slice(secret.as_bytes());
            refs.add_id(&secret.id());
            (secrets.len() / 32 - 1) as u64
        });
        message.secrets = secrets;
        let page = ExtentPage {
            secret: sink.store_page(FrameKind::Extents, &message.encode_to_vec())?,
            refs: sink.store_page(FrameKind::Refs, &refs.encode())?,
        };
        self.pages.push(page);
        self.run.clear();
        Ok(())
    }

    /// The content of the file.
    pub(crate) fn finish(mut self, sink: &mut dyn PageSink) -> Result<Content> {
        if self.pages.is_empty() && self.run.len() <= IN_ENTRY {
            return Ok(Content::Extents(self.run));
        }
        if !self.run.is_empty() {
            self.store_page(sink)?;
        }
        Ok(Content::Pages(self.pages))
    }
}

/// The extents of a page; `None` if it breaks a rule of the format.
pub(crate) fn decode_page(bytes: &[u8]) -> Option<Vec<Extent>> {
    let message = PageMessage::decode(bytes).ok()?;
    decode_extents(&message.extents, &[], &message.secrets)
}

/// The secrets of an entry's extents, for its leaf's reference page.
pub(super) fn secrets(extents: &[Extent]) -> impl Iterator<Item = &Secret> {
    extents.iter().filter_map(|extent| match extent {
        Extent::Data { secret, .. } | Extent::Bundle { secret, .. } => Some(secret),
        _ => None,
    })
}
