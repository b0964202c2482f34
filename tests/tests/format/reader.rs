//! Runs the second reader, `tests/reader/orlop_reader.py`.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

/// The second reader on the repository in `directory/repository`, opened by `directory/key` or `/password`.
pub(crate) fn run(directory: &Path, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/orlop_reader.py");
    let mut command = Command::new(orlop_tests::python().unwrap());
    command.arg("-B").arg(script);
    command.arg(directory.join("repository"));
    let key = directory.join("key");
    if key.exists() {
        command.arg("--key-file").arg(key);
    } else {
        command
            .arg("--password-file")
            .arg(directory.join("password"));
    }
    command.args(args).output().unwrap()
}

/// What it writes; it must succeed.
pub(crate) fn bytes(directory: &Path, args: &[&str]) -> Vec<u8> {
    let output = run(directory, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    output.stdout
}

/// The lines of JSON that it writes.
pub(crate) fn lines(directory: &Path, args: &[&str]) -> Vec<Value> {
    let text = String::from_utf8(bytes(directory, args)).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What it complains of; it must.
pub(crate) fn error(directory: &Path, args: &[&str]) -> String {
    let output = run(directory, args);
    assert!(!output.status.success(), "{args:?} succeeds");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: "), "{text}");
    text
}
