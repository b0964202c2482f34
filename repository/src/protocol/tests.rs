//! Each rule of the log by itself, and what holds after any entries in any order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{state::Open, *};

const OLD: &str = "a newer collector";

fn write(volume: &str) -> BeginBody {
    BeginBody {
        volume: volume.to_owned(),
        ..BeginBody::default()
    }
}

fn read(kind: SessionKind, pins: &[&str]) -> BeginBody {
    BeginBody {
        kind: kind.into(),
        pins: pins.iter().map(|pin| (*pin).to_owned()).collect(),
        ..BeginBody::default()
    }
}

fn commit(session: u64, snapshot: &str) -> CommitBody {
    CommitBody {
        session,
        snapshot: format!("s/{snapshot}"),
        refset: format!("r/{snapshot}"),
        segments: vec![format!("i/0/a.{session}")],
        partial: false,
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn condemn(leader: u64, packs: &[&str]) -> Body {
    Body::Condemn(CondemnBody {
        leader,
        packs: names(packs),
    })
}

fn deleting(leader: u64, epoch: u64, objects: &[&str]) -> Body {
    Body::Deleting(DeletingBody {
        leader,
        epoch,
        objects: names(objects),
    })
}

fn index(leader: u64, added: &[&str], removed: &[&str], gone: &[&str]) -> Body {
    Body::Index(IndexBody {
        leader,
        added: names(added),
        removed: names(removed),
        gone: names(gone),
        ..IndexBody::default()
    })
}

fn damage(leader: u64, lost: &[&str], whole: &[&str]) -> Body {
    Body::Index(IndexBody {
        leader,
        lost: names(lost),
        whole: names(whole),
        ..IndexBody::default()
    })
}

fn forget(snapshots: &[&str]) -> Body {
    Body::Forget(ForgetBody {
        snapshots: names(snapshots),
    })
}

fn fence(sessions: &[u64]) -> Body {
    Body::Fence(FenceBody {
        sessions: sessions.to_vec(),
    })
}

/// Appends what must be allowed; its number.
fn append(state: &mut LogState, body: Body) -> u64 {
    let seq = state.next;
    state.apply(body, 0).unwrap();
    seq
}

fn lead(state: &mut LogState) -> u64 {
    append(state, Body::Leader(LeaderBody::default()))
}

/// Asserts that an entry is refused for a reason, and changes nothing.
#[track_caller]
fn refuses(state: &LogState, body: Body, reason: &str) {
    let mut copy = state.clone();
    let refused = copy.apply(body, 0).unwrap_err();
    assert!(refused.contains(reason), "{refused}");
    assert_eq!(copy, *state);
}

/// A log in which volume `d/v` has a snapshot.
fn with_snapshot() -> LogState {
    let mut state = LogState::new();
    let session = append(&mut state, Body::Begin(write("d/v")));
    append(&mut state, Body::Commit(commit(session, "d/v/1")));
    state
}

#[test]
fn a_session_begins_on_what_is_there() {
    let mut state = with_snapshot();
    let begin = |pin: &str, adopts: &[u64]| {
        Body::Begin(BeginBody {
            pins: names(&[pin]),
            adopts: adopts.to_vec(),
            ..write("d/v")
        })
    };
    refuses(&state, begin("s/d/v/2", &[]), "not there");
    refuses(&state, begin("s/d/v/1", &[1]), "adopts a session");
    let stranger = append(&mut state, Body::Begin(write("d/w")));
    refuses(&state, begin("s/d/v/1", &[stranger]), "adopts a session");
    let first = append(&mut state, begin("s/d/v/1", &[]));
    let second = append(&mut state, begin("s/d/v/1", &[first]));
    assert_eq!(state.adoptable("d/v"), [first, second]);
    let unknown = Body::Begin(BeginBody {
        kind: 9,
        ..BeginBody::default()
    });
    refuses(&state, unknown, "kind is unknown");
    let named = BeginBody {
        volume: "d/v".to_owned(),
        ..read(SessionKind::Read, &["s/d/v/1"])
    };
    refuses(&state, Body::Begin(named), "a reader has no volume");
}

#[test]
fn a_commit_is_of_an_open_writer_and_its_own_objects() {
    let mut state = with_snapshot();
    refuses(&state, Body::Commit(commit(1, "d/v/2")), "not open");
    let reader = read(SessionKind::Read, &[]);
    let reader = append(&mut state, Body::Begin(reader));
    refuses(&state, Body::Commit(commit(reader, "d/v/2")), "not open");
    let session = append(&mut state, Body::Begin(write("d/v")));
    let of = |snapshot| Body::Commit(commit(session, snapshot));
    refuses(&state, of("d/w/2"), "another volume");
    refuses(&state, of("d/v/1"), "there already");
    let foreign = CommitBody {
        segments: names(&["i/0/a.1"]),
        ..commit(session, "d/v/2")
    };
    refuses(&state, Body::Commit(foreign), "another session");
    append(&mut state, of("d/v/2"));
    refuses(&state, of("d/v/3"), "not open");
    assert_eq!(state.segments, ["i/0/a.1", "i/0/a.4"]);
}

#[test]
fn a_fenced_writer_commits_no_more_and_the_next_one_adopts_it() {
    let mut state = LogState::new();
    let old = append(&mut state, Body::Begin(write("d/v")));
    append(&mut state, fence(&[old]));
    refuses(&state, Body::Commit(commit(old, "d/v/1")), "not open");
    refuses(&state, Body::End(old), "not open");
    refuses(&state, fence(&[old]), "not open");
    let begin = BeginBody {
        adopts: vec![old],
        ..write("d/v")
    };
    let new = append(&mut state, Body::Begin(begin));
    append(&mut state, Body::Commit(commit(new, "d/v/1")));
    assert!(state.closed.is_empty());
}

#[test]
fn a_whole_snapshot_takes_the_place_of_partial_ones() {
    let mut state = with_snapshot();
    let session = append(&mut state, Body::Begin(write("d/v")));
    for snapshot in ["d/v/2", "d/v/3"] {
        let partial = CommitBody {
            partial: true,
            ..commit(session, snapshot)
        };
        append(&mut state, Body::Commit(partial));
    }
    let snapshots = |state: &LogState| -> Vec<String> {
        let commits = state.snapshots.iter();
        commits.map(|commit| commit.snapshot.clone()).collect()
    };
    assert_eq!(snapshots(&state), ["s/d/v/1", "s/d/v/3"]);
    let parents: Vec<&str> = state
        .parents("d/v", 4)
        .into_iter()
        .map(|commit| &*commit.snapshot)
        .collect();
    assert_eq!(parents, ["s/d/v/3", "s/d/v/1"]);
    append(&mut state, Body::Commit(commit(session, "d/v/4")));
    assert_eq!(snapshots(&state), ["s/d/v/1", "s/d/v/4"]);
    assert_eq!(state.segments, ["i/0/a.1", "i/0/a.3"]);
}

#[test]
fn a_forgotten_snapshot_is_needed_as_long_as_somebody_pins_it() {
    for reader in [
        read(SessionKind::Read, &["s/d/v/1"]),
        read(SessionKind::ReadAll, &[]),
    ] {
        let mut state = with_snapshot();
        refuses(&state, forget(&["s/d/v/2"]), "not there");
        let session = append(&mut state, Body::Begin(reader));
        append(&mut state, forget(&["s/d/v/1"]));
        assert!(state.snapshots.is_empty());
        assert_eq!(state.needed().count(), 1);
        append(&mut state, Body::End(session));
        assert_eq!(state.needed().count(), 0);
    }
}

#[test]
fn only_the_last_leader_collects() {
    let mut state = with_snapshot();
    let old = lead(&mut state);
    let new = lead(&mut state);
    refuses(&state, condemn(old, &["p/a.1"]), "newer collector");
    refuses(&state, index(old, &[], &[], &[]), "newer collector");
    let epoch = append(&mut state, condemn(new, &["p/a.1"]));
    refuses(&state, condemn(new, &["p/b.1"]), "condemned already");
    refuses(&state, deleting(old, epoch, &[]), "newer collector");
    let list = append(&mut state, deleting(new, epoch, &["p/a.1"]));
    let done = |leader, list| Body::Done(DoneBody { leader, list });
    refuses(&state, done(old, list), "newer collector");
    refuses(&state, done(new, list + 1), "no such list");
    append(&mut state, done(new, list));
    assert!(state.deleting.is_empty());
}

#[test]
fn nothing_is_deleted_before_all_that_began_before_have_ended() {
    let mut state = with_snapshot();
    let writer = append(&mut state, Body::Begin(write("d/v")));
    let all = append(&mut state, Body::Begin(read(SessionKind::ReadAll, &[])));
    let one = read(SessionKind::Read, &["s/d/v/1"]);
    append(&mut state, Body::Begin(one));
    let leader = lead(&mut state);
    refuses(&state, deleting(leader, 1, &[]), "no packs are condemned");
    let epoch = append(&mut state, condemn(leader, &["p/a.1", "p/b.1"]));
    append(&mut state, Body::Begin(write("d/w")));
    let list = deleting(leader, epoch, &["p/a.1"]);
    refuses(&state, list.clone(), "sessions that began before are open");
    append(&mut state, Body::Commit(commit(writer, "d/v/2")));
    refuses(&state, list.clone(), "sessions that began before are open");
    append(&mut state, Body::End(all));
    refuses(&state, deleting(leader, epoch + 1, &[]), "other packs");
    append(&mut state, list);
    assert_eq!(state.standing("p/a.1"), Standing::Dead);
    assert_eq!(state.standing("p/b.1"), Standing::Live, "it was rescued");
}

#[test]
fn only_condemned_packs_and_what_nobody_can_need_are_deleted() {
    let mut state = with_snapshot();
    let ended = append(&mut state, Body::Begin(write("d/w")));
    append(&mut state, Body::End(ended));
    let running = append(&mut state, Body::Begin(write("d/v")));
    let leader = lead(&mut state);
    let epoch = append(&mut state, condemn(leader, &["p/a.1"]));
    append(&mut state, Body::End(running));
    for needed in [
        format!("p/x.{running}"),
        format!("p/x.{leader}"),
        format!("p/x.{epoch}"),
        "i/0/a.1".to_owned(),
        "s/d/v/1".to_owned(),
        "r/d/v/1".to_owned(),
        "log/0000000000000001".to_owned(),
        "repo.cfg".to_owned(),
    ] {
        let list = deleting(leader, epoch, &[&needed]);
        refuses(&state, list, "may be needed");
    }
    let garbage = [
        format!("p/x.{ended}"),
        format!("i/0/x.{ended}"),
        "s/d/w/9".to_owned(),
        "r/d/w/9".to_owned(),
    ];
    let garbage: Vec<&str> = garbage.iter().map(String::as_str).collect();
    append(&mut state, deleting(leader, epoch, &garbage));
}

#[test]
fn an_index_replaces_what_is_there_by_what_is_not() {
    let mut state = with_snapshot();
    let leader = lead(&mut state);
    refuses(&state, index(leader, &[], &["i/0/b.1"], &[]), "removes");
    refuses(&state, index(leader, &["i/0/a.1"], &[], &[]), "adds");
    refuses(
        &state,
        index(leader, &[], &[], &["p/a.1"]),
        "was not deleted",
    );
    let epoch = append(&mut state, condemn(leader, &["p/a.1"]));
    append(&mut state, deleting(leader, epoch, &["p/a.1"]));
    refuses(&state, condemn(leader, &["p/a.1"]), "not live");
    let anew = index(leader, &["i/1/b.3"], &["i/0/a.1"], &["p/a.1"]);
    append(&mut state, anew);
    assert_eq!(state.segments, ["i/1/b.3"]);
    assert!(state.dead.is_empty());
}

/// Regression: a late request may bring a deleted pack back whose name the log had forgotten; who had
/// adopted its session took it for one that is there to stay.
#[test]
fn a_deleted_pack_is_not_forgotten_while_somebody_may_look_for_it() {
    let mut state = LogState::new();
    let old = append(&mut state, Body::Begin(write("d/v")));
    let pack = format!("p/a.{old}");
    append(&mut state, Body::Commit(commit(old, "d/v/1")));
    append(&mut state, forget(&["s/d/v/1"]));
    let dying = append(&mut state, Body::Begin(write("d/v")));
    let of_dying = format!("p/b.{dying}");
    append(&mut state, fence(&[dying]));
    let leader = lead(&mut state);
    let begin = BeginBody {
        adopts: vec![dying],
        ..write("d/v")
    };
    let adopter = append(&mut state, Body::Begin(begin));
    // A checkpoint named the pack of the dying session, so it could be condemned.
    let epoch = append(&mut state, condemn(leader, &[&pack, &of_dying]));
    append(&mut state, fence(&[adopter]));
    let begin = BeginBody {
        adopts: vec![dying, adopter],
        ..write("d/v")
    };
    let second = append(&mut state, Body::Begin(begin));
    append(&mut state, deleting(leader, epoch, &[&pack, &of_dying]));
    append(&mut state, index(leader, &[], &[], &[&pack, &of_dying]));
    assert_eq!(state.standing(&pack), Standing::Live, "nobody looks for it");
    assert_eq!(state.standing(&of_dying), Standing::Dead);
    append(&mut state, Body::End(second));
}

#[test]
fn epochs_of_keys_follow_one_another() {
    let mut state = with_snapshot();
    let keys = |epoch, len| {
        Body::Keys(KeysBody {
            epoch,
            read_public_key: vec![7; len],
        })
    };
    refuses(&state, keys(0, 32), "not the next one");
    refuses(&state, keys(2, 32), "not the next one");
    refuses(&state, keys(1, 31), "its public key is none");
    append(&mut state, keys(1, 32));
    refuses(&state, keys(1, 32), "not the next one");
    append(&mut state, keys(2, 32));
    assert_eq!(state.read_keys.len(), 2);
}

#[test]
fn a_snapshot_that_is_sealed_anew_stays_the_same_for_all() {
    let mut state = with_snapshot();
    let reader = read(SessionKind::Read, &["s/d/v/1"]);
    let reader = append(&mut state, Body::Begin(reader));
    let reseal = |session, from: &str, to: &str| {
        Body::Reseal(ResealBody {
            session,
            objects: vec![Replaced {
                from: from.to_owned(),
                to: to.to_owned(),
            }],
        })
    };
    let nobody = state.next;
    refuses(
        &state,
        reseal(nobody, "s/d/v/1", "s/d/v/1-4"),
        "read everything",
    );
    refuses(
        &state,
        reseal(reader, "s/d/v/1", "s/d/v/1-3"),
        "read everything",
    );
    let all = append(&mut state, Body::Begin(read(SessionKind::ReadAll, &[])));
    let to = format!("s/d/v/1-{all}");
    refuses(&state, reseal(all, "s/d/v/2", &to), "not there");
    for other in ["s/d/v/1", "s/d/v/2-4", "s/d/w/1-4", "s/d/v/1-3"] {
        refuses(&state, reseal(all, "s/d/v/1", other), "not the same one");
    }
    append(&mut state, reseal(all, "s/d/v/1", &to));
    refuses(&state, reseal(all, &to, &to), "not the same one");
    assert_eq!(state.open[&reader].pins, [to.as_str()]);
    append(&mut state, Body::End(all));
    // The reader holds what it began to read, under its new name.
    append(&mut state, forget(&[&to]));
    assert_eq!(state.needed().count(), 1);
    let leader = lead(&mut state);
    let epoch = append(&mut state, condemn(leader, &[]));
    refuses(&state, deleting(leader, epoch, &[&to]), "may be needed");
    append(&mut state, deleting(leader, epoch, &["s/d/v/1"]));
}

#[test]
fn a_damaged_snapshot_is_no_parent_and_hands_its_damage_on() {
    let mut state = with_snapshot();
    let early = Body::Begin(BeginBody {
        pins: names(&["s/d/v/1"]),
        ..write("d/v")
    });
    let early = append(&mut state, early);
    let leader = lead(&mut state);
    refuses(&state, damage(leader, &["s/d/v/9"], &[]), "not there");
    refuses(&state, damage(leader, &[], &["s/d/v/1"]), "not damaged");
    refuses(&state, damage(leader - 1, &["s/d/v/1"], &[]), OLD);
    append(&mut state, damage(leader, &["s/d/v/1"], &[]));
    assert!(state.parents("d/v", 4).is_empty());
    // Who began before may have believed it.
    append(&mut state, Body::Commit(commit(early, "d/v/2")));
    assert!(state.parents("d/v", 4).is_empty());
    assert_eq!(state.lost.len(), 2);
    let fresh = append(&mut state, Body::Begin(write("d/v")));
    append(&mut state, Body::Commit(commit(fresh, "d/v/3")));
    assert_eq!(state.parents("d/v", 4)[0].snapshot, "s/d/v/3");
    append(&mut state, damage(leader, &[], &["s/d/v/2"]));
    append(&mut state, forget(&["s/d/v/1"]));
    assert!(state.lost.is_empty(), "nobody needs it any more");
}

/// Some body that often fits the state; all numbers are taken as positions among what there is.
fn body(state: &LogState, kind: u8, n: u64, m: u64) -> Body {
    fn of<T: Clone>(choices: &[T], n: u64) -> Option<T> {
        let at = (n % 7) as usize;
        choices.get(at % choices.len().max(1)).cloned()
    }
    let open: Vec<u64> = state.open.keys().copied().collect();
    let session = of(&open, n).unwrap_or(n % 40);
    let live: Vec<String> = state.snapshots.iter().map(|c| c.snapshot.clone()).collect();
    let volume = ["d/v", "d/w"][(n % 2) as usize];
    let packs: Vec<String> = (0..4).map(|of| format!("p/a.{}", of + n % 20)).collect();
    match kind {
        0 | 1 => {
            let kind = (m % 3) as i32;
            let pins: Vec<String> = of(&live, m).into_iter().collect();
            let writes = kind == 0;
            Body::Begin(BeginBody {
                volume: if writes { volume } else { "" }.to_owned(),
                kind,
                pins,
                adopts: if writes {
                    state.adoptable(volume)
                } else {
                    Vec::new()
                },
                ..BeginBody::default()
            })
        }
        2 | 3 => {
            let volume = state
                .open
                .get(&session)
                .map_or(volume, |open| open.volume.as_str());
            Body::Commit(CommitBody {
                partial: m.is_multiple_of(2),
                ..commit(session, &format!("{volume}/{}", state.next))
            })
        }
        4 => Body::End(session),
        5 => Body::Leader(LeaderBody::default()),
        6 => fence(&[session]),
        7 => Body::Forget(ForgetBody {
            snapshots: of(&live, n).into_iter().collect(),
        }),
        8 => Body::Condemn(CondemnBody {
            leader: state.leader,
            packs,
        }),
        9 | 10 => {
            let epoch = state.epoch.as_ref();
            let condemned = epoch.iter().flat_map(|epoch| &epoch.packs);
            Body::Deleting(DeletingBody {
                leader: state.leader,
                epoch: epoch.map_or(m, |epoch| epoch.seq),
                objects: condemned.take((m % 5) as usize).cloned().collect(),
            })
        }
        11 => Body::Index(IndexBody {
            leader: state.leader,
            added: vec![format!("i/1/{}.{}", state.next, state.leader)],
            removed: of(&state.segments, n).into_iter().collect(),
            gone: state.dead.iter().take((m % 3) as usize).cloned().collect(),
            ..IndexBody::default()
        }),
        12 => Body::Index(IndexBody {
            leader: state.leader,
            lost: of(&live, n).into_iter().collect(),
            whole: state.lost.iter().take((m % 2) as usize).cloned().collect(),
            ..IndexBody::default()
        }),
        13 => Body::Keys(KeysBody {
            epoch: (state.read_keys.len() as u64 + m % 3) as u32,
            read_public_key: vec![n as u8; 32],
        }),
        14 => Body::Reseal(ResealBody {
            session,
            objects: live
                .iter()
                .take((m % 3) as usize)
                .map(|from| Replaced::by(session, from))
                .collect(),
        }),
        _ => Body::Done(DoneBody {
            leader: state.leader,
            list: state.deleting.keys().next().copied().unwrap_or(m),
        }),
    }
}

/// What is true after any entries.
fn prove(state: &LogState) {
    let snapshots: BTreeSet<&String> = state.needed().map(|commit| &commit.snapshot).collect();
    assert_eq!(
        snapshots.len(),
        state.needed().count(),
        "each is there once"
    );
    let segments: BTreeSet<&String> = state.segments.iter().collect();
    assert_eq!(segments.len(), state.segments.len(), "each is there once");
    for (session, open) in &state.open {
        assert!(*session < state.next && !state.closed.contains_key(session));
        assert!(open.pins.iter().all(|pin| snapshots.contains(pin)));
    }
    for commit in &state.retired {
        let mut open = state.open.values();
        let pins =
            |open: &Open| open.kind == SessionKind::ReadAll || open.pins.contains(&commit.snapshot);
        assert!(open.any(pins), "it is kept for nobody");
    }
    assert!(state.lost.iter().all(|name| snapshots.contains(name)));
    for volume in ["d/v", "d/w"] {
        let parents = state.parents(volume, 4);
        assert!(
            parents
                .iter()
                .all(|parent| !state.lost.contains(&parent.snapshot))
        );
    }
    if let Some(epoch) = &state.epoch {
        for session in &epoch.waits {
            assert!(state.open.contains_key(session) && *session < epoch.seq);
        }
        assert!(
            epoch
                .packs
                .iter()
                .all(|p| state.standing(p) == Standing::Condemned)
        );
    }
    assert!(state.leader < state.next && state.judged < state.next);
}

proptest! {
    #[test]
    fn any_entries_in_any_order_add_up(
        steps in prop::collection::vec((0_u8..16, any::<u64>(), any::<u64>()), 1..120)
    ) {
        let mut state = LogState::new();
        let mut accepted: Vec<Body> = Vec::new();
        for (kind, n, m) in steps {
            let body = body(&state, kind, n, m);
            let before = state.clone();
            let allowed = state.check(&body);
            prop_assert_eq!(state.apply(body.clone(), 7), allowed);
            if allowed.is_err() {
                prop_assert_eq!(&state, &before);
                continue;
            }
            prop_assert_eq!(state.next, before.next + 1);
            prove(&state);
            if let Body::Deleting(list) = &body {
                let waits = before.epoch.as_ref().map(|epoch| epoch.waits.len());
                prop_assert_eq!(waits, Some(0));
                let mut packs = list.objects.iter();
                prop_assert!(packs.all(|pack| state.standing(pack) == Standing::Dead));
            }
            // Only a fence, an end or a commit takes a session's right to commit.
            for session in before.open.keys().filter(|s| !state.open.contains_key(s)) {
                let may = match &body {
                    Body::End(ended) => ended == session,
                    Body::Fence(fence) => fence.sessions.contains(session),
                    Body::Commit(commit) => commit.session == *session,
                    _ => false,
                };
                prop_assert!(may);
            }
            accepted.push(body);
        }
        let mut again = LogState::new();
        for body in accepted {
            prop_assert_eq!(again.apply(body, 7), Ok(()));
        }
        prop_assert_eq!(again, state);
    }
}
