//! The log of a backup as KOTS reads it for its page of scripts: records of logfmt, and in them the hooks.

use std::collections::BTreeMap;

/// The longest record that KOTS reads; it stops at a longer one.
const RECORD_MAX: usize = 1 << 20;

/// A title and a message.
pub(crate) type Problem = (String, String);

/// A hook as the page shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) phase: String,
    pub(crate) pod: String,
    pub(crate) container: String,
    pub(crate) command: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) started: String,
    /// Empty if the page shows none.
    pub(crate) finished: String,
    pub(crate) errors: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
}

/// What the page has from a log.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) errors: Vec<Problem>,
    pub(crate) warnings: Vec<Problem>,
    pub(crate) scripts: Vec<Script>,
}

type Record = BTreeMap<String, String>;

/// Reads a whole log.
///
/// # Errors
/// A record is one at which KOTS stops.
pub(crate) fn read(log: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut open: BTreeMap<String, Script> = BTreeMap::new();
    for line in log.lines() {
        let record = record(line).map_err(|why| format!("{why}: {line}"))?;
        let text = |key: &str| record.get(key).cloned().unwrap_or_default();
        let key = ["namespace", "name", "hookPhase", "hookSource", "hookType"]
            .map(text)
            .join("/");
        let message = text("msg");
        if message == "running exec hook" {
            let script = Script {
                name: text("hookName"),
                namespace: text("namespace"),
                phase: text("hookPhase"),
                pod: text("name"),
                container: text("hookContainer"),
                command: text("hookCommand"),
                started: text("time"),
                ..Script::default()
            };
            page.scripts.extend(open.insert(key, script));
            continue;
        }
        let printed = [("stdout: ", true), ("stderr: ", false)]
            .into_iter()
            .find_map(|(head, is_out)| Some((message.strip_prefix(head)?.to_owned(), is_out)));
        if let Some((printed, is_out)) = printed {
            if let Some(script) = open.get_mut(&key) {
                let place = if is_out {
                    &mut script.stdout
                } else {
                    &mut script.stderr
                };
                *place = printed;
                script.finished = text("time");
            }
            continue;
        }
        let problem = (message, text("error"));
        let (all, of_script): (_, fn(&mut Script) -> &mut Vec<Problem>) = match &*text("level") {
            "error" => (&mut page.errors, |script| &mut script.errors),
            "warning" => (&mut page.warnings, |script| &mut script.warnings),
            _ => continue,
        };
        if !text("hookName").is_empty() {
            match open.get_mut(&key) {
                Some(script) => of_script(script).push(problem.clone()),
                None => continue,
            }
        }
        all.push(problem);
    }
    page.scripts.extend(open.into_values());
    Ok(page)
}

/// One line, as strictly as the decoder of KOTS takes it.
fn record(line: &str) -> Result<Record, String> {
    if line.len() > RECORD_MAX {
        return Err(format!("a record of {} bytes", line.len()));
    }
    let mut record = Record::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ', '"']).unwrap_or(rest.len());
        let (key, tail) = rest.split_at(end);
        if key.is_empty() || tail.starts_with('"') {
            return Err("a key that is none".to_owned());
        }
        let (value, tail) = match tail.strip_prefix('=') {
            None => (String::new(), tail),
            Some(tail) if tail.starts_with('"') => quoted(tail)?,
            Some(tail) => {
                let end = tail.find(' ').unwrap_or(tail.len());
                let (value, tail) = tail.split_at(end);
                if value.contains(['=', '"']) {
                    return Err(format!("a bare value {value}"));
                }
                (value.to_owned(), tail)
            }
        };
        if !tail.is_empty() && !tail.starts_with(' ') {
            return Err(format!("more than a value after {key}"));
        }
        record.insert(key.to_owned(), value);
        rest = tail.trim_start();
    }
    Ok(record)
}

/// A quoted value and what follows it.
fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut escaped = false;
    for (at, char) in text.char_indices().skip(1) {
        match char {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => {
                let (value, rest) = text.split_at(at + 1);
                let value = serde_json::from_str(value).map_err(|error| error.to_string())?;
                return Ok((value, rest));
            }
            _ => {}
        }
    }
    Err("a quote that does not end".to_owned())
}

#[test]
fn hooks_are_found_as_kots_finds_them() {
    let hook = "hookCommand=\"[/bin/sh -c x]\" hookContainer=c hookName=\"<from-annotation>\" hookPhase=pre hookSource=annotation hookType=exec name=p namespace=n";
    let log = format!(
        "time=\"2026-01-02T03:04:05Z\" level=info msg=\"running exec hook\" {hook}\n\
         time=\"2026-01-02T03:04:06Z\" level=info msg=\"stdout: a\\nb\" {hook}\n\
         time=\"2026-01-02T03:04:07Z\" level=error msg=\"Error executing hook\" error=\"exit 1\" {hook}\n\
         time=\"2026-01-02T03:04:08Z\" level=warning msg=plain\n"
    );
    let page = read(&log).unwrap();
    assert_eq!(
        page.errors,
        [("Error executing hook".to_owned(), "exit 1".to_owned())]
    );
    assert_eq!(page.warnings, [("plain".to_owned(), String::new())]);
    let [script] = &page.scripts[..] else {
        panic!("{page:?}");
    };
    assert_eq!(
        (&*script.stdout, &*script.finished),
        ("a\nb", "2026-01-02T03:04:06Z")
    );
    assert_eq!(script.errors, page.errors);
    for wrong in ["a=b=c", "=x", "a=\"b", "a=\"\\x\""] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
