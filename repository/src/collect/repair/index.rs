//! Makes index segments and refsets again that are lost.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Repair;
use crate::{
    error::Result,
    frame::{Encoder, FrameKind, Level},
    index::{Index, SegmentBuilder},
    manifest::RefsPage,
    pack::{PackClass, TableEntry},
    protocol::{Body, CommitBody, IndexBody},
    repository::Repository,
    secret::{Key, Prefix, Secret},
    snapshot::{self, open_capsule},
    store::Durability,
};

use super::super::repack::{Mover, SEGMENT_RECORDS};

impl Repair<'_> {
    /// Makes lost segments again from the tables of the packs that no other segment names.
    pub(super) async fn restore_index(&mut self, listing: &HashMap<String, u64>) -> Result<()> {
        let repository = self.collector.repository;
        let state = repository.newest_state().await?.clone();
        let (mut lost, mut named) = (Vec::new(), HashSet::new());
        for name in &state.segments {
            self.go_on()?;
            match repository.prove_segment(name).await {
                Ok(segment) => named.extend(segment.packs().cloned()),
                Err(error) if error.is_loss() => lost.push(name.clone()),
                Err(error) => return Err(error),
            }
        }
        self.report.index.clone_from(&lost);
        if lost.is_empty() || self.options.dry_run {
            // The index in memory is made from the same packs.
            return Ok(());
        }
        let doomed = state.doomed();
        let unnamed = listing.iter().filter(|(name, _)| {
            let pack = name.starts_with("p/") || name.starts_with("m/");
            pack && !named.contains(&***name) && !doomed.contains(*name)
        });
        let mut unnamed: Vec<(&String, &u64)> = unnamed.collect();
        unnamed.sort();
        let names: Vec<String> = unnamed.iter().map(|(name, _)| (*name).clone()).collect();
        // Their writer may have died before it made them durable.
        repository.store().settle(&names).await?;
        let key = repository.keys.session(self.collector.term);
        let (mut builder, mut added) = (SegmentBuilder::default(), Vec::new());
        let last = unnamed.len();
        for (i, (name, size)) in unnamed.into_iter().enumerate() {
            self.go_on()?;
            match repository.read_pack_table(name, *size).await {
                Ok(table) => builder.push(name.clone(), &table),
                Err(error) if error.is_loss() => {
                    tracing::error!(%error, "what is in a pack cannot be told any more");
                }
                Err(error) => return Err(error),
            }
            if builder.len() >= SEGMENT_RECORDS || (i + 1 == last && builder.len() > 0) {
                let (name, bytes) = builder.finish(1, self.collector.term, &key)?;
                let store = repository.store();
                store.barrier().await?;
                store
                    .put(&name, vec![bytes.into()], Durability::Now)
                    .await?;
                added.push(name);
            }
        }
        let removed: BTreeSet<String> = lost.into_iter().collect();
        let body = IndexBody {
            leader: self.collector.term,
            added,
            removed: removed.into_iter().collect(),
            ..IndexBody::default()
        };
        let mut newest = repository.newest_state().await?;
        self.collector
            .append(&mut newest, |_| Ok(Some(Body::Index(body.clone()))))
            .await?;
        drop(newest);
        repository.reload_index().await
    }

    /// Makes lost refsets again: all that is in one, the snapshot's capsule says too.
    pub(super) async fn restore_refsets(&mut self) -> Result<()> {
        let repository = self.collector.repository;
        let state = repository.newest_state().await?.clone();
        for commit in state.needed() {
            self.go_on()?;
            match repository.prove_refset(&commit.refset).await {
                Ok(_) => continue,
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
            let opened = match repository.prove_snapshot(&commit.snapshot).await {
                Ok(opened) => opened,
                Err(error) if error.is_loss() => continue,
                Err(error) => return Err(error),
            };
            let (namespace, lineage) = (&opened.info.volume.namespace, &opened.info.lineage);
            let volume_keys = repository.keys.volume(namespace, lineage);
            let Ok(roots) = open_capsule(volume_keys.all(), opened.info.id, &opened.capsule) else {
                continue;
            };
            self.report.refsets.push(commit.refset.clone());
            if self.options.dry_run {
                continue;
            }
            let (keys, name) = (&repository.keys, &commit.refset);
            let mut page = RefsPage::top(&roots.manifest, &roots.sidecar, roots.refs);
            let top = Secret::of(&keys.refs(namespace, lineage), &page.encode());
            let find = |index: &Index| index.find(&top.id().prefix());
            if repository.look_up(find).await?.is_none() {
                let (mut encoder, mut mover) = (Encoder::new()?, Mover::default());
                let key = keys.refs(namespace, lineage);
                self.keep_page(&mut page, &key, &mut encoder, &mut mover)
                    .await?;
                self.collector.finish_move(mover).await?;
            }
            let bytes = snapshot::encode_refset(keys, name, namespace, lineage, &top)?;
            repository.put_again(name, bytes).await?;
        }
        Ok(())
    }

    /// Stores a reference page with what is moved; the answer is its secret.
    async fn keep_page(
        &self,
        page: &mut RefsPage,
        key: &Key,
        encoder: &mut Encoder,
        mover: &mut Mover,
    ) -> Result<Secret> {
        let plain = page.encode();
        let secret = Secret::of(key, &plain);
        let frame = encoder.encode(FrameKind::Refs, &secret, &plain, Level::default())?;
        if let Some(entry) = TableEntry::of_frame(secret.id(), &frame.bytes) {
            let kept = self
                .collector
                .keep_frame(PackClass::Meta, &entry, &frame.bytes, mover);
            kept.await?;
        }
        Ok(secret)
    }

    /// Gives a snapshot reference pages of its own, for what it still has. They take the place of those that tell
    /// of pages that are lost and that no restore needs.
    pub(super) async fn restore_references(
        &mut self,
        commit: &CommitBody,
        mut ids: Vec<Prefix>,
    ) -> Result<()> {
        if !self.report.refsets.contains(&commit.refset) {
            self.report.refsets.push(commit.refset.clone());
        }
        if self.options.dry_run {
            return Ok(());
        }
        let repository = self.collector.repository;
        let opened = repository.prove_snapshot(&commit.snapshot).await?;
        let (namespace, lineage) = (&opened.info.volume.namespace, &opened.info.lineage);
        let key = repository.keys.refs(namespace, lineage);
        ids.sort_unstable();
        ids.dedup();
        let (mut encoder, mut mover) = (Encoder::new()?, Mover::default());
        let mut pages: Vec<RefsPage> = ids
            .chunks(PAGE_IDS)
            .map(|ids| RefsPage {
                ids: ids.to_vec(),
                children: Vec::new(),
            })
            .collect();
        let top = loop {
            let mut level = Vec::with_capacity(pages.len());
            for mut page in pages {
                let kept = self.keep_page(&mut page, &key, &mut encoder, &mut mover);
                level.push(kept.await?);
            }
            if let [top] = level[..] {
                break top;
            }
            pages = level
                .chunks(PAGE_CHILDREN)
                .map(|children| RefsPage {
                    ids: Vec::new(),
                    children: children.to_vec(),
                })
                .collect();
            if pages.is_empty() {
                pages.push(RefsPage::default());
            }
        };
        self.collector.finish_move(mover).await?;
        let (keys, name) = (&repository.keys, &commit.refset);
        let bytes = snapshot::encode_refset(keys, name, namespace, lineage, &top)?;
        repository.put_again(name, bytes).await
    }
}

/// Ids and children of a reference page that is made again, at most.
const PAGE_IDS: usize = 8192;
const PAGE_CHILDREN: usize = 4096;

impl Repository {
    /// Puts an object in the place of one whose content is lost or of no use any more.
    async fn put_again(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let store = self.store();
        if store.stat(name).await?.is_some() {
            store.delete(name).await?;
        }
        let put = store.put(name, vec![bytes.into()], Durability::Now);
        put.await.map(drop)
    }
}
