//! Follows everything that happens to the store and proves the promises after each change that matters.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;

use super::volume::{Image, Images};
use crate::{
    index::Segment,
    keys::KeyRing,
    log, pack,
    protocol::{Body, CommitBody, LogState, Standing},
    secret::{Key, Prefix},
    snapshot,
};

/// What a writer that is not done counts on: an id, and the pack that it lies in if that is known.
type Relied = (Prefix, Option<String>);

/// What is known of the repository without asking any of its processes.
pub(super) struct Watch {
    keys: KeyRing,
    mac: Key,
    pub(super) state: LogState,
    /// Packs that each segment names.
    segments: HashMap<String, Vec<String>>,
    /// What lies in each pack.
    packs: HashMap<String, Vec<Prefix>>,
    /// What each committed snapshot needs, by its refset: that stays when the snapshot is sealed anew.
    needs: HashMap<String, Arc<Image>>,
    /// Snapshot objects that were read.
    read: HashSet<String>,
    pub(super) images: Images,
    relied: BTreeMap<u64, Vec<Relied>>,
    /// The first promise that was broken.
    pub(super) fault: Option<String>,
    /// Of everything that happened, in order.
    digest: DefaultHasher,
    print: bool,
    pub(super) tally: Tally,
}

/// How much happened.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tally {
    pub(super) changes: u64,
    pub(super) proofs: u64,
    pub(super) sessions: u64,
    pub(super) adoptions: u64,
    pub(super) commits: u64,
    pub(super) checkpoints: u64,
    pub(super) reads: u64,
    pub(super) fenced: u64,
    pub(super) condemned: u64,
    pub(super) deleted: u64,
    pub(super) rescued: u64,
    pub(super) moved: u64,
    pub(super) rotated: u64,
    pub(super) resealed: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.proofs += other.proofs;
        self.sessions += other.sessions;
        self.adoptions += other.adoptions;
        self.commits += other.commits;
        self.checkpoints += other.checkpoints;
        self.reads += other.reads;
        self.fenced += other.fenced;
        self.condemned += other.condemned;
        self.deleted += other.deleted;
        self.rescued += other.rescued;
        self.moved += other.moved;
        self.rotated += other.rotated;
        self.resealed += other.resealed;
    }

    fn count(&mut self, body: &Body) {
        match body {
            Body::Begin(begin) => {
                self.sessions += 1;
                self.adoptions += u64::from(!begin.adopts.is_empty());
            }
            Body::Commit(commit) if commit.partial => self.checkpoints += 1,
            Body::Commit(_) => self.commits += 1,
            Body::Fence(fence) => self.fenced += fence.sessions.len() as u64,
            Body::Condemn(condemn) => self.condemned += condemn.packs.len() as u64,
            Body::Keys(_) => self.rotated += 1,
            Body::Reseal(reseal) => self.resealed += reseal.objects.len() as u64,
            Body::Deleting(list) => self.deleted += list.objects.len() as u64,
            _ => {}
        }
    }
}

impl Watch {
    pub(super) fn new(keys: KeyRing, print: bool) -> Self {
        Self {
            mac: keys.mac(),
            keys,
            state: LogState::new(),
            segments: HashMap::new(),
            packs: HashMap::new(),
            needs: HashMap::new(),
            read: HashSet::new(),
            images: Images::new(),
            relied: BTreeMap::new(),
            fault: None,
            digest: DefaultHasher::new(),
            print,
            tally: Tally::default(),
        }
    }

    /// Notes what happens, for the digest and for people.
    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let what = what();
        what.hash(&mut self.digest);
        if self.print {
            println!("{what}");
        }
    }

    /// A hash of everything that happened.
    pub(super) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    pub(super) fn fail(&mut self, what: String) {
        self.note(|| format!("FAULT: {what}"));
        self.fault.get_or_insert(what);
    }

    /// Remembers what a session counts on.
    pub(super) fn rely(&mut self, session: u64, prefix: Prefix, pack: Option<String>) {
        self.relied.entry(session).or_default().push((prefix, pack));
    }

    /// What a committed snapshot holds.
    pub(super) fn image(&self, refset: &str) -> Option<Arc<Image>> {
        self.needs.get(refset).cloned()
    }

    pub(super) fn after_put(&mut self, map: &BTreeMap<String, Bytes>, name: &str, bytes: &Bytes) {
        self.tally.changes += 1;
        let short = short(name);
        self.note(|| format!("  put {short}"));
        let known = match name.split('/').next() {
            Some("p" | "m") => self.learn_pack(name, bytes),
            Some("i") => self.learn_segment(name, bytes),
            Some("log") => {
                let result = self.learn_entry(map, bytes);
                self.prove(map, name);
                result
            }
            _ => Ok(()),
        };
        if let Err(error) = known {
            self.fail(format!("{name}: {error}"));
        }
    }

    pub(super) fn after_delete(&mut self, map: &BTreeMap<String, Bytes>, name: &str) {
        self.tally.changes += 1;
        let short = short(name);
        self.note(|| format!("  deleted {short}"));
        self.prove(map, name);
    }

    /// Whether an indexed pack holds anything that is needed.
    pub(super) fn is_used(&self, pack: &str) -> bool {
        let mut segments = self.state.segments.iter();
        let indexed = segments.any(|segment| {
            let packs = self.segments.get(segment);
            packs.is_some_and(|packs| packs.iter().any(|name| name == pack))
        });
        let held = self.packs.get(pack).map(Vec::as_slice).unwrap_or_default();
        let needs = |commit: &CommitBody| {
            let image = self.needs.get(&commit.refset);
            image.is_some_and(|image| image.prefixes().iter().any(|id| held.contains(id)))
        };
        indexed && self.state.needed().any(needs)
    }

    fn learn_pack(&mut self, name: &str, bytes: &Bytes) -> crate::Result<()> {
        let (_, session) = pack::parse_name(name)?;
        let table = pack::read_table(name, bytes, &self.keys.session(session))?;
        let prefixes = table.iter().map(|entry| entry.id.prefix()).collect();
        self.packs.insert(name.to_owned(), prefixes);
        Ok(())
    }

    fn learn_segment(&mut self, name: &str, bytes: &Bytes) -> crate::Result<()> {
        let (_, session) = pack::parse_name(name)?;
        let segment = Segment::decode(name, bytes, &self.keys.session(session))?;
        let packs = segment.packs().map(ToString::to_string).collect();
        self.segments.insert(name.to_owned(), packs);
        Ok(())
    }

    fn learn_entry(&mut self, map: &BTreeMap<String, Bytes>, bytes: &Bytes) -> crate::Result<()> {
        let entry = log::decode(self.state.next, bytes, &self.mac)?;
        self.note(|| {
            let mut text = format!("  log {}: {:?}", entry.seq, entry.body);
            text.truncate(600);
            text
        });
        if let Some(body) = &entry.body {
            self.tally.count(body);
        }
        log::follow(&mut self.state, entry, bytes)?;
        for commit in &self.state.snapshots {
            if !self.read.insert(commit.snapshot.clone()) {
                continue;
            }
            let Some(bytes) = map.get(&commit.snapshot) else {
                continue;
            };
            let opened = snapshot::decode(&self.keys, &commit.snapshot, bytes)?;
            let key = (opened.root, opened.info.lineage.0);
            if let Some(image) = self.images.get(&key) {
                let before = self.needs.insert(commit.refset.clone(), Arc::clone(image));
                if before.is_some_and(|before| before.roots != image.roots) {
                    self.fault
                        .get_or_insert(format!("{} is another snapshot", commit.snapshot));
                }
            } else {
                self.fault
                    .get_or_insert(format!("{} is nobody's", commit.snapshot));
            }
        }
        Ok(())
    }

    /// Proves what has to be true at any time.
    fn prove(&mut self, map: &BTreeMap<String, Bytes>, after: &str) {
        self.tally.proofs += 1;
        if self.fault.is_none()
            && let Some(what) = self.broken(map)
        {
            self.fail(format!("after {}: {what}", short(after)));
        }
    }

    fn broken(&self, map: &BTreeMap<String, Bytes>) -> Option<String> {
        let state = &self.state;
        let listed: HashSet<&String> = state.deleting.values().flatten().collect();
        let mut readable: HashSet<Prefix> = HashSet::new();
        for segment in &state.segments {
            if !map.contains_key(segment) {
                return Some(format!("the log names {}, which is gone", short(segment)));
            }
            for pack in self.segments.get(segment).into_iter().flatten() {
                if state.standing(pack) == Standing::Dead {
                    continue;
                }
                if !map.contains_key(pack) {
                    return Some(format!("the index names {}, which is gone", short(pack)));
                }
                if listed.contains(pack) {
                    return Some(format!("{} is read and will be deleted", short(pack)));
                }
                readable.extend(self.packs.get(pack).into_iter().flatten());
            }
        }
        for commit in state.needed() {
            if let Some(gone) = [&commit.snapshot, &commit.refset]
                .into_iter()
                .find(|name| !map.contains_key(*name))
            {
                return Some(format!("{} is gone", short(gone)));
            }
            let image = self.needs.get(&commit.refset)?;
            let lost = image
                .frames
                .iter()
                .find(|(_, secret, _)| !readable.contains(&secret.id().prefix()));
            if let Some((kind, secret, _)) = lost {
                let name = short(&commit.snapshot);
                return Some(format!("{name} lacks chunk {} ({kind:?})", secret.id()));
            }
        }
        let there = |pack: &Option<String>| {
            pack.as_ref().is_some_and(|pack| {
                map.contains_key(pack)
                    && state.standing(pack) != Standing::Dead
                    && !listed.contains(pack)
            })
        };
        for (session, relied) in &self.relied {
            if !state.open.contains_key(session) {
                continue;
            }
            let lost = relied
                .iter()
                .find(|(prefix, pack)| !readable.contains(prefix) && !there(pack));
            if let Some((_, pack)) = lost {
                let pack = pack.as_ref().map_or_else(String::new, |pack| short(pack));
                return Some(format!("session {session} relies on what is lost ({pack})"));
            }
        }
        None
    }
}

/// A name that people can tell from others.
pub(super) fn short(name: &str) -> String {
    match name.split_once('/') {
        Some((class @ ("p" | "m" | "i"), rest)) => {
            let leaf = rest.rsplit('/').next().unwrap_or(rest);
            let (hash, session) = leaf.split_once('.').unwrap_or((leaf, ""));
            format!("{class}/{}.{session}", &hash[..hash.len().min(6)])
        }
        Some((class @ ("s" | "r"), rest)) => {
            let leaf = rest.rsplit('/').next().unwrap_or(rest);
            format!("{class}/{leaf}")
        }
        _ => name.to_owned(),
    }
}
