//! Numbers, times and paths as people read them.

use std::{fmt::Write, time::Duration};

/// `1.5 MiB`; exact below 1 KiB.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0.35 s`, `12.1 s`, `3m07s`, `2h05m`.
pub(crate) fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..10 => format!("{:.2} s", duration.as_secs_f64()),
        10..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", secs / 60, secs % 60),
        _ => format!("{}h{:02}m", secs / 3600, secs % 3600 / 60),
    }
}

/// Milliseconds, rounded up, as `12 days`, `3 hours`, `1 minute`.
pub(crate) fn age(ms: i64) -> String {
    let minutes = u64::try_from(ms)
        .unwrap_or_default()
        .div_ceil(60_000)
        .max(1);
    match minutes {
        0..120 => count(minutes, "minute"),
        120..2880 => count(minutes.div_ceil(60), "hour"),
        _ => count(minutes.div_ceil(1440), "day"),
    }
}

/// Milliseconds since 1970 as RFC 3339 in UTC.
pub(crate) fn time(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms)
        .map_or_else(|_| unix_ms.to_string(), |t| t.to_string())
}

/// Milliseconds since 1970 to the second, for tables.
pub(crate) fn short_time(unix_ms: i64) -> String {
    time(unix_ms.div_euclid(1000) * 1000)
}

/// Seconds and nanoseconds since 1970 as RFC 3339 in UTC; beyond the year 9999 as `SECS.NANOS`.
pub(crate) fn file_time(time: orlop_core::Timestamp) -> String {
    i32::try_from(time.nanos)
        .ok()
        .and_then(|nanos| {
            jiff::Timestamp::new(time.secs, 0)
                .and_then(|t| t.checked_add(jiff::SignedDuration::new(0, nanos)))
                .ok()
        })
        .map_or_else(
            || format!("{}.{:09}", time.secs, time.nanos),
            |t| t.to_string(),
        )
}

/// A path for a terminal: never a control character, and marks for bytes that are not UTF-8.
pub(crate) fn path(path: &[u8]) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let mut shown = String::new();
    for c in String::from_utf8_lossy(path).chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `n thing` or `n things`.
pub(crate) fn count(n: u64, thing: &str) -> String {
    let many = if n == 1 {
        thing.to_owned()
    } else if let Some(stem) = thing.strip_suffix('y') {
        format!("{stem}ies")
    } else {
        format!("{thing}s")
    };
    format!("{n} {many}")
}

/// Base 64 with padding (RFC 4648), for names that are not UTF-8.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, b| word << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for i in 0..4 {
            if i <= group.len() {
                out.push(char::from(ALPHABET[(word >> (18 - 6 * i) & 63) as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// `drwxr-sr-x` for an entry's type letter and permission bits.
pub(crate) fn mode(kind: char, mode: u32) -> String {
    let mut out = String::with_capacity(10);
    out.push(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// Columns of equal width; numbers are not aligned to the right, so that each line reads on its own.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let head: Vec<String> = header.iter().map(|h| (*h).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(row) {
            write!(text, "{cell:width$}  ").expect("a String takes any text");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Reads a size such as `500MiB`, `64GiB`, `10GB` or a plain number of bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let found = UNITS.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?;
        Some((number, *factor))
    });
    let (number, factor) = found.unwrap_or((text, 1));
    let number: Option<u64> = number.trim_end().parse().ok();
    number
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "write a whole number with a unit, such as 500MiB or 64GiB".to_owned())
}

/// Reads a time such as `90s`, `10m`, `24h` or `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let unit = text.chars().last();
    let factor = UNITS.iter().find(|(u, _)| Some(*u) == unit);
    let number: Option<u64> = text
        .get(..text.len().saturating_sub(1))
        .and_then(|n| n.parse().ok());
    match (number, factor) {
        (Some(number), Some((_, factor))) => number.checked_mul(*factor).map(Duration::from_secs),
        _ => None,
    }
    .ok_or_else(|| "write a whole number with s, m, h or d, such as 90s or 10m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read() {
        assert_eq!(parse_bytes("64GiB"), Ok(64 << 30));
        assert_eq!(parse_bytes("10 kB"), Ok(10_000));
        assert_eq!(parse_bytes("17"), Ok(17));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_hours(168)));
        for text in [
            "",
            "x",
            "-1s",
            "1.5h",
            "10",
            "99999999999999999999s",
            "1\u{e9}",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["", "MiB", "1.5GiB", "-3", "99999999TiB", "5XB"] {
            assert!(parse_bytes(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(duration(Duration::from_millis(350)), "0.35 s");
        assert_eq!(duration(Duration::from_secs(187)), "3m07s");
        assert_eq!(time(1_500), "1970-01-01T00:00:01.5Z");
        assert_eq!(short_time(1_500), "1970-01-01T00:00:01Z");
        assert_eq!(
            file_time(orlop_core::Timestamp::new(-1, 999_999_999)),
            "1969-12-31T23:59:59.999999999Z"
        );
        assert_eq!(count(1, "entry"), "1 entry");
        assert_eq!(count(2, "entry"), "2 entries");
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn modes_read_as_ls_shows_them() {
        assert_eq!(mode('-', 0o4755), "-rwsr-xr-x");
        assert_eq!(mode('d', 0o1777), "drwxrwxrwt");
        assert_eq!(mode('-', 0o2640), "-rw-r-S---");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(path(b"a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(path(b""), ".");
    }
}
