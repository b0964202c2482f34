//! Durations as Go writes them: `720h0m0s`, `1.5h`, `300ms`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::shape::Shape;

const SECOND: u64 = 1_000_000_000;
/// One more than the most nanoseconds that a duration can have.
const LIMIT: u64 = 1 << 63;

/// A span of time in whole nanoseconds, about 292 years to either side.
///
/// It reads what Go's `time.ParseDuration` reads and prints what Go's `Duration.String` prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration {
    nanos: i64,
}

/// A text that is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a duration: {reason}; write numbers with units, such as 90s, 3m, 1h30m or 720h"
)]
pub struct ParseDurationError {
    /// What was read.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl GoDuration {
    /// A duration of this many nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// A duration of this many seconds; the longest possible where that is too many.
    pub const fn from_secs(secs: i64) -> Self {
        Self {
            nanos: secs.saturating_mul(SECOND as i64),
        }
    }

    /// Its nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// Its whole seconds, cut towards zero.
    pub const fn as_secs(self) -> i64 {
        self.nanos / SECOND as i64
    }

    /// Whether it is no time at all, which in Velero's objects means "the default".
    pub const fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// The same span; `None` if it is negative.
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.nanos).ok().map(Duration::from_nanos)
    }
}

impl From<Duration> for GoDuration {
    /// The longest possible where `duration` is longer.
    fn from(duration: Duration) -> Self {
        Self {
            nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, ParseDurationError> {
        parse(text).map_err(|reason| ParseDurationError {
            text: text.to_owned(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<GoDuration, &'static str> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(GoDuration::default());
    }
    if rest.is_empty() {
        return Err("it has no number");
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (whole, digits) = leading_number(rest)?;
        rest = &rest[digits..];
        let (mut fraction, mut scale, mut decimals) = (0_u64, 1_f64, 0);
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, scale, decimals) = leading_fraction(after);
            rest = &after[decimals..];
        }
        if digits == 0 && decimals == 0 {
            return Err("a number is missing");
        }
        let end = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = unit_nanos(&rest[..end])?;
        rest = &rest[end..];
        let mut nanos = whole
            .checked_mul(unit)
            .filter(|n| *n <= LIMIT)
            .ok_or("it is too long")?;
        if fraction > 0 {
            nanos += (fraction as f64 * (unit as f64 / scale)) as u64;
        }
        total = total
            .checked_add(nanos)
            .filter(|t| *t <= LIMIT)
            .ok_or("it is too long")?;
    }
    let nanos = if negative {
        0_i64.checked_sub_unsigned(total)
    } else {
        i64::try_from(total).ok()
    };
    nanos.map(GoDuration::from_nanos).ok_or("it is too long")
}

/// The number that the text begins with, and how many digits it has.
fn leading_number(text: &str) -> Result<(u64, usize), &'static str> {
    let mut number = 0_u64;
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    for digit in text.bytes().take(digits) {
        number = number
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')))
            .filter(|n| *n <= LIMIT)
            .ok_or("it is too long")?;
    }
    Ok((number, digits))
}

/// The digits after a point: their number, what to divide it by, and how many there are. Digits that no longer
/// matter are passed over.
fn leading_fraction(text: &str) -> (u64, f64, usize) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (mut number, mut scale) = (0_u64, 1_f64);
    for digit in text.bytes().take(digits) {
        let next = number
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')))
            .filter(|n| *n < LIMIT);
        let Some(next) = next else { break };
        number = next;
        scale *= 10.0;
    }
    (number, scale, digits)
}

fn unit_nanos(unit: &str) -> Result<u64, &'static str> {
    Ok(match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "" => return Err("a unit is missing"),
        _ => return Err("its unit is not one of ns, us, ms, s, m, h"),
    })
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        let nanos = self.nanos.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if nanos < SECOND {
            let (unit, name) = match nanos {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "\u{b5}s"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{name}", decimal(nanos, unit));
        }
        let (hours, minutes) = (nanos / (3600 * SECOND), nanos / (60 * SECOND) % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if nanos >= 60 * SECOND {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % (60 * SECOND), SECOND))
    }
}

/// `nanos` in `unit`s, a power of ten, without zeros at the end of the fraction.
fn decimal(nanos: u64, unit: u64) -> String {
    let (whole, rest) = (nanos / unit, nanos % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let fraction = format!("{rest:0width$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl Shape for GoDuration {
    fn schema() -> Value {
        json!({"type": "string"})
    }

    fn is_absent(&self) -> bool {
        self.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> i64 {
        text.parse::<GoDuration>().unwrap().as_nanos()
    }

    #[test]
    fn every_form_that_go_reads_is_read() {
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("-5.0s", -5_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("720h", 2_592_000_000_000_000),
            ("720h0m0s", 2_592_000_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("39h9m14.425s", 140_954_425_000_000),
            ("10\u{b5}s", 10_000),
            ("10\u{3bc}s", 10_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
            ("-2562047h47m16.854775808s", i64::MIN),
            ("0.100000000000000000000h", 360_000_000_000),
        ];
        for (text, want) in cases {
            assert_eq!(nanos(text), want, "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused_with_a_remedy() {
        let bad = [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "1 h",
            "h1",
            "\u{85}\u{85}",
            "9223372036854775808ns",
            "9223372036854775.808us",
            "-9223372036854775809ns",
            "3000000h",
            "1h 30m",
            "1e3s",
        ];
        for text in bad {
            let error = text.parse::<GoDuration>().unwrap_err().to_string();
            assert!(error.contains("1h30m"), "{error}");
        }
    }

    #[test]
    fn it_prints_as_go_does() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (2_200_000, "2.2ms"),
            (3_300_000_000, "3.3s"),
            (245_000_000_000, "4m5s"),
            (245_001_000_000, "4m5.001s"),
            (18_367_001_000_000, "5h6m7.001s"),
            (480_000_000_001, "8m0.000000001s"),
            (2_592_000_000_000_000, "720h0m0s"),
            (-180_000_000_000, "-3m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, want) in cases {
            assert_eq!(GoDuration::from_nanos(nanos).to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back_the_same(nanos: i64) {
            let duration = GoDuration::from_nanos(nanos);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[-+0-9.hmsun\u{b5} ]{0,24}|\\PC{0,12}") {
            let _ = text.parse::<GoDuration>();
        }
    }
}
