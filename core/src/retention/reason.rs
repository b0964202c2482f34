//! Why an item is kept or may go, and the units of the calendar that rules count by.

use std::fmt;

use jiff::Zoned;

use super::policy::KeepSpan;

/// A part of the calendar of which a rule keeps one item each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// An hour of the clock on the wall; where the clock is put back, the hour that comes twice counts as two.
    Hour,
    /// A day.
    Day,
    /// A week from Monday (ISO 8601).
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Unit {
    pub(super) const ALL: [Self; 5] = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Year];

    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        }
    }

    /// The hour, day … of `time`: equal for the same one.
    pub(super) fn of(self, time: &Zoned) -> (i16, i16, i32) {
        let date = time.date();
        match self {
            Self::Hour => {
                let hour = date.day_of_year() * 24 + i16::from(time.hour());
                (date.year(), hour, time.offset().seconds())
            }
            Self::Day => (date.year(), date.day_of_year(), 0),
            Self::Week => {
                let week = date.iso_week_date();
                (week.year(), week.week().into(), 0)
            }
            Self::Month => (date.year(), date.month().into(), 0),
            Self::Year => (date.year(), 0, 0),
        }
    }
}

/// Why an item is kept or may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Kept: there is no rule at all.
    NoPolicy,
    /// Kept: among the newest, this one of so many.
    Last(u32, u32),
    /// Kept: the newest of its hour, day …, this one of so many.
    Newest(Unit, u32, u32),
    /// Kept: the oldest of all, while there are fewer hours, days … than a rule allows.
    Oldest(Unit),
    /// Kept: not older than this.
    Within(KeepSpan),
    /// Kept: one of its hour, day … and not older than this.
    NewestWithin(Unit, KeepSpan),
    /// Kept: it has this tag.
    Tag(String),
    /// Kept: the newest complete one of its group.
    NewestComplete,
    /// Kept: no complete one is newer than this one, though it has flaws.
    NewestFlawed,
    /// Kept: this backup holds it.
    Held(String),
    /// Kept: unfinished, and no complete one has come after it: the next one may go on from it.
    Unfinished,
    /// Kept: it lies in the future.
    Future,
    /// May go: no rule wants it.
    Unwanted,
    /// May go: unfinished, and a complete one has come after it.
    Superseded,
    /// May go: it was named.
    Named,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: u32| match count {
            u32::MAX => String::new(),
            count => format!(" of {count}"),
        };
        match self {
            Self::NoPolicy => f.write_str("no rule"),
            Self::Last(nth, count) => write!(f, "last {nth}{}", of(*count)),
            Self::Newest(unit, nth, count) => write!(f, "{} {nth}{}", unit.name(), of(*count)),
            Self::Oldest(unit) => write!(f, "oldest {}", unit.name()),
            Self::Within(span) => write!(f, "within {span}"),
            Self::NewestWithin(unit, span) => write!(f, "{} within {span}", unit.name()),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::NewestComplete => f.write_str("newest complete"),
            Self::NewestFlawed => f.write_str("newest"),
            Self::Held(backup) => write!(f, "held by backup {backup}"),
            Self::Unfinished => f.write_str("unfinished"),
            Self::Future => f.write_str("lies in the future"),
            Self::Unwanted => f.write_str("no rule keeps it"),
            Self::Superseded => f.write_str("unfinished, and a complete one came after it"),
            Self::Named => f.write_str("named"),
        }
    }
}
