//! Rules against tables of the calendar, and what must hold of every policy.

use std::collections::BTreeSet;

use jiff::{Timestamp, tz::TimeZone};
use proptest::prelude::*;

use super::{Completeness::*, *};

const NOW: &str = "2026-06-30T12:00:00Z";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn ms(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap().as_millisecond()
}

fn item(id: usize, time_ms: i64) -> Item<'static, usize> {
    Item {
        id,
        group: "g",
        time_ms,
        sequence: id as u64,
        completeness: Complete,
        tags: &[],
        held_by: "",
    }
}

fn items(times: &[&str]) -> Vec<Item<'static, usize>> {
    let item = |(id, time): (usize, &&str)| item(id, ms(time));
    times.iter().enumerate().map(item).collect()
}

fn guard() -> Guard {
    Guard::new(ms(NOW))
}

fn unguarded() -> Guard {
    Guard {
        allow_last: true,
        ..guard()
    }
}

fn in_zone(zone: &str) -> Guard {
    Guard {
        zone: TimeZone::get(zone).unwrap(),
        ..unguarded()
    }
}

fn kept(policy: &str, items: &[Item<'_, usize>], guard: &Guard) -> Vec<usize> {
    let policy = policy.parse().unwrap();
    kept_by(&policy, items, guard).into_iter().collect()
}

fn kept_by(policy: &RetentionPolicy, items: &[Item<'_, usize>], guard: &Guard) -> BTreeSet<usize> {
    let decisions = decide(policy, items, guard);
    assert_eq!(decisions.len(), items.len());
    assert!(decisions.iter().all(|d| !d.reasons.is_empty()));
    let kept = decisions.into_iter().filter(|d| d.keep);
    kept.map(|d| d.id).collect()
}

fn reasons(policy: &str, items: &[Item<'_, usize>], guard: &Guard) -> Vec<Vec<String>> {
    let decisions = decide(&policy.parse().unwrap(), items, guard);
    let text = |d: Decision<usize>| d.reasons.iter().map(ToString::to_string).collect();
    decisions.into_iter().map(text).collect()
}

#[test]
fn policies_are_written_as_they_are_read() {
    for text in [
        "daily=7,weekly=4",
        "last=1,hourly=24,daily=7,weekly=4,monthly=12,yearly=unlimited,within=30d,tag=a,tag=b",
        "within=1y6m2w3d12h,within-hourly=2d,within-yearly=10y",
    ] {
        let policy: RetentionPolicy = text.parse().unwrap();
        assert_eq!(policy.to_string(), text);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(
            serde_json::from_str::<RetentionPolicy>(&json).unwrap(),
            policy
        );
    }
    let policy: RetentionPolicy = "weekly=4, daily=7".parse().unwrap();
    assert_eq!((policy.daily, policy.weekly), (7, 4));
    assert_eq!(
        serde_json::from_str::<RetentionPolicy>("\"\"").unwrap(),
        RetentionPolicy::default()
    );
}

#[test]
fn mistakes_in_policies_are_named() {
    for (text, reason) in [
        ("", "\"\" is not RULE=VALUE"),
        ("daily", "\"daily\" is not RULE=VALUE"),
        ("dayly=7", "\"dayly\" is not a rule"),
        ("daily=-1", "daily=-1: a number"),
        ("daily=7,daily=8", "daily is there twice"),
        ("daily=0", "no rule keeps anything"),
        ("tag=", "a tag is empty"),
        ("within=30", "within=30: a time is written as 30d"),
        ("within=0d", "a time is written"),
        ("within=d", "a time is written"),
        ("within=1d1d", "a time is written"),
        ("within=5s", "a time is written"),
        ("within=99999d", "a time is written"),
        ("within=1é", "a time is written"),
    ] {
        let error = text.parse::<RetentionPolicy>().unwrap_err().to_string();
        assert!(error.contains(reason), "{text:?}: {error}");
    }
}

#[test]
fn a_policy_without_rules_keeps_everything() {
    let items = items(&["2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"]);
    let all = kept_by(&RetentionPolicy::default(), &items, &unguarded());
    assert_eq!(all, BTreeSet::from([0, 1]));
}

#[test]
fn each_rule_keeps_the_newest_of_its_units() {
    let items = items(&[
        "2025-12-31T23:59:59Z", // 0
        "2026-05-31T10:00:00Z", // 1
        "2026-06-01T10:00:00Z", // 2: Monday
        "2026-06-28T09:00:00Z", // 3: Sunday
        "2026-06-28T21:00:00Z", // 4
        "2026-06-29T08:00:00Z", // 5: Monday
        "2026-06-30T08:10:00Z", // 6
        "2026-06-30T08:50:00Z", // 7
        "2026-06-30T09:00:00Z", // 8
    ]);
    let guard = unguarded();
    assert_eq!(kept("last=2", &items, &guard), [7, 8]);
    assert_eq!(kept("hourly=2", &items, &guard), [7, 8]);
    assert_eq!(kept("daily=3", &items, &guard), [4, 5, 8]);
    assert_eq!(kept("weekly=2", &items, &guard), [4, 8]);
    assert_eq!(kept("monthly=2", &items, &guard), [1, 8]);
    assert_eq!(kept("yearly=1", &items, &guard), [8]);
    assert_eq!(kept("daily=2,monthly=2", &items, &guard), [1, 5, 8]);
    let shown = reasons("daily=2,last=1", &items, &guard);
    assert_eq!(shown[8], ["last 1 of 1", "daily 1 of 2"]);
    assert_eq!(shown[5], ["daily 2 of 2"]);
    assert_eq!(shown[0], ["no rule keeps it"]);
}

#[test]
fn the_oldest_stays_until_a_rule_has_as_many_as_it_allows() {
    let items = items(&[
        "2026-06-01T01:00:00Z",
        "2026-06-01T02:00:00Z",
        "2026-06-01T03:00:00Z",
        "2026-06-02T01:00:00Z",
    ]);
    let guard = unguarded();
    assert_eq!(kept("daily=3", &items, &guard), [0, 2, 3]);
    assert_eq!(reasons("daily=3", &items, &guard)[0], ["oldest daily"]);
    assert_eq!(kept("daily=2", &items, &guard), [2, 3]);
}

#[test]
fn spans_count_back_from_the_newest() {
    let items = items(&[
        "2026-02-28T12:00:00Z", // 0
        "2026-03-31T11:59:59Z", // 1
        "2026-03-31T12:00:00Z", // 2
        "2026-04-29T12:00:00Z", // 3
        "2026-04-30T12:00:00Z", // 4: the newest, two months before the present
    ]);
    let guard = unguarded();
    assert_eq!(kept("within=30d", &items, &guard), [2, 3, 4]);
    assert_eq!(kept("within=1d", &items, &guard), [3, 4]);
    assert_eq!(
        kept("within=1m", &items, &guard),
        [1, 2, 3, 4],
        "to March 30"
    );
    assert_eq!(kept("within=9999y", &items, &guard), [0, 1, 2, 3, 4]);
    assert_eq!(kept("within-daily=30d", &items, &guard), [2, 3, 4]);
    assert_eq!(kept("within-monthly=1y", &items, &guard), [0, 2, 4]);
}

#[test]
fn weeks_and_their_years_are_those_of_iso_8601() {
    // 2020 has 53 weeks; 2021-01-03 is the Sunday of the last one.
    let items = items(&[
        "2020-12-27T12:00:00Z", // 0: Sunday, week 52
        "2020-12-28T12:00:00Z", // 1: Monday, week 53
        "2020-12-31T12:00:00Z", // 2: week 53
        "2021-01-03T12:00:00Z", // 3: Sunday, still week 53 of 2020
        "2021-01-04T12:00:00Z", // 4: Monday, week 1 of 2021
        "2024-12-29T12:00:00Z", // 5: Sunday, week 52 of 2024
        "2024-12-30T12:00:00Z", // 6: Monday, week 1 of 2025
        "2025-01-05T12:00:00Z", // 7: Sunday, week 1 of 2025
    ]);
    assert_eq!(kept("weekly=9", &items, &unguarded()), [0, 3, 4, 5, 7]);
    assert_eq!(kept("yearly=9", &items, &unguarded()), [0, 2, 4, 6, 7]);
}

#[test]
fn days_begin_where_the_zone_says() {
    let items = items(&[
        "2026-06-28T21:30:00Z", // 0
        "2026-06-28T22:30:00Z", // 1: the 29th in Vienna
        "2026-06-29T21:30:00Z", // 2
    ]);
    assert_eq!(kept("daily=2", &items, &unguarded()), [1, 2]);
    assert_eq!(kept("daily=2", &items, &in_zone("Europe/Vienna")), [0, 2]);
}

#[test]
fn where_the_clock_is_put_back_an_hour_counts_twice() {
    let vienna = in_zone("Europe/Vienna");
    // 2025-10-26: 03:00 summer time is followed by 02:00 winter time, at 01:00Z.
    let autumn = items(&[
        "2025-10-25T23:30:00Z", // 0: 01:30
        "2025-10-26T00:30:00Z", // 1: 02:30 in summer time
        "2025-10-26T01:30:00Z", // 2: 02:30 in winter time
        "2025-10-26T22:30:00Z", // 3: 23:30, after 25 hours still the same day
        "2025-10-26T23:30:00Z", // 4: the next day
    ]);
    assert_eq!(kept("hourly=9", &autumn, &vienna), [0, 1, 2, 3, 4]);
    assert_eq!(kept("daily=2", &autumn, &vienna), [3, 4]);
    // 2026-03-29: 02:00 is followed by 03:00, at 01:00Z.
    let spring = items(&[
        "2026-03-28T22:30:00Z", // 0: 23:30 on the day before
        "2026-03-29T00:30:00Z", // 1: 01:30
        "2026-03-29T01:30:00Z", // 2: 03:30
        "2026-03-29T21:30:00Z", // 3: 23:30, the last hour of 23
        "2026-03-29T22:30:00Z", // 4: the next day
    ]);
    assert_eq!(kept("hourly=9", &spring, &vienna), [0, 1, 2, 3, 4]);
    assert_eq!(kept("daily=2", &spring, &vienna), [3, 4]);
    assert_eq!(
        kept("within=1d", &spring, &vienna),
        [1, 2, 3, 4],
        "from 00:30"
    );
}

#[test]
fn groups_are_decided_each_for_itself() {
    let mut items = items(&["2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"]);
    items[0].group = "other";
    assert_eq!(kept("last=1", &items, &unguarded()), [0, 1]);
}

#[test]
fn the_newest_complete_is_kept_unless_told_otherwise() {
    let mut all = items(&[
        "2026-06-01T00:00:00Z",
        "2026-06-02T00:00:00Z",
        "2026-06-03T00:00:00Z",
    ]);
    all[2].completeness = Flawed;
    assert_eq!(kept("tag=x", &all, &guard()), [1, 2]);
    assert_eq!(reasons("tag=x", &all, &guard())[1], ["newest complete"]);
    assert_eq!(reasons("tag=x", &all, &guard())[2], ["newest"]);
    assert_eq!(kept("tag=x", &all, &unguarded()), [0; 0]);
    assert_eq!(kept("last=1", &all, &guard()), [1, 2]);
    assert_eq!(kept("last=1", &all, &unguarded()), [2]);
}

#[test]
fn guards_see_what_is_not_considered() {
    let all = items(&[
        "2026-06-01T00:00:00Z",
        "2026-06-02T00:00:00Z",
        "2026-06-03T00:00:00Z",
    ]);
    let policy = "tag=x".parse().unwrap();
    let decisions = decide_among(&policy, &all, &guard(), |item| item.id < 2);
    let seen: Vec<_> = decisions.iter().map(|d| (d.id, d.keep)).collect();
    assert_eq!(seen, [(0, false), (1, false)]);
}

#[test]
fn a_held_one_is_kept_until_its_backup_is_named() {
    let mut all = items(&["2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"]);
    all[0].held_by = "b1";
    assert_eq!(reasons("last=1", &all, &guard())[0], ["held by backup b1"]);
    let released = Guard {
        released: ["b1".to_owned()].into(),
        ..guard()
    };
    assert_eq!(kept("last=1", &all, &released), [1]);
}

#[test]
fn tags_keep_whatever_the_age() {
    let tags = ["keep".to_owned()];
    let mut all = items(&["2020-06-01T00:00:00Z", "2026-06-01T00:00:00Z"]);
    all[0].tags = &tags;
    assert_eq!(reasons("last=1,tag=keep", &all, &guard())[0], ["tag keep"]);
}

#[test]
fn partial_ones_count_for_nothing_and_go_when_a_complete_one_is_there() {
    let mut all = items(&[
        "2026-06-01T00:00:00Z", // 0
        "2026-06-02T00:00:00Z", // 1: partial
        "2026-06-03T00:00:00Z", // 2
        "2026-06-04T00:00:00Z", // 3: partial
    ]);
    all[1].completeness = Partial;
    all[3].completeness = Partial;
    assert_eq!(kept("last=2", &all, &guard()), [0, 2, 3]);
    let shown = reasons("last=2", &all, &guard());
    assert_eq!(shown[1], ["unfinished, and a complete one came after it"]);
    assert_eq!(shown[3], ["unfinished"]);
}

#[test]
fn what_is_named_goes_unless_it_is_guarded() {
    let mut all = items(&[
        "2026-06-01T00:00:00Z", // 0
        "2026-06-02T00:00:00Z", // 1: held
        "2026-06-03T00:00:00Z", // 2: the newest complete
        "2026-06-04T00:00:00Z", // 3: partial
        "2027-06-04T00:00:00Z", // 4: future
    ]);
    all[1].held_by = "b1";
    all[3].completeness = Partial;
    all[4].completeness = Flawed;
    let named = |ids: &[usize], guard: &Guard| -> Vec<(usize, bool)> {
        let decisions = decide_named(&all, guard, |id| ids.contains(id));
        decisions.iter().map(|d| (d.id, d.keep)).collect()
    };
    let all_of_them = [0, 1, 2, 3, 4];
    assert_eq!(
        named(&all_of_them, &guard()),
        [(0, false), (1, true), (2, true), (3, false), (4, false)]
    );
    assert_eq!(named(&[2], &unguarded()), [(2, false)]);
    assert_eq!(named(&[9], &guard()), []);
}

/// Ten healthy snapshots, one a day, the last one an hour ago.
fn healthy() -> Vec<Item<'static, usize>> {
    let made = |id: usize| item(id, ms("2026-06-30T11:00:00Z") - (9 - id as i64) * DAY_MS);
    (0..10).map(made).collect()
}

#[test]
fn a_clock_that_was_a_year_off_costs_nothing_that_counts() {
    for off in [-365 * DAY_MS, 365 * DAY_MS] {
        // The clock is right again, but one snapshot was made while it was wrong.
        let mut all = healthy();
        all.push(item(10, ms(NOW) - 1000 + off));
        let kept = kept("daily=3", &all, &guard());
        assert_eq!(kept, [7, 8, 9, 10], "off by {off} ms");
    }
}

#[test]
fn a_clock_that_is_a_year_off_now_costs_nothing_that_counts() {
    let all = healthy();
    for off in [-365 * DAY_MS, 365 * DAY_MS] {
        let wrong = Guard {
            now_ms: ms(NOW) + off,
            ..guard()
        };
        let kept = kept("daily=3,within=2d", &all, &wrong);
        assert!(kept.ends_with(&[7, 8, 9]), "off by {off} ms: {kept:?}");
        assert!(decide_named(&all, &wrong, |id| *id == 9)[0].keep);
    }
}

fn any_span() -> impl Strategy<Value = KeepSpan> {
    (0u16..3, 0u16..12, 0u16..5, 0u16..40, 0u16..50).prop_map(
        |(years, months, weeks, days, hours)| KeepSpan {
            years,
            months,
            weeks,
            days,
            hours: if (years, months, weeks, days) == (0, 0, 0, 0) {
                hours + 1
            } else {
                hours
            },
        },
    )
}

prop_compose! {
    fn any_policy()(
        counts in prop::array::uniform6(prop_oneof![2 => Just(0u32), 3 => 1u32..8, 1 => Just(u32::MAX)]),
        spans in prop::array::uniform6(prop::option::weighted(0.2, any_span())),
        tags in prop::collection::vec("[ab]", 0..2),
    ) -> RetentionPolicy {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        let [within, within_hourly, within_daily, within_weekly, within_monthly, within_yearly] = spans;
        RetentionPolicy {
            last, hourly, daily, weekly, monthly, yearly, within, within_hourly, within_daily,
            within_weekly, within_monthly, within_yearly, tags,
        }
    }
}

/// Times around the present, in clusters, some of them of clocks that were a year off.
fn any_time() -> impl Strategy<Value = i64> {
    let near = |range: i64| (-range..range / 50).prop_map(|off| ms(NOW) + off * 60_000);
    prop_oneof![
        4 => near(3 * 24 * 60),
        4 => near(90 * 24 * 60),
        3 => near(5 * 365 * 24 * 60),
        1 => near(60).prop_map(|t| t + 365 * DAY_MS),
        1 => near(60).prop_map(|t| t - 365 * DAY_MS),
        1 => any::<i64>(),
    ]
}

#[derive(Debug, Clone)]
struct Owned {
    time_ms: i64,
    completeness: Completeness,
    tags: Vec<String>,
    held_by: &'static str,
    group: &'static str,
}

prop_compose! {
    fn any_item()(
        time_ms in any_time(),
        completeness in prop_oneof![6 => Just(Complete), 1 => Just(Flawed), 1 => Just(Partial)],
        tags in prop::collection::vec("[abc]", 0..2),
        held_by in prop_oneof![6 => Just(""), 1 => Just("b1"), 1 => Just("b2")],
        group in prop_oneof![Just("g"), Just("h")],
    ) -> Owned {
        Owned { time_ms, completeness, tags, held_by, group }
    }
}

fn borrow(owned: &[Owned]) -> Vec<Item<'_, usize>> {
    owned
        .iter()
        .enumerate()
        .map(|(id, item)| Item {
            id,
            group: item.group,
            time_ms: item.time_ms,
            sequence: id as u64,
            completeness: item.completeness,
            tags: &item.tags,
            held_by: item.held_by,
        })
        .collect()
}

fn any_guard() -> impl Strategy<Value = Guard> {
    (
        any::<bool>(),
        any::<bool>(),
        prop_oneof![
            Just("UTC"),
            Just("Europe/Vienna"),
            Just("Australia/Lord_Howe"),
            Just("Pacific/Apia"),
        ],
    )
        .prop_map(|(allow_last, release, zone)| Guard {
            allow_last,
            released: release.then(|| "b1".to_owned()).into_iter().collect(),
            ..in_zone(zone)
        })
}

fn more(policy: &RetentionPolicy, by: &RetentionPolicy) -> RetentionPolicy {
    let count = |a: u32, b: u32| a.saturating_add(b);
    let mut tags = policy.tags.clone();
    tags.extend(by.tags.clone());
    RetentionPolicy {
        last: count(policy.last, by.last),
        hourly: count(policy.hourly, by.hourly),
        daily: count(policy.daily, by.daily),
        weekly: count(policy.weekly, by.weekly),
        monthly: count(policy.monthly, by.monthly),
        yearly: count(policy.yearly, by.yearly),
        within: policy.within.or(by.within),
        within_hourly: policy.within_hourly.or(by.within_hourly),
        within_daily: policy.within_daily.or(by.within_daily),
        within_weekly: policy.within_weekly.or(by.within_weekly),
        within_monthly: policy.within_monthly.or(by.within_monthly),
        within_yearly: policy.within_yearly.or(by.within_yearly),
        tags,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_policy_is_read_as_it_is_written(policy in any_policy()) {
        if !policy.is_empty() {
            prop_assert_eq!(policy.to_string().parse::<RetentionPolicy>(), Ok(policy));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(last|daily|within|tag|=|,|[0-9]|[ymwdh]|é| )*") {
        let _ = text.parse::<RetentionPolicy>();
        let _ = text.parse::<KeepSpan>();
    }

    #[test]
    fn keeping_more_never_removes(
        policy in any_policy(), by in any_policy(), guard in any_guard(),
        owned in prop::collection::vec(any_item(), 0..40),
    ) {
        prop_assume!(!policy.is_empty());
        let items = borrow(&owned);
        let (less, more) = (
            kept_by(&policy, &items, &guard),
            kept_by(&more(&policy, &by), &items, &guard),
        );
        prop_assert!(less.is_subset(&more), "{:?}", less.difference(&more));
    }

    #[test]
    fn applying_twice_changes_nothing(
        policy in any_policy(), guard in any_guard(),
        owned in prop::collection::vec(any_item(), 0..40),
    ) {
        let mut items = borrow(&owned);
        let once = kept_by(&policy, &items, &guard);
        items.retain(|item| once.contains(&item.id));
        prop_assert_eq!(kept_by(&policy, &items, &guard), once);
    }

    #[test]
    fn the_newest_complete_of_a_group_and_held_ones_are_kept(
        policy in any_policy(), guard in any_guard(),
        owned in prop::collection::vec(any_item(), 0..40),
    ) {
        let guard = Guard { allow_last: false, ..guard };
        let items = borrow(&owned);
        let kept = kept_by(&policy, &items, &guard);
        for group in ["g", "h"] {
            let complete = || items.iter().filter(|i| i.group == group && i.completeness == Complete);
            let by_time = complete().max_by_key(|i| (i.time_ms, i.id));
            let by_order = complete().max_by_key(|i| i.sequence);
            let sane = complete().filter(|i| i.time_ms <= guard.now_ms + DAY_MS);
            let by_sane_time = sane.max_by_key(|i| (i.time_ms, i.id));
            for newest in [by_time, by_order, by_sane_time].into_iter().flatten() {
                prop_assert!(kept.contains(&newest.id));
            }
        }
        for held in items.iter().filter(|i| i.held_by == "b2") {
            prop_assert!(kept.contains(&held.id));
        }
    }

    #[test]
    fn the_order_of_the_items_does_not_matter(
        policy in any_policy(), guard in any_guard(),
        owned in prop::collection::vec(any_item(), 0..20),
    ) {
        let mut items = borrow(&owned);
        let forward = kept_by(&policy, &items, &guard);
        items.reverse();
        prop_assert_eq!(kept_by(&policy, &items, &guard), forward);
    }
}
