//! The times that a cron expression names in a time zone.
//!
//! Where clocks are set forward or back:
//! * An expression whose hours are written out (`0 2 * * *`, `*/15 1-4 * * *`) means times of the day. A time that
//!   is left out comes when the clock has been set forward, once however many were left out. A time that comes
//!   twice counts the first time.
//! * An expression for every hour or every few hours (`0 * * * *`, `30 */2 * * *`) follows the clock on the wall:
//!   an hour that is left out is left out, an hour that comes twice counts twice.
//! * `@every 6h` counts from 1970-01-01T00:00:00Z and knows no zone.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

use crate::run::not_found;

/// Longest expression in bytes.
const MAX_BYTES: usize = 1024;
/// Shortest time between two turns, in seconds.
const MIN_EVERY_SECONDS: i64 = 60;
/// Wall-clock times that one change of the clock can make come twice: a day of minutes, and some.
const MAX_REPEATED: usize = 2000;
/// From here on an expression must name a time, or it never does. The Gregorian calendar repeats in 400 years, and
/// February 29 comes in eight.
const ANY_TIME: i64 = 1_577_836_800_000;

/// A text that names no times.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTimetableError {
    /// The expression cannot be read.
    #[error(
        "{text:?} is not a cron expression: {reason}; write minute, hour, day of month, month and day of week such as '0 2 * * *', or @hourly, @daily, @weekly, @monthly, @yearly or '@every 6h'"
    )]
    Cron {
        /// What was parsed.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such time zone; the text names near misses.
    #[error("{0}; write a name such as UTC or Europe/Berlin")]
    Zone(String),
}

#[derive(Debug, Clone)]
enum Times {
    /// Times of the day.
    OfDay(Box<Cron>),
    /// The clock on the wall as it is.
    OfClock(Box<Cron>),
    /// So many milliseconds apart.
    Every(i64),
}

/// A cron expression in a time zone.
#[derive(Debug, Clone)]
pub struct Timetable {
    times: Times,
    zone: TimeZone,
}

impl Timetable {
    /// The times of the five fields (or the name) `cron` in the time zone with the IANA name `zone`; an empty name is
    /// UTC. Of day of month and day of week, when both are restricted, one suffices.
    ///
    /// # Errors
    /// The expression or the zone is not one, or the expression names no time that ever comes.
    pub fn parse(cron: &str, zone: &str) -> Result<Self, ParseTimetableError> {
        let fail = |reason: String| ParseTimetableError::Cron {
            text: cron.to_owned(),
            reason,
        };
        let zone = match zone {
            "" => TimeZone::UTC,
            zone => TimeZone::get(zone).map_err(|_| unknown_zone(zone))?,
        };
        let times = times(cron.trim()).map_err(fail)?;
        let timetable = Self { times, zone };
        if timetable.next_after(ANY_TIME).is_none() {
            return Err(fail("it names no time that ever comes".to_owned()));
        }
        Ok(timetable)
    }

    /// Where the times are those of the clock on the wall.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `unix_ms`; `None` if there is none before the calendar ends.
    pub fn next_after(&self, unix_ms: i64) -> Option<i64> {
        let start = Timestamp::from_millisecond(unix_ms).ok()?;
        let next = match &self.times {
            Times::Every(period_ms) => {
                let turn = unix_ms.div_euclid(*period_ms).checked_add(1)?;
                return turn.checked_mul(*period_ms);
            }
            Times::OfClock(cron) => {
                let start = start.to_zoned(self.zone.clone());
                let next = cron.find_next_occurrence(&start, false).ok()?;
                next.timestamp()
            }
            Times::OfDay(cron) => self.next_of_day(cron, start)?,
        };
        Some(next.as_millisecond())
    }

    fn next_of_day(&self, cron: &Cron, start: Timestamp) -> Option<Timestamp> {
        let mut wall = start.to_zoned(self.zone.clone()).datetime();
        // The second time that an hour comes, its wall-clock times lie behind.
        for _ in 0..MAX_REPEATED {
            wall = cron.find_next_occurrence(&wall, false).ok()?;
            let time = self.at(wall)?;
            if time > start {
                return Some(time);
            }
        }
        None
    }

    /// When the clock on the wall first shows `wall`, or goes past it.
    fn at(&self, wall: DateTime) -> Option<Timestamp> {
        let time = self.zone.to_ambiguous_timestamp(wall);
        match time.offset() {
            AmbiguousOffset::Gap { .. } => {
                let before = time.earlier().ok()?;
                Some(self.zone.following(before).next()?.timestamp())
            }
            _ => time.earlier().ok(),
        }
    }
}

fn unknown_zone(zone: &str) -> ParseTimetableError {
    let known: Vec<String> = jiff::tz::db().available().map(|n| n.to_string()).collect();
    let names = known.iter().map(String::as_str);
    ParseTimetableError::Zone(not_found("time zone", zone, names))
}

fn times(text: &str) -> Result<Times, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    if let Some(period) = text.strip_prefix("@every") {
        return Ok(Times::Every(every_ms(period.trim())?));
    }
    if text.contains('=') {
        return Err("the time zone is not part of it".to_owned());
    }
    let text = match text {
        "@midnight" => "@daily",
        text => text,
    };
    let parser = CronParser::builder()
        .seconds(Seconds::Disallowed)
        .year(Year::Disallowed)
        .build();
    let cron = parser.parse(text).map_err(|error| error.to_string())?;
    let hours = match text {
        "@hourly" => "*",
        text => text.split_whitespace().nth(1).unwrap_or("0"),
    };
    let cron = Box::new(cron);
    Ok(if hours.starts_with('*') {
        Times::OfClock(cron)
    } else {
        Times::OfDay(cron)
    })
}

fn every_ms(text: &str) -> Result<i64, String> {
    let bad = || format!("{text:?} is not a time of a minute or more such as 90m, 6h or 24h");
    let period: SignedDuration = text.parse().map_err(|_| bad())?;
    let seconds = period.as_secs();
    if seconds < MIN_EVERY_SECONDS || period.subsec_nanos() != 0 {
        return Err(bad());
    }
    seconds.checked_mul(1000).ok_or_else(bad)
}
