//! Moves what is needed of half-empty packs to new ones, frame by frame, without a key to any content.

use super::Collector;
use crate::{
    error::{Error, Result},
    index::SegmentBuilder,
    mark::Marked,
    pack::{self, OpenPack, PackClass, TableEntry},
    protocol::{Body, IndexBody, PackUse},
    store::Durability,
};

impl Collector<'_> {
    /// Copies the needed frames of `packs` and makes the copies known; the names of the packs that can be
    /// condemned now. A pack that is damaged is left alone.
    pub(super) async fn repack(
        &mut self,
        packs: &[PackUse],
        marked: &Marked,
    ) -> Result<Vec<String>> {
        let mut mover = Mover::default();
        let mut moved = Vec::with_capacity(packs.len());
        let mut done = 0;
        for pack in packs {
            if self.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            match self.move_frames(pack, marked, &mut mover).await {
                Ok(()) => moved.push(pack.name.clone()),
                Err(error @ (Error::Damaged { .. } | Error::NotFound { .. })) => {
                    tracing::error!(%error, "a pack is left as it is; run `orlop repo check`");
                }
                Err(error) => return Err(error),
            }
            done += pack.live;
            self.monitor.progress(orlop_core::Progress {
                bytes_done: done,
                bytes_total: packs.iter().map(|pack| pack.live).sum(),
                ..orlop_core::Progress::default()
            });
        }
        self.finish_move(mover).await?;
        Ok(moved)
    }

    /// Stores what is left and makes all copies known.
    pub(super) async fn finish_move(&self, mut mover: Mover) -> Result<()> {
        for slot in 0..mover.open.len() {
            self.store_pack(&mut mover, slot).await?;
        }
        self.store_segment(&mut mover).await?;
        if mover.segments.is_empty() {
            return Ok(());
        }
        let body = IndexBody {
            leader: self.term,
            added: mover.segments,
            ..IndexBody::default()
        };
        let mut state = self.repository.newest_state().await?;
        self.append(&mut state, |_| Ok(Some(Body::Index(body.clone()))))
            .await?;
        drop(state);
        self.repository.refresh().await
    }

    async fn move_frames(&self, from: &PackUse, marked: &Marked, mover: &mut Mover) -> Result<()> {
        let repository = self.repository;
        let bytes = repository.store().get(&from.name).await?;
        pack::scrub(&from.name, &bytes)?;
        let (_, session) = pack::parse_name(&from.name)?;
        let table = pack::read_table(&from.name, &bytes, &repository.keys.session(session))?;
        let class = PackClass::of_name(&from.name);
        for entry in &table {
            let prefix = entry.id.prefix();
            let place = repository.look_up(|index| index.find(&prefix)).await?;
            let here =
                place.is_some_and(|place| place.pack == from.name && place.offset == entry.offset);
            if !here || !marked.ids.contains(&prefix)? {
                continue;
            }
            let range = entry.offset as usize..(entry.offset + entry.len) as usize;
            self.keep_frame(class, entry, &bytes[range], mover).await?;
        }
        Ok(())
    }

    /// Copies a frame to a new pack.
    pub(super) async fn keep_frame(
        &self,
        class: PackClass,
        entry: &TableEntry,
        frame: &[u8],
        mover: &mut Mover,
    ) -> Result<()> {
        let slot = usize::from(class == PackClass::Meta);
        let open = mover.open[slot].get_or_insert_with(|| OpenPack::new(class, self.term));
        open.copy(entry, frame);
        if open.is_full(self.repository.pack_bytes()) {
            self.store_pack(mover, slot).await?;
        }
        Ok(())
    }

    async fn store_pack(&self, mover: &mut Mover, slot: usize) -> Result<()> {
        let Some(open) = mover.open[slot].take() else {
            return Ok(());
        };
        let pack = open.finish(&self.repository.keys.session(self.term))?;
        let store = self.repository.store();
        store
            .put(&pack.name, pack.parts, Durability::Barrier)
            .await?;
        mover.builder.push(pack.name, &pack.table);
        if mover.builder.len() >= SEGMENT_RECORDS {
            self.store_segment(mover).await?;
        }
        Ok(())
    }

    async fn store_segment(&self, mover: &mut Mover) -> Result<()> {
        if mover.builder.len() == 0 {
            return Ok(());
        }
        let (store, key) = (
            self.repository.store(),
            self.repository.keys.session(self.term),
        );
        store.barrier().await?;
        let (name, bytes) = mover.builder.finish(0, self.term, &key)?;
        store
            .put(&name, vec![bytes.into()], Durability::Now)
            .await?;
        mover.segments.push(name);
        Ok(())
    }
}

/// Records after which a segment is stored.
pub(super) const SEGMENT_RECORDS: usize = 256 << 10;

/// New packs and their index.
#[derive(Default)]
pub(super) struct Mover {
    /// Data and metadata.
    open: [Option<OpenPack>; 2],
    builder: SegmentBuilder,
    segments: Vec<String>,
}
