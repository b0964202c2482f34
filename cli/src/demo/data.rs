//! The demo's volume: some thousand files as an application would leave them, the same at each run.

use std::{
    fs::{self, File, FileTimes, OpenOptions, Permissions},
    io::{self, Seek as _, SeekFrom, Write as _},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::Path,
    time::{Duration, SystemTime},
};

/// Directories of documents, ...
const SHELVES: u64 = 60;
/// ... documents in each, ...
const DOCUMENTS: u64 = 50;
/// ... and bytes of the large file: half of it cannot be compressed.
const TABLE_BYTES: u64 = 64 << 20;
const BLOCK_BYTES: usize = 1 << 16;
/// A file that is nearly all hole.
const SPARSE_BYTES: u64 = 256 << 20;

/// Numbers without meaning that are the same at each run (xorshift64*).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes()[..word.len()]);
        }
    }
}

const WORDS: [&str; 24] = [
    "anchor", "ballast", "bilge", "bulkhead", "cargo", "deck", "galley", "halyard", "helm", "hold",
    "hull", "keel", "ledger", "manifest", "mast", "orlop", "port", "quay", "rudder", "sail",
    "stern", "stores", "tide", "voyage",
];

fn document(numbers: &mut Numbers, words: u64) -> String {
    let mut text = String::new();
    for i in 0..words {
        text.push_str(WORDS[numbers.below(WORDS.len() as u64) as usize]);
        if i % 12 == 11 {
            text.push(' ');
            text.push_str(&numbers.below(1_000_000).to_string());
            text.push('\n');
        } else {
            text.push(' ');
        }
    }
    text
}

/// Fills the empty directory `root`.
pub(super) fn make(root: &Path) -> io::Result<()> {
    let mut numbers = Numbers(0x0A1B_2C3D_4E5F_6071);
    for shelf in 0..SHELVES {
        let dir = root.join(format!("documents/shelf-{shelf:02}"));
        fs::create_dir_all(&dir)?;
        for number in 0..DOCUMENTS {
            let words = 10 + numbers.below(2_000);
            fs::write(
                dir.join(format!("{number:03}.txt")),
                document(&mut numbers, words),
            )?;
        }
    }
    table(&root.join("table.db"), &mut numbers)?;
    sparse(&root.join("image.raw"))?;
    oddities(root)
}

/// A file like a database's: blocks of text and blocks of noise by turns.
fn table(path: &Path, numbers: &mut Numbers) -> io::Result<()> {
    let mut file = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut block = vec![0; BLOCK_BYTES];
    for i in 0..TABLE_BYTES / BLOCK_BYTES as u64 {
        if i % 2 == 0 {
            numbers.fill(&mut block);
        } else {
            let mut rows = document(numbers, 64).into_bytes();
            rows.push(b'\n');
            for (byte, row) in block.iter_mut().zip(rows.iter().cycle()) {
                *byte = *row;
            }
        }
        file.write_all(&block)?;
    }
    file.flush()
}

fn sparse(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(SPARSE_BYTES)?;
    file.write_all_at(b"boot", 0)?;
    file.write_all_at(b"in the middle", SPARSE_BYTES / 2)
}

/// What backups like to forget.
fn oddities(root: &Path) -> io::Result<()> {
    let dir = root.join("odd");
    fs::create_dir_all(dir.join("empty directory"))?;
    fs::write(dir.join("empty"), "")?;
    fs::write(
        dir.join(std::ffi::OsStr::from_bytes(b"not utf-8 \xe9")),
        "by name",
    )?;
    fs::write(dir.join("n".repeat(255)), "a long name")?;
    fs::write(dir.join("private"), "only the owner reads this")?;
    fs::set_permissions(dir.join("private"), Permissions::from_mode(0o600))?;
    fs::set_permissions(dir.join("empty directory"), Permissions::from_mode(0o2750))?;
    symlink("../table.db", dir.join("link"))?;
    symlink("/nowhere", dir.join("dangling"))?;
    fs::hard_link(
        root.join("documents/shelf-00/000.txt"),
        dir.join("second name"),
    )?;
    fs::hard_link(
        root.join("documents/shelf-00/000.txt"),
        dir.join("third name"),
    )?;
    // A path too long for a socket's address is no reason to fail.
    drop(UnixListener::bind(dir.join("app.sock")));
    let old = SystemTime::UNIX_EPOCH - Duration::from_nanos(1_234_567_890_123);
    fs::write(dir.join("before 1970"), "old")?;
    File::open(dir.join("before 1970"))?.set_times(FileTimes::new().set_modified(old))
}

/// What an application does in an hour: a row changed, a line appended, a file come, gone and renamed.
pub(super) fn change(root: &Path) -> io::Result<()> {
    let table = OpenOptions::new().write(true).open(root.join("table.db"))?;
    table.write_all_at(b"one row has changed", TABLE_BYTES / 2 + 4096)?;
    let mut log = OpenOptions::new()
        .append(true)
        .open(root.join("documents/shelf-07/001.txt"))?;
    log.seek(SeekFrom::End(0))?;
    log.write_all(b"one more line\n")?;
    fs::write(
        root.join("documents/new.txt"),
        "new since the first backup\n",
    )?;
    fs::remove_file(root.join("documents/shelf-08/002.txt"))?;
    fs::rename(
        root.join("documents/shelf-09"),
        root.join("documents/shelf-09-renamed"),
    )
}

/// Changes one byte in the middle of the table and leaves its times as they were.
pub(super) fn flip_byte(root: &Path) -> io::Result<()> {
    let table = OpenOptions::new()
        .read(true)
        .write(true)
        .open(root.join("table.db"))?;
    let modified = table.metadata()?.modified()?;
    let mut byte = [0];
    table.read_exact_at(&mut byte, TABLE_BYTES / 3)?;
    table.write_all_at(&[byte[0] ^ 1], TABLE_BYTES / 3)?;
    table.set_times(FileTimes::new().set_modified(modified))
}
