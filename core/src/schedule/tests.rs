//! Times against tables and against a clock that is read minute by minute.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use proptest::prelude::*;

use super::*;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

fn ms(time: &str) -> i64 {
    time.parse::<Timestamp>().unwrap().as_millisecond()
}

fn text(unix_ms: i64) -> String {
    Timestamp::from_millisecond(unix_ms).unwrap().to_string()
}

fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let table = Timetable::parse(cron, zone).unwrap();
    let turns = std::iter::successors(table.next_after(ms(after)), |t| table.next_after(*t));
    turns.take(count).map(text).collect()
}

#[test]
fn expressions_name_the_times_that_cron_names() {
    let after = "2026-02-27T23:58:30Z";
    for (cron, wanted) in [
        (
            "* * * * *",
            ["2026-02-27T23:59:00Z", "2026-02-28T00:00:00Z"],
        ),
        (
            "0 2 * * *",
            ["2026-02-28T02:00:00Z", "2026-03-01T02:00:00Z"],
        ),
        (
            "*/20 3 * * *",
            ["2026-02-28T03:00:00Z", "2026-02-28T03:20:00Z"],
        ),
        (
            "5,10-12/2 0 * * *",
            ["2026-02-28T00:05:00Z", "2026-02-28T00:10:00Z"],
        ),
        (
            "0 0 * * mon",
            ["2026-03-02T00:00:00Z", "2026-03-09T00:00:00Z"],
        ),
        (
            "0 0 * * SAT-SUN",
            ["2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"],
        ),
        (
            "0 0 * * 7",
            ["2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"],
        ),
        (
            "0 0 13 * fri",
            ["2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z"],
        ),
        (
            "0 0 29 feb *",
            ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"],
        ),
        (
            "0 0 31 * *",
            ["2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"],
        ),
        (
            "0 12 1 jan,JUL *",
            ["2026-07-01T12:00:00Z", "2027-01-01T12:00:00Z"],
        ),
        ("@hourly", ["2026-02-28T00:00:00Z", "2026-02-28T01:00:00Z"]),
        ("@daily", ["2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"]),
        (
            "@midnight",
            ["2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"],
        ),
        ("@weekly", ["2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"]),
        ("@monthly", ["2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"]),
        ("@yearly", ["2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"]),
        (
            "@every 6h",
            ["2026-02-28T00:00:00Z", "2026-02-28T06:00:00Z"],
        ),
        (
            "@every 90m",
            ["2026-02-28T00:00:00Z", "2026-02-28T01:30:00Z"],
        ),
    ] {
        assert_eq!(next(cron, "", after, 2), wanted, "{cron}");
    }
}

#[test]
fn mistakes_are_named() {
    for bad in [
        "",
        "   ",
        "* * * *",
        "* * * * * *",
        "0 2 * * * 2027",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * foo *",
        "a b c d e",
        "5-1 * * * *",
        "*/0 * * * *",
        "@reboot",
        "@dayly",
        "@every",
        "@every 5s",
        "@every 90.5s",
        "@every -1h",
        "@every 1month",
        "CRON_TZ=UTC 0 2 * * *",
        "0 0 30 2 *",
        "0 0 31 4,6,9,11 *",
        &"0,".repeat(1000),
    ] {
        let error = match Timetable::parse(bad, "") {
            Ok(table) => panic!("{bad}: {table:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains("is not a cron expression"), "{bad}: {error}");
    }
    let error = Timetable::parse("@daily", "Europe/Wien").unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("time zone Europe/Wien not found")
    );
    let error = Timetable::parse("@daily", "Europe/Viena").unwrap_err();
    assert!(
        error.to_string().contains("did you mean Europe/Vienna"),
        "{error}"
    );
}

#[test]
fn times_of_the_day_come_once_where_clocks_change() {
    let vienna = "Europe/Vienna";
    // 2026-03-29: 02:00 is followed by 03:00, at 01:00Z.
    let spring = "2026-03-28T12:00:00Z";
    for (cron, wanted) in [
        (
            "30 1 * * *",
            ["2026-03-29T00:30:00Z", "2026-03-29T23:30:00Z"],
        ),
        (
            "30 2 * * *",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        ),
        (
            "*/15 2 * * *",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
        ),
        (
            "0 2,3 * * *",
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"],
        ),
        (
            "15 2,3 * * *",
            ["2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"],
        ),
        (
            "30 3 * * *",
            ["2026-03-29T01:30:00Z", "2026-03-30T01:30:00Z"],
        ),
    ] {
        assert_eq!(next(cron, vienna, spring, 2), wanted, "{cron}");
    }
    // 2025-10-26: 03:00 is followed by 02:00, at 01:00Z.
    let autumn = "2025-10-25T12:00:00Z";
    for (cron, wanted) in [
        (
            "30 1 * * *",
            ["2025-10-25T23:30:00Z", "2025-10-27T00:30:00Z"],
        ),
        (
            "30 2 * * *",
            ["2025-10-26T00:30:00Z", "2025-10-27T01:30:00Z"],
        ),
        (
            "30 2,3 * * *",
            ["2025-10-26T00:30:00Z", "2025-10-26T02:30:00Z"],
        ),
        (
            "30 3 * * *",
            ["2025-10-26T02:30:00Z", "2025-10-27T02:30:00Z"],
        ),
    ] {
        assert_eq!(next(cron, vienna, autumn, 2), wanted, "{cron}");
    }
    // In the second 02:00-03:00 all its times lie behind.
    assert_eq!(
        next("*/10 2 * * *", vienna, "2025-10-26T01:10:00Z", 1),
        ["2025-10-27T01:00:00Z"]
    );
    // A change of half an hour, and a day that was left out altogether.
    assert_eq!(
        next(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            1
        ),
        ["2026-10-03T15:30:00Z"]
    );
    assert_eq!(
        next("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 2),
        ["2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z"]
    );
}

#[test]
fn every_hour_follows_the_clock_on_the_wall() {
    let vienna = "Europe/Vienna";
    assert_eq!(
        next("30 * * * *", vienna, "2025-10-25T23:40:00Z", 3),
        [
            "2025-10-26T00:30:00Z",
            "2025-10-26T01:30:00Z",
            "2025-10-26T02:30:00Z"
        ]
    );
    assert_eq!(
        next("30 * * * *", vienna, "2026-03-29T00:00:00Z", 2),
        ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"]
    );
    assert_eq!(
        next("0 */2 * * *", vienna, "2026-03-28T23:30:00Z", 1),
        ["2026-03-29T02:00:00Z"]
    );
}

fn look(cron: &str, handled: &str, now: &str) -> Look {
    Timetable::parse(cron, "")
        .unwrap()
        .look(ms(handled), ms(now))
}

#[test]
fn any_number_of_missed_turns_is_one_turn() {
    let seen = look("0 2 * * *", "2026-06-01T02:00:00Z", "2026-06-04T09:00:00Z");
    let due = Due {
        turn_ms: ms("2026-06-04T02:00:00Z"),
        missed: 2,
    };
    assert_eq!(seen.due, Some(due));
    assert_eq!(seen.next_ms, Some(ms("2026-06-05T02:00:00Z")));
    assert_eq!(
        seen.step(ms("2026-06-04T09:00:00Z"), None, None),
        Step::Run(due)
    );
    let seen = look("* * * * *", "2016-06-01T02:00:00Z", "2026-06-04T09:00:30Z");
    assert_eq!(
        seen.due,
        Some(Due {
            turn_ms: ms("2026-06-04T09:00:00Z"),
            missed: 1000
        })
    );
    let seen = look("0 0 29 2 *", "2015-06-01T02:00:00Z", "2027-06-04T09:00:30Z");
    assert_eq!(
        seen.due,
        Some(Due {
            turn_ms: ms("2024-02-29T00:00:00Z"),
            missed: 2
        })
    );
    let seen = look("0 2 * * *", "2026-06-04T02:00:00Z", "2026-06-04T09:00:00Z");
    assert_eq!(
        seen.step(ms("2026-06-04T09:00:00Z"), None, None),
        Step::Wait
    );
}

#[test]
fn a_turn_that_is_too_late_or_finds_a_backup_running_is_skipped() {
    let now = ms("2026-06-04T02:10:00Z");
    let seen = look("0 2 * * *", "2026-06-03T02:00:00Z", "2026-06-04T02:10:00Z");
    let due = seen.due.unwrap();
    assert_eq!(seen.step(now, None, Some(10 * MINUTE_MS)), Step::Run(due));
    assert_eq!(
        seen.step(now, None, Some(10 * MINUTE_MS - 1)),
        Step::Skip(due, SkipReason::TooLate)
    );
    assert_eq!(
        seen.step(now, Some("b"), None),
        Step::Skip(due, SkipReason::Running("b".to_owned()))
    );
}

#[test]
fn a_clock_that_jumps_makes_no_turn_come_twice() {
    let (cron, before) = ("0 2 * * *", ms("2026-06-04T01:59:00Z"));
    let table = Timetable::parse(cron, "").unwrap();
    for back in [5 * MINUTE_MS, 3 * HOUR_MS, 23 * HOUR_MS] {
        // The turn of 02:00 is dealt with, then the clock is set back.
        let handled = ms("2026-06-04T02:00:00Z");
        let seen = table.look(handled, handled + MINUTE_MS - back);
        assert_eq!((seen.due, seen.handled_ms), (None, handled));
        assert_eq!(seen.next_ms, Some(ms("2026-06-05T02:00:00Z")));
    }
    // A year forward: one turn. A year back again: none at once, and life goes on.
    let seen = table.look(before, before + 365 * DAY_MS + HOUR_MS);
    let due = seen.due.unwrap();
    assert_eq!(
        (text(due.turn_ms).as_str(), due.missed),
        ("2027-06-04T02:00:00Z", 365)
    );
    let seen = table.look(due.turn_ms, before);
    assert_eq!((seen.due, seen.handled_ms), (None, before));
    assert_eq!(seen.next_ms, Some(ms("2026-06-04T02:00:00Z")));
}

/// One field of an expression, with the numbers that it means.
fn any_field(min: u8, max: u8) -> impl Strategy<Value = (String, Vec<u8>)> {
    let number = min..=max;
    let part = prop_oneof![
        number.clone().prop_map(|n| (n.to_string(), vec![n])),
        (number.clone(), number.clone()).prop_map(|(a, b)| {
            let (a, b) = (a.min(b), a.max(b));
            (format!("{a}-{b}"), (a..=b).collect())
        }),
        (number.clone(), number, 1u8..20).prop_map(|(a, b, step)| {
            let (a, b) = (a.min(b), a.max(b));
            (
                format!("{a}-{b}/{step}"),
                (a..=b).step_by(step.into()).collect(),
            )
        }),
    ];
    let list = prop::collection::vec(part, 1..4).prop_map(|parts: Vec<(String, Vec<u8>)>| {
        let texts: Vec<String> = parts.iter().map(|p| p.0.clone()).collect();
        (
            texts.join(","),
            parts.into_iter().flat_map(|p| p.1).collect(),
        )
    });
    prop_oneof![
        2 => Just(("*".to_owned(), (min..=max).collect())),
        1 => (1u8..20).prop_map(move |step| {
            (format!("*/{step}"), (min..=max).step_by(step.into()).collect())
        }),
        3 => list,
    ]
}

type Field = (String, Vec<u8>);

fn any_expression() -> impl Strategy<Value = [Field; 5]> {
    (
        any_field(0, 59),
        any_field(0, 23),
        any_field(1, 31),
        any_field(1, 12),
        any_field(0, 6),
    )
        .prop_map(|(minute, hour, day, month, weekday)| [minute, hour, day, month, weekday])
}

/// Whether the clock on the wall shows a time that the fields mean.
fn shows(fields: &[Field; 5], wall: DateTime) -> bool {
    let has = |i: usize, n: i8| fields[i].1.contains(&n.unsigned_abs());
    let day = has(2, wall.day());
    let weekday = has(4, wall.weekday().to_sunday_zero_offset());
    let by_day = match (fields[2].0 == "*", fields[4].0 == "*") {
        (false, false) => day || weekday,
        _ => day && weekday,
    };
    has(0, wall.minute()) && has(1, wall.hour()) && has(3, wall.month()) && by_day
}

/// The next time, found by looking at the clock every minute for some days.
fn read_clock(fields: &[Field; 5], zone: &TimeZone, after_ms: i64, days: i64) -> Option<i64> {
    let of_day = !fields[1].0.starts_with('*');
    let first = after_ms.div_euclid(MINUTE_MS) + 1;
    let time = |minute: i64| Timestamp::from_millisecond(minute * MINUTE_MS).unwrap();
    let wall = |minute: i64| time(minute).to_zoned(zone.clone()).datetime();
    let later = |wall: DateTime| wall.checked_add(jiff::Span::new().minutes(1)).unwrap();
    let found = (first..first + days * 24 * 60).find(|minute| {
        let now = wall(*minute);
        if !of_day {
            return shows(fields, now);
        }
        let seen_before = zone.to_ambiguous_timestamp(now).earlier().unwrap() < time(*minute);
        let left_out = std::iter::successors(Some(later(wall(minute - 1))), |w| Some(later(*w)));
        let mut left_out = left_out.take_while(|wall| *wall < now);
        left_out.any(|wall| shows(fields, wall)) || (shows(fields, now) && !seen_before)
    });
    found.map(|minute| minute * MINUTE_MS)
}

const ZONES: [&str; 6] = [
    "UTC",
    "Europe/Vienna",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Pacific/Apia",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn times_are_those_that_the_clock_shows(
        fields in any_expression(),
        zone in prop::sample::select(&ZONES[..]),
        start in prop_oneof![
            ms("2011-12-28T00:00:00Z")..ms("2012-01-02T00:00:00Z"),
            ms("2025-10-01T00:00:00Z")..ms("2025-11-10T00:00:00Z"),
            ms("2026-03-01T00:00:00Z")..ms("2026-04-10T00:00:00Z"),
        ],
    ) {
        let cron = fields.iter().map(|f| f.0.as_str()).collect::<Vec<_>>().join(" ");
        // Some combinations, such as only Mondays in a */13 of days, may never come.
        let Ok(table) = Timetable::parse(&cron, zone) else { return Ok(()) };
        let zone = TimeZone::get(zone).unwrap();
        let mut after = start;
        for _ in 0..4 {
            let found = table.next_after(after);
            let shown = read_clock(&fields, &zone, after, 4);
            match (found, shown) {
                (Some(found), Some(shown)) => {
                    prop_assert_eq!(text(found), text(shown), "{} after {}", cron, text(after));
                }
                (None, Some(_)) => prop_assert!(false, "{cron} after {}", text(after)),
                (Some(found), None) => prop_assert!(found > after + 4 * DAY_MS - MINUTE_MS, "{cron} {} after {}", text(found), text(after)),
                (None, None) => {}
            }
            let Some(found) = found else { break };
            after = found;
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "([0-9]{1,3}|[*/,@LW#?+-]|[a-zA-Z]{3}|é| )*") {
        if let Ok(table) = Timetable::parse(&text, "Europe/Vienna") {
            let now = ms("2026-03-28T12:00:00Z");
            prop_assert!(table.next_after(now).is_none_or(|next| next > now));
        }
    }

    #[test]
    fn no_turn_is_dealt_with_twice_however_the_clock_is_read(
        steps in prop::collection::vec(-2 * HOUR_MS..6 * HOUR_MS, 1..60),
        cron in prop::sample::select(&["0 * * * *", "0 2 * * *", "*/15 * * * *", "@every 7h"][..]),
    ) {
        let table = Timetable::parse(cron, "").unwrap();
        let (mut now, mut newest) = (ms("2026-06-01T00:00:00Z"), i64::MIN);
        let mut handled = now;
        for step in steps {
            now += step;
            let seen = table.look(handled, now);
            handled = seen.handled_ms;
            if let Some(due) = seen.due {
                prop_assert!(due.turn_ms > newest && due.turn_ms <= now);
                newest = due.turn_ms;
                handled = due.turn_ms;
            }
            prop_assert!(seen.next_ms.is_none_or(|next| next > now));
        }
    }
}
