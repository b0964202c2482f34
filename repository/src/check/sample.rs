//! Which packs a check reads.

use std::{fmt, str::FromStr};

use crate::coverage::{Coverage, PackKey, Seen};

use super::report::CheckDepth;

/// Which packs a check reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sample {
    /// All.
    #[default]
    All,
    /// Packs that make up this share of all bytes, those first that were read longest ago: as many such
    /// samples as make a whole cover everything.
    Share {
        /// Numerator.
        part: u32,
        /// Denominator; not 0.
        of: u32,
    },
    /// One part of several, from 1 on: always the same packs, whatever was read before.
    Part {
        /// Which.
        number: u32,
        /// Of how many; not 0.
        of: u32,
    },
    /// Packs of so many bytes together, those first that were read longest ago.
    Bytes(u64),
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Share { part, of } => write!(f, "{part} in {of}"),
            Self::Part { number, of } => write!(f, "{number}/{of}"),
            Self::Bytes(bytes) => write!(f, "{bytes} bytes"),
        }
    }
}

/// A text that names no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} says not how much to read: use a share such as 10%, a part such as 1/7, or a size such as 5GiB"
)]
pub struct ParseSampleError(String);

impl Sample {
    /// Reads `10%`, `2.5%` or `3/7`, and what a sample is printed as. Units of sizes are up to the caller.
    fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(Self::All);
        }
        if let Some(bytes) = text.strip_suffix(" bytes") {
            return bytes.parse().ok().map(Self::Bytes);
        }
        if let Some((part, of)) = text.split_once(" in ") {
            let (part, of) = (part.parse().ok()?, of.parse().ok()?);
            return (1..=of).contains(&part).then_some(Self::Share { part, of });
        }
        if let Some(percent) = text.strip_suffix('%') {
            let (whole, rest) = percent.split_once('.').unwrap_or((percent, ""));
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            if whole.is_empty() || !digits(whole) || !digits(rest) || rest.len() > 3 {
                return None;
            }
            let of = 100_000_u32;
            let part = whole.parse::<u32>().ok()?.checked_mul(1000)?;
            let part = part + format!("{rest:0<3}").parse::<u32>().ok()?;
            return (1..=of).contains(&part).then_some(Self::Share { part, of });
        }
        let (number, of) = text.split_once('/')?;
        let (number, of) = (number.parse().ok()?, of.parse().ok()?);
        (1..=of)
            .contains(&number)
            .then_some(Self::Part { number, of })
    }

    /// The chosen packs of `packs`, each with its size, in the order in which they are read, and how many
    /// bytes of the sample were read since `since` already: those are left out.
    pub(crate) fn choose(
        self,
        mut packs: Vec<(String, PackKey, u64)>,
        depth: CheckDepth,
        coverage: &Coverage,
        since: Option<u64>,
    ) -> (Vec<(String, u64)>, u64) {
        let read = |seen: &Seen| match depth {
            CheckDepth::Data => seen.verified.max(seen.bad_chunks),
            _ => seen.scrubbed.max(seen.bad_bytes),
        };
        let total: u64 = packs.iter().map(|(_, _, size)| size).sum();
        let share = |part: u32, of: u32| {
            let share = (u128::from(total) * u128::from(part)).div_ceil(u128::from(of.max(1)));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let mut budget = match self {
            Self::All => u64::MAX,
            Self::Share { part, of } => share(part, of),
            Self::Bytes(bytes) => bytes,
            Self::Part { number, of } => {
                packs.retain(|(_, key, _)| {
                    let place = u64::from_le_bytes(*key.first_chunk().expect("16 bytes"));
                    place % u64::from(of.max(1)) == u64::from(number.saturating_sub(1))
                });
                u64::MAX
            }
        };
        let mut timed: Vec<(u64, PackKey, String, u64)> = packs
            .into_iter()
            .map(|(name, key, size)| (read(&coverage.get(&key)), key, name, size))
            .collect();
        let mut done = 0;
        if let Some(since) = since {
            timed.retain(|(at, _, _, size)| {
                let before = *at < since;
                done += if before { 0 } else { *size };
                before
            });
            budget = budget.saturating_sub(done);
        }
        timed.sort_unstable();
        let mut chosen = Vec::new();
        for (_, _, name, size) in timed {
            if budget == 0 {
                break;
            }
            budget = budget.saturating_sub(size);
            chosen.push((name, size));
        }
        (chosen, done)
    }
}

impl FromStr for Sample {
    type Err = ParseSampleError;

    fn from_str(text: &str) -> Result<Self, ParseSampleError> {
        Self::parse(text).ok_or_else(|| ParseSampleError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_and_parts_are_read_and_nothing_else() {
        let share = |part| Ok(Sample::Share { part, of: 100_000 });
        assert_eq!("10%".parse(), share(10_000));
        assert_eq!("2.5%".parse(), share(2_500));
        assert_eq!("100%".parse(), share(100_000));
        assert_eq!("3/7".parse(), Ok(Sample::Part { number: 3, of: 7 }));
        for wrong in [
            "", "%", "0%", "101%", "-1%", "1.2345%", ".5%", "0/7", "8/7", "1/0", "x", "10 %",
        ] {
            assert!(wrong.parse::<Sample>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_printed_is_read() {
        for sample in [
            Sample::All,
            Sample::Share { part: 1, of: 30 },
            Sample::Part { number: 2, of: 7 },
            Sample::Bytes(5),
        ] {
            assert_eq!(sample.to_string().parse(), Ok(sample));
        }
    }

    fn packs(sizes: &[u64]) -> Vec<(String, PackKey, u64)> {
        let pack = |(i, size): (usize, &u64)| {
            let hash = blake3::hash(&i.to_le_bytes());
            (
                format!("p/{i}"),
                *hash.as_bytes().first_chunk().unwrap(),
                *size,
            )
        };
        sizes.iter().enumerate().map(pack).collect()
    }

    fn note(coverage: &mut Coverage, name: &str, all: &[(String, PackKey, u64)], at: u64) {
        let (_, key, _) = all.iter().find(|(n, _, _)| n == name).unwrap();
        let seen = Seen {
            scrubbed: at,
            ..Seen::default()
        };
        coverage.note(*key, &seen);
    }

    proptest! {
        #[test]
        fn successive_shares_cover_everything(
            sizes in prop::collection::vec(1_u64..1000, 1..40), of in 1_u32..12
        ) {
            let all = packs(&sizes);
            let mut coverage = Coverage::default();
            let sample = Sample::Share { part: 1, of };
            for round in 1..=u64::from(of) {
                let (chosen, _) =
                    sample.choose(all.clone(), CheckDepth::Scrub, &coverage, None);
                for (name, _) in chosen {
                    note(&mut coverage, &name, &all, round);
                }
            }
            prop_assert!(all.iter().all(|(_, key, _)| coverage.get(key).scrubbed > 0));
        }

        #[test]
        fn the_parts_of_a_whole_are_the_whole(
            sizes in prop::collection::vec(1_u64..1000, 0..40), of in 1_u32..9
        ) {
            let all = packs(&sizes);
            let mut found = Vec::new();
            for number in 1..=of {
                let sample = Sample::Part { number, of };
                let (chosen, _) =
                    sample.choose(all.clone(), CheckDepth::Data, &Coverage::default(), None);
                found.extend(chosen);
            }
            let mut wanted: Vec<_> = all.into_iter().map(|(name, _, size)| (name, size)).collect();
            wanted.sort();
            found.sort();
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn what_was_cut_short_is_gone_on_with(
            sizes in prop::collection::vec(1_u64..1000, 1..40), of in 1_u32..6, cut in 0_usize..40
        ) {
            let all = packs(&sizes);
            let sample = Sample::Share { part: 1, of };
            let mut coverage = Coverage::default();
            let (whole, _) = sample.choose(all.clone(), CheckDepth::Scrub, &coverage, None);
            let (head, tail) = whole.split_at(cut.min(whole.len()));
            for (name, _) in head {
                note(&mut coverage, name, &all, 100);
            }
            let (rest, done) = sample.choose(all, CheckDepth::Scrub, &coverage, Some(100));
            prop_assert_eq!(rest, tail);
            prop_assert_eq!(done, head.iter().map(|(_, size)| size).sum::<u64>());
        }
    }

    #[test]
    fn a_size_is_read_at_least_and_what_was_read_longest_ago_first() {
        let all = packs(&[10, 10, 10]);
        let mut coverage = Coverage::default();
        note(&mut coverage, "p/0", &all, 5);
        note(&mut coverage, "p/2", &all, 4);
        let (chosen, _) = Sample::Bytes(11).choose(all.clone(), CheckDepth::Scrub, &coverage, None);
        assert_eq!(chosen, [("p/1".to_owned(), 10), ("p/2".to_owned(), 10)]);
        let (chosen, _) = Sample::Bytes(0).choose(all, CheckDepth::Scrub, &coverage, None);
        assert!(chosen.is_empty());
    }
}
