//! Records of checks: they add up in any order, and one that is no record is refused.

use proptest::prelude::*;

use super::*;
use crate::{
    golden::golden,
    secret::{Key, hex},
};

fn seen() -> impl Strategy<Value = Seen> {
    (0_u64..5, 0_u64..5, 0_u64..5, 0_u64..5).prop_map(
        |(scrubbed, verified, bad_bytes, bad_chunks)| Seen {
            scrubbed,
            verified,
            bad_bytes,
            bad_chunks,
        },
    )
}

fn run(n: u8, begun: u64, ended: u64) -> Run {
    Run {
        id: vec![n; 16],
        begun,
        what: format!("data {}%", n % 3),
        ended,
    }
}

fn coverage() -> impl Strategy<Value = Coverage> {
    let packs = prop::collection::vec((0_u8..20, seen()), 0..30);
    let runs = prop::collection::vec((0_u8..6, 0_u64..3), 0..6);
    (packs, runs).prop_map(|(packs, runs)| {
        let mut coverage = Coverage::default();
        for (key, seen) in packs {
            coverage.note([key; 16], &seen);
        }
        for (n, ended) in runs {
            coverage.note_run(&run(n, u64::from(n) * 7, ended));
        }
        coverage
    })
}

fn sum(parts: &[&Coverage]) -> Coverage {
    let mut sum = Coverage::default();
    for part in parts {
        sum.add(part);
    }
    sum
}

proptest! {
    #[test]
    fn what_is_written_is_read(coverage in coverage()) {
        let mut read = Coverage::default();
        for record in coverage.encode() {
            read.add(&Coverage::decode(&record).unwrap());
        }
        prop_assert_eq!(read, coverage);
    }

    #[test]
    fn records_add_up_in_any_order_and_any_number_of_times(
        a in coverage(), b in coverage(), c in coverage()
    ) {
        let all = sum(&[&a, &b, &c]);
        prop_assert_eq!(&sum(&[&c, &a, &b]), &all);
        prop_assert_eq!(&sum(&[&a, &b, &c, &b, &all]), &all);
        prop_assert_eq!(&sum(&[&sum(&[&a, &b]), &c]), &all);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Coverage::decode(&bytes);
        let keys = KeyRing::new(Key::from_bytes([3; 32]));
        prop_assert!(open_record(&keys, "v/a", &bytes).is_err());
    }

    #[test]
    fn a_record_with_a_changed_byte_or_another_name_is_refused(
        coverage in coverage(), at in any::<prop::sample::Index>(), flip in 1_u8..
    ) {
        let keys = KeyRing::new(Key::from_bytes([3; 32]));
        let content = coverage.encode().pop().unwrap_or_default();
        let mut bytes = seal_record(&keys, "v/a", &content).unwrap();
        prop_assert!(open_record(&keys, "v/a", &bytes).is_ok());
        prop_assert!(open_record(&keys, "v/b", &bytes).is_err());
        let at = at.index(bytes.len());
        prop_assert!(open_record(&keys, "v/a", &bytes[..at]).is_err());
        bytes[at] ^= flip;
        let error = open_record(&keys, "v/a", &bytes).unwrap_err();
        prop_assert!(error.to_string().contains("v/a"));
    }
}

#[test]
fn packs_out_of_order_and_long_lists_of_runs_are_refused() {
    let mut packs = Vec::new();
    for key in [[2; 16], [1; 16]] {
        Seen::default().encode(&key, &mut packs);
    }
    let message = |packs: Vec<u8>, runs| RecordMessage { packs, runs }.encode_to_vec();
    assert_eq!(Coverage::decode(&message(packs.clone(), vec![])), None);
    assert_eq!(
        Coverage::decode(&message(packs[..47].to_vec(), vec![])),
        None
    );
    let runs = (0..=RUNS as u8).map(|n| run(n, 1, 0)).collect();
    assert_eq!(Coverage::decode(&message(vec![], runs)), None);
    let twice = vec![run(1, 1, 0), run(1, 1, 0)];
    assert_eq!(Coverage::decode(&message(vec![], twice)), None);
}

#[test]
fn damage_counts_until_the_same_look_finds_none() {
    let mut seen = Seen {
        bad_bytes: 5,
        ..Seen::default()
    };
    assert!(seen.is_damaged());
    seen.scrubbed = 6;
    assert!(!seen.is_damaged());
    seen.bad_chunks = 7;
    seen.scrubbed = 9;
    assert!(seen.is_damaged(), "right bytes do not make a chunk right");
    seen.verified = 9;
    assert!(!seen.is_damaged());
}

#[test]
fn only_the_newest_run_of_a_kind_can_be_gone_on_with() {
    let mut coverage = Coverage::default();
    coverage.note_run(&run(1, 10, 0));
    assert_eq!(coverage.unfinished("data 1%"), Some(&run(1, 10, 0)));
    assert_eq!(coverage.unfinished("data 2%"), None);
    coverage.note_run(&run(4, 20, 25));
    assert_eq!(coverage.unfinished("data 1%"), None);
    for n in 10..30 {
        coverage.note_run(&run(n, u64::from(n), 0));
    }
    assert_eq!(coverage.runs.len(), RUNS);
}

#[test]
fn the_record_that_was_written_once_is_read() {
    let keys = KeyRing::new(Key::from_bytes([3; 32]));
    let name = "v/01JDZZZZZZZZZZZZZZZZZZZZZZ";
    let mut wanted = Coverage::default();
    for n in 1..4_u8 {
        let at = 1_700_000_000_000 + u64::from(n);
        let seen = Seen {
            scrubbed: at,
            verified: if n == 2 { at + 5 } else { 0 },
            bad_bytes: if n == 3 { at + 9 } else { 0 },
            bad_chunks: 0,
        };
        wanted.note([n; 16], &seen);
    }
    wanted.note_run(&run(1, 1_700_000_000_000, 0));
    let make = || seal_record(&keys, name, &wanted.encode()[0]).unwrap();
    let stored = golden("verification.bin", make);
    assert_eq!(open_record(&keys, name, &stored).unwrap(), wanted);
    let content = seal::open_vec(
        &keys.records(),
        &[AAD, name.as_bytes()].concat(),
        &stored[8..],
    );
    assert_eq!(hex(&content.unwrap()), hex(&wanted.encode()[0]));
}

#[test]
fn a_pack_is_known_by_the_beginning_of_its_hash() {
    let hash = hex(blake3::hash(b"x").as_bytes());
    let key = pack_key(&format!("p/{}/{hash}.7", &hash[..2])).unwrap();
    assert_eq!(hex(&key), hash[..32]);
    assert_eq!(pack_key("p/xx/short.7"), None);
}
