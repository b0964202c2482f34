//! The decision: rules and guards in, a verdict with its reasons for each item out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Zoned, tz::TimeZone};

use super::{
    policy::{KeepSpan, RetentionPolicy, timestamp},
    reason::{Reason, Unit},
};

/// An item that lies further in the future than this was made by a wrong clock, or the clock is wrong now. The clocks
/// of healthy nodes differ by less.
const FUTURE_MS: i64 = 24 * 60 * 60 * 1000;

/// How whole an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// Nothing is missing.
    Complete,
    /// Something could not be read or changed meanwhile; it counts for rules.
    Flawed,
    /// It was never finished: it counts for no rule, and goes when a whole one has come after it.
    Partial,
}

/// A snapshot or a backup, as the decision sees it.
#[derive(Debug, Clone)]
pub struct Item<'a, Id> {
    /// What it is known by.
    pub id: Id,
    /// Rules are applied to each group for itself: the lineage of a snapshot, the schedule of a backup.
    pub group: &'a str,
    /// When it was made, milliseconds since 1970, by whatever clock.
    pub time_ms: i64,
    /// Its place in the order in which the items were made, if that is known without a clock; else 0.
    pub sequence: u64,
    /// How whole it is.
    pub completeness: Completeness,
    /// Its tags.
    pub tags: &'a [String],
    /// The backup that holds it; empty if none does.
    pub held_by: &'a str,
}

/// What no rule may override, and how times are read.
#[derive(Debug, Clone)]
pub struct Guard {
    /// Where days, weeks, months and years begin.
    pub zone: TimeZone,
    /// The present time, milliseconds since 1970. Items that lie far after it are kept and count for no rule, so
    /// that a wrong clock, then or now, costs nothing.
    pub now_ms: i64,
    /// Let rules take the newest complete item of a group too.
    pub allow_last: bool,
    /// Backups that no longer hold their snapshots.
    pub released: BTreeSet<String>,
}

impl Guard {
    /// Days as in UTC, and everything guarded.
    pub fn new(now_ms: i64) -> Self {
        Self {
            zone: TimeZone::UTC,
            now_ms,
            allow_last: false,
            released: BTreeSet::new(),
        }
    }
}

/// What becomes of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<Id> {
    /// The item.
    pub id: Id,
    /// Whether it is kept.
    pub keep: bool,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}

/// Applies the policy to each group for itself. The answers are in the order of `items`.
///
/// A policy that keeps more never lets go what one that keeps less would have kept, and what was kept is kept
/// again when only that is left.
pub fn decide<Id: Clone + Ord>(
    policy: &RetentionPolicy,
    items: &[Item<'_, Id>],
    guard: &Guard,
) -> Vec<Decision<Id>> {
    decide_among(policy, items, guard, |_| true)
}

/// As [`decide`], for the items that `considered` picks: rules count these only, guards see all. The answers are of no
/// others.
pub fn decide_among<Id: Clone + Ord>(
    policy: &RetentionPolicy,
    items: &[Item<'_, Id>],
    guard: &Guard,
    considered: impl Fn(&Item<'_, Id>) -> bool,
) -> Vec<Decision<Id>> {
    let mut reasons = guarded(items, guard);
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        if counts(item, guard) && considered(item) {
            groups.entry(item.group).or_default().push(i);
        }
    }
    for mut group in groups.into_values() {
        group.sort_by(|a, b| age(&items[*b]).cmp(&age(&items[*a])));
        for (i, reason) in apply(policy, items, &group, guard) {
            reasons[i].push(reason);
        }
    }
    let verdict = |(item, mut reasons): (&Item<'_, Id>, Vec<Reason>)| {
        if policy.is_empty() {
            reasons.push(Reason::NoPolicy);
        }
        let tag = |tag: &&String| item.tags.contains(tag);
        reasons.extend(policy.tags.iter().filter(tag).cloned().map(Reason::Tag));
        let otherwise = match item.completeness {
            Completeness::Partial => Reason::Superseded,
            _ => Reason::Unwanted,
        };
        decision(item, reasons, otherwise)
    };
    let all = items.iter().zip(reasons);
    all.filter(|(item, _)| considered(item))
        .map(verdict)
        .collect()
}

/// Decides on the items that `named` picks: they may go unless they are guarded. The answers are in the order of
/// `items`, and of no others.
pub fn decide_named<Id: Clone + Ord>(
    items: &[Item<'_, Id>],
    guard: &Guard,
    named: impl Fn(&Id) -> bool,
) -> Vec<Decision<Id>> {
    let mut decisions = Vec::new();
    for (item, mut reasons) in items.iter().zip(guarded(items, guard)) {
        if named(&item.id) {
            // A name is plain enough for what only a wrong clock or an unfinished backup protects.
            reasons.retain(|r| !matches!(r, Reason::Future | Reason::Unfinished));
            decisions.push(decision(item, reasons, Reason::Named));
        }
    }
    decisions
}

fn decision<Id: Clone>(
    item: &Item<'_, Id>,
    mut reasons: Vec<Reason>,
    otherwise: Reason,
) -> Decision<Id> {
    let keep = !reasons.is_empty();
    if !keep {
        reasons.push(otherwise);
    }
    Decision {
        id: item.id.clone(),
        keep,
        reasons,
    }
}

/// The order by time: what is larger is newer.
fn age<'i, Id>(item: &'i Item<'_, Id>) -> (i64, u64, &'i Id) {
    (item.time_ms, item.sequence, &item.id)
}

fn future<Id>(item: &Item<'_, Id>, guard: &Guard) -> bool {
    item.time_ms > guard.now_ms.saturating_add(FUTURE_MS)
}

/// Whether the item counts for rules.
fn counts<Id>(item: &Item<'_, Id>, guard: &Guard) -> bool {
    item.completeness != Completeness::Partial && !future(item, guard)
}

/// Why items are kept whatever the rules say.
fn guarded<Id: Ord>(items: &[Item<'_, Id>], guard: &Guard) -> Vec<Vec<Reason>> {
    let mut newest: BTreeMap<&str, Newest> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        if item.completeness != Completeness::Partial {
            let future = future(item, guard);
            newest.entry(item.group).or_default().see(items, i, future);
        }
    }
    let reasons = |(i, item): (usize, &Item<'_, Id>)| {
        let mut reasons = Vec::new();
        if future(item, guard) {
            reasons.push(Reason::Future);
        }
        if !item.held_by.is_empty() && !guard.released.contains(item.held_by) {
            reasons.push(Reason::Held(item.held_by.to_owned()));
        }
        let newest = newest.get(item.group);
        let complete = newest.and_then(|newest| newest.complete);
        if item.completeness == Completeness::Partial
            && complete.is_none_or(|complete| age(item) > age(&items[complete]))
        {
            reasons.push(Reason::Unfinished);
        }
        if !guard.allow_last
            && let Some(newest) = newest
        {
            if [newest.complete, newest.complete_ever, newest.complete_made].contains(&Some(i)) {
                reasons.push(Reason::NewestComplete);
            } else if newest.whole == Some(i) {
                reasons.push(Reason::NewestFlawed);
            }
        }
        reasons
    };
    items.iter().enumerate().map(reasons).collect()
}

/// The newest of a group that are not partial.
#[derive(Default)]
struct Newest {
    /// By time up to the present, whatever flaws it has.
    whole: Option<usize>,
    /// By time up to the present.
    complete: Option<usize>,
    /// By time: the present may be what is wrong.
    complete_ever: Option<usize>,
    /// By the order in which they were made: any clock may be what is wrong.
    complete_made: Option<usize>,
}

impl Newest {
    fn see<Id: Ord>(&mut self, items: &[Item<'_, Id>], i: usize, future: bool) {
        let made = |i: usize| (items[i].sequence, age(&items[i]));
        let newer = |than: Option<usize>| than.is_none_or(|j| age(&items[i]) > age(&items[j]));
        if !future && newer(self.whole) {
            self.whole = Some(i);
        }
        if items[i].completeness != Completeness::Complete {
            return;
        }
        if !future && newer(self.complete) {
            self.complete = Some(i);
        }
        if newer(self.complete_ever) {
            self.complete_ever = Some(i);
        }
        if self.complete_made.is_none_or(|j| made(i) > made(j)) {
            self.complete_made = Some(i);
        }
    }
}

/// What the rules keep of one group, whose items are given newest first.
fn apply<Id>(
    policy: &RetentionPolicy,
    items: &[Item<'_, Id>],
    group: &[usize],
    guard: &Guard,
) -> Vec<(usize, Reason)> {
    let mut kept = Vec::new();
    let Some(newest) = group.first() else {
        return kept;
    };
    let since = |span: KeepSpan| span.before(items[*newest].time_ms, &guard.zone);
    for (nth, i) in (1..=policy.last).zip(group) {
        kept.push((*i, Reason::Last(nth, policy.last)));
    }
    if let Some(span) = policy.within {
        let since = since(span);
        let young = group.iter().filter(|i| items[**i].time_ms >= since);
        kept.extend(young.map(|i| (*i, Reason::Within(span))));
    }
    let times: Vec<Zoned> = group
        .iter()
        .map(|i| timestamp(items[*i].time_ms).to_zoned(guard.zone.clone()))
        .collect();
    let counts = [
        policy.hourly,
        policy.daily,
        policy.weekly,
        policy.monthly,
        policy.yearly,
    ];
    for (unit, count) in Unit::ALL.into_iter().zip(counts) {
        for (nth, at) in one_each(unit, &times, count) {
            let reason = nth.map_or(Reason::Oldest(unit), |n| Reason::Newest(unit, n, count));
            kept.push((group[at], reason));
        }
    }
    let spans = [
        policy.within_hourly,
        policy.within_daily,
        policy.within_weekly,
        policy.within_monthly,
        policy.within_yearly,
    ];
    for (unit, span) in Unit::ALL.into_iter().zip(spans) {
        let Some(span) = span else { continue };
        let since = since(span);
        let young = group.iter().take_while(|i| items[**i].time_ms >= since);
        let young = &times[..young.count()];
        for (nth, at) in one_each(unit, young, u32::MAX) {
            match nth {
                Some(_) => kept.push((group[at], Reason::NewestWithin(unit, span))),
                None if young.len() == times.len() => kept.push((group[at], Reason::Oldest(unit))),
                None => {}
            }
        }
    }
    kept
}

/// Positions of the newest of each of the newest `count` hours, days …, numbered from 1, and of the oldest of all if
/// there are fewer of these. The times are given newest first.
fn one_each(unit: Unit, times: &[Zoned], count: u32) -> Vec<(Option<u32>, usize)> {
    let mut found = Vec::new();
    let mut last = None;
    for (at, time) in times.iter().enumerate() {
        if found.len() as u64 >= u64::from(count) {
            break;
        }
        let unit = unit.of(time);
        if last != Some(unit) {
            last = Some(unit);
            found.push((Some(found.len() as u32 + 1), at));
        } else if at + 1 == times.len() {
            found.push((None, at));
        }
    }
    found
}
