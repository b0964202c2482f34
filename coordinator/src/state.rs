//! The state database: runs in flight, a cache of those that are finished, their logs, and which task
//! holds which session.
//!
//! Nothing in it is the only copy of anything that is finished.

use std::{collections::BTreeMap, path::Path, time::Duration};

use orlop_core::{TaskId, run::RunKind};
use orlop_repository::SessionId;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::{Error, Result};

const VERSION: i64 = 4;
const SCHEMA: &str = "
    CREATE TABLE run (
        kind TEXT NOT NULL, name TEXT NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (kind, name)) WITHOUT ROWID;
    CREATE TABLE log_line (
        kind TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, time_ms INTEGER NOT NULL,
        level INTEGER NOT NULL, task TEXT NOT NULL, message TEXT NOT NULL,
        PRIMARY KEY (kind, name, number)) WITHOUT ROWID;
    CREATE TABLE session (id INTEGER PRIMARY KEY, task TEXT NOT NULL);
";
/// Sessions by location, as each repository counts its own (which task held which is told again), and what came of
/// freeing space; since version 3.
const SESSIONS: &str = "
    DROP TABLE session;
    CREATE TABLE session (
        location TEXT NOT NULL, id INTEGER NOT NULL, task TEXT NOT NULL,
        PRIMARY KEY (location, id)) WITHOUT ROWID;
    CREATE TABLE collected (location TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
";
/// Fields of log lines as JSON, empty for none; since version 4.
const FIELDS: &str = "ALTER TABLE log_line ADD COLUMN fields TEXT NOT NULL DEFAULT '';";
/// How far each schedule has come; since version 2.
const SCHEDULES: &str = "
    CREATE TABLE schedule (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
";

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct LogLine {
    /// From 1, without gaps.
    pub(crate) number: u64,
    /// Milliseconds since 1970.
    pub(crate) time_ms: i64,
    /// As in `orlop.v1.LogLevel`.
    pub(crate) level: i32,
    /// The task it is about, or empty.
    pub(crate) task: String,
    /// The line.
    pub(crate) message: String,
    /// More values for logs that have fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) fields: BTreeMap<String, String>,
}

/// The open database.
pub(crate) struct StateDb {
    connection: Connection,
}

impl StateDb {
    /// Opens the database; makes or migrates it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fail = |source| Error::OpenState {
            path: path.to_owned(),
            source,
        };
        make_private(path).map_err(|source| fail(io_failure(&source)))?;
        let connection = Connection::open(path).map_err(fail)?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(fail)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(fail)?;
        // A power cut may lose the last transactions: agents and snapshots tell again what they said.
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(fail)?;
        let found: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(fail)?;
        if found > VERSION {
            return Err(Error::NewerState {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
        let steps = [SCHEMA, SCHEDULES, SESSIONS, FIELDS];
        let missing = steps.get(found as usize..).unwrap_or_default().concat();
        if !missing.is_empty() {
            let schema = format!("BEGIN; {missing} PRAGMA user_version = {VERSION}; COMMIT;");
            connection.execute_batch(&schema).map_err(fail)?;
        }
        Ok(Self { connection })
    }

    /// The documents of all runs.
    pub(crate) fn runs(&self) -> Result<Vec<String>> {
        let mut statement = self.connection.prepare("SELECT document FROM run")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps the document of a run in the place of an earlier one.
    pub(crate) fn save_run(&self, kind: RunKind, name: &str, document: &str) -> Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO run VALUES (?1, ?2, ?3)")?
            .execute(params![kind.as_str(), name, document])?;
        Ok(())
    }

    /// Forgets a run and its log.
    pub(crate) fn remove_run(&self, kind: RunKind, name: &str) -> Result<()> {
        for table in ["run", "log_line"] {
            let sql = format!("DELETE FROM {table} WHERE kind = ?1 AND name = ?2");
            self.connection
                .execute(&sql, params![kind.as_str(), name])?;
        }
        Ok(())
    }

    /// Appends a line to a run's log.
    pub(crate) fn append_log(&self, kind: RunKind, name: &str, line: &LogLine) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO log_line VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                kind.as_str(),
                name,
                line.number.cast_signed(),
                line.time_ms,
                line.level,
                line.task,
                line.message,
                if line.fields.is_empty() {
                    String::new()
                } else {
                    serde_json::to_string(&line.fields).expect("texts are always JSON")
                }
            ])?;
        Ok(())
    }

    /// At most `count` lines of a run's log after line `after`.
    pub(crate) fn log(
        &self,
        kind: RunKind,
        name: &str,
        after: u64,
        count: u32,
    ) -> Result<Vec<LogLine>> {
        let sql = "SELECT number, time_ms, level, task, message, fields FROM log_line
            WHERE kind = ?1 AND name = ?2 AND number > ?3 ORDER BY number LIMIT ?4";
        let mut statement = self.connection.prepare_cached(sql)?;
        let line = |row: &rusqlite::Row<'_>| {
            Ok(LogLine {
                number: row.get::<_, i64>(0)?.cast_unsigned(),
                time_ms: row.get(1)?,
                level: row.get(2)?,
                task: row.get(3)?,
                message: row.get(4)?,
                fields: serde_json::from_str(&row.get::<_, String>(5)?).unwrap_or_default(),
            })
        };
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![kind.as_str(), name, after, count], line)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Number of the last line of a run's log, 0 if it has none.
    pub(crate) fn last_line(&self, kind: RunKind, name: &str) -> Result<u64> {
        let sql = "SELECT max(number) FROM log_line WHERE kind = ?1 AND name = ?2";
        let last: Option<i64> =
            self.connection
                .query_row(sql, params![kind.as_str(), name], |row| row.get(0))?;
        Ok(last.unwrap_or_default().cast_unsigned())
    }

    /// How far each schedule has come, by name.
    pub(crate) fn schedules(&self) -> Result<BTreeMap<String, String>> {
        let mut statement = self
            .connection
            .prepare("SELECT name, state FROM schedule")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps how far a schedule has come.
    pub(crate) fn save_schedule(&self, name: &str, state: &str) -> Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO schedule VALUES (?1, ?2)")?
            .execute(params![name, state])?;
        Ok(())
    }

    /// Forgets a schedule.
    pub(crate) fn remove_schedule(&self, name: &str) -> Result<()> {
        self.connection
            .execute("DELETE FROM schedule WHERE name = ?1", [name])?;
        Ok(())
    }

    /// What came of freeing space last, by location.
    pub(crate) fn collected(&self) -> Result<BTreeMap<String, String>> {
        let mut statement = self
            .connection
            .prepare("SELECT location, document FROM collected")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Keeps what came of freeing space in a location.
    pub(crate) fn save_collected(&self, location: &str, document: &str) -> Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO collected VALUES (?1, ?2)")?
            .execute(params![location, document])?;
        Ok(())
    }

    /// The task that holds a session of a location.
    pub(crate) fn session(&self, location: &str, session: SessionId) -> Result<Option<TaskId>> {
        let task: Option<String> = self
            .connection
            .prepare_cached("SELECT task FROM session WHERE location = ?1 AND id = ?2")?
            .query_row(params![location, session.cast_signed()], |row| row.get(0))
            .optional()?;
        Ok(task.and_then(|task| task.parse().ok()))
    }

    /// Remembers which task holds a session.
    pub(crate) fn bind_session(
        &self,
        location: &str,
        session: SessionId,
        task: TaskId,
    ) -> Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2, ?3)")?
            .execute(params![location, session.cast_signed(), task.to_string()])?;
        Ok(())
    }

    /// All sessions that tasks hold with their locations, those of one location in order of their beginning.
    pub(crate) fn sessions(&self) -> Result<Vec<(String, SessionId, TaskId)>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT location, id, task FROM session ORDER BY location, id")?;
        let rows = statement.query_map([], |row| {
            let session = row.get::<_, i64>(1)?.cast_unsigned();
            Ok((row.get(0)?, session, row.get::<_, String>(2)?))
        })?;
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let parsed = rows.into_iter();
        Ok(parsed
            .filter_map(|(location, session, task)| Some((location, session, task.parse().ok()?)))
            .collect())
    }

    /// Forgets a session that has ended.
    pub(crate) fn release_session(&self, location: &str, session: SessionId) -> Result<()> {
        self.connection.execute(
            "DELETE FROM session WHERE location = ?1 AND id = ?2",
            params![location, session.cast_signed()],
        )?;
        Ok(())
    }
}

/// Makes the file if it does not exist, readable by its owner only: it names everybody's volumes. The
/// database gives its other files the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// The database's own kind of error for a file that cannot be made.
fn io_failure(source: &std::io::Error) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
        Some(source.to_string()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> LogLine {
        LogLine {
            number,
            time_ms: 5,
            level: 1,
            task: String::new(),
            message: "m".to_owned(),
            fields: BTreeMap::from([("hookName".to_owned(), number.to_string())]),
        }
    }

    #[test]
    fn what_is_written_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let task = TaskId::from_bytes([3; 16]);
        {
            let db = StateDb::open(&path).unwrap();
            db.save_run(RunKind::Backup, "a", "1").unwrap();
            db.save_run(RunKind::Backup, "a", "2").unwrap();
            db.save_run(RunKind::Restore, "a", "3").unwrap();
            for number in 1..=3 {
                db.append_log(RunKind::Backup, "a", &line(number)).unwrap();
            }
            db.bind_session("near", 7, task).unwrap();
            db.bind_session("far", 7, TaskId::from_bytes([4; 16]))
                .unwrap();
        }
        let db = StateDb::open(&path).unwrap();
        assert_eq!(db.runs().unwrap(), ["2", "3"]);
        assert_eq!(db.log(RunKind::Backup, "a", 1, 1).unwrap(), [line(2)]);
        assert_eq!(db.last_line(RunKind::Backup, "a").unwrap(), 3);
        assert_eq!(db.session("near", 7).unwrap(), Some(task));
        db.release_session("far", 7).unwrap();
        assert_eq!(db.sessions().unwrap(), [("near".to_owned(), 7, task)]);
        db.release_session("near", 7).unwrap();
        assert_eq!(db.session("near", 7).unwrap(), None);
        db.remove_run(RunKind::Backup, "a").unwrap();
        assert_eq!(db.runs().unwrap(), ["3"]);
        assert_eq!(db.last_line(RunKind::Backup, "a").unwrap(), 0);
    }

    #[test]
    fn an_older_database_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let old = Connection::open(&path).unwrap();
        let schema = format!("{SCHEMA} PRAGMA user_version = 1;");
        old.execute_batch(&schema).unwrap();
        drop(old);
        let db = StateDb::open(&path).unwrap();
        db.save_schedule("s", "1").unwrap();
        db.save_schedule("s", "2").unwrap();
        drop(db);
        let db = StateDb::open(&path).unwrap();
        let expected = BTreeMap::from([("s".to_owned(), "2".to_owned())]);
        assert_eq!(db.schedules().unwrap(), expected);
        db.remove_schedule("s").unwrap();
        assert_eq!(db.schedules().unwrap(), BTreeMap::new());
    }

    #[test]
    fn a_newer_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let db = StateDb::open(&path).unwrap();
        db.connection
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            StateDb::open(&path),
            Err(Error::NewerState { found: 99, .. })
        ));
    }
}
