//! Entries of every kind as files: what was logged once must be read for ever. `crate::golden` says how to
//! write them anew.

use super::*;
use crate::{
    golden::{golden, stored},
    protocol::{
        BeginBody, CommitBody, CondemnBody, DeletingBody, DoneBody, FenceBody, ForgetBody,
        IndexBody, KeysBody, LeaderBody, Replaced, ResealBody, SessionKind,
    },
    secret::hex,
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn commit(session: u64, leaf: &str, segment: &str, partial: bool) -> Body {
    Body::Commit(CommitBody {
        session,
        snapshot: format!("s/d/v/{leaf}"),
        refset: format!("r/d/v/{leaf}"),
        segments: texts(&[segment]),
        partial,
    })
}

/// One of each kind and more, in an order in which they may follow each other.
fn bodies() -> Vec<Body> {
    let begin = |kind: SessionKind, pins: &[&str], adopts: &[u64]| {
        let volume = if kind == SessionKind::Write {
            "d/v"
        } else {
            ""
        };
        Body::Begin(BeginBody {
            volume: volume.to_owned(),
            nonce: vec![7; 16],
            kind: kind.into(),
            pins: texts(pins),
            adopts: adopts.to_vec(),
        })
    };
    vec![
        begin(SessionKind::Write, &[], &[]),
        commit(1, "a", "i/0/aa.1", true),
        Body::Fence(FenceBody { sessions: vec![1] }),
        begin(SessionKind::Write, &["s/d/v/a"], &[1]),
        commit(4, "b", "i/0/bb.4", false),
        begin(SessionKind::Read, &["s/d/v/b"], &[]),
        begin(SessionKind::ReadAll, &[], &[]),
        Body::End(7),
        Body::Forget(ForgetBody {
            snapshots: texts(&["s/d/v/b"]),
        }),
        Body::Leader(LeaderBody { nonce: vec![9; 16] }),
        Body::Condemn(CondemnBody {
            leader: 10,
            packs: texts(&["p/cc/cc.1", "m/dd/dd.4"]),
        }),
        Body::Deleting(DeletingBody {
            leader: 10,
            epoch: 11,
            objects: texts(&["p/cc/cc.1", "s/d/v/a"]),
        }),
        Body::Done(DoneBody {
            leader: 10,
            list: 12,
        }),
        Body::Index(IndexBody {
            leader: 10,
            added: texts(&["i/1/ee.10"]),
            removed: texts(&["i/0/aa.1", "i/0/bb.4"]),
            gone: texts(&["p/cc/cc.1"]),
            ..IndexBody::default()
        }),
        Body::Keys(KeysBody {
            epoch: 1,
            read_public_key: vec![3; 32],
        }),
        begin(SessionKind::Write, &[], &[]),
        commit(16, "c", "i/0/ff.16", false),
        begin(SessionKind::ReadAll, &[], &[]),
        Body::Reseal(ResealBody {
            session: 18,
            objects: vec![Replaced {
                from: "s/d/v/c".to_owned(),
                to: "s/d/v/c-18".to_owned(),
            }],
        }),
        Body::Index(IndexBody {
            leader: 10,
            lost: texts(&["s/d/v/c-18"]),
            ..IndexBody::default()
        }),
        Body::Index(IndexBody {
            leader: 10,
            whole: texts(&["s/d/v/c-18"]),
            ..IndexBody::default()
        }),
    ]
}

#[test]
fn entries_of_every_kind_are_read() {
    let key = Key::from_bytes([5; 32]);
    let mut written = LogState::new();
    let mut read = LogState::new();
    let mut kinds = [false; 12];
    for body in bodies() {
        let seq = written.next;
        let entry = LogEntry {
            seq,
            previous: written.last_hash.clone(),
            time_ms: 1_700_000_000_000 + seq as i64,
            body: Some(body.clone()),
        };
        let bytes = encode(&entry, &key);
        follow(&mut written, entry.clone(), &bytes).unwrap();
        let stored = golden(&format!("log/{seq:02}.bin"), || bytes.clone());
        assert_eq!(
            hex(&stored),
            hex(&bytes),
            "entry {seq} is written as before"
        );
        assert_eq!(decode(seq, &stored, &key).unwrap(), entry);
        follow_bytes(&mut read, &stored, &key).unwrap();
        kinds[match body {
            Body::Begin(_) => 0,
            Body::Commit(_) => 1,
            Body::End(_) => 2,
            Body::Leader(_) => 3,
            Body::Fence(_) => 4,
            Body::Forget(_) => 5,
            Body::Index(_) => 6,
            Body::Condemn(_) => 7,
            Body::Deleting(_) => 8,
            Body::Done(_) => 9,
            Body::Keys(_) => 10,
            Body::Reseal(_) => 11,
        }] = true;
    }
    assert_eq!(kinds, [true; 12], "every kind is there");
    assert_eq!(read, written);
    assert_eq!(read.segments, ["i/1/ee.10", "i/0/ff.16"]);
    assert_eq!(read.read_keys, [vec![3; 32]]);
    let needed: Vec<&String> = read.needed().map(|commit| &commit.snapshot).collect();
    // A reader pins what was forgotten.
    assert_eq!(needed, ["s/d/v/c-18", "s/d/v/b"]);
}

#[test]
fn what_is_no_entry_is_refused_without_a_panic() {
    let key = Key::from_bytes([5; 32]);
    for seq in [1, 5, 12, 15] {
        let stored = stored(&format!("log/{seq:02}.bin"));
        for at in 0..stored.len() {
            assert!(decode(seq, &stored[..at], &key).is_err(), "cut at {at}");
            for flip in [1, 0x80, 0xff] {
                let mut copy = stored.clone();
                copy[at] ^= flip;
                assert!(decode(seq, &copy, &key).is_err(), "byte {at}");
                // Also what carries the right code may be nonsense.
                let body = copy.len() - 32;
                let code = blake3::keyed_hash(key.as_bytes(), &copy[..body]);
                copy[body..].copy_from_slice(code.as_bytes());
                if let Ok(entry) = decode(seq, &copy, &key) {
                    let _ = follow(&mut LogState::new(), entry, &copy);
                }
            }
        }
    }
}
