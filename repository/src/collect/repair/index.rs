//! Makes index segments and refsets again that are lost.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Repair;
use crate::{
    error::{Error, Result},
    index::SegmentBuilder,
    protocol::{Body, IndexBody},
    snapshot::{self, open_capsule},
    store::Durability,
    walk::is_loss,
};

use super::super::repack::SEGMENT_RECORDS;

impl Repair<'_> {
    /// Makes lost segments again from the tables of the packs that no other segment names.
    pub(super) async fn restore_index(&mut self, listing: &HashMap<String, u64>) -> Result<()> {
        let repository = self.collector.repository;
        let state = repository.newest_state().await?.clone();
        let (mut lost, mut named) = (Vec::new(), HashSet::new());
        for name in &state.segments {
            self.go_on()?;
            match repository.read_segment(name).await {
                Ok(segment) => named.extend(segment.packs().cloned()),
                Err(error) if is_loss(&error) => lost.push(name.clone()),
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
                Err(error) if is_loss(&error) => {
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
            match repository.read_refset(&commit.refset).await {
                Ok(_) => continue,
                Err(error) if is_loss(&error) => {}
                Err(error) => return Err(error),
            }
            let opened = match repository.open_snapshot(&commit.snapshot).await {
                Ok(opened) => opened,
                Err(error) if is_loss(&error) => continue,
                Err(error) => return Err(error),
            };
            let (namespace, lineage) = (&opened.info.volume.namespace, &opened.info.lineage);
            let volume_key = repository.keys.volume(namespace, lineage);
            let Ok(roots) = open_capsule(&volume_key, opened.info.id, &opened.capsule) else {
                continue;
            };
            self.report.refsets.push(commit.refset.clone());
            if self.options.dry_run {
                continue;
            }
            let (keys, name) = (&repository.keys, &commit.refset);
            let bytes = snapshot::encode_refset(keys, name, namespace, lineage, &roots.refs)?;
            let store = repository.store();
            if store.stat(name).await?.is_some() {
                store.delete(name).await?;
            }
            store.put(name, vec![bytes.into()], Durability::Now).await?;
            // What was just put is what is read, also where there are copies.
            if let Err(error) = snapshot::decode_refset(keys, name, &store.get_fresh(name).await?) {
                return Err(Error::damaged(name, error.to_string()));
            }
        }
        Ok(())
    }
}
