//! What is there, what is needed, and what could go.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::Collector;
use crate::{
    error::{Error, Result},
    index::{Index, PackEntry, Tally},
    mark::{Marked, mark, snapshot_id},
    protocol::{LogState, PackUse, Plan, PlanLimits, Standing, plan_packs, rescued},
    reader::FrameReader,
    repository::Repository,
    secret::Prefix,
    store::ObjectInfo,
    walk::{Piece, Walk},
};

/// Objects that one entry of the log may name: a reader takes no entry that is much larger.
pub(super) const NAMED_MAX: usize = 150_000;

/// A look at the whole repository.
pub(super) struct Gathered {
    pub(super) plan: Plan,
    /// Everything that was listed, with sizes.
    pub(super) listing: HashMap<String, u64>,
    /// Objects that nothing names.
    pub(super) leftovers: Vec<ObjectInfo>,
    pub(super) marked: Marked,
    /// Bytes of all packs.
    pub(super) total: u64,
}

impl Gathered {
    /// Bytes of packs that nothing names.
    pub(super) fn leftover_packs(&self) -> u64 {
        let packs = self.leftovers.iter().filter(|o| is_pack(&o.name));
        packs.map(|object| object.size).sum()
    }

    pub(super) fn leftover_bytes(&self) -> u64 {
        self.leftovers.iter().map(|object| object.size).sum()
    }
}

impl Collector<'_> {
    /// Lists and marks. Objects are listed before anything is condemned: what is found then and belongs to
    /// nothing when nobody of that time is left is garbage for good.
    pub(super) async fn gather(&mut self) -> Result<Gathered> {
        let repository = self.repository;
        let mut objects = Vec::new();
        for class in ["p/", "m/", "i/", "s/", "r/"] {
            objects.extend(repository.store().list(class).await?);
        }
        let state = repository.newest_state().await?.clone();
        repository.prove_index_whole()?;
        self.report.snapshots = state.needed().count() as u64;
        let mut marked = Marked::default();
        if let Some(error) = self.mark_needed(&state, &mut marked).await? {
            return Err(Error::Unmarked {
                source: Box::new(error),
            });
        }
        let listing: HashMap<String, u64> = objects
            .iter()
            .map(|object| (object.name.clone(), object.size))
            .collect();
        let packs = objects.iter().filter(|object| is_pack(&object.name));
        let total = packs.map(|object| object.size).sum();
        let uses = pack_uses(repository, &marked, &listing).await?;
        let indexed: HashSet<&str> = uses.iter().map(|pack| &*pack.name).collect();
        let leftovers = objects
            .into_iter()
            .filter(|object| {
                !indexed.contains(&*object.name) && may_be_left(&state, self.term, &object.name)
            })
            .collect();
        let limits = PlanLimits {
            dead_percent: self.options.dead_percent,
            budget: self.options.budget_bytes,
            small: 2 << 20,
        };
        let plan = plan_packs(uses, limits);
        Ok(Gathered {
            plan,
            listing,
            leftovers,
            marked,
            total,
        })
    }

    /// Adds what snapshots need; the reason if that cannot be told of one.
    ///
    /// Of a snapshot that is marked as damaged, what can be reached by any way is needed: the rest is lost.
    pub(super) async fn mark_needed(
        &self,
        state: &LogState,
        marked: &mut Marked,
    ) -> Result<Option<Error>> {
        let repository = self.repository;
        let needed: Vec<_> = state.needed().cloned().collect();
        let mut broken = Vec::new();
        mark(repository, &needed, marked, &mut |one| broken.push(one)).await?;
        if broken.is_empty() {
            return Ok(None);
        }
        let mut walk = Walk::new(FrameReader::new(repository)?);
        for one in broken {
            let commit = needed.iter().find(|c| snapshot_id(c) == one.snapshot);
            let damaged =
                commit.filter(|c| one.error.is_loss() && state.lost.contains(&c.snapshot));
            let Some(commit) = damaged else {
                return Ok(Some(one.error));
            };
            let Ok(opened) = repository.open_snapshot(&commit.snapshot).await else {
                return Ok(Some(one.error));
            };
            walk.snapshot(&opened, &mut |piece| {
                if let Piece::Page { secret, .. } | Piece::Chunk { secret, .. } = piece {
                    marked.ids.insert(secret.id().prefix());
                }
            })
            .await?;
            marked.snapshots.insert(commit.snapshot.clone());
        }
        Ok(None)
    }

    /// The condemned packs that really go, the leftovers that are nobody's, and how many packs were
    /// rescued; `None` if nothing is condemned.
    pub(super) async fn condemned_for_good(
        &self,
        state: &LogState,
        leftovers: &[ObjectInfo],
        marked: &Marked,
    ) -> Result<Option<(Vec<String>, u64)>> {
        let Some(epoch) = &state.epoch else {
            return Ok(None);
        };
        let mut there: HashSet<String> = HashSet::new();
        for class in ["p/", "m/"] {
            let packs = self.repository.store().list(class).await?;
            there.extend(packs.into_iter().map(|object| object.name));
        }
        let mut needed: HashSet<String> = HashSet::new();
        let find = |index: &Index, prefix: &Prefix| {
            let holders = index.holders(prefix)?;
            // A pack that is lost holds nothing, whatever the log says of it.
            let holders = holders.iter().map(|(pack, standing)| match standing {
                Standing::Live if !there.contains(&**pack) => (&**pack, Standing::Dead),
                standing => (&**pack, *standing),
            });
            needed.extend(rescued(holders).map(str::to_owned));
            Ok(())
        };
        self.repository
            .look_up_each(marked.ids.in_order(), find)
            .await?;
        let going = epoch.packs.iter().filter(|pack| !needed.contains(*pack));
        let mut objects: Vec<String> = going.cloned().collect();
        let rescued = (epoch.packs.len() - objects.len()) as u64;
        let left = leftovers.iter().filter(|object| {
            !self.repository.has_pack(&object.name) && state.is_leftover(epoch, &object.name)
        });
        // The rest goes with the next collection.
        let room = NAMED_MAX.saturating_sub(objects.len());
        objects.extend(left.take(room).map(|object| object.name.clone()));
        Ok(Some((objects, rescued)))
    }
}

fn is_pack(name: &str) -> bool {
    name.starts_with("p/") || name.starts_with("m/")
}

/// Whether an object that no index names may turn out to be nobody's. What is said here only saves work:
/// the log is asked again before anything is deleted.
fn may_be_left(state: &LogState, term: u64, name: &str) -> bool {
    let session = name
        .rsplit_once('.')
        .and_then(|(_, n)| n.parse::<u64>().ok());
    let idle = session.is_some_and(|n| n != term && !state.open.contains_key(&n));
    match name.split('/').next() {
        Some("p" | "m") => idle && !state.dead.contains(name),
        Some("i") => idle && !state.segments.iter().any(|segment| segment == name),
        Some("s") => !state.needed().any(|commit| commit.snapshot == name),
        Some("r") => !state.needed().any(|commit| commit.refset == name),
        _ => false,
    }
}

/// How much of each indexed pack that exists is needed.
async fn pack_uses(
    repository: &Repository,
    marked: &Marked,
    listing: &HashMap<String, u64>,
) -> Result<Vec<PackUse>> {
    // A pack may be named twice; it is there once.
    let mut uses: HashMap<Arc<str>, PackUse> = HashMap::new();
    repository.with_index(|index| {
        index.each_pack(|_, PackEntry { name, .. }, _| {
            uses.entry(name.clone()).or_insert_with(|| PackUse {
                name: name.to_string(),
                size: listing.get(&**name).copied().unwrap_or_default(),
                live: 0,
            });
        })
    })?;
    let missing = uses.keys().filter(|name| !listing.contains_key(&***name));
    let missing: BTreeSet<String> = missing.map(ToString::to_string).collect();
    // What is needed of them is counted where it is, too; some are newer than the listing.
    repository.find_missing(missing).await?;
    let mut tally = Tally::default();
    let count = |index: &Index, prefix: &Prefix| index.count(prefix, &mut tally);
    repository
        .look_up_each(marked.ids.in_order(), count)
        .await?;
    for (name, live) in tally.finish()? {
        if let Some(pack) = uses.get_mut(&name) {
            pack.live += live;
        }
    }
    let mut uses: Vec<PackUse> = uses.into_values().collect();
    // What is lost with a pack is for a repair to tell.
    uses.retain(|pack| pack.live == 0 || listing.contains_key(&pack.name));
    uses.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(uses)
}
