//! What somebody wants to keep, and how it is written: `daily=7,weekly=4`.

use std::{fmt, str::FromStr};

use jiff::{Span, Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize, de::Error as _};

/// As a count: all of them.
const UNLIMITED: &str = "unlimited";
/// Longest span, in each of its units; more than any calendar has.
const MAX_UNITS: u16 = 9_999;

/// A text that does not say what to keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} does not say what to keep: {reason}; write rules such as last=3,daily=7,weekly=4,within=30d,tag=keep"
)]
pub struct ParsePolicyError {
    /// What was parsed.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

fn error(text: &str, reason: impl Into<String>) -> ParsePolicyError {
    ParsePolicyError {
        text: text.to_owned(),
        reason: reason.into(),
    }
}

/// A length of time in units of the calendar, written `1y6m2w30d12h`; `m` is a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepSpan {
    /// Years.
    pub years: u16,
    /// Months.
    pub months: u16,
    /// Weeks.
    pub weeks: u16,
    /// Days.
    pub days: u16,
    /// Hours.
    pub hours: u16,
}

impl KeepSpan {
    /// The time that lies this long before `unix_ms`, both in milliseconds since 1970; the earliest time there is
    /// if the calendar does not reach back so far.
    pub(super) fn before(self, unix_ms: i64, zone: &TimeZone) -> i64 {
        let span = Span::new()
            .years(self.years)
            .months(self.months)
            .weeks(self.weeks)
            .days(self.days)
            .hours(self.hours);
        let start = timestamp(unix_ms).to_zoned(zone.clone());
        let before = start.checked_sub(span);
        before.map_or(i64::MIN, |time| time.timestamp().as_millisecond())
    }

    fn units(self) -> [(u16, char); 5] {
        [
            (self.years, 'y'),
            (self.months, 'm'),
            (self.weeks, 'w'),
            (self.days, 'd'),
            (self.hours, 'h'),
        ]
    }
}

/// The time, or the nearest one that the calendar knows.
pub(super) fn timestamp(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or(if unix_ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

impl fmt::Display for KeepSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (count, unit) in self.units().into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{count}{unit}")?;
        }
        Ok(())
    }
}

impl FromStr for KeepSpan {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, ParsePolicyError> {
        let bad = || error(text, "a time is written as 30d, 2w, 6m, 1y, 36h or 1y6m");
        let mut span = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let (number, unit) = rest.split_at(end);
            let slot = match unit.as_bytes()[0] {
                b'y' => &mut span.years,
                b'm' => &mut span.months,
                b'w' => &mut span.weeks,
                b'd' => &mut span.days,
                b'h' => &mut span.hours,
                _ => return Err(bad()),
            };
            let number: u16 = number.parse().map_err(|_| bad())?;
            if *slot != 0 || number == 0 || number > MAX_UNITS {
                return Err(bad());
            }
            *slot = number;
            rest = &unit[1..];
        }
        if span == Self::default() {
            return Err(bad());
        }
        Ok(span)
    }
}

/// What to keep. Each rule is for itself, and what one of them wants is kept. A rule by the hour, day, week, month or
/// year keeps the newest of each of the newest so many hours, days … that have any; as long as there are fewer
/// of these than the rule allows, it also keeps the oldest of all. `u32::MAX` means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionPolicy {
    /// The newest so many.
    pub last: u32,
    /// One of each hour.
    pub hourly: u32,
    /// One of each day.
    pub daily: u32,
    /// One of each week as ISO 8601 has them (from Monday).
    pub weekly: u32,
    /// One of each month.
    pub monthly: u32,
    /// One of each year.
    pub yearly: u32,
    /// All that are not older than this, counted back from the newest: a pause or a wrong clock ages nothing.
    pub within: Option<KeepSpan>,
    /// One of each hour among those that are not older than this.
    pub within_hourly: Option<KeepSpan>,
    /// One of each day among those.
    pub within_daily: Option<KeepSpan>,
    /// One of each week among those.
    pub within_weekly: Option<KeepSpan>,
    /// One of each month among those.
    pub within_monthly: Option<KeepSpan>,
    /// One of each year among those.
    pub within_yearly: Option<KeepSpan>,
    /// All that have one of these tags.
    pub tags: Vec<String>,
}

impl RetentionPolicy {
    /// Whether it has no rule. Such a policy keeps everything.
    pub fn is_empty(&self) -> bool {
        let counts = [
            self.last,
            self.hourly,
            self.daily,
            self.weekly,
            self.monthly,
            self.yearly,
        ];
        counts == [0; 6]
            && self.spans().iter().all(|(_, span)| span.is_none())
            && self.tags.is_empty()
    }

    fn spans(&self) -> [(&'static str, Option<KeepSpan>); 6] {
        [
            ("within", self.within),
            ("within-hourly", self.within_hourly),
            ("within-daily", self.within_daily),
            ("within-weekly", self.within_weekly),
            ("within-monthly", self.within_monthly),
            ("within-yearly", self.within_yearly),
        ]
    }

    fn count_of(&mut self, rule: &str) -> Option<&mut u32> {
        Some(match rule {
            "last" => &mut self.last,
            "hourly" => &mut self.hourly,
            "daily" => &mut self.daily,
            "weekly" => &mut self.weekly,
            "monthly" => &mut self.monthly,
            "yearly" => &mut self.yearly,
            _ => return None,
        })
    }

    fn span_of(&mut self, rule: &str) -> Option<&mut Option<KeepSpan>> {
        Some(match rule {
            "within" => &mut self.within,
            "within-hourly" => &mut self.within_hourly,
            "within-daily" => &mut self.within_daily,
            "within-weekly" => &mut self.within_weekly,
            "within-monthly" => &mut self.within_monthly,
            "within-yearly" => &mut self.within_yearly,
            _ => return None,
        })
    }
}

/// A number of things to keep: a decimal number, or `unlimited`.
///
/// # Errors
/// It is neither.
pub fn parse_count(text: &str) -> Result<u32, ParsePolicyError> {
    if text == UNLIMITED {
        return Ok(u32::MAX);
    }
    let bad = || error(text, "a number of things to keep, or unlimited, is wanted");
    text.parse().map_err(|_| bad())
}

impl fmt::Display for RetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            ("last", self.last),
            ("hourly", self.hourly),
            ("daily", self.daily),
            ("weekly", self.weekly),
            ("monthly", self.monthly),
            ("yearly", self.yearly),
        ];
        let mut rules = Vec::new();
        for (rule, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            rules.push(match count {
                u32::MAX => format!("{rule}={UNLIMITED}"),
                count => format!("{rule}={count}"),
            });
        }
        let spans = self.spans().into_iter();
        rules.extend(spans.filter_map(|(rule, span)| Some(format!("{rule}={}", span?))));
        rules.extend(self.tags.iter().map(|tag| format!("tag={tag}")));
        f.write_str(&rules.join(","))
    }
}

impl FromStr for RetentionPolicy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, ParsePolicyError> {
        let mut policy = Self::default();
        let mut seen = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((rule, value)) = part.split_once('=') else {
                return Err(error(text, format!("{part:?} is not RULE=VALUE")));
            };
            if rule == "tag" {
                if value.is_empty() {
                    return Err(error(text, "a tag is empty"));
                }
                policy.tags.push(value.to_owned());
                continue;
            }
            if seen.contains(&rule) {
                return Err(error(text, format!("{rule} is there twice")));
            }
            seen.push(rule);
            let within = |e: ParsePolicyError| error(text, format!("{rule}={value}: {}", e.reason));
            if let Some(count) = policy.count_of(rule) {
                *count = parse_count(value).map_err(within)?;
            } else if let Some(span) = policy.span_of(rule) {
                *span = Some(value.parse().map_err(within)?);
            } else {
                return Err(error(text, format!("{rule:?} is not a rule")));
            }
        }
        if policy.is_empty() {
            return Err(error(text, "no rule keeps anything"));
        }
        Ok(policy)
    }
}

impl Serialize for RetentionPolicy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RetentionPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        text.parse().map_err(D::Error::custom)
    }
}
