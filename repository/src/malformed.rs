//! What is damaged, or made to do harm, is refused by every decoder: without a panic, and without memory that only
//! a length field asks for.
//!
//! Most structures are sealed: their seal proves that no byte differs (`sealed`). Behind it a holder of a key, or a
//! program with a mistake, may still have written nonsense; so what is in the seals is tried too (`open`).
//! `repository/golden/malformed` keeps cases for ever: each must be refused by the decoder whose name it begins with.

mod targets;

use std::path::PathBuf;

use proptest::prelude::*;

use crate::golden::golden;
use targets::{Target, targets};

/// One change of some bytes.
#[derive(Debug, Clone)]
enum Change {
    /// Flips bits of a byte.
    Flip(prop::sample::Index, u8),
    /// Cuts off the end.
    Cut(prop::sample::Index),
    /// Adds bytes behind.
    Extend(Vec<u8>),
    /// Puts an extreme number of so many bytes somewhere, as lengths are written.
    Number(prop::sample::Index, usize, u64),
    /// Puts the longest number that protobuf has somewhere.
    Varint(prop::sample::Index),
    /// Puts a part of it somewhere else.
    Copy(prop::sample::Index, prop::sample::Index, usize),
    /// Takes out a part.
    Remove(prop::sample::Index, usize),
}

const EXTREMES: [u64; 8] = [
    0,
    1,
    0x7fff_ffff,
    0xffff_fffe,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fff0,
    u64::MAX,
];

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), 1..=255u8).prop_map(|(at, bits)| Change::Flip(at, bits)),
        2 => at().prop_map(Change::Cut),
        1 => prop::collection::vec(any::<u8>(), 1..80).prop_map(Change::Extend),
        4 => (at(), prop::sample::select(&[1usize, 2, 4, 8][..]), prop::sample::select(&EXTREMES[..]))
            .prop_map(|(at, width, number)| Change::Number(at, width, number)),
        2 => at().prop_map(Change::Varint),
        1 => (at(), at(), 1..64usize).prop_map(|(from, to, len)| Change::Copy(from, to, len)),
        1 => (at(), 1..64usize).prop_map(|(at, len)| Change::Remove(at, len)),
    ]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
            let end = (at + new.len()).min(bytes.len());
            bytes.splice(at..end, new.iter().copied());
        };
        match self {
            Self::Flip(at, bits) => *at.get_mut(bytes) ^= bits,
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Extend(more) => bytes.extend_from_slice(more),
            Self::Number(at, width, number) => {
                let at = at.index(bytes.len());
                put(bytes, at, &number.to_le_bytes()[..*width]);
            }
            Self::Varint(at) => {
                let at = at.index(bytes.len());
                put(
                    bytes,
                    at,
                    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                );
            }
            Self::Copy(from, to, len) => {
                let from = from.index(bytes.len());
                let part = bytes[from..(from + len).min(bytes.len())].to_vec();
                let to = to.index(bytes.len());
                put(bytes, to, &part);
            }
            Self::Remove(at, len) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + len).min(bytes.len()));
            }
        }
    }
}

/// Most address space that this process has had, in KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// What reading nonsense may add to that: other tests run meanwhile; less than a length field of 32 bits can ask for.
const PEAK_MAX_KIB: u64 = 3 << 20;

fn try_target(target: &Target, changes: &[Change]) -> Result<(), TestCaseError> {
    let mut bytes = target.seed.clone();
    for change in changes {
        change.apply(&mut bytes);
    }
    let accepted = (target.decode)(&bytes);
    prop_assert!(
        !target.sealed || !accepted || bytes == target.seed,
        "{} accepts changed bytes: {bytes:02x?}",
        target.name
    );
    Ok(())
}

#[test]
fn seeds_are_accepted() {
    for target in targets() {
        assert!((target.decode)(&target.seed), "{}", target.name);
    }
}

#[test]
fn changed_bytes_are_refused_or_read_without_a_panic() {
    let (targets, before) = (targets(), peak_kib());
    let changes = prop::collection::vec(any_change(), 1..4);
    let config = ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    for target in &targets {
        let mut runner = proptest::test_runner::TestRunner::new(config.clone());
        let result = runner.run(&changes, |changes| try_target(target, &changes));
        result.unwrap_or_else(|error| panic!("{}: {error}", target.name));
    }
    let more = peak_kib() - before;
    assert!(more < PEAK_MAX_KIB, "{more} KiB more");
}

#[test]
fn every_byte_that_is_flipped_or_missing_in_what_is_sealed_is_seen() {
    for target in targets().iter().filter(|target| target.sealed) {
        let step = (target.seed.len() / 500).max(1);
        for at in (0..target.seed.len()).step_by(step) {
            let mut copy = target.seed.clone();
            copy[at] ^= 0x20;
            assert!(!(target.decode)(&copy), "{}: byte {at}", target.name);
            assert!(
                !(target.decode)(&target.seed[..at]),
                "{}: cut at {at}",
                target.name
            );
        }
    }
}

/// Cases that were thought of; those that are found by the tests above are put beside them by hand.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let varint_max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    vec![
        ("segment-body.many-packs", words(&[u32::MAX, 0])),
        ("segment-body.many-records", words(&[0, u32::MAX])),
        (
            "segment-body.long-name",
            [&words(&[1])[..], &[255, b'p', b'/']].concat(),
        ),
        ("pack-trailer.empty", Vec::new()),
        ("pack-table.half-an-entry", vec![7; 30]),
        ("pack-table.empty-before-frames", Vec::new()),
        (
            "pack-trailer.table-beyond-the-end",
            words(&[u32::MAX, 0, 48 + 28, 1]),
        ),
        (
            "pack-trailer.table-of-4-gib",
            words(&[32, 0, u32::MAX, u32::MAX / 48]),
        ),
        (
            "pack-trailer.offset-of-64-bits",
            words(&[32, 1, 48 + 28, 1]),
        ),
        ("pack-table.length-overflows", {
            let mut entry = vec![7; 32];
            entry.extend(words(&[32, u32::MAX, 100]));
            entry.extend([1, 0, 0, 0]);
            entry
        }),
        ("frame-zstd.bomb", {
            let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
            [&[1u8, 1][..], &words(&[1000]), &bomb].concat()
        }),
        (
            "frame-zstd.says-4-gib",
            [&[1u8, 1][..], &words(&[u32::MAX]), b"x"].concat(),
        ),
        ("manifest.no-letter", b"X".to_vec()),
        ("manifest.node-without-children", b"N".to_vec()),
        (
            "manifest.leaf-cut-off",
            [&b"L\x0a"[..], &varint_max].concat(),
        ),
        ("sidecar.more-entries-than-columns", {
            // One directory of 2³²-1 entries, and no columns.
            b"L\x0a\x06\x10\xff\xff\xff\xff\x0f".to_vec()
        }),
        ("refs.half-an-id", b"\x0a\x08abcdefgh".to_vec()),
        ("refs.not-sorted", {
            let mut page = vec![0x0a, 32];
            page.extend([9; 16]);
            page.extend([1; 16]);
            page
        }),
        ("extents.secret-beyond-the-end", {
            let mut page = vec![0x0a, 13, 0];
            page.extend(varint_max);
            page.extend([5, 0]);
            page
        }),
        (
            "log-entry.length-beyond-the-end",
            [&[0x12][..], &varint_max].concat(),
        ),
        ("config-fields.no-fields", Vec::new()),
    ]
}

#[test]
fn kept_cases_are_refused() {
    let targets = targets();
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/malformed");
    for (name, bytes) in cases() {
        assert_eq!(
            golden(&format!("malformed/{name}.bin"), || bytes.clone()),
            bytes
        );
    }
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        kept.push((name, std::fs::read(entry.path()).unwrap()));
    }
    assert!(kept.len() >= cases().len());
    for (name, bytes) in kept {
        let target = targets
            .iter()
            .find(|t| name.starts_with(&format!("{}.", t.name)));
        let target =
            target.unwrap_or_else(|| panic!("no decoder has the name that {name} begins with"));
        assert!(!(target.decode)(&bytes), "{name} is accepted");
    }
}
