//! Every decoder with bytes that it accepts.

use std::sync::Arc;

use orlop_core::{Lineage, SnapshotId, VolumeRef};

use crate::{
    config::Config,
    frame::{Decoder, Encoder, FrameKind, Level},
    golden::stored,
    index::Segment,
    keys::{KeyRing, Unlock, WrappedKey},
    log,
    manifest::{RefsPage, decode_extent_page, decode_manifest, decode_sidecar},
    pack::{self, Ending, OpenPack, PackClass},
    seal,
    secret::{Key, Secret},
    session::CommitRequest,
    snapshot,
};

/// A decoder.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) seed: Vec<u8>,
    /// Whether nothing but the seed may be accepted.
    pub(super) sealed: bool,
    /// Whether bytes are accepted.
    pub(super) decode: Decode,
}

type Decode = Box<dyn Fn(&[u8]) -> bool>;

fn sealed(name: &'static str, seed: Vec<u8>, decode: impl Fn(&[u8]) -> bool + 'static) -> Target {
    Target {
        name,
        seed,
        sealed: true,
        decode: Box::new(decode),
    }
}

/// What is in a seal, which is made anew for every try.
fn open(name: &'static str, seed: Vec<u8>, decode: impl Fn(&[u8]) -> bool + 'static) -> Target {
    Target {
        sealed: false,
        ..sealed(name, seed, decode)
    }
}

fn key(n: u8) -> Key {
    Key::from_bytes([n; 32])
}

pub(super) fn targets() -> Vec<Target> {
    let mut all = configuration();
    all.extend(entries());
    all.extend(packs());
    all.extend(frames());
    all.extend(pages());
    all.extend(snapshots());
    all
}

fn configuration() -> Vec<Target> {
    let config = Config {
        id: vec![1; 16],
        created_ms: 1_700_000_000_000,
        read_public_key: vec![2; 32],
        suite: 1,
        chunk_min: 256 << 10,
        chunk_avg: 1 << 20,
        chunk_max: 4 << 20,
        pack_bytes: 16 << 20,
        format: crate::config::FORMAT,
        ..Config::default()
    };
    let signed = config.encode_signed(&key(3));
    let fields = signed[16..signed.len() - 32].to_vec();
    let unlock = Unlock::KeyFile(vec![4; 32]);
    let (name, wrapped) = WrappedKey::wrap(&[key(5)], &unlock, "", 0).unwrap();
    let head = signed[..12].to_vec();
    let opens = {
        let unlock = unlock.clone();
        move |name: &str, bytes: &[u8]| {
            let decoded = WrappedKey::decode_named(name, bytes);
            decoded.is_ok_and(|key| key.unwrap(name, &unlock).is_ok_and(|root| root.is_some()))
        }
    };
    let opens = Arc::new(opens);
    let named = Arc::clone(&opens);
    vec![
        sealed("config", signed, |bytes| {
            Config::decode_unverified(bytes, "test").is_ok()
                && Config::verify(bytes, &key(3)).is_ok()
        }),
        open("config-fields", fields, move |fields| {
            let len = (fields.len() as u32).to_le_bytes();
            let bytes = [&head[..], &len, fields, &[0; 32]].concat();
            Config::decode_unverified(&bytes, "test").is_ok()
        }),
        sealed("key", wrapped.clone(), move |bytes| opens(&name, bytes)),
        open("key-fields", wrapped, move |bytes| {
            let hash = blake3::hash(bytes).to_hex();
            named(&format!("keys/{}", &hash[..32]), bytes)
        }),
    ]
}

fn entries() -> Vec<Target> {
    let mut all = Vec::new();
    for n in 1..=21 {
        let entry = stored(&format!("log/{n:02}.bin"));
        let body = entry[8..entry.len() - 32].to_vec();
        all.push(sealed("log", entry, move |bytes| {
            log::decode(n, bytes, &key(5)).is_ok()
        }));
        all.push(open("log-entry", body, move |body| {
            let bytes = [b"ORLOPLG0", body].concat();
            let code = blake3::keyed_hash(key(5).as_bytes(), &bytes);
            let bytes = [&bytes[..], code.as_bytes()].concat();
            let Ok(entry) = log::decode(n, &bytes, &key(5)) else {
                return false;
            };
            let mut state = crate::protocol::LogState::new();
            let _ = log::follow(&mut state, entry, &bytes);
            true
        }));
    }
    all
}

/// A pack of the session 7, whose key is `key(2)`.
fn a_pack() -> pack::FinishedPack {
    let mut pack = OpenPack::new(PackClass::Data, 7);
    let mut encoder = Encoder::new().unwrap();
    for text in [&b"short"[..], &[b'x'; 9000]] {
        let secret = Secret::of(&key(1), text);
        pack.push(
            encoder
                .encode(FrameKind::Data, &secret, text, Level::default())
                .unwrap(),
        );
    }
    pack.finish(&key(2)).unwrap()
}

fn packs() -> Vec<Target> {
    let pack = a_pack();
    let bytes = pack.parts.concat();
    let name = pack.name;
    let ending = Ending::of(bytes.len() as u64);
    let trailer = &bytes[ending.offset as usize..];
    let place = ending.open(&name, trailer, &key(2)).unwrap();
    let opened = |aad: &[u8], sealed: &[u8]| seal::open_vec(&key(2), aad, sealed).unwrap();
    let trailer = opened(b"orlop 2026 v0 pack trailer", trailer);
    let table = &bytes[place.offset as usize..(place.offset + place.len) as usize];
    let table = opened(b"orlop 2026 v0 frame table", table);
    let segment = stored("segment.bin");
    let body = opened(b"orlop 2026 v0 index segment", &segment[16..]);
    let segment_name = format!("i/0/{}.7", blake3::hash(&segment).to_hex());
    vec![
        sealed("pack", bytes, move |bytes| {
            let scrubbed = pack::scrub(&name, bytes).is_ok();
            pack::read_table(&name, bytes, &key(2)).is_ok() && scrubbed
        }),
        open("pack-trailer", trailer, move |trailer| {
            let sealed = seal::seal(&key(2), b"orlop 2026 v0 pack trailer", trailer).unwrap();
            ending.open("pack", &sealed, &key(2)).is_ok()
        }),
        open("pack-table", table, move |table| {
            let sealed = seal::seal(&key(2), b"orlop 2026 v0 frame table", table).unwrap();
            pack::open_table("pack", &sealed, place, &key(2)).is_ok()
        }),
        sealed("segment", segment, move |bytes| {
            Segment::decode(&segment_name, bytes, &key(2)).is_ok()
        }),
        open("segment-body", body, |body| Segment::parse(body).is_some()),
    ]
}

fn decodes(secret: &Secret, frame: &[u8]) -> bool {
    let name = || "test".to_owned();
    let mut decoder = Decoder::new().unwrap();
    let decoded = decoder.decode(&name, FrameKind::Data, secret, &[key(1)], frame);
    decoded.is_ok()
}

fn frames() -> Vec<Target> {
    let text = b"compressible ".repeat(300);
    let secret = Secret::of(&key(1), &text);
    let frame = Encoder::new()
        .unwrap()
        .encode(FrameKind::Data, &secret, &text, Level::default())
        .unwrap()
        .bytes;
    let aad = move |head: &[u8]| [&[0; 4], head, secret.id().as_bytes()].concat();
    let body = seal::open_vec(&secret.frame_key(), &aad(&frame[..6]), &frame[6..]).unwrap();
    let opened = [&frame[..6], &body].concat();
    vec![
        sealed("frame", frame, move |frame| decodes(&secret, frame)),
        // Head and zstd frame, sealed anew. Whoever reads one checks its content against the secret.
        open("frame-zstd", opened, move |opened| {
            let (head, body) = opened.split_at(opened.len().min(6));
            let sealed = seal::seal(&secret.frame_key(), &aad(head), body).unwrap();
            decodes(&secret, &[head, &sealed].concat())
        }),
    ]
}

fn pages() -> Vec<Target> {
    let manifest = |bytes: &[u8]| decode_manifest(bytes).is_some();
    let sidecar = |bytes: &[u8]| decode_sidecar(bytes).is_some();
    let refs = |bytes: &[u8]| RefsPage::decode(bytes).is_some();
    // Kind 0, position 0, five bytes; then a hole of nine.
    let extents = [&[0x0a, 5, 0, 0, 5, 3, 9, 0x12, 32][..], &[7; 32]].concat();
    vec![
        open("manifest", stored("manifest-leaf.bin"), manifest),
        open("manifest", stored("manifest-node.bin"), manifest),
        open("sidecar", stored("sidecar-leaf.bin"), sidecar),
        open("sidecar", stored("sidecar-node.bin"), sidecar),
        open("refs", stored("refs-leaf.bin"), refs),
        open("refs", stored("refs-node.bin"), refs),
        open("extents", extents, |bytes| {
            decode_extent_page(bytes).is_some()
        }),
    ]
}

fn snapshots() -> Vec<Target> {
    let keys = KeyRing::new(key(8));
    let (volume, lineage) = (VolumeRef::new("n", "p", "v"), Lineage("l".to_owned()));
    let secret = Secret::from_bytes([9; 32]);
    let roots = snapshot::TreeRoots {
        manifest: secret,
        sidecar: secret,
        refs: secret,
    };
    let volume_key = keys.volume("n", &lineage);
    let capsule = snapshot::seal_capsule(volume_key.newest(), &roots).unwrap();
    let request = CommitRequest {
        volume: volume.clone(),
        lineage: lineage.clone(),
        time_ms: 1_700_000_000_000,
        node: "node".to_owned(),
        backup: "backup".to_owned(),
        tags: vec!["tag".to_owned()],
        parent: Some(SnapshotId::from_bytes([4; 16])),
        state: snapshot::SnapshotState::Complete,
        sealed_root: snapshot::seal_root(&keys.read_public(), &secret, &volume).unwrap(),
        capsule: capsule.clone(),
        refs_root: secret,
        segments: Vec::new(),
        stats: snapshot::SnapshotStats::default(),
        origin: None,
    };
    let name = format!("s/d/l/{}", SnapshotId::from_bytes([3; 16]));
    let object = snapshot::encode(&keys, &name, 7, 0, &request).unwrap();
    let refset = snapshot::encode_refset(&keys, "r/d/l/x", "n", &lineage, &secret).unwrap();
    let part = seal::open_vec(&keys.records(), b"orlop 2026 v0 refsetr/d/l/x", &refset).unwrap();
    let opened = seal::open_vec(volume_key.newest(), b"orlop 2026 v0 capsule", &capsule).unwrap();
    let root = [&[0x0a, 32][..], &[9; 32], b"\x12\x05n/p/v"].concat();
    let (ring, of_root, of_refset, of_part) = (keys.clone(), keys.clone(), keys.clone(), keys);
    let of_capsule = volume_key.clone();
    let id = SnapshotId::from_bytes([3; 16]);
    vec![
        sealed("snapshot", object, move |bytes| {
            snapshot::decode(&ring, &name, bytes).is_ok()
        }),
        open("snapshot-root", root, move |part| {
            let to = of_root.read_public();
            let sealed = seal::seal_to(&to, b"orlop 2026 v0 root", part).unwrap();
            snapshot::open_root(&of_root, &sealed, &volume).is_some()
        }),
        sealed("capsule", capsule, move |bytes| {
            snapshot::open_capsule(of_capsule.all(), id, bytes).is_ok()
        }),
        open("capsule-roots", opened, move |part| {
            let sealed = seal::seal(volume_key.newest(), b"orlop 2026 v0 capsule", part).unwrap();
            snapshot::open_capsule(volume_key.all(), id, &sealed).is_ok()
        }),
        sealed("refset", refset, move |bytes| {
            snapshot::decode_refset(&of_refset, "r/d/l/x", bytes).is_ok()
        }),
        open("refset-fields", part, move |part| {
            let aad = b"orlop 2026 v0 refsetr/d/l/x";
            let sealed = seal::seal(&of_part.records(), aad, part).unwrap();
            snapshot::decode_refset(&of_part, "r/d/l/x", &sealed).is_ok()
        }),
    ]
}
