//! The log of a backup or restore: one record a line, compressed, counted, and the source of the results.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

use super::{
    logfmt::{pair, truncate},
    results::Results,
};

/// Longest message of a record, in bytes before quoting. Readers stop at a line of 1 MiB and miss all that
/// follows; quoting makes a byte six at most.
const MESSAGE_MAX: usize = 64 << 10;
/// Longest other value of a record.
const VALUE_MAX: usize = 16 << 10;

/// How much a record matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// A step, for those who look for a fault.
    Debug,
    /// Something has changed.
    Info,
    /// Something is missing that was not asked for in so many words.
    Warning,
    /// Something is missing that was asked for.
    Error,
}

impl Level {
    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When it happened; written in whole seconds.
    pub time: Timestamp,
    /// How much it matters.
    pub level: Level,
    /// Constant text where possible; what varies belongs into the fields.
    pub message: String,
    /// More values, by name. The names `error`, `name`, `namespace` and `resource` also make up the results.
    pub fields: BTreeMap<&'static str, String>,
}

impl Record {
    /// A record without fields.
    pub fn new(time: Timestamp, level: Level, message: impl Into<String>) -> Self {
        Self {
            time,
            level,
            message: message.into(),
            fields: BTreeMap::new(),
        }
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.insert(name, value.into());
        self
    }

    /// The record as a line, without the line feed.
    ///
    /// A message of more than 64 KiB and another value of more than 16 KiB are cut, with a note.
    pub fn line(&self) -> String {
        let mut line = String::new();
        let time = self.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        pair(&mut line, "time", &time);
        pair(&mut line, "level", self.level.as_str());
        pair(&mut line, "msg", &truncate(&self.message, MESSAGE_MAX));
        for (name, value) in &self.fields {
            pair(&mut line, name, &truncate(value, VALUE_MAX));
        }
        line
    }
}

/// Writes a log as the compressed file that clients download.
pub struct LogWriter<W: Write> {
    out: GzEncoder<W>,
    results: Results,
    warnings: u32,
    errors: u32,
}

impl<W: Write> LogWriter<W> {
    /// A log that is written to `out`.
    pub fn create(out: W) -> Self {
        Self {
            out: GzEncoder::new(out, Compression::default()),
            results: Results::default(),
            warnings: 0,
            errors: 0,
        }
    }

    /// Adds a record; warnings and errors are counted and become results.
    ///
    /// # Errors
    /// The output takes no more.
    pub fn write(&mut self, record: &Record) -> io::Result<()> {
        match record.level {
            Level::Warning => self.warnings += 1,
            Level::Error => self.errors += 1,
            Level::Debug | Level::Info => {}
        }
        self.results.add(record);
        let mut line = record.line();
        line.push('\n');
        self.out.write_all(line.as_bytes())
    }

    /// Records of level warning so far: the `warnings` of the status.
    pub fn warnings(&self) -> u32 {
        self.warnings
    }

    /// Records of level error so far: the `errors` of the status.
    pub fn errors(&self) -> u32 {
        self.errors
    }

    /// Ends the file.
    ///
    /// # Errors
    /// The output takes no more.
    pub fn finish(self) -> io::Result<(W, Results)> {
        Ok((self.out.finish()?, self.results))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::gunzip;

    #[test]
    fn a_log_is_lines_of_pairs_and_counts_what_went_wrong() {
        let time: Timestamp = "2026-01-02T03:04:05.9Z".parse().unwrap();
        let mut log = LogWriter::create(Vec::new());
        let base =
            |level, message: &str| Record::new(time, level, message).with("backup", "velero/b");
        log.write(&base(Level::Info, "Setting up backup")).unwrap();
        log.write(&base(Level::Warning, "volume skipped").with("namespace", "shop"))
            .unwrap();
        log.write(&base(Level::Error, "store is full").with("error", "no space"))
            .unwrap();
        assert_eq!((log.warnings(), log.errors()), (1, 1));
        let (bytes, results) = log.finish().unwrap();
        let text = String::from_utf8(gunzip(bytes.as_slice(), 10_000).unwrap()).unwrap();
        assert_eq!(
            text,
            "time=\"2026-01-02T03:04:05Z\" level=info msg=\"Setting up backup\" backup=velero/b\n\
             time=\"2026-01-02T03:04:05Z\" level=warning msg=\"volume skipped\" backup=velero/b namespace=shop\n\
             time=\"2026-01-02T03:04:05Z\" level=error msg=\"store is full\" backup=velero/b error=\"no space\"\n"
        );
        assert_eq!(
            results.warnings.namespaces["shop"],
            [" message: /volume skipped"]
        );
        assert_eq!(
            results.errors.velero,
            [" message: /store is full error: /no space"]
        );
    }

    #[test]
    fn no_line_is_longer_than_readers_take() {
        let worst = "\u{1}".repeat(1 << 20);
        let mut record = Record::new(Timestamp::UNIX_EPOCH, Level::Error, worst.clone());
        for name in ["error", "hookCommand", "hookContainer"] {
            record = record.with(name, worst.clone());
        }
        let line = record.line();
        assert!(line.len() < 1 << 20);
        assert!(line.contains("bytes are left out"));
    }
}
