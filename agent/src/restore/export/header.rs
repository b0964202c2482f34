//! Headers of members: a ustar header, and before it a pax header with all that does not fit.

use orlop_core::Timestamp;
use orlop_repository::Entry;
use tar::{EntryType, Header};

/// Largest numbers in 7 and 11 octal digits.
const OCTAL_7: u64 = (1 << 21) - 1;
const OCTAL_11: u64 = (1 << 33) - 1;
const BLOCK: usize = 512;

/// The zeros that fill a member of so many bytes up to whole blocks.
pub(super) fn zeros_to_block(bytes: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let last = (bytes % BLOCK as u64) as usize;
    if last == 0 { &[] } else { &ZEROS[last..] }
}

/// The name of a path in an archive.
pub(super) fn name_of(path: &[u8], is_directory: bool) -> Vec<u8> {
    let mut name = b"./".to_vec();
    name.extend_from_slice(path);
    if is_directory && !path.is_empty() {
        name.push(b'/');
    }
    name
}

/// The header of a member that is being put together.
pub(super) struct Member {
    header: Header,
    /// Records of the pax header.
    pax: Vec<u8>,
    name: Vec<u8>,
    is_sparse: bool,
}

impl Member {
    pub(super) fn of(entry: &Entry, kind: EntryType) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(entry.meta.mode);
        let mut member = Self {
            header,
            pax: Vec::new(),
            name: name_of(&entry.path, kind == EntryType::Directory),
            is_sparse: false,
        };
        let (uid, gid) = (u64::from(entry.meta.uid), u64::from(entry.meta.gid));
        let uid = member.number(b"uid", uid, OCTAL_7);
        member.header.set_uid(uid);
        let gid = member.number(b"gid", gid, OCTAL_7);
        member.header.set_gid(gid);
        let mtime = entry.meta.mtime;
        let seconds = u64::try_from(mtime.secs).unwrap_or(0).min(OCTAL_11);
        member.header.set_mtime(seconds);
        if mtime.nanos != 0 || i64::try_from(seconds) != Ok(mtime.secs) {
            member.record(b"mtime", decimal(mtime).as_bytes());
        }
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let (major, minor) = ((entry.meta.rdev >> 32) as u32, entry.meta.rdev as u32);
            if let Some(ustar) = member.header.as_ustar_mut() {
                ustar.set_device_major(major);
                ustar.set_device_minor(minor);
            }
        }
        // Further names of a file have its attributes already.
        if kind != EntryType::Link {
            for xattr in &entry.meta.xattrs {
                let key = [b"SCHILY.xattr.", escaped(&xattr.name).as_slice()].concat();
                member.record(&key, &xattr.value);
            }
        }
        member
    }

    /// What the member is a link to.
    pub(super) fn link_to(&mut self, target: &[u8]) {
        let mut field = [0; 100];
        let fits = target.len() <= field.len();
        let len = target.len().min(field.len());
        field[..len].copy_from_slice(&target[..len]);
        if let Some(ustar) = self.header.as_ustar_mut() {
            ustar.linkname = field;
        }
        if !fits {
            self.record(b"linkpath", target);
        }
    }

    /// The member's bytes begin with a map of those of `size` bytes that are no holes.
    pub(super) fn sparse(&mut self, size: u64) {
        self.is_sparse = true;
        let name = std::mem::take(&mut self.name);
        self.record(b"GNU.sparse.major", b"1");
        self.record(b"GNU.sparse.minor", b"0");
        self.record(b"GNU.sparse.name", &name);
        self.record(b"GNU.sparse.realsize", size.to_string().as_bytes());
        // What a program sees that does not know of maps.
        let at = name
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |at| at + 1);
        self.name = [&name[..at], b"GNUSparseFile.0/", &name[at..]].concat();
    }

    /// The headers of a member of so many bytes.
    pub(super) fn finish(mut self, size: u64) -> Vec<u8> {
        let size = self.number(b"size", size, OCTAL_11);
        self.header.set_size(size);
        let mut field = [0; 100];
        let len = self.name.len().min(field.len());
        field[..len].copy_from_slice(&self.name[..len]);
        if self.name.len() > field.len() && !self.is_sparse {
            let name = std::mem::take(&mut self.name);
            self.record(b"path", &name);
        }
        set_name(&mut self.header, field);
        let mut out = Vec::with_capacity(3 * BLOCK + self.pax.len());
        if !self.pax.is_empty() {
            let mut before = Header::new_ustar();
            before.set_entry_type(EntryType::XHeader);
            before.set_mode(0o644);
            before.set_mtime(0);
            before.set_uid(0);
            before.set_gid(0);
            before.set_size(self.pax.len() as u64);
            let mut name = [0; 100];
            name[..13].copy_from_slice(b"./PaxHeader/x");
            set_name(&mut before, name);
            out.extend_from_slice(before.as_bytes());
            out.extend_from_slice(&self.pax);
            out.extend_from_slice(zeros_to_block(self.pax.len() as u64));
        }
        out.extend_from_slice(self.header.as_bytes());
        out
    }

    /// What of a number goes into a field that holds up to `max`; the whole goes into a record if it does not
    /// fit.
    fn number(&mut self, key: &[u8], number: u64, max: u64) -> u64 {
        if number > max {
            self.record(key, number.to_string().as_bytes());
            return 0;
        }
        number
    }

    /// Adds `length key=value\n`; the length counts itself.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while rest + len.to_string().len() != len {
            len = rest + len.to_string().len();
        }
        self.pax.extend_from_slice(len.to_string().as_bytes());
        for part in [b" ".as_slice(), key, b"=", value, b"\n"] {
            self.pax.extend_from_slice(part);
        }
    }
}

fn set_name(header: &mut Header, name: [u8; 100]) {
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.name = name;
    }
    header.set_cksum();
}

/// The name of an attribute in a record's key, where `=` would end it; as GNU tar writes it.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'=' => out.extend_from_slice(b"%3D"),
            b'%' => out.extend_from_slice(b"%25"),
            other => out.push(*other),
        }
    }
    out
}

/// Seconds since 1970 with nanoseconds; before 1970 negative.
fn decimal(time: Timestamp) -> String {
    let all = i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let sign = if all < 0 { "-" } else { "" };
    let all = all.unsigned_abs();
    let (seconds, nanos) = (all / 1_000_000_000, all % 1_000_000_000);
    if nanos == 0 {
        return format!("{sign}{seconds}");
    }
    let fraction = format!("{nanos:09}");
    format!("{sign}{seconds}.{}", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use orlop_repository::{Content, EntryKind, Metadata, Xattr};
    use proptest::prelude::*;

    use super::*;

    fn file(path: &[u8], meta: Metadata) -> Entry {
        Entry {
            content: Content::Extents(Vec::new()),
            ..Entry::bare(path.to_vec(), EntryKind::File, meta)
        }
    }

    #[test]
    fn times_are_exact_also_before_1970() {
        for (secs, nanos, text) in [
            (5, 0, "5"),
            (5, 120_000_000, "5.12"),
            (-5, 999_999_999, "-4.000000001"),
            (-1, 500_000_000, "-0.5"),
            (-7, 0, "-7"),
            (i64::MIN, 1, "-9223372036854775807.999999999"),
        ] {
            assert_eq!(decimal(Timestamp::new(secs, nanos)), text);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

        #[test]
        fn whatever_a_member_has_is_read_again(
            path in "[^\\x00/\n]{1,120}(/[^\\x00/\n]{1,90}){0,3}",
            uid in any::<u32>(),
            gid in any::<u32>(),
            mode in 0_u32..0o10000,
            secs in -(1_i64 << 40)..(1_i64 << 40),
            nanos in 0_u32..1_000_000_000,
            attribute in "[a-z.=%]{1,20}",
            // This reader takes a line feed for the end of a record, which the program `tar` does not.
            value in proptest::collection::vec(any::<u8>().prop_filter("a line feed", |byte| *byte != b'\n'), 0..1200),
        ) {
            prop_assume!(path.as_bytes() != b"." && !path.contains("/./"));
            let meta = Metadata {
                mode,
                uid,
                gid,
                mtime: Timestamp::new(secs, nanos),
                xattrs: vec![Xattr { name: attribute.clone().into_bytes(), value: value.clone() }],
                ..Metadata::default()
            };
            let mut archive = Member::of(&file(path.as_bytes(), meta), EntryType::Regular).finish(0);
            prop_assert_eq!(archive.len() % BLOCK, 0);
            archive.extend_from_slice(&[0; 1024]);
            let mut archive = tar::Archive::new(archive.as_slice());
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            prop_assert_eq!(entry.path_bytes().into_owned(), name_of(path.as_bytes(), false));
            prop_assert_eq!(entry.header().mode().unwrap(), mode);
            let mut seen = Vec::new();
            for record in entry.pax_extensions().unwrap().into_iter().flatten() {
                let record = record.unwrap();
                seen.push((record.key_bytes().to_vec(), record.value_bytes().to_vec()));
            }
            let escaped = attribute.replace('%', "%25").replace('=', "%3D");
            let key = format!("SCHILY.xattr.{escaped}").into_bytes();
            prop_assert!(seen.contains(&(key, value)));
            let of = |key: &[u8]| seen.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            let there = of(b"uid").map_or(entry.header().uid().unwrap().to_string(), |v| String::from_utf8(v).unwrap());
            prop_assert_eq!(there, uid.to_string());
            let there = of(b"gid").map_or(entry.header().gid().unwrap().to_string(), |v| String::from_utf8(v).unwrap());
            prop_assert_eq!(there, gid.to_string());
        }
    }
}
